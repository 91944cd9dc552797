"""One rate of training: what is shown while a run trains is what its summary reports."""

import csv
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest
import pytorch_lightning as pl
import torch

from genlab.callbacks.progress import Moment, TrainingProgress
from genlab.callbacks.throughput import Throughput
from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.distributions.pixel import Categorical
from genlab.machine.rate import rate
from genlab.modalities.codes import Codes
from genlab.modalities.image import Image as Images
from genlab.modalities.points import Points
from genlab.modalities.text import Text
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


def shown(
    callbacks: list[pl.Callback], capsys: pytest.CaptureFixture[str], among: tuple[str, ...] = ("images/s",)
) -> list[str]:
    model = VAE((1, 8, 8), Categorical(17), FullyConnected((8,)), ELBO(), latent_dim=2)
    module = ObjectiveTraining(model, optimizer=lambda p: torch.optim.Adam(p, 1e-3))
    data = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, batch_size=64, val_size=150, test_size=300)
    pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=2,
        limit_train_batches=10, limit_val_batches=1, use_distributed_sampler=False, num_sanity_val_steps=0,
        callbacks=callbacks, enable_checkpointing=False,
    ).fit(module, datamodule=data)  # fmt: skip
    return [line for line in capsys.readouterr().err.splitlines() if any(word in line for word in among)]


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


def test_a_long_first_batch_is_not_waited_for_in_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class LongFirst(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
            time.sleep(0.5 if module.images_seen == 0 else 0.05)  # type: ignore[operator]

    monkeypatch.setattr("genlab.machine.progress.EVERY", 0.1)
    lines = shown([LongFirst(), TrainingProgress(line_every=0.05)], capsys, ("images/s", "first batch"))
    waited = [i for i, line in enumerate(lines) if line.startswith("the first batch: ")]
    assert waited
    assert waited == list(range(len(waited)))  # and no more once there is something to say
    assert "images/s" in lines[len(waited)]


def test_the_closing_report_names_what_the_rate_is_of(genlab: Genlab, tmp_path: Path) -> None:
    result = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", "trainer.max_epochs=1",
        "logger=csv", "metrics.num_samples=16", "metrics.num_test=20", "dataset.train_size=640",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert re.search(r"images/s +[\d,]+ \(training alone, without validation and pictures\)", result.out + result.err)


def test_every_place_writes_rates_alike() -> None:
    assert [rate(x) for x in (None, 0.01234, 12.345, 123.45, 12345.6)] == ["-", "0.0123", "12.3", "123", "12,346"]
    assert rate(12345.6, "tokens/s") == "12,346 tokens/s"


def test_kinds_of_data_name_what_speeds_count() -> None:
    text, kinds = Text(lambda tokens: []), (Images(), Codes(), Points())
    assert [kind.unit_of_speed for kind in kinds] == ["images/s", "images/s", "points/s"]
    assert [kind.counted_in((1, 8, 8)) for kind in kinds] == [1, 1, 1]
    assert (text.unit_of_speed, text.counted_in((64,))) == ("tokens/s", 64)


def test_a_run_of_text_counts_tokens_everywhere(genlab: Genlab, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a rose is a rose is a rose. " * 300)
    result = genlab(
        "train", "model=transformer/gpt", "dataset=text", f"dataset.source.path={tmp_path / 'text.txt'}",
        "dataset.shape=[16]", "model.num_layers=1", "model.width=16", "model.num_heads=2", "trainer.max_epochs=1",
        "callbacks.progress.line_every=0", "callbacks=minimal", "logger=csv",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "tokens/s" in result.err
    assert "images/s" not in result.out + result.err
    summary = json.loads((result.run / "summary.json").read_text())
    assert summary["speed"] == {"unit": "tokens/s", "per_image": 16}
    (row,) = [row for row in csv.DictReader((result.run / "metrics.csv").open()) if row["train/images_per_second"]]
    assert float(row["train/tokens_per_second"]) == pytest.approx(16 * float(row["train/images_per_second"]))
    shown = genlab("compare", result.run).out
    assert "tokens/s: of training alone" in shown
    assert rate(16 * summary["images_per_second"]) in shown


# -- what fits in a line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 64, 80, 200])
def test_a_line_leaves_out_what_it_has_no_room_for(width: int) -> None:
    parts = ["1,234,567 images", "12,345 images/s", "train/loss 2.315", "val/bits_per_dim 2.415", "val/fid 12.3"]
    line = Moment(0.42, 3723.0, False, parts).line(width)
    assert len(line) <= width
    assert line.startswith("ETA 1:02:03  1,234,567 images")
    shown = [part for part in parts if part in line]
    assert line == "  ".join(["ETA 1:02:03", *shown])  # each of them whole
    if width >= 80:
        assert "12,345 images/s" in shown
    assert Moment(0.5, 61.0, True, []).line(80) == "max_time in 0:01:01"


@pytest.mark.e2e
def test_a_narrow_terminal_shows_percent_and_the_time_left_of_max_time(tmp_path: Path) -> None:
    run = pexpect.spawn(
        sys.executable,
        ["-m", "genlab", "train", "model=vae/vae", "trainer.max_epochs=100000", "trainer.max_time=00:00:00:06",
         "logger=csv", "metrics.num_samples=16", "metrics.memorization=false", "callbacks=minimal",
         f"paths.output_dir={tmp_path}"],
        env={**os.environ, "TERM": "xterm"}, dimensions=(24, 80), encoding="utf-8", timeout=120,
    )  # fmt: skip
    run.expect(r"(\d+)%\S* [^\r\n]*max_time in 0:00:0(\d)  [\d,]+ images  [\d,]+ images/s(?! in all)")
    percent, left = map(int, run.match.groups())
    assert abs(percent / 100 - (6 - left) / 6) < 0.2
    run.expect(pexpect.EOF)
    run.close()
    assert run.exitstatus == 0
