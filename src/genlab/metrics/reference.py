"""Features of the real images that samples are compared with: computed once, kept on disk, shared by all runs."""

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

FORMAT = 1  # of the file; part of its name, so that an older genlab's files are not read


@dataclass(frozen=True)
class Reference:
    """Real images as an extractor sees them.

    Attributes:
        features: float32 ``(N, d)`` on the CPU, and logits.
        protocol: which images, and how they became features.
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
        """Read from the cache, or extracted and put there.

        The file's name holds a hash of the images, of what is done to them and of the extractor's weights. It appears
        whole or not at all: two processes that want it at once both compute it, and either's file serves. A damaged
        file is made anew, and a cache that cannot be written to costs time, not the result.

        Args:
            cache: its folder; ``None`` for none.
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
