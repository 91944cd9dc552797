"""Small classifiers of handwritten digits, shipped with the package: features and class logits without a download.

The weights in ``weights/`` were trained by ``benchmarks/train_digit_classifier.py`` of the repository.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor

WEIGHTS = Path(__file__).parent / "weights"


class DigitClassifier(FeatureExtractor):
    """Convolutional classifier of ten digits: five convolutions with batch normalization, then global averaging.

    The averaged feature maps are the 128 features. Before the network, images are converted to grey (ITU-R 601 luma)
    and resized to ``side`` x ``side`` (antialiased bilinear).

    Args:
        side: height and width of the network's input images, in pixels.
        strides: stride of each convolution; the last convolution has no padding.

    Attributes:
        facts: metadata of the weights file: training data, test accuracy and training recipe.
    """

    num_features = 128
    num_classes = 10

    def __init__(self, side: int, strides: tuple[int, ...] = (1, 2, 1, 2, 1)) -> None:
        super().__init__()
        self.side, self.strides = side, tuple(strides)
        widths = (1, 32, 32, 64, 64, self.num_features)
        layers: list[nn.Module] = []
        for i, stride in enumerate(self.strides):
            padding = 0 if i == len(self.strides) - 1 else 1
            layers += [
                nn.Conv2d(widths[i], widths[i + 1], 3, stride, padding, bias=False),
                nn.BatchNorm2d(widths[i + 1]),
                nn.ReLU(),
            ]
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.head = nn.Linear(self.num_features, self.num_classes)
        self.facts: dict[str, str] = {}

    @classmethod
    def pretrained(cls, weights: str, sha256: str | None = None) -> "DigitClassifier":
        """Load a trained classifier.

        Args:
            weights: name of a file in the package's ``weights/``, or a path to a safetensors file.
            sha256: expected SHA-256 of the file; None skips the check.

        Raises:
            InputError: if the file does not exist or its SHA-256 differs from ``sha256``.
        """
        path = Path(weights).expanduser()
        if not path.suffix:
            path = WEIGHTS / f"{weights}.safetensors"
        if not path.is_file():
            there = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.safetensors")))
            raise InputError(f"there are no classifier weights {path} (the package has {there})")
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256:
            raise InputError(f"{path} is not the file it should be: its sha256 is {found}, not {sha256}")
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
        classifier = cls(int(facts["side"]), tuple(map(int, facts["strides"].split(","))))
        classifier.load_state_dict(load(content))
        classifier.name, classifier.weights_hash, classifier.facts = path.stem, found, facts
        return classifier.eval().requires_grad_(False)

    def classify(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features ``(B, 128)`` and logits ``(B, 10)`` of grey images in [0, 1], ``(B, 1, side, side)``."""
        x = (2 * x - 1).contiguous(memory_format=torch.channels_last)
        features = self.convolutions(x).mean((2, 3))
        return features, self.head(features)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float() / 255
        if x.shape[1] == 3:
            x = (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        elif x.shape[1] != 1:
            raise InputError(f"a classifier of digits takes grey or colour images, not {x.shape[1]} channels")
        if x.shape[2:] != (self.side, self.side):
            x = F.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
        return self.classify(x)

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        resized = tuple(shape[1:]) != (self.side, self.side)
        return {
            "channels": "ITU-R 601 luma" if shape[0] == 3 else "grey",
            "resize": f"antialiased bilinear to {self.side}x{self.side}" if resized else "none",
        }
