"""TF32 is on in the steps of training, and off in everything between them, before them and after them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from genlab.models.vae.vae import VAE
from genlab.training.objective import ObjectiveTraining
from support.command import Genlab
from support.small_runs import assert_identical

SMALL = (
    "model=vae/vae", "model.networks.hidden=[8]", "dataset.train_size=128", "dataset.batch_size=32", "logger=csv",
    "trainer.max_epochs=2", "metrics.num_samples=16", "metrics.num_test=20", "metrics.num_shown=4", "trainer=cpu",
    "callbacks=minimal", "callbacks.sample_metrics.num_samples=20", "trainer.precision=32-true",
)  # fmt: skip


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, set[bool]]]:
    """Where TF32 was on and off, by what was computed."""
    found: dict[str, set[bool]] = {}

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            found.setdefault(name, set()).add(torch.backends.cuda.matmul.allow_tf32)
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, watched)

    watch(ObjectiveTraining, "training_step")
    watch(ObjectiveTraining, "configure_gradient_clipping")  # between the backward pass and the step
    watch(ObjectiveTraining, "optimizer_step")
    watch(ObjectiveTraining, "validation_step")
    for name in ("sample", "log_prob"):
        watch(VAE, name)
    yield found
    torch.backends.cuda.matmul.allow_tf32 = False


def test_it_is_on_in_steps_alone(genlab: Genlab, seen: dict[str, set[bool]]) -> None:
    result = genlab("train", *SMALL, "trainer.tf32=true")
    assert result.code == 0, result.err
    assert "precision 32-true with TF32" in result.err
    steps = ("training_step", "configure_gradient_clipping", "optimizer_step")
    assert {name: seen[name] for name in steps} == {name: {True} for name in steps}
    between = ("validation_step", "sample", "log_prob")
    assert {name: seen[name] for name in between} == {name: {False} for name in between}
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_it_is_off_by_default_and_after_an_error(
    genlab: Genlab, seen: dict[str, set[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert genlab("train", *SMALL, "trainer.max_epochs=1").code == 0
    assert set().union(*seen.values()) == {False}
    monkeypatch.setattr(ObjectiveTraining, "optimizer_step", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        genlab("train", *SMALL, "trainer.tf32=true")
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_a_cpu_does_without(genlab: Genlab, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for name in ("true", "false"):
        monkeypatch.setenv("GENLAB_OUTPUTS", str(tmp_path / name))
        runs.append(genlab("train", *SMALL, f"trainer.tf32={name}").run)
    assert_identical(*runs)
