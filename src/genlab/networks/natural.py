"""The networks that suit the shape of the data, for models that can be trained on several kinds."""

from typing import Any

from torch import nn

from genlab.networks.time_mlp import TimeMLP
from genlab.networks.unet import UNet


def natural(shape: tuple[int, ...], group_size: int = 4, **options: Any) -> nn.Module:
    """Build the network of a diffusion model: a U-Net for images ``(C, H, W)``, a fully connected one for points.

    Args:
        shape: shape of an example.
        group_size: least number of channels in a group of the U-Net's normalizations.
        **options: further arguments that all such networks take: ``num_times``, ``num_classes`` and ``time_scale``.
    """
    return UNet(shape, group_size=group_size, **options) if len(shape) == 3 else TimeMLP(shape, **options)
