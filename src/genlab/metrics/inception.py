"""The InceptionV3 used for FID in the literature, with TensorFlow's weights as converted by torch-fidelity."""

import hashlib
import socket
import sys
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
            downloaded once. Other weights in its format are used only if they are named here, and a line on stderr
            says that their FIDs are not the literature's.

    Raises:
        InputError: if the file is missing or damaged, or the one at the default location has other weights.
    """

    batch_size = 50

    def __init__(self, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        path = Path(weights).expanduser() if weights else _downloaded()
        if not path.is_file():
            raise InputError(f"metrics.features.weights={path}: there is no such file")
        self.weights_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        is_known = self.weights_hash.startswith(known_sha256())
        if not weights and not is_known:
            raise InputError(
                f"{path} does not hold Inception's weights (its sha256 begins with {self.weights_hash[:8]} in place of "
                f"{known_sha256()}): delete it, and it is downloaded again, or name it as metrics.features.weights="
            )
        try:
            # torch-fidelity unpickles the file, which could run code. A file that loads with weights_only=True is safe.
            torch.load(path, map_location="cpu", weights_only=True)
            self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))
        except Exception as error:  # a damaged file makes torch raise many types of exceptions
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path} is not torch-fidelity's InceptionV3 ({reason})") from error
        if not is_known:
            print(
                f"genlab: {path} holds other weights than Inception's (its sha256 begins with {self.weights_hash[:8]} "
                f"in place of {known_sha256()}): FIDs on them are not those of the literature",
                file=sys.stderr,
            )

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


def known_sha256() -> str:
    """Give the first digits of the SHA-256 of torch-fidelity's file, which its published name ends with.

    PyTorch's hub names files so and checks them by it; pytorch-fid publishes the same weights under the same digits.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(urlparse(URL_INCEPTION_V3).path).stem.rpartition("-")[2]


def _downloaded() -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(URL_INCEPTION_V3).path).name)
    if path.is_file():
        return path
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a server that does not answer must not hang the run
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Downloaded to a temporary file, which is moved if its hash is right.
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=known_sha256())
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"Inception's weights are not at {path} and could not be downloaded ({error}): put {URL_INCEPTION_V3} "
            "there or name its file as metrics.features.weights=FILE; metrics.features=efficientnet_lite0 needs no "
            "download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return path
