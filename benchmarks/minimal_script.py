"""A minimal training script with Hydra and Lightning, as a template has it: one batch of an autoencoder of digits."""

from collections.abc import Callable

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

CONFIG = {
    "seed": 0,
    "hidden": 512,
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.001},
    "callbacks": {
        "checkpoint": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "monitor": "val/loss"},
        "summary": {"_target_": "pytorch_lightning.callbacks.RichModelSummary"},
        "progress": {"_target_": "pytorch_lightning.callbacks.RichProgressBar"},
    },
    "trainer": {"_target_": "pytorch_lightning.Trainer", "fast_dev_run": True, "accelerator": "cpu", "logger": False},
}
ConfigStore.instance().store(name="minimal_script", node=CONFIG)


class Autoencoder(pl.LightningModule):
    def __init__(self, hidden: int, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 64))
        self.optimizer = optimizer
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()

    def measured(self, batch: list[Tensor], name: str, mean: MeanMetric) -> Tensor:
        loss = nn.functional.mse_loss(self.network(batch[0]), batch[0])
        mean(loss)
        self.log(name, mean, prog_bar=True)
        return loss

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return self.measured(batch, "train/loss", self.train_loss)

    def validation_step(self, batch: list[Tensor]) -> None:
        self.measured(batch, "val/loss", self.val_loss)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


@hydra.main(version_base="1.3", config_path=None, config_name="minimal_script")
def main(config: DictConfig) -> None:
    pl.seed_everything(config.seed)
    digits = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    train, val = (DataLoader(TensorDataset(part), 64) for part in digits.split([1500, 297]))
    callbacks = [hydra.utils.instantiate(callback) for callback in config.callbacks.values()]
    trainer = hydra.utils.instantiate(config.trainer, callbacks=callbacks)
    trainer.fit(Autoencoder(config.hidden, hydra.utils.instantiate(config.optimizer)), train, val)


if __name__ == "__main__":
    main()
