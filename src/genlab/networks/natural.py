"""The networks that suit the shape of the data, for models that can be trained on several kinds."""

from typing import Any

from torch import nn

from genlab.networks.time_mlp import TimeMLP
from genlab.networks.unet import UNet


def natural(shape: tuple[int, ...], **options: Any) -> nn.Module:
    """Build the network of a diffusion model: a U-Net for images ``(C, H, W)``, a fully connected one for points.

    Args:
        shape: shape of an example.
        **options: further arguments that all such networks take: ``num_times``, ``num_classes`` and ``time_scale``.
    """
    return UNet(shape, **options) if len(shape) == 3 else TimeMLP(shape, **options)
