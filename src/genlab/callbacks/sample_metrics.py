"""The quality of samples during training, as figures that checkpoints can be selected by."""

import pytorch_lightning as pl
import torch
from torch import nn

from genlab.data.examples import Split
from genlab.data.image_sets import SplitImages
from genlab.errors import InputError
from genlab.metrics.features import FeatureExtractor, as_extractor, extract
from genlab.metrics.measure import draw, own_randomness
from genlab.metrics.modes import Modes
from genlab.metrics.reference import Reference
from genlab.metrics.running import RunningQuality
from genlab.training.module import TrainingModule
from genlab.training.processes import all_gathered


class SampleMetrics(pl.Callback):
    """Measures ``val/fid``, ``val/kid`` and ``val/inception_score`` of fixed-seed samples, and the modes they reach.

    Every process draws its share, and all of them get the same figures.

    Args:
        features: see :mod:`genlab.metrics.features`; ``None`` leaves out what compares features.
        modes: counts them, where the data has some: ``val/modes``, ``val/kl_to_uniform`` and what else it says.
        num_samples: over all processes; ``None`` measures nothing.
        every_images: measure whenever so many more training images were seen; ``None`` is at every validation.
        reference: the split that samples are compared with.
        seed: of the noise; another than the final evaluation's.
        cache_dir: where the reference's features are kept; ``None`` for nowhere.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        modes: Modes | None = None,
        num_samples: int | None = 1000,
        every_images: int | None = None,
        reference: Split = "train",
        seed: int = 1,
        cache_dir: str | None = None,
    ) -> None:
        if num_samples is not None and num_samples < 2:
            raise InputError(f"callbacks.sample_metrics.num_samples={num_samples}: at least 2")
        if every_images is not None and every_images < 1:
            raise InputError(f"callbacks.sample_metrics.every_images={every_images}: at least 1, or null")
        self.features = None if features is None else as_extractor(features)
        self.modes, self.num_samples, self.every_images = modes, num_samples, every_images
        self.reference, self.seed, self.cache_dir = reference, seed, cache_dir
        self._quality: RunningQuality | None = None
        self._measured = 0  # times every_images was passed

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
        figures: dict[str, float] = {}
        with own_randomness(self.seed, device):
            decode = trainer.datamodule.decode  # type: ignore[attr-defined]
            samples = draw(module.sampling_model, len(mine), seed=self.seed, indices=mine, decode=decode)
            if self.features is not None:
                if self._quality is None:
                    self._quality = self._prepared(trainer, self.features, device)
                figures |= self._quality(extract(self.features, [samples], device))
        if self.modes is not None:
            figures |= self.modes(all_gathered(samples, device))
        if figures:
            module.report({f"val/{name}": value for name, value in figures.items()})

    def _prepared(self, trainer: pl.Trainer, features: FeatureExtractor, device: torch.device) -> RunningQuality:
        images = SplitImages(trainer.datamodule.pictured, self.reference)  # type: ignore[attr-defined]
        rank, world_size = trainer.global_rank, trainer.world_size
        assert self.num_samples is not None
        if rank > 0:  # the first one extracts, the others find its cache
            trainer.strategy.barrier()
        real = Reference.of(images, features, self.cache_dir, device)
        if rank == 0 and world_size > 1:
            trainer.strategy.barrier()
        return RunningQuality(real, self.num_samples, device, rank, world_size)

    def state_dict(self) -> dict[str, int]:
        return {"measured": self._measured}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._measured = state["measured"]
