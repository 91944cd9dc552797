"""The InceptionV3 used for FID in the literature, with TensorFlow's weights as converted by torch-fidelity."""

import hashlib
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor


class Inception(FeatureExtractor):
    """InceptionV3 extractor: 2048 pooled features and 1008 logits without bias.

    Rethinking the Inception Architecture (arXiv:1512.00567).

    Args:
        weights: path of torch-fidelity's weights file; None for torch-fidelity's default location, to which the file is
            downloaded once.
    """

    batch_size = 50

    def __init__(self, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        path = Path(weights).expanduser() if weights else _downloaded()
        if not path.is_file():
            raise InputError(f"metrics.features.weights={path}: there is no such file")
        try:
            # torch-fidelity unpickles the file, which could run code. A file that loads with weights_only=True is safe.
            torch.load(path, map_location="cpu", weights_only=True)
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))
        except Exception as error:  # a damaged file makes torch raise many types of exceptions
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} is not torch-fidelity's InceptionV3 ({reason})") from error
        self.weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1] not in (1, 3):
            raise InputError(
                f"Inception takes grey or colour images, not {images.shape[1]} channels: try metrics.features=pixels"
            )
        features, logits = self.network(images.expand(-1, 3, -1, -1))
        return features, logits

    def preprocessing(self, shape: Sequence[int]) -> dict[str, object]:
        return {
            "channels": "grey repeated to 3" if shape[0] == 1 else "as they are",
            "resize": "TensorFlow 1 bilinear to 299x299, not antialiased",
        }


def _downloaded() -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(URL_INCEPTION_V3).path).name)
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a server that does not answer must not hang the run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path))  # to a temporary file, then moved
    except OSError as error:
        raise InputError(
            f"Inception's weights are not at {path} and could not be downloaded ({error}): put {URL_INCEPTION_V3} "
            "there or name its file as metrics.features.weights=FILE; metrics.features=pixels needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path
