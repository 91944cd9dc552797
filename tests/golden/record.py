"""Record what genlab does, to the bit, so that two versions of its code can be compared.

    PYTHONPATH=<checkout>/src python tests/golden/record.py OUTPUT [--only NAME ...]

trains small models of every family by the command line of whichever genlab is importable (``python -m genlab``). Every
run is begun with half of its epochs and resumed for the others, then sampled from in several ways and evaluated. Into
``OUTPUT/golden.json`` goes what must be the same with every version of the code on one machine:

- the sha256 of every array, text and picture, and the names of the files in the run folder,
- ``metrics.csv`` without times, speed and memory,
- ``summary.json`` and ``evaluation.json`` without what tells of the machine, the time or the version,
- the sha256 of every weight in ``last.ckpt``, of the optimizers' states and of the random generators.

The run folders stay in ``OUTPUT/runs``. ``compare.py`` compares two recordings. Floating-point results depend on the
processor and on PyTorch's version, both of which are recorded: two recordings tell of the code only where these agree.

A command runs in a fork of this process, which has imported the libraries but nothing of genlab: a recording takes two
minutes on one core, and in processes of their own it would take six.
"""

import os

os.environ |= {
    "OMP_NUM_THREADS": "1",  # before PyTorch is imported: sums over several threads end differently
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled",
}

import argparse
import csv
import hashlib
import json
import platform
import re
import runpy
import shutil
import sys
import time
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

# Imported once, before the forks. None of them is needed here.
LIBRARIES = (
    "hydra", "matplotlib.pyplot", "PIL.Image", "pytorch_lightning", "rich.table", "scipy.stats", "sklearn.datasets",
    "torch_fidelity", "torchmetrics", "torchvision", "zuko",
)  # fmt: skip

COMMON = (
    "trainer=cpu", "trainer.precision=32-true", "trainer.compile=false", "trainer.log_every_n_steps=4", "logger=csv",
    "metrics.num_samples=64", "metrics.num_test=64", "metrics.num_shown=16", "callbacks.sample_grid.num_samples=16",
    "callbacks.sample_metrics.num_samples=32",
)  # fmt: skip
DIGITS = ("dataset=digits", "dataset.train_size=320", "dataset.batch_size=32")
POINTS = ("dataset.train_size=2000", "dataset.batch_size=100")
CODES_OF = "vae-vq_vae"  # the run whose codes another one models

# Settings are stated where the config of a model states others than are in force (see CHANGES.md), so that a command
# line means the same before and after that is mended.
RUNS: dict[str, tuple[str, ...]] = {
    "gan-dcgan": (
        "model=gan/dcgan", *DIGITS, "model.channels=4", "model.latent_dim=8", "training.ema_decay=0.9",
        "training.gradient_clip=5.0", "trainer.max_epochs=3",
    ),
    "gan-mlp": (
        "model=gan/mlp", "dataset=ring2d", *POINTS, "model.width=16", "model.num_layers=2",
        "model.discriminator_width=8", "model.discriminator_layers=2", "trainer.max_epochs=2",
    ),
    "vae-vae": (
        "model=vae/vae", *DIGITS, "model.num_classes=10", "model.networks.hidden=[16]", "model.latent_dim=4",
        "training.ema_decay=0.9", "training.accumulate=2", "trainer.max_epochs=2",
    ),
    "vae-hierarchical_vae": (
        "model=vae/hierarchical_vae", *DIGITS, "model.channels=8", "model.latent_channels=2", "model.num_blocks=1",
        "model.latent_side=4", "training.optimizer.lr=1e-3", "training.gradient_clip=1.0",
        "training.channels_last=true", "trainer.max_epochs=2",
    ),
    "vae-vq_vae": (
        "model=vae/vq_vae", *DIGITS, "model.channels=8", "model.num_codes=8", "model.code_dim=4",
        "model.num_blocks=1", "model.num_halvings=1", "trainer.max_epochs=2",
    ),
    "flow-real_nvp": (
        "model=flow/real_nvp", *DIGITS, "model.width=4", "model.num_couplings=2", "model.num_scales=2",
        "+dataset.flip=true", "trainer.max_epochs=2",
    ),
    "flow-glow": (
        "model=flow/glow", *DIGITS, "model.width=4", "model.num_steps=2", "model.num_scales=2",
        "training.optimizer.lr=2e-3", "training.gradient_clip=1.0", "training.channels_last=false",
        "trainer.max_epochs=2",
    ),
    "flow-nsf": (
        "model=flow/nsf", "dataset=two_moons", *POINTS, "model.num_classes=2", "model.flow.transforms=2",
        "model.flow.hidden_features=[8,8]", "schedule=cosine", "trainer.max_epochs=2",
    ),
    "autoregressive-pixel_cnn": (
        "model=autoregressive/pixel_cnn", *DIGITS, "model.num_classes=10", "model.channels=4", "model.num_layers=2",
        "trainer.max_epochs=2",
    ),
    "autoregressive-pixel_cnn-codes": (
        "model=autoregressive/pixel_cnn", "dataset=latent_codes", f"dataset.run={CODES_OF}", "dataset.train_size=320",
        "dataset.batch_size=32", "model.channels=4", "model.num_layers=2", "trainer.max_epochs=2",
    ),
    "transformer-image_gpt": (
        "model=transformer/image_gpt", *DIGITS, "model.width=8", "model.num_heads=2", "model.num_layers=1",
        "model.dropout=0.1", "trainer.max_epochs=2",
    ),
    "transformer-maskgit": (
        "model=transformer/maskgit", *DIGITS, "model.num_classes=10", "model.width=8", "model.num_heads=2",
        "model.num_layers=1", "trainer.max_epochs=2",
    ),
    "transformer-gpt": (
        "model=transformer/gpt", "dataset=python_docs", "dataset.shape=[32]", "dataset.train_size=640",
        "dataset.batch_size=32", "model.width=16", "model.num_heads=2", "model.num_layers=1",
        "model.positions=rotary", "schedule.warmup_steps=4", "trainer.max_epochs=2",
    ),
}  # fmt: skip

