"""Everything that genlab measures about its own speed, to results.json and results.png: make bench.

    python benchmarks/run.py [--short] [PART...]

The parts: pairs (one model of each family against the plain loop, on MNIST-sized data), costs (what
a step of each family takes in operations, bytes and memory), growth (with batch, width and
image side), sampling and writing (images and text, cached against naive), start (from the command to the first step),
jobs (a sweep on several cores against one after the other) and figures (FID and the other figures of samples). Run it
on a quiet machine; --short only shows that it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genlab.composition.building import build
from genlab.composition.command_line import as_groups
from genlab.composition.configs import composed
from genlab.launching.options import TYPES
from genlab.machine.files import write_atomically
from genlab.machine.hardware import machine
from genlab.machine.process import keep_freed_memory, quiet_libraries
from genlab.metrics.drawing import draw
from genlab.metrics.features import as_extractor, extract
from genlab.metrics.quality import sample_quality
from genlab.metrics.reference import Reference
from genlab.speed.cost import count_cost
from genlab.speed.cost_tables import cost_numbers, print_flops
from genlab.speed.pair import Pair, measure_pair
from genlab.speed.rounds import Timing, interleaved
from genlab.speed.tables import as_numbers, print_pair
from genlab.speed.throwaway import throwaway

HERE = Path(__file__).parent
COUNTED = {"costs"}  # parts that are the same on every machine

# Of each family one, as it is configured by default, on data of MNIST's shape or on text; and one of quick steps.
PAIRS = {
    "PixelCNN": ("model=autoregressive/pixel_cnn", "dataset=binarized_mnist", "dataset.batch_size=64"),
    "RealNVP": ("model=flow/real_nvp", "dataset=mnist", "dataset.batch_size=64"),
    "DCGAN": ("model=gan/dcgan", "dataset=mnist", "dataset.batch_size=64"),
    "GPT": ("model=transformer/gpt", "dataset=python_docs", "dataset.batch_size=8"),  # characters, no download
    "ImageGPT": ("model=transformer/image_gpt", "dataset=mnist", "dataset.batch_size=8"),
    "VAE": ("model=vae/vae", "dataset=binarized_mnist", "dataset.batch_size=128"),
    "VAE, small": ("model=vae/vae", "dataset=digits", "dataset.batch_size=64"),
}

COSTS = {name: PAIRS[name] for name in ("VAE", "RealNVP", "PixelCNN", "ImageGPT", "DCGAN")} | {
    "DDPM": ("model=diffusion/ddpm", "dataset=mnist", "dataset.batch_size=64")
}


def configured(*overrides: str) -> AbstractContextManager[dict[str, Any]]:
    return throwaway(composed("train", as_groups(overrides)), **TYPES)


def measured(overrides: tuple[str, ...], short: bool, **options: Any) -> Pair:
    if short:
        options |= {"rounds": 1, "steps": 1}
    with configured(*overrides) as config:
        pair = measure_pair(config, **options)
    print_pair(pair)
    print(flush=True)
    return pair


def pairs(short: bool) -> dict[str, Any]:
    chosen = dict(list(PAIRS.items())[-1:]) if short else PAIRS
    found = {name: measured(overrides, short, num_samples=64) for name, overrides in chosen.items()}
    return {name: as_numbers(pair) for name, pair in found.items()}


def costs(short: bool) -> dict[str, Any]:
    """Count the operations, bytes and memory of a step of one model of each family."""
    found = {}
    for name, overrides in list(COSTS.items())[: 1 if short else None]:
        with configured(*overrides, "trainer.precision=bf16-mixed") as config:
            cost = count_cost(config)
        print_flops(cost, None)
        print(flush=True)
        found[name] = cost_numbers(cost)
    return found


def growth(short: bool) -> dict[str, Any]:
    """Seconds of the PixelCNN's step, with its own defaults; sides are those of images of noise."""
    found: dict[str, Any] = {}

    def add(what: str, value: int, *overrides: str) -> None:
        pair = measured(("model=autoregressive/pixel_cnn", *overrides), short, rounds=3, num_samples=0)
        found.setdefault(what, {})[value] = pair.steps["genlab"].median

    data = ("dataset=digits",) if short else ("dataset=binarized_mnist",)
    for size in (16,) if short else (16, 64, 256):
        add("batch", size, *data, f"dataset.batch_size={size}")
    for width in (8,) if short else (16, 32, 64):
        add("width", width, *data, "dataset.batch_size=64", f"model.channels={width}")
    for side in (8,) if short else (16, 32, 64):
        with tempfile.TemporaryDirectory() as folder:
            noise = np.random.default_rng(0).integers(0, 256, (200, side, side), dtype=np.uint8)
            for i, image in enumerate(noise):
                Image.fromarray(image).save(Path(folder, f"{i}.png"))
            source = ("dataset=image_folder", f"dataset.source.path={folder}", f"dataset.shape=[1,{side},{side}]")
            add("side", side, *source, "dataset.batch_size=16")
    return found


