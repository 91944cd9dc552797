"""Random numbers that depend only on the sample they belong to, not on how samples are batched.

Sample ``i`` of a run must not change with the batch size, the number of devices or the kind of device. Noise is
therefore drawn on the CPU, with one stream per sample, and then moved to the device. Everywhere in genlab, a
``generator`` argument is one ``torch.Generator`` (shared by the batch), a sequence of them (one per sample) or ``None``
(PyTorch's global generator).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

from genlab.machine.devices import precise

Generators = torch.Generator | Sequence[torch.Generator] | None

_WORD = (1 << 64) - 1


def mix(*words: int) -> int:
    """Hash integers into one 63-bit seed (the finalizer of SplitMix64, folded over the words)."""
    return reduce(_fold, words, 0) >> 1


def _fold(state: int, word: int) -> int:
    state = (state + 0x9E3779B97F4A7C15 + (word & _WORD)) & _WORD
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
    return state ^ (state >> 31)


def generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """Make a generator for each sample index, which depends on ``(seed, index)`` alone."""
    first = _fold(0, seed)
    return [torch.Generator().manual_seed(_fold(first, index) >> 1) for index in indices]


def _draw(fill: Callable[..., Tensor], shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    if generator is None:
        return fill(torch.empty(*shape, device=device))
    if isinstance(generator, torch.Generator):
        return fill(torch.empty(*shape, device=generator.device), generator=generator).to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} samples")
    # Each row from its own stream. torch's CPU kernels use one algorithm for fewer than 16 values and another for more,
    # but the length of a row does not change with the batch, so a row is always filled the same way.
    drawn = torch.empty(*shape)
    for row, own in zip(drawn.unbind(), generator, strict=True):
        fill(row, generator=own)
    return drawn.to(device)


def normal(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Draw standard normal noise of ``shape``; the first dimension is the number of samples."""
    return _draw(Tensor.normal_, shape, generator, device)


def uniform(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Draw uniform noise in [0, 1) of ``shape``; the first dimension is the number of samples."""
    return _draw(Tensor.uniform_, shape, generator, device)


def truncated(z: Tensor, bound: float) -> Tensor:
    """Map standard normal noise, elementwise, to noise of the normal distribution truncated at ±``bound``.

    Each number keeps its cumulative probability, so nothing has to be drawn again.
    """
    root2 = math.sqrt(2)
    within = math.erf(bound / root2)  # the probability of [-bound, bound]
    return (root2 * torch.special.erfinv(torch.special.erf(precise(z) / root2) * within)).to(z).clamp(-bound, bound)


def integers(high: int, num: int, generator: Generators, device: torch.device) -> Tensor:
    """Draw ``num`` uniform integers in [0, high), int64 ``(num,)``."""
    return (uniform((num, 1), generator, device).squeeze(1) * high).long().clamp_(max=high - 1)


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift int64 to the right logically (torch's ``>>`` keeps the sign)."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def indexed_uniform(index: Tensor, num: int, *, seed: int, epoch: int) -> Tensor:
    """Draw uniform numbers in [0, 1), ``(B, num)``, each a function of ``(seed, epoch, index, position)`` alone.

    This is a counter-based generator (SplitMix64's finalizer over a counter, vectorised on the device of ``index``).
    Randomness in the data, such as dynamic binarization, is therefore the same for any batch size and any number of
    workers or devices, and needs no state to resume.

    Args:
        index: positions of the examples in the data set, int64 ``(B,)``.
        num: number of uniform numbers for an example.
        seed: random seed.
        epoch: number of the epoch.
    """
    position = torch.arange(num, device=index.device)
    # In place where possible: for many numbers, memory takes most of the time.
    bits = index[:, None] * num + (position + _signed(mix(seed, epoch) << 1))
    bits.mul_(_signed(0x9E3779B97F4A7C15))
    bits.bitwise_xor_(_shift_right(bits, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    bits.bitwise_xor_(_shift_right(bits, 27)).mul_(_signed(0x94D049BB133111EB))
    bits.bitwise_xor_(_shift_right(bits, 31))
    return _shift_right(bits, 40).to(torch.float32).mul_(math.ldexp(1.0, -24))
