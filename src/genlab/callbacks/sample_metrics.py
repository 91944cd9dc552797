"""Measure the quality of samples during training, as figures that checkpoints can be selected by."""

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from torch import nn

from genlab.data.examples import Split
from genlab.data.image_sets import SplitImages
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.metrics.drawing import draw, own_randomness
from genlab.metrics.evaluation import chosen
from genlab.metrics.features import FeatureExtractor, as_extractor
from genlab.metrics.measures.base import Measure
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.measures.modes import ModesReached
from genlab.metrics.modes import Modes
from genlab.metrics.reference import Reference
from genlab.metrics.running import Share
from genlab.training.module import TrainingModule
from genlab.training.processes import all_gathered


class SampleMetrics(pl.Callback):
    """A callback that measures samples, drawn from the same noise every time, as ``val/fid``, ``val/kid`` and others.

    Every process draws its share of the samples, and all of them get the same figures.

    Args:
        features: extractor of features, see :mod:`genlab.metrics.features`; None skips measures that need features.
        modes: counter of the modes of the data; None if the data has no known modes.
        num_samples: number of samples over all processes; None measures nothing.
        every_images: number of training images between two measurements; None measures at every validation.
        reference: split that samples are compared with.
        seed: random seed of the noise; it differs from the final evaluation's.
        cache_dir: folder that keeps the features of the reference; None keeps them nowhere.
        measures: measures by name, of which None entries are skipped; None for FID, KID, inception score and modes.

    Raises:
        InputError: if ``num_samples`` is less than 2, or ``every_images`` less than 1.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        modes: Modes | None = None,
        num_samples: int | None = 1000,
        every_images: PositiveInt | None = None,
        reference: Split = "train",
        seed: int = 1,
        cache_dir: str | None = None,
        measures: Mapping[str, Measure | None] | None = None,
    ) -> None:
        if num_samples is not None and num_samples < 2:
            raise InputError(f"callbacks.sample_metrics.num_samples={num_samples}: at least 2")
        if every_images is not None and every_images < 1:
            raise InputError(f"callbacks.sample_metrics.every_images={every_images}: at least 1, or null")
        if measures is None:
            measures = {"fid": FID(), "kid": KID(), "inception_score": InceptionScore(), "modes": ModesReached()}
        self.measures = chosen(measures, "callbacks.sample_metrics.measures")
        self.features = None if features is None else as_extractor(features)
        self.modes, self.num_samples, self.every_images = modes, num_samples, every_images
        self.reference, self.seed, self.cache_dir = reference, seed, cache_dir
        self._real: Reference | None = None
        self._measured = 0  # number of times that images_seen had passed a multiple of every_images

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
        assert isinstance(module, TrainingModule)
        if self.num_samples is None or self.every_images is None:
            return
        if (passed := module.images_seen // self.every_images) <= self._measured:
            return
        self._measured = passed
        self._measure(trainer, module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self.num_samples is not None and self.every_images is None and not trainer.sanity_checking:
            self._measure(trainer, module)

    def _measure(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        assert self.num_samples is not None
        rank, world_size, device = trainer.global_rank, trainer.world_size, module.device
        if world_size > self.num_samples:
            raise InputError(f"{self.num_samples} samples do not give each of {world_size} processes one")
        mine = range(rank, self.num_samples, world_size)
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        figures: dict[str, float] = {}
        with own_randomness(self.seed, device):
            samples = draw(module.sampling_model, len(mine), seed=self.seed, indices=mine, decode=data.decode)
            if self.features is not None and self._real is None:
                self._real = self._reference(trainer, data, self.features, device)
            share = Share(
                samples,
                self.num_samples,
                extractor=self.features,
                real=self._real,
                modes=self.modes,
                data=data,
                device=device,
                gather=lambda rows: all_gathered(rows, device),
                rank=rank,
                world_size=world_size,
            )
            for measure in self.measures.values():
                if measure.applies(share):
                    figures |= measure.running(share)
        if figures:
            module.report({f"val/{name}": value for name, value in figures.items()})

    def _reference(
        self, trainer: pl.Trainer, data: DataModule, features: FeatureExtractor, device: torch.device
    ) -> Reference:
        if trainer.global_rank > 0:  # the first process extracts the features, the others read them from its cache
            trainer.strategy.barrier()
        images = SplitImages(data.pictured, self.reference)
        real = Reference.of(images, features, self.cache_dir, device)
        if trainer.global_rank == 0 and trainer.world_size > 1:
            trainer.strategy.barrier()
        return real

    def state_dict(self) -> dict[str, int]:
        return {"measured": self._measured}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._measured = state["measured"]
