"""Stacked MNIST: images with one digit in each channel, and therefore 1000 modes with three channels.

Unrolled Generative Adversarial Networks (arXiv:1611.02163), VEEGAN (arXiv:1705.07761) and PacGAN (arXiv:1712.04086).
"""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.data.mnist import MNIST
from genlab.distributions.noise import mix
from genlab.errors import InputError


@dataclass(frozen=True)
class Stacked(Examples):
    """Examples made of several digits each; every digit is stored once, and digits are stacked when they are taken.

    Attributes:
        images: the M different digits, uint8 ``(M, 1, H, W)``.
        labels: digits of an example read as one decimal number, int64 ``(N,)``; the first channel is the last digit.
        digits: indices into ``images`` of the digits in each example, int64 ``(N, C)``.
    """

    digits: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.long))

    @property
    def num_in_memory(self) -> int:
        return len(self.digits)

    def subset(self, index: Tensor) -> "Stacked":
        return Stacked(self.images, self.labels[index], digits=self.digits[index])

    def to(self, device: torch.device) -> "Stacked":
        assert self.images is not None
        return Stacked(self.images.to(device), self.labels.to(device), digits=self.digits.to(device))

    def take(self, index: Tensor) -> Tensor:
        assert self.images is not None
        return self.images[self.digits[index.to(self.digits.device)]].squeeze(2)

    def fingerprint(self) -> str:
        return hashlib.sha256((super().fingerprint() + repr(self.digits.cpu().numpy().tobytes())).encode()).hexdigest()


class StackedMNIST:
    """Source of images with a random MNIST digit in each channel; no digit is shared between train, val and test.

    PacGAN also fixes 128,000 images in advance, but takes their digits from MNIST's training and test images.

    Args:
        root: data folder, as for :class:`~genlab.data.mnist.MNIST`.
        channels: number of digits in an image.
        num_train: number of training images.
        num_val: number of validation images.
        num_test: number of test images.
        val_digits: number of MNIST's training digits that are reserved for validation.
        seed: random seed of the choice of digits; the same for every run, so that runs are comparable.

    Raises:
        InputError: if one of the numbers is below 1.
    """

    fixed = True

    def __init__(
        self,
        root: str,
        channels: int = 3,
        num_train: int = 128_000,
        num_val: int = 10_000,
        num_test: int = 26_000,
        val_digits: int = 5000,
        seed: int = 0,
    ) -> None:
        if min(channels, num_train, num_val, num_test, val_digits) < 1:
            raise InputError(
                f"channels={channels}, num_train={num_train}, num_val={num_val}, num_test={num_test}, "
                f"val_digits={val_digits}: at least 1 of each"
            )
        self.mnist, self.channels, self.val_digits, self.seed = MNIST(root), channels, val_digits, seed
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}

    def load(self) -> dict[Split, Examples]:
        mnist = self.mnist.load()
        train = mnist["train"]
        if self.val_digits >= len(train):
            raise InputError(f"val_digits={self.val_digits} of {len(train)} leaves none to train on")
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(mix(self.seed)))
        digits: dict[Split, Examples] = {
            "train": train.subset(order[self.val_digits :]),
            "val": train.subset(order[: self.val_digits]),
            "test": mnist["test"],
        }
        return {
            split: self._stack(digits[split], num, mix(self.seed, i))
            for i, (split, num) in enumerate(self.sizes.items(), 1)
        }

    def _stack(self, digits: Examples, num: int, seed: int) -> Stacked:
        chosen = torch.randint(len(digits), (num, self.channels), generator=torch.Generator().manual_seed(seed))
        number = (digits.labels[chosen] * 10 ** torch.arange(self.channels)).sum(1)
        return Stacked(digits.images, number, digits=chosen)
