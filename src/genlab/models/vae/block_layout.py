"""How many blocks a hierarchical VAE has at each size of its features, and which sizes those are."""

import re
from typing import NamedTuple

from genlab.errors import InputError
from genlab.models.vae.networks import Shape


class Layout(NamedTuple):
    """The blocks of a hierarchical VAE at each size, from the image's size to the coarsest.

    Attributes:
        sizes: sizes ``(h, w)`` of the features.
        rates: factors by which sides shrink from one size to the next, one fewer than sizes; sides are rounded up.
        encoder: numbers of the encoder's residual blocks at each size, before the decoder reads the features there.
        lowering: whether one more residual block follows at a size before its features shrink.
        decoder: numbers of the decoder's blocks at each size.
        with_latents: whether these draw latents.
        encoder_gain: initial scale of the last convolution of each of the encoder's blocks.
        decoder_gain: the same of the decoder's blocks.
    """

    sizes: list[tuple[int, ...]]
    rates: list[int]
    encoder: list[int]
    lowering: list[bool]
    decoder: list[int]
    with_latents: list[bool]
    encoder_gain: float
    decoder_gain: float


def halved(shape: Shape, encoder_blocks: int, num_blocks: int, latent_side: int) -> Layout:
    """Lay out equally many blocks at each size, where sides are halved down to 1x1.

    Args:
        shape: image shape ``(C, H, W)``.
        encoder_blocks: number of the encoder's blocks at each size.
        num_blocks: number of the decoder's blocks at each size with latents.
        latent_side: largest side with latents; the decoder has one block without latents at each larger size.
    """
    sizes: list[tuple[int, ...]] = [tuple(shape[1:])]
    while max(sizes[-1]) > 1:
        sizes.append(_shrunk(sizes[-1], 2))
    latents = [max(size) <= latent_side for size in sizes]
    gain = (sum(latents) * num_blocks) ** -0.5
    decoder = [num_blocks if drawn else 1 for drawn in latents]
    rates, none = [2] * (len(sizes) - 1), [False] * len(sizes)
    return Layout(sizes, rates, [encoder_blocks] * len(sizes), none, decoder, latents, gain, gain)


def written(shape: Shape, encoder_blocks: str, decoder_blocks: str) -> Layout:
    """Lay out the blocks that two strings list in the notation of Very Deep VAEs (arXiv:2011.10650).

    A size is named by its larger side. In both strings ``32x11`` means 11 blocks at side 32. In the encoder's,
    ``32d2`` means a further block at side 32 whose output shrinks by the factor 2; in the decoder's, ``32m16`` means a
    block at side 32 that begins with the features of side 16, enlarged. Every block of the decoder draws latents.

    Args:
        shape: image shape ``(C, H, W)``.
        encoder_blocks: the encoder's blocks, such as ``32x11,32d2,16x6``, from the image's side down.
        decoder_blocks: the decoder's blocks, such as ``16x11,32m16,32x21``, from the coarsest side up.

    Raises:
        InputError: if a string is not in this notation, the sides do not follow from each other and from the image's,
            or the strings list different sides.
    """
    sizes: list[tuple[int, ...]] = [tuple(shape[1:])]
    rates: list[int] = []
    encoder, lowering = [0], [False]
    for side, kind, number in _parts("encoder_blocks", encoder_blocks, "xd"):
        if side != max(sizes[-1]):
            part, now = f"{side}{kind}{number}", max(sizes[-1])
            raise InputError(f"encoder_blocks: {part} stands where the features' side is {now}")
        if kind == "x":
            encoder[-1] += number
            continue
        if number < 2 or side == 1:
            raise InputError(f"encoder_blocks: {side}d{number} does not shrink the features")
        lowering[-1] = True
        rates.append(number)
        sizes.append(_shrunk(sizes[-1], number))
        encoder.append(0)
        lowering.append(False)
    decoder: list[int] = []
    sides: list[int] = []
    for side, kind, number in _parts("decoder_blocks", decoder_blocks, "xm"):
        if kind == "m":
            if not sides or number != sides[-1] or side <= number:
                raise InputError(f"decoder_blocks: {side}m{number} does not follow features of side {number}")
            sides.append(side)
            decoder.append(1)
        elif not sides:
            sides.append(side)
            decoder.append(number)
        elif side == sides[-1]:
            decoder[-1] += number
        else:
            raise InputError(f"decoder_blocks: {side}x{number} stands where the features' side is {sides[-1]}")
    expected = [max(size) for size in reversed(sizes)]
    if sides != expected:
        raise InputError(f"decoder_blocks lists the sides {sides}, and encoder_blocks {expected}")
    total = sum(encoder) + sum(lowering)
    return Layout(
        sizes, rates, encoder, lowering, decoder[::-1], [True] * len(sizes), total**-0.5, sum(decoder) ** -0.5
    )


def _shrunk(size: tuple[int, ...], rate: int) -> tuple[int, ...]:
    return tuple(-(-side // rate) for side in size)


def _parts(name: str, blocks: str, kinds: str) -> list[tuple[int, str, int]]:
    parts = []
    for part in blocks.split(","):
        found = re.fullmatch(rf"\s*([1-9]\d*)([{kinds}])([1-9]\d*)\s*", part)
        if found is None:
            raise InputError(f"{name}: {part.strip()!r} is not like 8x5 or 8{kinds[1]}4")
        parts.append((int(found[1]), found[2], int(found[3])))
    return parts
