"""Earlier runs stay as they were: planar maps that began elsewhere, and distribution=gaussian as a density."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from genlab.comparison.runs import differing, read_run
from genlab.models.vae.vae import VAE
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.folder import RunFolder
from genlab.runs.loading import load
from genlab.runs.moved import as_begun
from support.command import Genlab, Trained

OPTIONS = ("model=vae/planar_vae", "model.networks.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=1",
           "dataset.train_size=256", "training.ema_decay=0.9", "metrics.num_samples=16", "metrics.num_test=20",
           "logger=csv")  # fmt: skip


def made_earlier(run: Path) -> Path:
    """A run folder without what the choice adds to it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["model"]["posterior"]["from_identity"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for path in (run / "checkpoints").glob("*.ckpt"):
        checkpoint = read_checkpoint(path)
        names = [name for name in checkpoint["state_dict"] if name.endswith("posterior._extra_state")]
        assert len(names) == 2  # the model's and its average's
        for name in names:
            del checkpoint["state_dict"][name]
        write_checkpoint(checkpoint, path)
    return run


def of(run: Path, weights: str) -> bool:
    model = load(run, weights=weights).model  # type: ignore[arg-type]
    assert isinstance(model, VAE)
    return model.posterior.from_identity  # type: ignore[return-value]


def test_an_earlier_run_keeps_the_function_it_was_trained_with(genlab: Genlab, trained: Trained) -> None:
    new = trained(*OPTIONS)
    old = made_earlier(Path(shutil.copytree(new, new.with_name("earlier"))))
    assert [of(new, weights) for weights in ("ema", "raw")] == [True, True]
    assert [of(old, weights) for weights in ("ema", "raw")] == [False, False]
    assert genlab("evaluate", old, "metrics.num_samples=16", "metrics.num_test=20").code == 0
    told = differing([read_run(RunFolder(run)) for run in (new, old)])
    assert [list(values) for key, values in told.items() if key == "model.posterior.from_identity"] == [[True, False]]


@pytest.mark.parametrize("lost", [False, True])
def test_an_earlier_run_goes_on_as_it_was(lost: bool, genlab: Genlab, trained: Trained) -> None:
    """Also from before its first checkpoint, and from its own to the next one."""
    run = made_earlier(trained(*OPTIONS))
    if lost:
        for path in (run / "checkpoints").glob("*.ckpt"):
            path.unlink()
    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert [of(run, weights) for weights in ("ema", "raw")] == [False, False]
    saved = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    kept = [value for name, value in saved.items() if name.endswith("posterior._extra_state")]
    assert kept == [{"from_identity": False}] * 2


def test_an_earlier_run_with_a_dequantized_gaussian_goes_on_with_it(genlab: Genlab, trained: Trained) -> None:
    """``distribution=gaussian`` meant the density then: the folder says so."""
    run = trained("model=autoregressive/fvsbn", "distribution=gaussian", "trainer.max_epochs=1",
                  "dataset.train_size=256", "metrics.num_samples=16", "metrics.num_test=20", "logger=csv")  # fmt: skip
    saved = (run / "config.yaml").read_text()
    assert "pixel.DiscretizedGaussian" in saved
    (run / "config.yaml").write_text(saved.replace("pixel.DiscretizedGaussian", "pixel.DequantizedGaussian"))
    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert "pixel.DequantizedGaussian" in (run / "config.yaml").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metrics"]["test/nll"]["protocol"]["likelihood"] == "lower_bound"
    # Another distribution is another run, as it always was.
    refused = genlab("train", f"resume={run}", "trainer.max_epochs=3", "distribution=categorical")
    assert refused.code == 2
    assert "DequantizedGaussian' and is 'genlab.distributions.pixel.Categorical'" in refused.err


def test_what_is_changed_on_the_command_line_is_not_changed_back() -> None:
    saved = {"model": {"posterior": {"from_identity": False, "num_flows": 4}}}
    now = {"model": {"posterior": {"from_identity": True, "num_flows": 3}}}
    assert as_begun(now, saved) == {"model": {"posterior": {"from_identity": False, "num_flows": 3}}}
    assert as_begun(now, saved, {"model.posterior.from_identity"}) == now
    assert as_begun({"model": None, "other": [1]}, saved) == {"model": None, "other": [1]}


def test_an_earlier_run_of_flow_plus_plus_in_glows_networks_goes_on(genlab: Genlab, trained: Trained) -> None:
    """``model=flow/flow_plus_plus`` was a Glow then, which is ``flow/glow_mixture`` today."""
    run = trained("model=flow/glow_mixture", "model.width=4", "model.num_steps=1", "trainer.max_epochs=1",
                  "dataset.train_size=256", "metrics.num_samples=16", "metrics.num_test=20", "logger=csv")  # fmt: skip
    status = (run / "status.json").read_text()
    assert "model=flow/glow_mixture" in status
    (run / "status.json").write_text(status.replace("model=flow/glow_mixture", "model=flow/flow_plus_plus"))
    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert "flow_plus_plus" not in (run / "config.yaml").read_text()


def test_an_earlier_run_of_pixel_cnn_pp_keeps_plain_weights(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=autoregressive/pixel_cnn_pp", "model.channels=4", "model.num_blocks=1",
                  "model.weight_norm=false", "trainer.max_epochs=1", "dataset.train_size=128",
                  "metrics.num_samples=16", "metrics.num_test=20", "logger=csv")  # fmt: skip
    status = json.loads((run / "status.json").read_text())
    status["overrides"].remove("model.weight_norm=false")
    (run / "status.json").write_text(json.dumps(status))
    config = (run / "config.yaml").read_text()
    assert "weight_norm: false" in config
    (run / "config.yaml").write_text(config.replace("  weight_norm: false\n", ""))
    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert "weight_norm: false" in (run / "config.yaml").read_text()
