"""Codes on a grid, such as those of a VQ-VAE or of a palette: values k / (levels - 1) that have no order."""

from genlab.modalities.image import Image


class Codes(Image):
    """Codes ``(1, h, w)`` as float in [0, 1]; what people look at are the images that they decode to."""

    name = "codes"
    noun = "codes"
