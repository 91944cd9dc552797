"""Two checkouts side by side, to before_and_after.json: python benchmarks/before_and_after.py BEFORE AFTER [TASK...].

Each task runs in processes of their own, with one thread, in turns: before, after, before, after. A turn returns one
number, and the table shows medians over the rounds. Tasks use the command line, or functions that both checkouts have.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """A measurement that both checkouts can do.

    Attributes:
        about: what is measured.
        unit: unit of the number.
        turn: function of a checkout, a scratch folder and arguments that measures it once.
        arguments: arguments of the function, such as overrides.
        rounds: number of turns of each checkout.
    """

    about: str
    unit: str
    turn: Callable[..., float]
    arguments: Sequence[Any] = ()
    rounds: int = 3


def genlab(checkout: Path, *arguments: str, check: bool = True) -> tuple[str, float, float]:
    """Run a checkout's command line; give its output, its seconds and its peak memory in MB."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "genlab", *arguments]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=out, stderr=subprocess.STDOUT)
        _, code, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        out.seek(0)
        text = out.read()
    if check and code:
        raise RuntimeError(f"{checkout}: genlab {' '.join(arguments)}\n{text[-3000:]}")
    return text, seconds, usage.ru_maxrss / 1024


def trained(checkout: Path, scratch: Path, *overrides: str) -> Path:
    """Train a model for some steps; give its run folder."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    genlab(checkout, "train", f"paths.output_dir={folder}", *SHORT, *overrides)
    (config,) = folder.rglob("config.yaml")
    return config.parent


def speed(checkout: Path, scratch: Path, *overrides: str) -> float:
    """Give the images per second of a training, without its start."""
    run = trained(checkout, scratch, *overrides)
    summary = json.loads((run / "summary.json").read_text())
    return float(summary["images_per_second"])


def drawing(checkout: Path, scratch: Path, *overrides: str) -> float:
    """Give the milliseconds of drawing 64 samples from a model that was trained for a step."""
    run = trained(checkout, scratch, *overrides, "trainer.max_steps=1")
    code = (
        "import time, genlab, torch\n"
        "from genlab.metrics.drawing import draw\n"
        f"model = genlab.load({str(run)!r}, checkpoint='last').model\n"
        f"draw(model, 64, seed=0)\n"
        f"started = time.perf_counter()\nfor i in range(3): draw(model, 64, seed=i)\n"
        "print((time.perf_counter() - started) / 3)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return 1000 * float(done.stdout.split()[-1])


def seconds(checkout: Path, scratch: Path, *arguments: str) -> float:
    """Give the seconds of a command, whose runs are in the scratch folder."""
    return genlab(checkout, *arguments, f"paths.output_dir={scratch}/outputs")[1]


def beside_minimal(checkout: Path, scratch: Path) -> float:
    """Give the seconds of a trial of one batch, divided by those of a minimal script with the same libraries."""
    trial = seconds(checkout, scratch, "train", "debug=fast_dev_run")
    command = [sys.executable, str(HERE / "minimal_script.py"), f"hydra.run.dir={scratch}/minimal"]
    started = time.perf_counter()
    subprocess.run(command, cwd=scratch, capture_output=True, check=True)
    return trial / (time.perf_counter() - started)


def beside_plain(checkout: Path, scratch: Path, *overrides: str) -> float:
    """Give the time of a step at float32, divided by that of the checkout's own plain loop."""
    output = scratch / "benchmark.json"
    short = ("benchmark.rounds=5", "benchmark.seconds=1", "benchmark.num_samples=0", f"benchmark.output={output}")
    genlab(checkout, "benchmark", *overrides, *short)
    (pair,) = json.loads(output.read_text())["pairs"]
    return float(pair["overhead"])


