"""What networks that were trained on photographs share: how an image is prepared for them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor

RGB = tuple[float, float, float]


class PretrainedNetwork(FeatureExtractor):
    """Extractor whose network takes colour images of one size: base class.

    Grey images are repeated to three channels. Images of another size are resized as Pillow does, to whole levels;
    then mean and deviation are applied.

    Args:
        name: name in protocols and tables.
        side: height and width of the network's input, in pixels.
        mean: mean of the network's input, for levels from 0 to 255.
        std: deviation of the network's input, for levels from 0 to 255.
        crop: whether an image that is not square is cropped at its centre; otherwise its aspect ratio changes.
        resample: filter; that of Pillow, which is antialiased.
    """

    batch_size = 50

    def __init__(
        self,
        name: str,
        side: int,
        mean: RGB,
        std: RGB,
        crop: bool = False,
        resample: Literal["bicubic", "bilinear"] = "bicubic",
    ) -> None:
        super().__init__()
        if side < 1:
            raise InputError(f"metrics.features.side={side}: at least one pixel")
        self.name, self.side, self.crop, self.resample = name, side, crop, resample
        self.mean, self.std = mean, std

    def prepare(self, images: Tensor) -> Tensor:
        """Convert uint8 images ``(B, C, H, W)`` to the network's input, float32 ``(B, 3, side, side)``."""
        if images.shape[1] not in (1, 3):
            raise InputError(
                f"{self.name} takes grey or colour images, not {images.shape[1]} channels: try metrics.features=pixels"
            )
        x = self.resized(images.expand(-1, 3, -1, -1))
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def resized(self, images: Tensor) -> Tensor:
        """Resize uint8 images ``(B, 3, H, W)`` to whole levels, float32 ``(B, 3, side, side)``."""
        H, W = images.shape[2:]
        if self.crop and H != W:
            least = min(H, W)
            top, left = (H - least) // 2, (W - least) // 2
            images = images[:, :, top : top + least, left : left + least]
        x = images.float()
        if x.shape[2:] == (self.side, self.side):
            return x
        # Pillow resizes rows first and columns afterwards, and rounds both times.
        for size in ((x.shape[2], self.side), (self.side, self.side)):
            x = F.interpolate(x, size, mode=self.resample, antialias=True).round_().clamp_(0, 255)
        return x

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        square = f"{self.side}x{self.side}"
        cropped = "cropped at the centre, " if self.crop and shape[1] != shape[2] else ""
        is_resized = min(shape[1:]) != self.side if self.crop else tuple(shape[1:]) != (self.side, self.side)
        how = f"Pillow's {self.resample} to {square}, antialiased" if is_resized else ""
        return {
            "channels": "grey repeated to 3" if shape[0] == 1 else "as they are",
            "resize": (cropped + how).removesuffix(", ") if cropped or how else "none",
        }


def shaped(parameters: Mapping[str, Tensor], name: str, ndim: int, what: str) -> Tensor:
    """Return a parameter from which a network's size is read.

    Args:
        parameters: parameters of a file by name.
        name: name of the parameter.
        ndim: number of its dimensions.
        what: name of the network, for the error message.

    Raises:
        InputError: if there is no such parameter.
    """
    value = parameters.get(name)
    if value is None or value.ndim != ndim:
        raise InputError(f"these are not weights of {what} (no {name} of {ndim} dimensions)")
    return value


def fill(network: nn.Module, parameters: Mapping[str, Tensor], what: str) -> None:
    """Load all parameters of a network, and set it to evaluation without gradients.

    Raises:
        InputError: if the file has others than the network.
    """
    try:
        network.load_state_dict(dict(parameters))
    except RuntimeError as error:
        reason = " ".join(str(error).split()[:40])
        raise InputError(f"these are not weights of {what} ({reason})") from error
    network.eval().requires_grad_(False)
