"""Where and with what a number was made."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "genlab",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "torchmetrics",
    "torch-fidelity",
    "wandb",
)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of the checkout genlab runs from, ``+`` where files differ from it; ``None`` outside of one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel"), "src", "genlab").resolve() != here.parent:
            return None
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def code() -> dict[str, Any]:
    """Which code this is."""
    return {"commit": _commit(), "version": version("genlab")}


def environment(device: str, world_size: int, precision: str) -> dict[str, Any]:
    """Versions, commit and hardware."""
    return {
        "versions": _versions(),
        "commit": _commit(),
        "device": torch.cuda.get_device_name()
        if device.startswith("cuda")
        else platform.processor() or platform.machine(),
        "devices": world_size,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def peak_memory_mb(device: torch.device) -> float | None:
    """Most memory held: on the GPU by PyTorch, on the CPU by the process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    scale = 2**20 if platform.system() == "Darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)
