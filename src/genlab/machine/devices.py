"""What the device that will be trained on can do."""

from pathlib import Path

import torch


def computes_in_bfloat16(accelerator: str) -> bool:
    """Whether it multiplies in bfloat16.

    Args:
        accelerator: as Lightning names it; ``auto`` is a GPU where there is one.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("auto", "cpu"):
        return False
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(check()) for name in supported if (check := getattr(torch.cpu, name, None)) is not None)


def tune_processor() -> None:
    """What makes PyTorch quicker on a CPU, for this process from now on."""
    multiply_by_onednn()
    # Of weights that no longer learn, Adam's moments fade to below 1e-38, where a processor takes many times as long: a
    # whole step 1.7 times, late in the game of points. Threads that are started later inherit this.
    torch.set_flush_denormal(True)


def multiply_by_onednn() -> None:
    """Let oneDNN multiply float32 matrices on AMD's processors with AVX-512, where it is twice as quick as MKL.

    PyTorch leaves it such products only with leave to round to bfloat16 on the way, which it makes use of on processors
    with AMX alone. Those keep MKL.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text()[:200]:
        has_avx512, has_amx = (
            bool(check()) if (check := getattr(torch.cpu, name, None)) is not None else None
            for name in ("_is_avx512_supported", "_is_amx_tile_supported")
        )
        products = getattr(torch.backends.mkldnn, "matmul", None)
        if has_avx512 and has_amx is False and products is not None:
            products.fp32_precision = "bf16"
