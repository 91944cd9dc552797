"""Two stages: a VAE's run, and a model of its latents that is trained, sampled and measured end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained


@pytest.fixture
def first_stage(trained: Trained) -> Path:
    return trained("model=vae/vae", "model.networks.hidden=[16]", "model.latent_dim=3", "name=first", *FAST)


@pytest.mark.parametrize("model", ["diffusion/flow_matching", "flow/nsf"])
def test_a_model_of_latents_draws_images(genlab: Genlab, first_stage: Path, model: str) -> None:
    first = load(first_stage)
    result = genlab("train", f"model={model}", "dataset=latents", f"dataset.run={first_stage}", "name=second", *FAST)
    assert result.code == 0, result.err
    (config,) = (result.outputs / "second").rglob("config.yaml")
    second = load(config.parent)
    latents, labels = second.data.some("test", 5)
    images, of_first = first.data.some("test", 5)
    assert torch.equal(labels, of_first)
    with torch.no_grad():
        torch.testing.assert_close(latents, first.model.encode(images))  # type: ignore[operator]
        torch.testing.assert_close(second.decode(latents), first.model.decode(latents))  # type: ignore[operator]
    metrics = json.loads((config.parent / "summary.json").read_text())["metrics"]
    assert metrics["test/nll"]["protocol"]["of"] == "density"
    assert metrics["test/nll"]["protocol"]["run"] == first_stage.name
    first_metrics = json.loads((first_stage / "summary.json").read_text())["metrics"]
    other = {"sampler": None, "weights": None, "sampling": None}
    assert metrics["test/fid"]["protocol"] | other == first_metrics["test/fid"]["protocol"] | other
    drawn = genlab("sample", f"run={config.parent}", "n=3", "seed=5")
    assert drawn.code == 0, drawn.err
    assert np.load(drawn.out.split()[-1]).shape == (3, 1, 8, 8)


def test_latents_are_scaled_by_all_of_the_training_set(genlab: Genlab, first_stage: Path) -> None:
    result = genlab(
        "train", "model=diffusion/flow_matching", "dataset=latents", f"dataset.run={first_stage}", "name=second", *FAST
    )
    assert result.code == 0, result.err
    (config,) = (result.outputs / "second").rglob("config.yaml")
    run = load(config.parent)
    run.data.setup()
    latents = run.data.splits["train"].images
    assert latents is not None
    torch.testing.assert_close(run.model.mean, latents.mean(0))
    torch.testing.assert_close(run.model.std, latents.std(0))


def test_a_run_without_latents_is_refused_in_a_line(genlab: Genlab, trained: Trained) -> None:
    conditional = trained("model=vae/vae", "model.networks.hidden=[8]", "model.num_classes=10", "name=c", *FAST)
    without = trained("model=autoregressive/fvsbn", "name=w", *FAST)
    for run, line in ((conditional, "has no latents"), (without, "has no latents"), ("nowhere", "is no finished run")):
        result = genlab("train", "model=flow/nsf", "dataset=latents", f"dataset.run={run}")
        assert result.code == 2
        assert line in result.err
        assert "Traceback" not in result.err


def test_a_model_of_images_does_not_learn_latents(genlab: Genlab, first_stage: Path) -> None:
    result = genlab("train", "model=flow/glow", "dataset=latents", f"dataset.run={first_stage}")
    assert result.code == 2
    assert "latents" in result.err
