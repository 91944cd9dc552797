"""Discrete codes on a grid, such as those of a VQ-VAE or a palette: unordered values stored as k / (levels - 1)."""

from genlab.modalities.image import Image


class Codes(Image):
    """Modality of codes ``(1, h, w)`` as float in [0, 1]; they are decoded to images before they are shown."""

    name = "codes"
    noun = "codes"
    counted = "images"  # which they stand for, each a grid of codes
