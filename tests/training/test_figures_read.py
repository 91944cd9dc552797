"""Figures that no step needs are computed for the steps that are read alone, and are those of these steps."""

from typing import Any

import pytest
import torch

from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import NonSaturating, RelativisticPairing
from genlab.training.adversarial import AdversarialTraining
from genlab.training.objective import ObjectiveTraining
from support.command import Genlab
from support.small_runs import history

QUICK = (
    "dataset.train_size=224", "dataset.batch_size=32", "trainer.max_epochs=2", "trainer.log_every_n_steps=3",
    "metrics.num_samples=16", "metrics.num_test=20", "metrics.num_shown=4", "callbacks=minimal", "logger=csv",
    "callbacks.sample_metrics.num_samples=20", "trainer=cpu",
)  # fmt: skip
GAN, VAE = ("model=gan/dcgan", "model.channels=4"), ("model=vae/vae", "model.networks.hidden=[8]")
FIGURES = {"accuracy_fake", "accuracy_real", "discriminator_loss", "generator_loss", "logit_fake", "logit_real"}


@pytest.mark.parametrize(
    ("model", "owner", "name", "figures"),
    [
        (GAN, AdversarialTraining, "_figures_of_logits", FIGURES),
        (VAE, ObjectiveTraining, "_units", {"loss", "nll", "bits_per_dim"}),
    ],
)
def test_they_are_computed_for_the_steps_that_are_logged(
    model: tuple[str, ...], owner: Any, name: str, figures: set[str], genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 14 steps, every third and the last one of each epoch of seven: 3, 6, 7, 9, 12 and 14."""
    given = {f"train/{figure}" for figure in figures}
    calls: list[int] = []
    original = getattr(owner, name)
    step = owner.training_step
    batches: list[int] = []

    def counted(*arguments: Any) -> Any:
        calls.append(len(batches))
        return original(*arguments)

    def stepped(self: Any, *arguments: Any) -> Any:
        batches.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(owner, name, counted if owner is AdversarialTraining else staticmethod(counted))
    monkeypatch.setattr(owner, "training_step", stepped)
    monkeypatch.setattr(owner, "validation_step", lambda *_: None)  # which computes them for its own batches
    monkeypatch.setattr(owner, "figures_of_validation", lambda *_: None)
    result = genlab("train", *model, *QUICK, "callbacks.best=null")
    assert result.code == 0, result.err
    assert calls == [3, 6, 7, 9, 12, 14]
    rows = [row for row in history(result.run) if "train/lr" not in row and given & row.keys()]
    assert [int(row["images_seen"]) // 32 for row in rows] == [3, 6, 7, 9, 12, 14]
    assert all(given <= row.keys() for row in rows)


@pytest.mark.parametrize("loss", [NonSaturating(), RelativisticPairing()])
def test_reading_them_later_gives_what_the_step_had(loss: Any) -> None:
    torch.manual_seed(0)
    module = AdversarialTraining(DCGAN((1, 8, 8), channels=2), loss, torch.optim.Adam, torch.optim.Adam)
    real, generated = torch.randn(5, 1), torch.randn(5, 1)
    module._logits = real, generated
    figures = module._figures_of_logits()
    assert figures["logit_real"] == real.mean()
    assert figures["logit_fake"] == generated.mean()
    if loss.calibrated:
        assert figures["accuracy_real"] == (real > 0).float().mean()
        assert figures["accuracy_fake"] == (generated < 0).float().mean()
    else:
        assert figures["accuracy_pairs"] == (real > generated).float().mean()


def test_a_step_that_the_next_one_overwrites_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the outputs of CUDA graphs are."""
    module = AdversarialTraining(DCGAN((1, 8, 8), channels=2), NonSaturating(), torch.optim.Adam, torch.optim.Adam)
    monkeypatch.setattr(module, "_trainer", type("Trainer", (), {"world_size": 1, "log_every_n_steps": 0})())
    calls: list[int] = []

    def later() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"more": torch.ones(())}

    module.record(torch.zeros(2, 1), {"some": torch.zeros(())}, later)
    assert not calls
    assert set(module.latest) == set(module.latest_values()) == {"train/some", "train/more"}
    assert len(calls) == 1
    module.overwrites_outputs = True
    module.record(torch.zeros(2, 1), {"some": torch.zeros(())}, later)
    assert len(calls) == 2
    assert set(module.latest) == {"train/some", "train/more"}
