"""Description of the software and hardware that a result was obtained with."""

import hashlib
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
    """Give the commit of the checkout that genlab runs from, with ``+`` if files differ, or ``None`` without one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel"), "src", "genlab").resolve() != here.parent:
            return None
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def code() -> dict[str, Any]:
    """Give genlab's commit (None outside a checkout) and version."""
    return {"commit": _commit(), "version": version("genlab")}


def code_sha256() -> str:
    """Hash the Python files of genlab as they lie on this machine, in a checkout or not."""
    here, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here).as_posix()} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def described(commit: str | None) -> str:
    """Say in words at which commit something was measured, and whether files of the checkout differed from it."""
    if commit is None:
        return "measured outside of a checkout"
    name = f"`{commit.removesuffix('+')}`"
    return f"measured at commit {name}" + (" with files changed since, which no commit holds" * commit.endswith("+"))


def environment(device: str, world_size: int, precision: str) -> dict[str, Any]:
    """Describe versions, commit, hardware and settings.

    Args:
        device: device of the computation, such as ``"cpu"`` or ``"cuda:0"``.
        world_size: number of devices.
        precision: precision of the computation, as Lightning names it.
    """
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
    """Give the peak memory in MiB: on a GPU, of PyTorch's tensors; on a CPU, of the process (None on Windows)."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    scale = 2**20 if platform.system() == "Darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)
