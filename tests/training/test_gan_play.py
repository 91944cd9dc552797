"""A game in which the generator is an autoencoder with a loss of its own: what a model plays is up to the model."""

import csv
import inspect
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.models.adversarial import AdversarialModel
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import Hinge, NonSaturating, RelativisticPairing
from genlab.models.gan.mlp import MLP
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.loading import load
from genlab.runs.moved import current
from genlab.training import schedules
from genlab.training.adversarial import AdversarialTraining
from genlab.training.compilation import Compilation
from genlab.training.module import TrainingModule
from support.adversarial_autoencoder import Autoencoder
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import COMMON, assert_identical, only_run, outputs

Adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))


def digits(batch_size: int = 20) -> ImageDataModule:
    return ImageDataModule(
        Digits(), "digits", (1, 8, 8), kind="image", levels=17, batch_size=batch_size, val_size=100, test_size=100
    )


def training(model: AdversarialModel | None = None, loss: Any = None, **options: Any) -> AdversarialTraining:
    torch.manual_seed(0)
    return AdversarialTraining(model or Autoencoder((1, 8, 8)), loss or Hinge(), Adam, Adam, **options)


def fit(module: AdversarialTraining, batches: int, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 1, "limit_train_batches": batches, "limit_val_batches": 0, **options}
    trainer = pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False, callbacks=[*callbacks], **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=digits())
    return trainer


