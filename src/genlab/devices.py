"""What the device that will be trained on can do."""

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
