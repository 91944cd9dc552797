"""Sample quality during training: its schedule, its checkpoints, its randomness, and one figure on two processes."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.callbacks.sample_metrics import SampleMetrics
from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.distributions.pixel import Categorical
from genlab.errors import InputError
from genlab.metrics.features import Pixels
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.training.objective import ObjectiveTraining
from support.command import Genlab


def digits() -> ImageDataModule:
    return ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, batch_size=64, val_size=150, test_size=300)


def training(seed: int = 0) -> ObjectiveTraining:
    torch.manual_seed(seed)
    model = VAE((1, 8, 8), Categorical(17), FullyConnected((16,)), ELBO(), latent_dim=4)
    return ObjectiveTraining(model, optimizer=lambda p: torch.optim.Adam(p, 1e-2))


def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, BestCheckpoint) for c in callbacks),
        **{"max_epochs": 2, **options},
    )  # fmt: skip


class Noted(ObjectiveTraining):
    """Remembers when which figures were logged."""

    def log_now(self, metrics: Any) -> None:
        self.log_of = [*getattr(self, "log_of", []), (self.images_seen, set(metrics))]


def test_figures_come_on_their_own_schedule(tmp_path: Path) -> None:
    """21 batches of 64 an epoch; every 300 images is after 320, 640, 960, 1216, 1536, 1856, ... of them."""
    module = training()
    module.__class__ = Noted
    metrics = SampleMetrics(Pixels(), num_samples=50, every_images=300)
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), "val/fid")
    trainer(metrics, best).fit(module, datamodule=digits())
    at = [seen for seen, names in module.log_of if "val/fid" in names]  # type: ignore[attr-defined]
    assert at == [320, 640, 960, 1216, 1536, 1856, 2112, 2432]
    # Validation logs its own figures and does not repeat an old FID as a new one.
    assert [seen for seen, names in module.log_of if "val/nll" in names] == [1344, 2688]  # type: ignore[attr-defined]
    assert module.reported["val/fid"][1] == 2432
    # The checkpoint is of the moment of the best figure, not of the validation after it.
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["progress"]["images_seen"] in at
    assert best.best is not None


def test_at_every_validation_where_no_schedule_is_given(tmp_path: Path) -> None:
    module = training()
    module.__class__ = Noted
    trainer(SampleMetrics(Pixels(), num_samples=50)).fit(module, datamodule=digits())
    assert [s for s, names in module.log_of if "val/fid" in names] == [1344, 2688]  # type: ignore[attr-defined]


@pytest.mark.parametrize("monitor", ["val/fid", "val/nothing"])
def test_a_figure_that_is_absent_at_validation_does_not_end_the_run(
    tmp_path: Path, monitor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), monitor)
    module = training()
    trainer(SampleMetrics(Pixels(), num_samples=50, every_images=10**6), best).fit(module, datamodule=digits())
    assert best.best is None
    assert not (tmp_path / "best.ckpt").exists()
    assert f"{monitor} was never measured, so there is no best.ckpt (measured: val/" in capsys.readouterr().err


def test_the_best_is_kept_not_the_last(tmp_path: Path) -> None:
    best = BestCheckpoint(str(tmp_path / "best.ckpt"), "val/nll")
    given = iter([3.0, math.nan, 1.0, 2.0])

    class Given(ObjectiveTraining):
        def validation_step(self, *_: Any) -> None:
            pass

        def on_validation_epoch_end(self) -> None:
            self.report({"val/nll": next(given)})

    module = training()
    module.__class__ = Given
    trainer(best, max_epochs=4).fit(module, datamodule=digits())
    assert best.best == 1.0
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["progress"]["images_seen"] == 3 * 1344
    again = BestCheckpoint(str(tmp_path / "best.ckpt"), "val/nll")
    again.load_state_dict(best.state_dict())
    assert again.best == 1.0


def test_measuring_does_not_change_training(tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [SampleMetrics(Pixels(), num_samples=30, every_images=200)]):
        module = training()
        torch.manual_seed(7)
        trainer(*callbacks, max_epochs=1).fit(module, datamodule=digits())
        weights.append(torch.cat([p.detach().flatten() for p in module.model.parameters()]))
    assert torch.equal(*weights)


def _fid(devices: int, path: str) -> None:
    """Measures without training; the figures go to a file."""

    class Write(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            figures = {name: value for name, (value, _) in module.reported.items()}  # type: ignore[attr-defined]
            Path(path, f"{devices}-{trainer.global_rank}.json").write_text(json.dumps(figures))

    metrics = SampleMetrics(Pixels(), num_samples=101, cache_dir=path)
    strategy = "ddp_fork" if devices > 1 else "auto"
    trainer(metrics, Write(), devices=devices, strategy=strategy).validate(training(), digits(), verbose=False)


def test_two_devices_measure_what_one_does(tmp_path: Path) -> None:
    """Through Lightning, each process drawing its share of the same 101 samples."""
    for devices in (1, 2):
        _fid(devices, str(tmp_path))
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert first == second
    assert first["val/fid"] == pytest.approx(one["val/fid"], rel=1e-4)
    assert first["val/nll"] == pytest.approx(one["val/nll"], rel=1e-2)  # other draws of z


def test_wrong_numbers_are_one_line() -> None:
    for options in ({"num_samples": 1}, {"every_images": 0}):
        with pytest.raises(InputError, match="at least"):
            SampleMetrics(Pixels(), **options)  # type: ignore[arg-type]


def test_any_model_can_be_watched_by_its_samples(genlab: Genlab) -> None:
    result = genlab(
        "train", "model.networks.hidden=[16]", "trainer.max_epochs=1", "logger=csv", "metrics.num_samples=20",
        "callbacks.sample_metrics.num_samples=30", "callbacks.sample_metrics.every_images=400",
        "monitor.metric=val/fid",
    )  # fmt: skip
    assert result.code == 0, result.err
    summary = json.loads((result.run / "summary.json").read_text())
    header, *rows = (result.run / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("val/fid")
    values = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert len(values) == 3
    assert summary["monitor"] == {"metric": "val/fid", "mode": "min", "best": min(values)}
    assert {"val/kid", "val/inception_score"} <= set(header.split(","))


def test_wandb_has_the_protocol_of_every_figure(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = genlab(
        "train", "model.networks.hidden=[16]", "trainer.max_epochs=1", "dataset.train_size=64", "metrics.num_samples=20"
    )
    assert result.code == 0, result.err
    (file,) = result.run.rglob("*.wandb")
    summary = summary_of(file)
    protocols = json.loads(summary["protocols"])
    assert protocols["test/fid"]["features"] == "digits"
    assert protocols["test/fid"]["num_samples"] == 20
    assert len(protocols["test/fid"]["weights_sha256"]) == 64
    assert "biased" in protocols["test/fid"]["warning"]
    assert protocols["test/nll"]["likelihood"] == "lower_bound"


def summary_of(file: Path) -> dict[str, Any]:
    """The summary of an offline run, by wandb's own reader."""
    program = str(Path(sys.executable).with_name("wandb"))
    read = subprocess.run(
        [program, "leet", "inspect", "--summary", "--json", str(file)], capture_output=True, text=True, check=True
    )
    content: dict[str, Any] = json.loads(read.stdout)["summary"]
    return content
