"""Features of the real images that samples are compared with: computed once, cached on disk, shared by all runs."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from genlab.data.image_sets import ImageSet
from genlab.machine.files import write_atomically
from genlab.metrics.features import FeatureExtractor, Features, extract

FORMAT = 1  # version of the file format; part of the file name, so that files of other versions are not read


@dataclass(frozen=True)
class Reference:
    """Extracted features of real images.

    Attributes:
        features: features ``(N, d)`` and logits, float32 on the CPU.
        protocol: protocol fields that describe the images and how their features were extracted.
    """

    features: Features
    protocol: dict[str, object]

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def of(
        cls,
        images: ImageSet,
        extractor: FeatureExtractor,
        cache: str | Path | None = None,
        device: torch.device | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> "Reference":
        """Read the features of images from the cache, or extract them and write them to the cache.

        The name of the cache file contains a hash of the images, their preprocessing and the extractor's weights. The
        file is written atomically: if two processes need it at once, both compute it and either file is valid. A
        damaged file is computed again. If the cache cannot be written to, there is only a warning.

        Args:
            images: real images.
            extractor: feature extractor.
            cache: folder of the cache; None disables the cache.
            device: device to extract on; None for the CPU.
            advance: callback that receives the number of images done since its last call.
        """
        protocol = {
            **images.facts,
            **extractor.protocol(images.shape),
            "reference": images.name,
            "num_real": len(images),
        }
        path = cls._path(cache, images, extractor) if cache is not None else None
        if path is not None and (found := _read(path)) is not None and len(found) == len(images):
            advance(len(images))
            return cls(found, protocol)
        features = extract(extractor, images, device, advance, images.features_view)
        if path is not None:
            _write(path, features)
        return cls(features, protocol)

    @staticmethod
    def _path(cache: str | Path, images: ImageSet, extractor: FeatureExtractor) -> Path:
        made_of = {"format": FORMAT, "images": images.fingerprint, "extractor": extractor.protocol(images.shape)}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()[:24]
        name = "-".join(str(images.facts[k]) for k in ("dataset",) if k in images.facts) or "images"
        return (
            Path(cache).expanduser()
            / f"{name}-{Path(images.name).name}-{extractor.name.split('.')[-1]}-{key}.safetensors"
        )


def _read(path: Path) -> Features | None:
    if not path.is_file():
        return None
    try:
        tensors = load(path.read_bytes())
        return Features(tensors["features"], tensors.get("logits"))
    except (SafetensorError, OSError, KeyError) as error:
        warnings.warn(f"{path} is damaged ({error}): the reference is computed again", stacklevel=3)
        return None


def _write(path: Path, features: Features) -> None:
    tensors: dict[str, Tensor] = {"features": features.features.contiguous()}
    if features.logits is not None:
        tensors["logits"] = features.logits.contiguous()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors))
    except OSError as error:
        warnings.warn(f"the reference could not be kept in {path.parent} ({error})", stacklevel=3)
