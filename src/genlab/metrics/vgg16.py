"""VGG16: the features of improved precision and recall, whose weights lie in a file on disk."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.metrics.pretrained import PretrainedNetwork, fill, shaped
from genlab.metrics.weights_file import read_weights

BLOCKS = (2, 2, 3, 3, 3)  # number of convolutions in each block: configuration D of arXiv:1409.1556


class VGG16(PretrainedNetwork):
    """Second fully connected layer of VGG16 (arXiv:1409.1556) after its ReLU: 4,096 features.

    On this layer, Improved Precision and Recall Metric for Assessing Generative Models (arXiv:1904.06991) searches
    neighbours. The weights are torchvision's, and images are prepared as by torch-fidelity, so that the features are
    those of its command. The authors' own network has other weights, with which the values differ.

    Args:
        weights: path of torchvision's ``vgg16-397923af.pth``; genlab does not download it.
        sha256: expected SHA-256 of the file; None takes any file.
        name: name in protocols and tables.

    Raises:
        InputError: if the file is missing, is another one or holds other weights.
    """

    def __init__(self, weights: str | None, sha256: str | None = None, name: str = "vgg16") -> None:
        from torchvision.models.vgg import make_layers

        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, times 255
        super().__init__(name, 224, mean, std)
        found, self.weights_hash = read_weights(weights, sha256, f"{name} (vgg16-397923af.pth of download.pytorch.org)")
        first, second = (shaped(found, f"classifier.{place}.weight", 2, name) for place in (0, 3))
        maps = [len(value) for key, value in found.items() if key.startswith("features.") and value.ndim == 4]
        if len(maps) != sum(BLOCKS):
            raise InputError(f"these are not weights of {name} ({len(maps)} convolutions)")
        layers, widths = iter(maps), list[str | int]()
        for num in BLOCKS:
            widths += [*itertools.islice(layers, num), "M"]
        (hidden, inputs), features = first.shape, len(second)
        classifier = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, features), nn.ReLU()
        )
        self.network = nn.ModuleDict({"features": make_layers(widths), "classifier": classifier})
        of_classes = ("classifier.6.weight", "classifier.6.bias")
        fill(self.network, {key: value for key, value in found.items() if key not in of_classes}, name)

    def resized(self, images: Tensor) -> Tensor:
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        return interpolate_bilinear_2d_like_tensorflow1x(images.float(), (self.side, self.side), align_corners=False)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        maps = self.network["features"](self.prepare(images))
        return self.network["classifier"](torch.flatten(maps, 1)), None

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        resize = f"TensorFlow 1 bilinear to {self.side}x{self.side}, not antialiased"
        return {**super().preprocessing(shape), "resize": resize}
