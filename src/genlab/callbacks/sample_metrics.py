"""The quality of samples during training, as a figure that checkpoints can be selected by."""

import pytorch_lightning as pl

from genlab.metrics.features import FeatureExtractor, Pixels
from genlab.metrics.measure import SampleQuality, draw
from genlab.training.module import TrainingModule


class SampleMetrics(pl.Callback):
    """Logs ``val/frechet_distance`` of fixed-seed samples to the training images at every validation.

    Args:
        num_samples: drawn each time.
        features: see :mod:`genlab.metrics.features`.
        seed: of the noise; another than the final evaluation's.
    """

    def __init__(self, num_samples: int = 1000, features: FeatureExtractor | None = None, seed: int = 1) -> None:
        self.num_samples, self.features, self.seed = num_samples, features or Pixels(), seed
        self._quality: SampleQuality | None = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if trainer.sanity_checking:
            return
        if self._quality is None:
            self._quality = SampleQuality(trainer.datamodule, self.features)  # type: ignore[attr-defined]
        samples = draw(module.sampling_model, self.num_samples, seed=self.seed)
        module.log("val/frechet_distance", self._quality(samples), logger=False)
