"""The warning that a model ignores its latents."""

import pytest

from support.command import Genlab

SMALL = ("model=vae/vae", "model.networks.hidden=[8]", "logger=csv", "metrics.num_samples=50", "dataset.train_size=128")


@pytest.mark.parametrize(("epochs", "warnings"), [(2, 0), (5, 1)])
def test_a_collapse_is_said_once_and_not_of_a_model_that_has_only_begun(
    epochs: int, warnings: int, genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genlab.models.vae.vae.VAE.diagnose", lambda *_: {"rate": 0.01})
    result = genlab("train", *SMALL, f"trainer.max_epochs={epochs}", "trainer.check_val_every_n_epoch=1")
    assert result.code == 0, result.err
    assert result.err.count("the posterior has collapsed") == warnings
