"""The best checkpoint where larger values are better, and where smaller ones are."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.callbacks.last_checkpoint import LastCheckpoint
from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.distributions.pixel import Categorical
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.runs.checkpoints import read_checkpoint
from genlab.runs.folder import RunFolder
from genlab.training.objective import ObjectiveTraining
from support.command import Genlab


class Reports(pl.Callback):
    """Reports given values of a figure at the ends of validations."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[int] = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, ObjectiveTraining)
        self.seen.append(module.images_seen)
        module.reported["val/score"] = (self.values.pop(0), module.images_seen)


def kept(
    path: Path, mode: Any, values: tuple[float, ...], *more: pl.Callback, **options: Any
) -> tuple[float | None, int | None]:
    """The best value, and the number of the validation whose weights are in the checkpoint."""
    torch.manual_seed(0)
    module = ObjectiveTraining(
        VAE((1, 8, 8), Categorical(17), FullyConnected((4,)), ELBO(), latent_dim=2),
        optimizer=lambda p: torch.optim.Adam(p, 1e-2),
    )
    data = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, batch_size=64, val_size=150, test_size=300)
    best, reports = BestCheckpoint(str(path), "val/score", mode), Reports(*values)
    length: dict[str, Any] = {"max_epochs": len(values), "limit_train_batches": 1, **options}
    pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=1, use_distributed_sampler=False, num_sanity_val_steps=0,
        callbacks=[reports, best, *more], **length,
    ).fit(module, datamodule=data)  # fmt: skip
    if not path.is_file():
        return best.best, None
    saved = torch.load(path, weights_only=False)
    again = BestCheckpoint(str(path), "val/score", mode)
    again.load_state_dict(best.state_dict())
    assert again.best == best.best
    return best.best, reports.seen.index(saved["progress"]["images_seen"])


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("max", (0.1, 0.7, 0.3, 0.7), (0.7, 1)),  # the first of two equal ones
        ("max", (-3.0, -2.0, -5.0), (-2.0, 1)),
        ("max", (0.5, math.nan, math.inf, 0.4), (0.5, 0)),
        ("max", (math.nan, -math.inf), (None, None)),
        ("min", (0.5, 0.1, 0.3, 0.1), (0.1, 1)),
        ("min", (-2.0, -5.0, -3.0, -math.inf), (-5.0, 1)),
    ],
)
def test_the_weights_of_the_best_value_are_kept(
    mode: str, values: tuple[float, ...], expected: tuple[float | None, int | None], tmp_path: Path
) -> None:
    assert kept(tmp_path / "best.ckpt", mode, values) == expected


def test_the_best_of_the_newest_weights_is_the_same_file(genlab: Genlab) -> None:
    small = ("model=vae/vae", "model.networks.hidden=[8]", "metrics.num_samples=16", "metrics.num_test=20")
    result = genlab("train", *small, "dataset.train_size=128", "trainer.max_epochs=2", "logger=csv")
    assert result.code == 0, result.err
    checkpoints = result.run / "checkpoints"
    best, last = checkpoints / "best.ckpt", checkpoints / "last.ckpt"
    assert read_checkpoint(best)["progress"]["images_seen"] == 2 * 128  # the second epoch was better
    assert os.path.samefile(best, last)

    # A kill between the two files: the run that goes on from the newest weights finds out that they are the best.
    best.unlink()
    again = genlab("train", f"resume={result.run}", "trainer.max_epochs=3", "training.optimizer.lr=0.001")
    assert again.code == 0, again.err
    assert best.is_file()
    assert not list(checkpoints.glob(".*link"))

    # So does one that was trained to its end and not measured.
    best.unlink()
    RunFolder(result.run).set_status("interrupted")
    measured = genlab("train", f"resume={result.run}")
    assert measured.code == 0, measured.err
    assert best.is_file()


@pytest.mark.parametrize(("values", "batches"), [((0.1, 0.7, 0.9, 0.8), 1), ((0.7, 0.1, 0.9, 0.8), 2)])
def test_a_best_within_an_epoch_has_a_file_of_its_own(values: tuple[float, ...], batches: int, tmp_path: Path) -> None:
    """Two epochs of two batches, and a validation after each batch; the newest weights are saved after epochs alone."""
    last = LastCheckpoint(str(tmp_path / "last.ckpt"))
    best, _ = kept(
        tmp_path / "best.ckpt", "min", values, last, max_epochs=2, limit_train_batches=2, val_check_interval=1
    )
    assert best == 0.1
    saved = torch.load(tmp_path / "best.ckpt", weights_only=False)
    assert saved["progress"]["images_seen"] == batches * 64


def test_a_run_that_monitors_a_figure_to_be_large_keeps_its_largest_value(genlab: Genlab) -> None:
    result = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", "monitor.metric=val/rate", "monitor.mode=max",
        "model.objective.beta=0.001", "trainer.max_epochs=4", "logger=csv",
        "metrics.num_samples=16", "metrics.num_test=20", "dataset.train_size=128",
    )  # fmt: skip
    assert result.code == 0, result.err
    rows = [line.split(",") for line in (result.run / "metrics.csv").read_text().splitlines()]
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}
    rates = {
        int(seen): float(rate) for seen, rate in zip(columns["images_seen"], columns["val/rate"], strict=True) if rate
    }
    best = torch.load(result.run / "checkpoints" / "best.ckpt", weights_only=False)
    assert len(rates) == 4
    assert best["progress"]["images_seen"] == max(rates, key=rates.__getitem__)
    assert best["progress"]["images_seen"] != min(rates, key=rates.__getitem__)
