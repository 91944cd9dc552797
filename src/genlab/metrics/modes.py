"""Counters of the modes reached by samples, for data with a known set of modes."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.data import points
from genlab.errors import InputError
from genlab.metrics.digit_classifier import DigitClassifier
from genlab.metrics.features import extract
from genlab.modalities.image import to_uint8


def kl_to_uniform(counts: Tensor) -> float:
    """Compute KL(p || uniform) in nats for the distribution p given by counts ``(K,)``; log K if all counts are 0.

    For N draws from the uniform distribution itself, the value is about (K - 1) / 2N, not 0.
    """
    p = counts.double() / max(1, int(counts.sum()))
    return math.log(len(p)) + float(torch.special.xlogy(p, p).sum())


class Modes(ABC):
    """Counter of the modes among samples."""

    num_modes: int

    @abstractmethod
    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Count ``modes`` (with at least one sample), and compute ``kl_to_uniform`` in nats and further figures."""

    @property
    @abstractmethod
    def protocol(self) -> dict[str, object]: ...


class ClassModes(Modes):
    """Counter for data whose modes are classes, predicted by a digit classifier: PacGAN (arXiv:1712.04086), section 4.

    Args:
        weights: name or path of the classifier's weights, as for
            :class:`~genlab.metrics.digit_classifier.DigitClassifier`.
        sha256: expected SHA-256 of the weights file; None skips the check.
        stacked: whether each channel is a separate digit, as in stacked MNIST, which has 10^C modes.
        channels: number of channels C of the images, used with ``stacked``.
    """

    def __init__(self, weights: str, sha256: str | None = None, stacked: bool = False, channels: int = 1) -> None:
        self.classifier = DigitClassifier.pretrained(weights, sha256)
        self.stacked, self.channels = stacked, channels
        self.num_modes = self.classifier.num_classes ** (channels if stacked else 1)

    def __call__(self, samples: Tensor) -> dict[str, float]:
        images = to_uint8(samples)
        if self.stacked:
            if images.shape[1] != self.channels:
                raise InputError(f"stacked digits of {self.channels} channels, and the images have {images.shape[1]}")
            images = images.flatten(0, 1).unsqueeze(1)
        logits = extract(self.classifier, [images], samples.device).logits
        assert logits is not None
        confidence, named = logits.softmax(1).max(1)
        if self.stacked:
            powers = self.classifier.num_classes ** torch.arange(self.channels)
            named = (named.view(-1, self.channels) * powers).sum(1)
        counts = named.bincount(minlength=self.num_modes)
        return {
            "modes": float((counts > 0).sum()),
            "kl_to_uniform": kl_to_uniform(counts),
            "classifier_confidence": float(confidence.mean()),
        }

    @property
    def protocol(self) -> dict[str, object]:
        return {
            "num_modes": self.num_modes,
            "mode": "at least one sample named so" + (", each channel by itself" if self.stacked else ""),
            "classifier": self.classifier.name,
            "classifier_sha256": self.classifier.weights_hash,
            "classifier_test_accuracy": float(self.classifier.facts["test_accuracy"]),
        }


class GaussianModes(Modes):
    """Counter for data whose modes are Gaussians in the plane.

    The protocol is that of VEEGAN (arXiv:1705.07761) and PacGAN (arXiv:1712.04086): a sample has high quality if it is
    within ``max_std`` standard deviations of the nearest centre. One such sample suffices to reach a mode, and only
    such samples count in the KL divergence.

    Args:
        centres: means of the Gaussians, ``(K, 2)``.
        std: standard deviation of every Gaussian, in each coordinate.
        max_std: largest distance of a high-quality sample to its centre, in standard deviations.
    """

    def __init__(self, centres: Tensor, std: float, max_std: float = 3.0) -> None:
        self.centres, self.std, self.max_std = centres, std, max_std
        self.num_modes = len(centres)

    @classmethod
    def ring(cls, num: int = 8, radius: float = 1.0, std: float = 0.01) -> "GaussianModes":
        return cls(points.ring(num, radius), std)

    @classmethod
    def grid(cls, side: int = 5, spacing: float = 2.0, std: float = 0.05) -> "GaussianModes":
        return cls(points.grid(side, spacing), std)

    def __call__(self, samples: Tensor) -> dict[str, float]:
        if samples.shape[1:] != self.centres.shape[1:]:
            raise InputError(f"modes of points (N, {self.centres.shape[1]}), and the samples are {list(samples.shape)}")
        distance, mode = torch.cdist(
            samples.float().cpu(), self.centres, compute_mode="donot_use_mm_for_euclid_dist"
        ).min(1)
        good = distance < self.max_std * self.std
        counts = mode[good].bincount(minlength=self.num_modes)
        return {
            "modes": float((counts > 0).sum()),
            "kl_to_uniform": kl_to_uniform(counts),
            "high_quality": float(good.float().mean()),
        }

    @property
    def protocol(self) -> dict[str, object]:
        return {
            "num_modes": self.num_modes,
            "mode": f"at least one sample within {self.max_std:g} standard deviations of its centre",
            "std": self.std,
        }
