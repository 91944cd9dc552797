"""Capabilities of the training device, and settings that make it faster."""

from pathlib import Path

import torch


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


def tune_processor() -> None:
    """Make PyTorch faster on CPUs, for the rest of this process."""
    multiply_by_onednn()
    # Adam's moments for weights that no longer change decay below 1e-38, to denormal numbers, with which a processor is
    # many times slower: late in the training of a GAN on points, a step took 1.7 times as long. Threads that are
    # started later inherit this setting.
    torch.set_flush_denormal(True)


def multiply_by_onednn() -> None:
    """Let oneDNN multiply float32 matrices on AMD processors with AVX-512, where it is twice as fast as MKL.

    PyTorch uses oneDNN for float32 only if rounding to bfloat16 is permitted. Only processors with AMX then actually
    round, so those keep MKL.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text(encoding="utf-8")[:200]:
        has_avx512, has_amx = (
            bool(check()) if (check := getattr(torch.cpu, name, None)) is not None else None
            for name in ("_is_avx512_supported", "_is_amx_tile_supported")
        )
        products = getattr(torch.backends.mkldnn, "matmul", None)
        if has_avx512 and has_amx is False and products is not None:
            products.fp32_precision = "bf16"
