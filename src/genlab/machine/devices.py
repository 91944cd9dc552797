"""Capabilities of the training device, and settings that make it faster."""

import os

import torch
from torch import Tensor


def computes_in_bfloat16(accelerator: str) -> bool:
    """Tell whether the device multiplies matrices in bfloat16 in hardware.

    Args:
        accelerator: Lightning's name of the device type; ``auto`` is a GPU if there is one.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("auto", "cpu"):
        return False
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(check()) for name in supported if (check := getattr(torch.cpu, name, None)) is not None)


def computes_in_tf32(device: torch.device) -> bool:
    """Tell whether the device multiplies float32 matrices in TF32, as GPUs since Ampere do."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def finest(device: torch.device) -> torch.dtype:
    """Give the most precise type of numbers that a device computes with: float64, or float32 on Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


def precise(x: Tensor) -> Tensor:
    """Convert a tensor to the most precise type of numbers of its device."""
    return x.to(finest(x.device))


def check_for_gpus_quickly() -> None:
    """Turn off Lightning's way to look for GPUs on a machine without any, for the rest of this process.

    Optimizers look for a GPU at every step, and its way opens a library each time.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def tune_processor() -> None:
    """Make PyTorch faster on CPUs, for the rest of this process.

    Float32 matrix products are left to the library that PyTorch chooses: see docs/performance.md for what oneDNN gains
    and what it costs attention.
    """
    # Adam's moments for weights that no longer change decay below 1e-38, to denormal numbers, with which a processor is
    # many times slower: late in the training of a GAN on points, a step took 1.7 times as long. Threads that are
    # started later inherit this setting.
    torch.set_flush_denormal(True)
