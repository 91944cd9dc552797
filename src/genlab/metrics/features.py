"""Feature extractors: functions from images to vectors, on which two sets of images are compared."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.modalities.image import to_uint8


class FeatureExtractor(nn.Module, ABC):
    """Module that maps uint8 images ``(B, C, H, W)`` to features ``(B, d)`` and, with classes, logits ``(B, K)``.

    All images are converted to uint8 first, so that samples are measured as they would be saved.

    Attributes:
        name: name in protocols and tables; by default the class name in lower case.
        weights_hash: SHA-256 of the weights that the features depend on; empty if there are none.
        batch_size: number of images per batch during extraction.
    """

    weights_hash: str = ""
    batch_size: int = 500

    def __init__(self) -> None:
        super().__init__()
        self.name = type(self).__name__.lower()

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]: ...

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        """Describe how images of shape ``(C, H, W)`` are prepared: conversion of channels, and resize filter."""
        return {"channels": "as they are", "resize": "none"}

    def layout(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """Give the layout of features that lie in places of an image of shape ``(C, H, W)``; None for other features.

        The features of two sets of images are compared only if their layouts are equal.
        """
        return None

    def protocol(self, shape: Sequence[int]) -> dict[str, object]:
        """Give the protocol fields that every result measured on these features contains."""
        return {
            "features": self.name,
            "weights_sha256": self.weights_hash,
            "quantization": "uint8, round(255 x)",
            **self.preprocessing(shape),
        }


class Pixels(FeatureExtractor):
    """Features made of the pixel values, averaged over square blocks until at most ``max_features`` are left.

    They need no network and no download. They capture brightness, strokes and their correlations, but not content.
    """

    def __init__(self, max_features: int = 256) -> None:
        super().__init__()
        if max_features < 1:
            raise InputError(f"max_features={max_features}: at least one feature")
        self.max_features = max_features

    def _block(self, shape: Sequence[int]) -> int:
        return max(1, math.ceil(math.sqrt(math.prod(shape) / self.max_features)))

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        x = images.float() / 255
        pooled = F.avg_pool2d(x, self._block(x.shape[1:]), ceil_mode=True, count_include_pad=False)
        return pooled.flatten(1), None

    def layout(self, shape: Sequence[int]) -> tuple[int, ...]:
        block = self._block(shape)
        return (shape[0], *(math.ceil(side / block) for side in shape[1:]))

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        block = self._block(shape)
        return {"channels": "as they are", "resize": f"mean of {block}x{block} pixels" if block > 1 else "none"}


class Module(FeatureExtractor):
    """Extractor that wraps any module mapping float images in [0, 1], ``(B, C, H, W)``, to features.

    Args:
        module: module that returns features or (features, logits); it runs in evaluation mode without gradients, and
            its features are flattened to ``(B, d)``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        kind = type(module)
        self.name = f"{kind.__module__}.{kind.__qualname__}"
        digest = hashlib.sha256(repr(module).encode())
        for key, value in module.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.weights_hash = digest.hexdigest()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        try:
            given = self.module(images.float() / 255 if images.dtype == torch.uint8 else images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of a module that is not genlab's, and may take images of one shape only
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"metrics.features: {self.name} fails on images of shape {list(images.shape[1:])} ({reason})"
            ) from error
        features, logits = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        if not isinstance(features, Tensor) or not (logits is None or isinstance(logits, Tensor)):
            raise InputError(
                f"metrics.features: {self.name} returns {type(given).__name__}; features as a tensor (B, d), or "
                "(features, logits), are expected"
            )
        return features.flatten(1) if features.shape[1:] else features, logits

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        return {"channels": "as they are", "resize": "the module's own"}


def as_extractor(built: object) -> FeatureExtractor:
    """Return the object built from ``metrics.features`` as an extractor; a plain module is wrapped.

    Raises:
        InputError: if the object is neither an extractor nor a module.
    """
    if isinstance(built, FeatureExtractor):
        return built
    if isinstance(built, nn.Module):
        return Module(built)
    raise InputError(f"metrics.features: {type(built).__name__} is not a torch.nn.Module")


@dataclass(frozen=True)
class Features:
    """Features of N images, float32 ``(N, d)``, and logits ``(N, K)`` if the extractor has classes; on the CPU."""

    features: Tensor
    logits: Tensor | None

    def __len__(self) -> int:
        return len(self.features)


@torch.no_grad()
def extract(
    extractor: FeatureExtractor,
    batches: Iterable[Tensor],
    device: torch.device | None = None,
    advance: Callable[[int], None] = lambda _: None,
    view: Callable[[Tensor], Tensor] = to_uint8,
) -> Features:
    """Extract the features of batches of examples, in float32 even inside autocast.

    Args:
        extractor: feature extractor.
        batches: batches of examples; images as float in [0, 1] or as uint8.
        device: device to extract on; None for the CPU.
        advance: callback that receives the number of examples done since its last call.
        view: function that converts a batch to the extractor's input, specific to the modality; by default for images.

    Raises:
        InputError: if the features or logits are NaN or infinite, or are not a row of at least one number per image.
    """
    device = device or torch.device("cpu")
    extractor = extractor.to(device)
    features: list[Tensor] = []
    logits: list[Tensor] = []
    with torch.autocast(device.type, enabled=False):
        for images in batches:
            for part in view(images).split(extractor.batch_size):
                f, z = extractor(part.to(device))
                _check(extractor, "features", f, len(part))
                features.append(f.float().cpu())
                if z is not None:
                    _check(extractor, "logits", z, len(part))
                    logits.append(z.float().cpu())
                advance(len(part))
    return Features(torch.cat(features), torch.cat(logits) if logits else None)


def _check(extractor: FeatureExtractor, what: str, rows: Tensor, num: int) -> None:
    if rows.shape != (num, rows.numel() // num) or rows.numel() == 0:
        raise InputError(
            f"metrics.features: {extractor.name} gives {what} of shape {list(rows.shape)} for {num} images; a row of "
            "at least one number for each image is expected"
        )
    if not rows.isfinite().all():
        raise InputError(f"metrics.features: {extractor.name} gives {what} that are NaN or infinite")