def sampling(short: bool) -> dict[str, Any]:
    """Seconds for 64 samples: from caches, and by a whole forward pass for every value, of which a few are timed."""
    found: dict[str, Any] = {}
    data = ("dataset=digits",) if short else ("dataset=binarized_mnist",)
    names = ("pixel_cnn", "gated_pixel_cnn", "pixel_snail")
    for name in (*(f"autoregressive/{name}" for name in names), "transformer/image_gpt"):
        with configured(f"model={name}", *data) as config:
            model = build(config["model"], "model").eval()
        num, passes = (4, 1) if short else (64, 5)
        x = torch.full((num, *model.shape), 0.5)

        def naive(model: Any = model, x: Tensor = x, passes: int = passes) -> float:
            started = time.perf_counter()
            with torch.no_grad():
                for _ in range(passes):
                    model(x)
            return (time.perf_counter() - started) / passes * x[0].numel()

        def cached(model: Any = model, num: int = num) -> None:
            draw(model, num, seed=0)

        timings = interleaved({"cached": cached, "naive": naive}, 1 if short else 3)
        times = timings["naive"].times(timings["cached"])
        found[name] = {**{k: numbers(timing) for k, timing in timings.items()}, "num_samples": num, "times": times}
        print(
            f"{name}: {num} samples in {timings['cached'].median:.2f} s, {times:.0f} times as fast as naively\n",
            flush=True,
        )
    return found


