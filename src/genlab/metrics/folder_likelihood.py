"""Likelihood of the images in a folder, preprocessed like the run's test set."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from genlab.data.folders import say
from genlab.data.image_sets import FolderImages
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.metrics.drawing import Advance, evaluating, marginal_log_prob, own_randomness
from genlab.metrics.likelihood import mean_of
from genlab.metrics.result import Result
from genlab.models.base import GenerativeModel, LikelihoodModel


class FolderLikelihood:
    """The images of a folder together with the model under which their likelihood is measured.

    Pixel values are rounded to the levels in which the data is stored, then preprocessed like the test set. For binary
    data, each pixel is drawn once; the draw depends on the data's ``eval_seed`` and on the position of the image among
    the sorted file names.

    Args:
        path: path of the folder.
        model: model with a likelihood; if it is class-conditional, all classes are equally likely.
        data: data on which the model was trained; only its preprocessing is used, not its examples.

    Attributes:
        files: paths of the images, sorted by name.

    Raises:
        InputError: if the model has no likelihood or is not trained on grey or colour images, or if the folder's images
            have a different size.
    """

    def __init__(self, path: str, model: GenerativeModel, data: DataModule) -> None:
        if not isinstance(model, LikelihoodModel):
            raise InputError("images=...: this run's model has no likelihood")
        if not isinstance(data, ImageDataModule) or data.shape[0] not in (1, 3):
            raise InputError("images=...: this run's model is not one of grey or colour images")
        self.model, self.data = model, data
        self.images = FolderImages(path, grey=data.shape[0] == 1)
        self.images.batch_size = data.eval_batch_size
        self.path, self.files = Path(path).expanduser(), self.images.files
        (_, H, W), (_, h, w) = data.shape, self.images.shape
        if (h, w) != (H, W):
            raise InputError(
                f"{self.files[0]} is {w}x{h} and the run's images are {W}x{H}: resize the folder's images to that"
            )

    def __len__(self) -> int:
        return len(self.files)

    def measure(self, seed: int, advance: Advance) -> tuple[dict[str, Result], Tensor]:
        """Measure the mean negative log-likelihood with its protocol, and that of every file in nats, ``(N,)``.

        Args:
            seed: random seed of the draws in a likelihood bound.
            advance: callback that receives the number of images done since its last call.
        """
        model, data = self.model, self.data
        transform, highest = data.transform("test", augment=False), data.source_levels - 1
        digest = hashlib.sha256(repr(self.images.shape).encode())
        as_stored = black_or_white = True
        log_probs: list[Tensor] = []
        with evaluating(model), own_randomness(seed, model.device):
            for images in self.images:
                digest.update(images.numpy().tobytes())
                stored = (images * (highest / 255)).round().byte()
                as_stored &= bool(((stored * (255 / highest)).round() == images).all())
                black_or_white &= bool(((images == 0) | (images == 255)).all())
                first = sum(map(len, log_probs))
                x = transform(stored, torch.arange(first, first + len(images)), 0).to(model.device)
                log_probs.append(marginal_log_prob(model, x).cpu().double())
                advance(len(images))
        say(self.images.found)
        nll = -torch.cat(log_probs)
        protocol: dict[str, object] = {
            "dataset": self.images.name,
            "num": len(nll),
            "sha256": digest.hexdigest(),
            "levels": data.levels,
            "likelihood": model.likelihood,
            "seed": seed,
        }
        if "binarization" in data.protocol:
            drawn = f"one draw of each grey level, seed {data.eval_seed}"
            protocol["binarization"] = "black and white already" if black_or_white else drawn
        if not as_stored:
            protocol["grey_levels"] = f"256 rounded to {data.source_levels}"
        if model.num_classes is not None:
            protocol["classes"] = f"{model.num_classes}, equally likely"
        if model.likelihood != "exact":
            protocol["draws"] = 1
        units = (("nll", nll, "nats"), ("bits_per_dim", model.bits_per_dim(nll), "bits/dim"))
        return {name: mean_of(values, protocol, unit) for name, values, unit in units}, nll
