"""One rate of training: what is shown while a run trains is what its summary reports."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from genlab.callbacks.progress import TrainingProgress
from genlab.callbacks.throughput import Throughput
from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.distributions.pixel import Categorical
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.training.objective import ObjectiveTraining
from support.command import Genlab


class Slow(pl.Callback):
    """Batches of 20 ms, and 0.3 seconds of validation after every epoch."""

    def on_train_batch_end(self, *_: Any) -> None:
        time.sleep(0.02)

    def on_validation_end(self, *_: Any) -> None:
        time.sleep(0.3)


def shown(callbacks: list[pl.Callback], capsys: pytest.CaptureFixture[str]) -> list[str]:
    model = VAE((1, 8, 8), Categorical(17), FullyConnected((8,)), ELBO(), latent_dim=2)
    module = ObjectiveTraining(model, optimizer=lambda p: torch.optim.Adam(p, 1e-3))
    data = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, batch_size=64, val_size=150, test_size=300)
    pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=2,
        limit_train_batches=10, limit_val_batches=1, use_distributed_sampler=False, num_sanity_val_steps=0,
        callbacks=callbacks, enable_checkpointing=False,
    ).fit(module, datamodule=data)  # fmt: skip
    return [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]


def test_progress_shows_the_rate_of_the_summary_and_the_time_left_of_everything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    throughput = Throughput()
    lines = shown([Slow(), throughput, TrainingProgress(line_every=0.05)], capsys)
    rates = [re.search(r"([\d,]+) images/s(?! in all)", line) for line in lines]
    last = rates[-1]
    assert last is not None
    rate = throughput.images_per_second
    assert rate is not None
    assert float(last[1].replace(",", "")) == pytest.approx(rate, rel=0.15)  # with validation it was at most 0.6 of it
    # No rate is known in the first three batches, which warm up: what is shown then names itself.
    assert all("in all" in line for line, found in zip(lines, rates, strict=True) if found is None)


def test_without_that_callback_the_rate_of_everything_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown([Slow(), TrainingProgress(line_every=0.05)], capsys)
    assert lines
    assert all("images/s in all" in line for line in lines)


def test_the_closing_report_names_what_the_rate_is_of(genlab: Genlab, tmp_path: Path) -> None:
    result = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", "trainer.max_epochs=1",
        "logger=csv", "metrics.num_samples=16", "metrics.num_test=20", "dataset.train_size=640",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert re.search(r"images/s +[\d,]+ \(training alone, without validation and pictures\)", result.out + result.err)