def parents_cpu(checkout: Path, scratch: Path, jobs: str) -> float:
    """Give the CPU seconds of a sweep's own process, without its workers'."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    folder = tempfile.mkdtemp(dir=scratch)
    tiny = ("model=autoregressive/fvsbn", "dataset=digits", *SHORT, "trainer.max_steps=1",
            f"paths.output_dir={folder}", "hydra/launcher=cores", f"seed=range({jobs})")  # fmt: skip
    command = [sys.executable, "-m", "genlab", "train", "-m", *tiny]
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ticks = 0
    while process.poll() is None:
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
        except (OSError, IndexError):
            break
        time.sleep(0.05)
    if process.wait():
        raise RuntimeError(f"{checkout}: the sweep ended with {process.returncode}")
    return ticks / os.sysconf("SC_CLK_TCK")


def folder_of_pictures(scratch: Path, num: int = 8000, side: int = 64) -> Path:
    """Make a folder of PNG files of noise; it is made once."""
    import numpy as np
    from PIL import Image

    folder = scratch / f"pictures{side}"
    if not folder.is_dir():
        folder.mkdir()
        draw = np.random.default_rng(0)
        for i in range(num):
            Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{i:05d}.png")
    return folder


def reading(checkout: Path, scratch: Path, what: str) -> float:
    """Give the seconds of a later start on a folder of pictures, or the peak memory of the first."""
    overrides = ("train", "model=vae/vae", "dataset=image_folder", f"dataset.source.path={folder_of_pictures(scratch)}",
                 "dataset.shape=[3,64,64]", "trainer.max_steps=1", *SHORT)  # fmt: skip
    kept = Path(tempfile.mkdtemp(dir=scratch))
    own = (f"paths.data_dir={kept}/data", f"paths.output_dir={kept}/outputs")
    _, _, peak = genlab(checkout, *overrides, *own)
    return peak if what == "peak" else genlab(checkout, *overrides, *own)[1]


def reading_alone(checkout: Path, scratch: Path, what: str, num: int = 8000, side: int = 64) -> float:
    """Give the seconds that a folder's data takes at a later start, or the memory in MB that it takes at the first."""
    kept = tempfile.mkdtemp(dir=scratch)
    overrides = ("dataset=image_folder", f"dataset.source.path={folder_of_pictures(scratch, num, side)}",
                 f"dataset.shape=[3,{side},{side}]", f"paths.data_dir={kept}",
                 f"paths.output_dir={kept}/outputs")  # fmt: skip
    code = (
        "import resource, time, torch\n"
        "from genlab.composition.building import build\n"
        "from genlab.composition.configs import composed\n"
        "from genlab.launching.options import TYPES\n"
        "from genlab.speed.throwaway import throwaway\n"
        f"with throwaway(composed('train', {overrides}), **TYPES) as config:\n"
        "    import genlab.data.images\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    started = time.perf_counter()\n"
        "    data = build(config['dataset'], 'dataset')\n"
        "    data.setup()\n"
        "    data.some('train', 1)\n"
        "    seconds = time.perf_counter() - started\n"
        "    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    found = []
    for _ in range(1 if what == "peak" else 2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        found = [float(word) for word in done.stdout.split()[-2:]]
    return found[1 if what == "peak" else 0]


def evaluating(checkout: Path, scratch: Path) -> float:
    """Give the peak memory in MB of measuring 5,000 samples of a small model of CIFAR-10 in features of pixels."""
    small = ("model=vae/vae", "dataset=cifar10", "trainer.max_steps=1", "metrics/features=pixels")
    run = trained(checkout, scratch, *small)
    few = ("metrics.num_samples=5000", "metrics.num_test=500", "metrics.importance_samples=null")  # which takes long
    return genlab(checkout, "evaluate", str(run), "checkpoint=last", *few)[2]


def checkpoint_bytes(checkout: Path, scratch: Path) -> float:
    """Give the bytes of a run's checkpoints in MB, a file with several names once."""
    run = trained(checkout, scratch, "model=vae/vae", "dataset=digits", "trainer.max_epochs=1", "callbacks=default")
    files = {path.stat().st_ino: path.stat().st_size for path in (run / "checkpoints").glob("*.ckpt")}
    return sum(files.values()) / 1e6


SHORT = ("metrics.num_samples=8", "metrics.num_test=8", "callbacks=minimal", "logger=csv")
GPT = ("model=transformer/gpt", "dataset=shakespeare", "trainer.precision=32-true", "dataset.batch_size=8")
GLOW = ("model=flow/glow", "dataset=cifar10", "dataset.batch_size=16")
PIXEL_CNN_PP = ("model=autoregressive/pixel_cnn_pp", "dataset=cifar10", "dataset.batch_size=16")
VAE = ("model=vae/vae", "dataset=digits", "dataset.batch_size=2")
GAN = ("model=gan/mlp", "dataset=digits", "dataset.batch_size=8")

TASKS = {
    "gpt": Task("GPT at float32: training", "sequences/s", speed, (*GPT, "trainer.max_steps=30")),
    "glow": Task("Glow, 32x32, batch 16: training", "images/s", speed, (*GLOW, "trainer.max_steps=25")),
    "glow_drawing": Task("Glow, 32x32: drawing 64 samples", "ms", drawing, GLOW),
    "pixel_cnn_pp": Task(
        "PixelCNN++, 32x32, batch 16: training", "images/s", speed, (*PIXEL_CNN_PP, "trainer.max_steps=12")
    ),
    "small_vae": Task("VAE, 8x8, batch 2: training", "images/s", speed, (*VAE, "trainer.max_steps=2000")),
    "small_gan": Task("GAN, 8x8, batch 8: training", "images/s", speed, (*GAN, "trainer.max_steps=1500")),
    "vae_beside_plain": Task("the same VAE: a step at float32", "plain steps", beside_plain, VAE),
    "gan_beside_plain": Task("the same GAN: a step at float32", "plain steps", beside_plain, GAN),
    "help": Task("`genlab train --help`", "s", seconds, ("train", "--help"), rounds=7),
    "cfg": Task("`genlab train --cfg job`", "s", seconds, ("train", "--cfg", "job"), rounds=7),
    "trial": Task("`genlab train debug=fast_dev_run`", "s", seconds, ("train", "debug=fast_dev_run")),
    "beside_minimal": Task(
        "the same: times a minimal script with Hydra and Lightning", "times", beside_minimal, rounds=7
    ),
    "folder_again": Task("8,000 PNGs, 98 MB of pixels: a second run, of one step", "s", reading, ("again",)),
    "folder_peak": Task("the same folder: peak memory of the first run", "MB", reading, ("peak",)),
    "data_again": Task("its data alone, at a second start", "s", reading_alone, ("again",)),
    "data_peak": Task("its data alone, at the first start: memory", "MB", reading_alone, ("peak",)),
    "large_data_peak": Task(
        "4,000 PNGs, 786 MB of pixels: their data alone, at the first start: memory",
        "MB",
        reading_alone,
        ("peak", 4000, 256),
    ),
    "evaluation": Task("5,000 samples of CIFAR-10 in features of pixels: peak memory", "MB", evaluating, rounds=1),
    "checkpoints": Task("checkpoints after an epoch that improved", "MB", checkpoint_bytes, rounds=1),
    "sweep": Task("a sweep of 200 short jobs: its own process", "CPU-s", parents_cpu, ("200",), rounds=1),
}


def commit(checkout: Path) -> str:
    asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--abbrev=12"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS], default=[])
    parser.add_argument("--output", type=Path, default=HERE / "before_and_after.json")
    options = parser.parse_args()
    from genlab.machine.hardware import machine

    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    found: dict[str, Any] = {"machine": machine(), "commits": {name: commit(one) for name, one in checkouts.items()}}
    found["tasks"] = {}
    if options.tasks and options.output.is_file():  # of the same checkouts and machine, the other tasks stay
        earlier = json.loads(options.output.read_text())
        same = all(earlier["machine"][key] == found["machine"][key] for key in ("processor", "system", "versions"))
        if same and earlier["commits"] == found["commits"]:
            found = earlier
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.tasks or TASKS:
            task, values = TASKS[name], {who: list[float]() for who in checkouts}
            for _ in range(task.rounds):
                for who, checkout in checkouts.items():
                    values[who].append(round(task.turn(checkout, Path(scratch), *task.arguments), 3))
            measured = {**found["tasks"], name: {"about": task.about, "unit": task.unit, **values}}
            found["tasks"] = {known: measured[known] for known in TASKS if known in measured}
            print(name, json.dumps(measured[name]), flush=True)
            options.output.write_text(json.dumps(found, indent=2) + "\n")  # what was measured is not lost


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