def writing(short: bool) -> dict[str, Any]:
    """Seconds for 256 tokens in each of 8 texts after 256 of a prompt, by 6 layers of width 384.

    From the cache, and by a pass over the whole text for every token, of which every 32nd is timed.
    """
    from genlab.models.transformer.gpt import GPT

    batch, length, width, num_layers = (2, 8, 32, 1) if short else (8, 256, 384, 6)
    model = GPT((2 * length,), 65, num_layers=num_layers, num_heads=num_layers, width=width).eval()
    prompt = torch.randint(65, (batch, length))
    u = torch.rand(batch, length)
    every = max(1, length // 8)

    def cached() -> None:
        for _ in model.generate(prompt, u):
            pass

    def naive() -> float:
        started = time.perf_counter()
        with torch.no_grad():
            for more in range(0, length, every):
                model.logits(torch.cat([prompt, prompt], 1)[:, : length + more])
        return (time.perf_counter() - started) * every

    timings = interleaved({"cached": cached, "naive": naive}, 1 if short else 3)
    times = timings["naive"].times(timings["cached"])
    rate = batch * length / timings["cached"].median
    print(f"GPT: {rate:,.0f} tokens/s, {times:.0f} times as many as naively\n", flush=True)
    return {**{k: numbers(t) for k, t in timings.items()}, "tokens_per_second": rate, "times": times}


FIRST_STEP = """
import time, pytorch_lightning as pl
class FirstStep(pl.Callback):
    def on_train_batch_end(self, trainer, module, *_):
        open(__file__ + ".time", "w").write(repr(time.time()))
        raise KeyboardInterrupt
"""


def start(short: bool) -> dict[str, Any]:
    """genlab --help, and the command's start to the end of its first step, against the bare imports."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, "first_step.py")
        module.write_text(FIRST_STEP)
        environment = {
            **os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}", "GENLAB_OUTPUTS": folder
        }  # fmt: skip

        def run(*command: str) -> None:
            subprocess.run([sys.executable, *command], env=environment, capture_output=True, cwd=folder)

        def first_step() -> float:
            started = time.time()
            run("-m", "genlab", "train", "dataset=digits", "+callbacks.first._target_=first_step.FirstStep")
            return float(Path(f"{module}.time").read_text()) - started

        contenders: dict[str, Callable[[], float | None]] = {
            "help": lambda: run("-m", "genlab", "--help"),
            "imports": lambda: run("-c", "import torch, pytorch_lightning"),
            "first step": first_step,
        }
        for contender in contenders.values():
            contender()  # the system's file cache is warm for all
        timings = interleaved(contenders, 1 if short else 7)
    ratio = timings["first step"].times(timings["imports"])
    print(f"genlab --help {timings['help'].median:.2f} s; first step {timings['first step'].median:.2f} s, "
          f"{ratio:.2f} times the imports' {timings['imports'].median:.2f} s\n", flush=True)  # fmt: skip
    return {**{name: numbers(timing) for name, timing in timings.items()}, "first step by imports": ratio}


def jobs(short: bool) -> dict[str, Any]:
    """Eight jobs of some fifteen seconds, one after the other and by hydra/launcher=cores.

    Their networks are too small for PyTorch to use several cores; a job that uses them all by itself gains nothing.
    """
    with tempfile.TemporaryDirectory() as folder:

        def sweep(*launcher: str) -> None:
            command = [
                sys.executable, "-m", "genlab", "train", "-m", "model=vae/vae", "dataset=digits", "logger=csv",
                "model.networks.hidden=[64]", "distribution=logistic", "metrics.num_samples=1000",
                f"trainer.max_epochs={1 if short else 100}",
                "seed=range(2)" if short else "seed=range(8)", *launcher,
            ]  # fmt: skip
            subprocess.run(command, env={**os.environ, "GENLAB_OUTPUTS": folder}, capture_output=True, check=True)

        timings = interleaved({"sequential": sweep, "cores": lambda: sweep("hydra/launcher=cores")}, 1 if short else 3)
    ratio = timings["cores"].times(timings["sequential"])
    print(f"a sweep on {os.cpu_count()} cores takes {ratio:.2f} times as long as one after the other\n", flush=True)
    return {**{name: numbers(timing) for name, timing in timings.items()}, "cores by sequential": ratio}


def figures(short: bool) -> dict[str, Any]:
    """Features of 10,000 images, then FID, KID, inception score, precision, recall, density and coverage."""
    from genlab.metrics.digit_classifier import DigitClassifier

    num = 200 if short else 10_000
    features = as_extractor(DigitClassifier.pretrained("mnist"))
    images = torch.rand(num, 1, 28, 28)
    cpu = torch.device("cpu")
    started = time.perf_counter()
    fake = extract(features, images.split(500), cpu)
    extracted = time.perf_counter() - started
    real = Reference(fake, {"features": "mnist", "num_real": num, "reference": "noise"})
    started = time.perf_counter()
    sample_quality(extract(features, torch.rand(num, 1, 28, 28).split(500), cpu), real, cpu)
    seconds = {"features": extracted, "features and figures": time.perf_counter() - started, "num_samples": num}
    print(f"{num:,} samples: features {extracted:.1f} s, with the figures {seconds['features and figures']:.1f} s\n")
    return seconds


def numbers(timing: Timing) -> dict[str, Any]:
    return {"median": timing.median, "rounds": list(timing.seconds)}


def picture(results: dict[str, Any], path: Path) -> None:
    """Where a step's time goes, and how many times the plain loop's images/s genlab trains."""
    pairs = results["pairs"]
    names = list(pairs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.5 * len(names) + 1.6), layout="constrained")
    rates = [[pairs[n]["speedup"] for n in names], [1 / pairs[n]["overhead"] for n in names]]
    for offset, values, label, colour in (
        (-0.2, rates[0], "own defaults", "#0062b8"),
        (0.2, rates[1], "float32", "#9bbfe0"),
    ):
        left.barh([i + offset for i in range(len(names))], values, 0.38, label=label, color=colour)
    left.axvline(1, color="black", linewidth=1)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("images/s, times the plain float32 loop's")
    left.legend(frameon=False)
    stages = list(dict.fromkeys(stage for n in names for stage in pairs[n]["shares"]))
    starts = [0.0] * len(names)
    for stage, colour in zip(stages, plt.get_cmap("tab10").colors, strict=False):
        whole = [sum(max(0, v) for v in pairs[n]["shares"].values()) for n in names]
        widths = [100 * max(0, pairs[n]["shares"].get(stage, 0)) / w for n, w in zip(names, whole, strict=True)]
        right.barh(range(len(names)), widths, 0.7, left=starts, label=stage, color=colour)
        starts = [a + b for a, b in zip(starts, widths, strict=True)]
    right.set_yticks(range(len(names)), ["" for _ in names])
    right.invert_yaxis()
    right.set_xlabel("% of a float32 step")
    right.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(path, dpi=130)


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "pairs": pairs,
    "costs": costs,
    "growth": growth,
    "sampling": sampling,
    "writing": writing,
    "start": start,
    "jobs": jobs,
    "figures": figures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true", help="only to see that it runs")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of results.json and results.png")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there is {', '.join(PARTS)}")
    quiet_libraries()
    keep_freed_memory()
    os.environ.setdefault("WANDB_MODE", "offline")
    path = arguments.output / "results.json"
    results = json.loads(path.read_text()) if path.is_file() else {}
    if not arguments.parts or set(arguments.parts) - COUNTED:
        results["machine"] = machine()
    for name in arguments.parts or PARTS:
        results[name] = PARTS[name](arguments.short)
        write_atomically(path, json.dumps(results, indent=2) + "\n")
    if "pairs" in results:
        picture(results, arguments.output / "results.png")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