# What `genlab sample` is asked for, beside n=16 samples of seed 3.
VIEWS: dict[str, tuple[tuple[str, ...], ...]] = {
    "gan-dcgan": (("mode=truncation", "n=2"), ("mode=interpolate", "n=2"), ("mode=nearest", "n=4"), ("weights=raw",)),
    "vae-vae": (
        ("mode=reconstruct", "n=8"), ("mode=interpolate", "images=[1,2]"), ("mode=traverse", "n=2"),
        ("mode=attribute", "n=2"), ("mode=scatter", "n=50"), ("mode=classes", "n=2"),
    ),
    "vae-hierarchical_vae": (("mode=reconstruct", "n=8"), ("temperature=0.7",)),
    "flow-real_nvp": (("mode=likelihood", "n=32"), ("mode=interpolate", "n=2"), ("checkpoint=last",)),
    "autoregressive-pixel_cnn": (
        ("mode=complete", "n=2", "draws=2"), ("mode=surprise", "n=4"), ("mode=receptive_field",),
        ("classes=[3,1]", "temperature=0.8"),
    ),
    "transformer-image_gpt": (("temperature=0.8",),),
    "transformer-maskgit": (("temperature=0.8",), ("mode=classes", "n=2")),
    "transformer-gpt": (("prompt=The", "n=2", "length=40", "temperature=0.8", "top_k=5", "top_p=0.9"),),
}  # fmt: skip

# Columns, keys and parts of a checkpoint that tell of the machine or of the time.
WALL_CLOCK = {
    "seconds", "train/images_per_second", "train/tokens_per_second", "train/teraflops", "train/peak_memory_mb",
}  # fmt: skip
MACHINE = {"images_per_second", "wall_seconds", "peak_memory_mb", "environment"}
CHECKPOINT = ("epoch", "global_step", "callbacks", "optimizer_states", "lr_schedulers", "progress", "randomness")