class Watch(pl.Callback):
    """Keeps what ``look`` gives after every batch."""

    def __init__(self, look: Callable[[AdversarialTraining], Any]) -> None:
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.seen.append(self.look(module))  # type: ignore[arg-type]


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [Hinge(), NonSaturating(), RelativisticPairing()])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(loss: Any, factor: float) -> None:
    module = training(loss=loss, adaptive_weight=True, adversarial_weight=factor)
    model = module.model
    assert isinstance(model, Autoencoder)
    x, y = torch.rand(12, 1, 8, 8), torch.zeros(12, dtype=torch.long)
    terms, adversarial = {}, {}
    for gradients, of in ((terms, "terms"), (adversarial, "adversarial")):
        model.zero_grad()
        fake = model.decoder(model.encoder(x)).view_as(x)
        if of == "terms":
            ((fake - x).abs().mean() + 0.01 * model.encoder(x).square().mean()).backward()
        else:
            loss.generator(model.discriminator(fake), model.discriminator(x).detach()).backward()
        gradients |= {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    norms = [gradients["decoder.2.weight"].square().sum().sqrt() for gradients in (terms, adversarial)]
    weight = factor * norms[0] / (norms[1] + 1e-6)

    model.zero_grad()
    total, figures = module.generator_loss(x, y)
    assert figures.keys() == {"reconstruction", "code", "adversarial_loss", "adversarial_weight"}
    torch.testing.assert_close(figures["adversarial_weight"], weight)
    assert not figures["adversarial_weight"].requires_grad
    torch.testing.assert_close(
        total, figures["reconstruction"] + figures["code"] + weight * figures["adversarial_loss"]
    )
    total.backward()
    for name, p in model.named_parameters():
        if not name.startswith("discriminator"):
            torch.testing.assert_close(p.grad, terms.get(name, 0) + weight * adversarial[name])


def test_the_adaptive_weight_is_bounded_and_survives_the_scaling_of_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    module = training(adaptive_weight=True)
    x, y = torch.rand(12, 1, 8, 8), torch.zeros(12, dtype=torch.long)
    _, plain = module.generator_loss(x, y)
    with monkeypatch.context() as scaled:
        scaled.setattr(module, "_scaler", lambda: torch.amp.GradScaler("cpu"))
        _, figures = module.generator_loss(x, y)
    torch.testing.assert_close(figures["adversarial_weight"], plain["adversarial_weight"], rtol=1e-4, atol=0)
    with torch.no_grad():
        for p in module.model.discriminator.parameters():
            p.zero_()  # G learns nothing from it
    assert module.generator_loss(x, y)[1]["adversarial_weight"] == 1e4


def test_a_fixed_weight_is_of_the_adversarial_loss_alone() -> None:
    x, y = torch.rand(12, 1, 8, 8), torch.zeros(12, dtype=torch.long)
    total, figures = training(adversarial_weight=0.25).generator_loss(x, y)
    torch.testing.assert_close(total, figures["reconstruction"] + figures["code"] + 0.25 * figures["adversarial_loss"])


# -- when the discriminator begins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_discriminator_has_not_moved_before_it_begins(accumulate: int) -> None:
    """Its start lies in a batch: the step in which it falls is G's alone, and D begins with the next."""
    module = training(discriminator_start=130, accumulate=accumulate, adaptive_weight=True)  # 7 batches of 20
    before, start = flat(module.model.discriminator), 7 if accumulate == 1 else 9
    players = Watch(lambda m: (flat(m.model.discriminator), flat(m.model.encoder), m.latest.keys()))
    fit(module, 12, players)
    for batch, (D, _, figures) in enumerate(players.seen, 1):
        assert torch.equal(D, before) == (batch < start + accumulate)
        assert ("train/discriminator_loss" in figures) == (batch > start)
        assert ("train/adversarial_weight" in figures) == (batch >= start + accumulate)
        assert ("train/reconstruction" in figures) == (batch >= accumulate)
    moved = [not torch.equal(a[1], b[1]) for a, b in itertools.pairwise(players.seen)]
    assert moved == [batch % accumulate == 0 for batch in range(2, 13)]


def test_the_discriminators_schedule_begins_with_it() -> None:
    linear = partial(schedules.linear, warmup_steps=0)
    module = training(discriminator_start=80, schedule=linear)  # 4 batches
    rates = Watch(lambda m: [o.param_groups[0]["lr"] / 2e-3 for o in m.optimizers()])
    fit(module, 10, rates)
    generator, discriminator = zip(*rates.seen, strict=True)
    assert generator == pytest.approx([1 - k / 10 for k in range(1, 11)])
    assert discriminator == pytest.approx([1] * 4 + [1 - k / 6 for k in range(1, 7)])


@pytest.mark.parametrize(("max_steps", "batches"), [(3, 3), (4, 4), (6, 5), (12, 8)])
def test_steps_are_counted_of_the_players_that_take_one(max_steps: int, batches: int) -> None:
    module = training(discriminator_start=80)  # 4 batches of one step, then two a batch
    trainer = fit(module, 20, max_steps=max_steps, max_epochs=-1)
    assert trainer.global_step == max_steps
    assert module.batches_seen == module.total_batches() == batches


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"discriminator_start": 100}, "discriminator_start=100: until then DCGAN's generator has nothing to minimise"),
        ({"adaptive_weight": True}, "adaptive_weight=true: .* DCGAN names no such layer"),
        ({"discriminator_start": -1}, "at least 0"),
        ({"adversarial_weight": -1.0}, "at least 0"),
    ],
)
def test_what_a_game_without_further_terms_refuses(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        training(DCGAN((1, 8, 8), channels=2), **options)


# -- averaged weights --------------------------------------------------------------------------------------------------


def test_what_is_averaged_is_what_samples() -> None:
    module = training(ema_decay=0.5)
    average = module.sampling_model
    assert isinstance(average, Autoencoder)
    assert average.discriminator is module.model.discriminator
    module.train()
    average.eval()
    assert module.model.discriminator.training
    assert all(p.requires_grad for p in module.model.discriminator.parameters())
    fit(module, 3)
    assert not torch.equal(flat(average.decoder), flat(module.model.decoder))  # type: ignore[arg-type]
    names = {name for name in module.state_dict() if name.startswith("ema.model.")}
    assert {name.split(".")[2] for name in names} == {"encoder", "decoder"}
    assert len(list(module.parameters())) == len(list(module.model.parameters())) + len(names)
    module.load_state_dict(module.state_dict())


# -- compiled ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [True, False])
def test_a_compiled_game_with_terms_is_the_plain_one(
    turns: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether a turn is one graph, or each part of the players is compiled alone, whose gradient is taken twice."""
    if turns and not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("an older PyTorch")
    if not turns and shutil.which("gcc") is None and shutil.which("c++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    compile_, backend = torch.compile, "aot_eager" if turns else "inductor"
    monkeypatch.setattr("torch.compile", lambda function, **_: compile_(function, backend=backend))
    monkeypatch.setattr("genlab.training.adversarial._turns_compile", lambda _: turns)
    ends = []
    for when in (False, True):
        torch._dynamo.reset()
        module = training(discriminator_start=60, adaptive_weight=True)
        module.generator_optimizer = module.discriminator_optimizer = partial(torch.optim.SGD, lr=1e-2)
        with torch._functorch.config.patch(donated_buffer=True):  # as it is until a game asks for the contrary
            fit(module, 8, Compilation(when))
        ends.append(flat(module.model))
        assert (module.generator_loss.__name__ == "call") is (when and turns)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)
    assert "could not be compiled" not in capsys.readouterr().err


# -- runs --------------------------------------------------------------------------------------------------------------

MODEL = """
# @package _global_
defaults:
  - /training: adversarial
  - override /gan/loss: hinge
model:
  _target_: support.adversarial_autoencoder.Autoencoder
  shape: ${dataset.shape}
  num_classes: null
monitor:
  metric: val/reconstruction
"""
OPTIONS = ("training.adaptive_weight=true", "training.discriminator_start=500", "training.generator_optimizer.lr=2e-2")


def arguments(folder: Path, *options: str) -> list[str]:
    (folder / "conf" / "model").mkdir(parents=True, exist_ok=True)
    (folder / "conf" / "model" / "autoencoder.yaml").write_text(MODEL.lstrip())
    return ["train", "--config-dir", str(folder / "conf"), "model=autoencoder", *COMMON, *OPTIONS, *options]


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_an_adversarial_autoencoder_learns_and_is_resumed_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = arguments(tmp_path, "training.accumulate=2")
    whole = outputs(monkeypatch, tmp_path / "whole")
    assert in_child(command) == 0
    cut = outputs(monkeypatch, tmp_path / "cut")
    step = "genlab.training.adversarial.AdversarialTraining.training_step"
    for call in (9, 15):  # before D begins, and after
        assert in_child(command, kill_at(step, call)) == -signal.SIGKILL
        run = only_run(cut)
        command = ["train", "--config-dir", str(tmp_path / "conf"), f"resume={run}"]
    assert in_child(command) == 0
    assert_identical(only_run(whole), run)

    assert column(run, "val/reconstruction")[-1] < 0.7 * column(run, "train/reconstruction")[0]
    assert json.loads((run / "summary.json").read_text())["monitor"]["best"] == min(column(run, "val/reconstruction"))
    assert len(column(run, "train/adversarial_weight")) < len(column(run, "train/reconstruction"))
    opened = load(run)
    x, model = opened.data.first("test", 20), opened.model
    assert opened.used_weights == "ema"
    assert (model.play(x).fake - x).abs().mean() < 0.25  # type: ignore[operator]


def test_checkpoints_with_an_averaged_discriminator_still_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outputs(monkeypatch, tmp_path / "whole")
    command = ["train", "model=gan/mlp", "model.width=8", *COMMON]
    assert in_child(command) == 0
    cut = outputs(monkeypatch, tmp_path / "cut")
    trap = kill_at("genlab.training.adversarial.AdversarialTraining.training_step", 20)
    assert in_child(command, trap) == -signal.SIGKILL
    run = only_run(cut)
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    state = checkpoint["state_dict"]
    assert not any(name.startswith("ema.model.discriminator.") for name in state)
    of_discriminator = {name: value for name, value in state.items() if name.startswith("model.discriminator.")}
    state |= {f"ema.{name}": torch.full_like(value, 7) for name, value in of_discriminator.items()}
    assert "_last_generator_figures" not in checkpoint["progress"]
    write_checkpoint(checkpoint, path)  # as it was written once
    opened = load(run, "last")
    raw = load(run, "last", weights="raw").model
    assert isinstance(raw, MLP)
    assert torch.equal(flat(opened.model.discriminator), flat(raw.discriminator))  # type: ignore[arg-type]
    assert not torch.equal(flat(opened.model.generator), flat(raw.generator))  # type: ignore[arg-type]
    assert in_child(["train", f"resume={run}"]) == 0
    assert_identical(only_run(whole), run)


def test_a_run_of_before_goes_on_as_it_was() -> None:
    """Its config lacks the keys that came since, and states a text's vocabulary as classes."""
    name = "genlab.training.adversarial.AdversarialTraining"
    parameters = {
        key: parameter
        for made in (TrainingModule, AdversarialTraining)
        for key, parameter in inspect.signature(made.__init__).parameters.items()
    }
    found = current({"training": {"_target_": name, "generator_steps": 2}})["training"]
    assert found.pop("generator_steps") == 2
    assert found.pop("_target_") == name
    assert found == {key: parameters[key].default for key in found}
    assert found.keys() == {
        "discriminator_start", "adversarial_weight", "adaptive_weight", "real_noise", "ema_images", "ema_ramp",
        "on_nan", "rollback_factor", "max_rollbacks",
    }  # fmt: skip
    assert current({"_target_": name, "adaptive_weight": True})["adaptive_weight"] is True
    text = {"_target_": "genlab.data.text.TextDataModule", "num_classes": 256}
    assert current(text)["num_classes"] is None


def test_two_processes_train_one_autoencoder(tmp_path: Path) -> None:
    """Each weights its own adversarial loss, and both take the mean of their gradients."""
    children = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                    "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getppid() % 20000),
                    "TORCHELASTIC_RUN_ID": "test",
                }  # fmt: skip
                module = training(discriminator_start=60, adaptive_weight=True, accumulate=2, ema_decay=0.5)
                options = {"devices": 2, "strategy": "ddp_find_unused_parameters_true", "precision": "bf16-mixed"}
                fit(module, 10, limit_val_batches=2, **options)
                figures = {name: float(value) for name, value in module.reported.items() for value in value[:1]}
                torch.save((flat(module), module.batches_seen, module.is_finite(), figures), tmp_path / f"{rank}.pt")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    (weights, batches, finite, figures), (others, *_, of_other) = (torch.load(tmp_path / f"{k}.pt") for k in range(2))
    assert batches == 10
    assert finite
    assert torch.equal(weights, others)
    assert figures == of_other
    assert figures["val/reconstruction"] > 0
