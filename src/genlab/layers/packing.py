"""Packing of examples: PacGAN: The power of two samples in generative adversarial networks (arXiv:1712.04086)."""

from torch import Tensor

from genlab.errors import InputError


def packed(x: Tensor, pack: int) -> Tensor:
    """Join every ``pack`` examples along their channels: ``(B, C, ...)`` to ``(B / pack, pack C, ...)``.

    Raises:
        InputError: if the batch is no multiple of ``pack``.
    """
    if len(x) % pack:
        raise InputError(f"a batch of {len(x)} does not divide into packs of {pack}: change dataset.batch_size")
    return x.reshape(len(x) // pack, pack * x.shape[1], *x.shape[2:])