def genlab(*arguments: object, log: Path) -> None:
    """Run ``python -m genlab ARGUMENTS`` in a fork of this process.

    Raises:
        RuntimeError: where it fails; its output is in the log.
    """
    words = [str(argument) for argument in arguments]
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            print("$ genlab", *words, flush=True)
            sys.argv = ["genlab", *words]
            runpy.run_module("genlab", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        lines = log.read_text().splitlines()
        raise RuntimeError(f"genlab {' '.join(words)} ended with {code}: " + "\n".join(lines[-15:]))


def train_in_halves(name: str, options: Iterable[str], runs: Path, log: Path) -> Path:
    """Begin a run with half of its epochs, move its folder to a name without the time, and resume it there.

    Returns:
        The run folder, ``runs/name``.
    """
    (epochs,) = (int(o.partition("=")[2]) for o in options if o.startswith("trainer.max_epochs="))
    begun = runs / "begun"
    first = [o for o in options if not o.startswith("trainer.max_epochs=")]
    genlab("train", *first, f"trainer.max_epochs={epochs // 2}", f"paths.output_dir={begun}", log=log)
    (config,) = begun.rglob("config.yaml")
    folder = runs / name
    config.parent.rename(folder)
    shutil.rmtree(begun)
    genlab("train", f"resume={folder}", f"trainer.max_epochs={epochs}", log=log)
    return folder


def record(name: str, runs: Path, log: Path) -> dict[str, Any]:
    """Train, sample and evaluate one run; give what must be the same with every version of the code."""
    options = [o.replace(f"={CODES_OF}", f"={runs / CODES_OF}") for o in RUNS[name]]
    folder = train_in_halves(name, [*COMMON, *options], runs, log)
    genlab("sample", f"run={folder}", "n=16", "seed=3", log=log)
    for number, view in enumerate(VIEWS.get(name, ())):
        kind = "txt" if name == "transformer-gpt" else "png"
        given = () if any(o.startswith(("mode=", "n=")) for o in view) else ("n=4",)
        output = folder / "samples" / f"view{number}.{kind}"
        genlab("sample", f"run={folder}", *given, *view, f"output={output}", log=log)
    genlab("evaluate", folder, "metrics.num_samples=48", "metrics.num_test=32", "metrics.importance_samples=4", log=log)
    header, rows = read_metrics(folder / "metrics.csv")
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "samples": {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / "samples").iterdir())
        },
        "columns": header,
        "metrics": rows,
        "summary": without_machine(json.loads((folder / "summary.json").read_text())),
        "evaluation": without_machine(json.loads((folder / "evaluation.json").read_text())),
        "checkpoint": read_checkpoint(folder / "checkpoints" / "last.ckpt"),
    }


def read_metrics(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a ``metrics.csv`` without times, speed and memory; what is empty is left out."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [{k: v for k, v in row.items() if v and k not in WALL_CLOCK} for row in reader]
        header = [name for name in reader.fieldnames or () if name not in WALL_CLOCK]
    return header, [row for row in rows if row.keys() - {"images_seen"}]


def without_machine(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in MACHINE}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The sha256 of each weight of a checkpoint, and of each of its other parts that a run resumes from."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    # A speed that could not be measured is not logged: the number of rows depends on the machine.
    del content["progress"]["rows_logged"]
    parts: dict[str, Any] = {"state_dict": {name: digest(value) for name, value in content["state_dict"].items()}}
    for part in CHECKPOINT:
        value = content.get(part)
        parts[part] = {k: digest(v) for k, v in value.items()} if isinstance(value, dict) else digest(value)
    return parts


def digest(value: Any) -> str:
    """Sha256 of nested tensors, lists, dicts and plain values."""
    sha256 = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            sha256.update(f"{value.dtype}{tuple(value.shape)}".encode())
            sha256.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            sha256.update(f"dict{len(value)}".encode())
            for key in sorted(value, key=str):
                feed(key)
                feed(value[key])
        elif isinstance(value, list | tuple):
            sha256.update(f"list{len(value)}".encode())
            for item in value:
                feed(item)
        else:
            sha256.update(repr(value).encode())

    feed(value)
    return sha256.hexdigest()


def machine() -> dict[str, str]:
    """The machine and the libraries that decide how floating-point sums end."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*:\s*(.*)", info.read_text())):
        processor = found[1]
    return {"processor": processor, "torch": torch.__version__, "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path, help="folder to make, for golden.json and the run folders")
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="NAME", help=f"of {', '.join(RUNS)}")
    arguments = parser.parse_args()
    spec = find_spec("genlab")
    if spec is None:
        parser.error("no genlab can be imported: set PYTHONPATH to the src folder of a checkout")
    output = arguments.output.absolute()
    if (output / "runs").exists():
        parser.error(f"{output / 'runs'} is there already")
    (output / "runs").mkdir(parents=True)
    os.environ["GENLAB_CACHE"] = str(output / "cache")
    print(f"genlab of {spec.origin}", flush=True)
    for library in LIBRARIES:
        import_module(library)
    recorded = {}
    for name in RUNS:
        if arguments.only is None or name in arguments.only:
            started = time.monotonic()
            recorded[name] = record(name, output / "runs", output / "log.txt")
            print(f"{name}: {time.monotonic() - started:.1f} s", flush=True)
    content = {"machine": machine(), "runs": recorded}
    (output / "golden.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(output / "golden.json")


if __name__ == "__main__":
    main()
