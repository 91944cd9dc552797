"""Two stages: a VAE's run, and a model of its latents that is trained, sampled and measured end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained
from support.image_folders import write_images


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


def test_grids_of_latents_are_learned_by_a_network_for_images(genlab: Genlab, trained: Trained) -> None:
    small = ("model.networks.channels=4", "model.networks.halvings=1", "model.networks.latent_channels=3")
    first_stage = trained("model=vae/kl_autoencoder", *small, "name=first", *FAST)
    first = load(first_stage)
    result = genlab(
        "train", "model=diffusion/flow_matching", "diffusion/networks=unet", "model.networks.width=8",
        "dataset=latents", f"dataset.run={first_stage}", "name=second", *FAST,
    )  # fmt: skip
    assert result.code == 0, result.err
    (config,) = (result.outputs / "second").rglob("config.yaml")
    second = load(config.parent)
    latents, _ = second.data.some("test", 5)
    images, _ = first.data.some("test", 5)
    assert latents.shape == (5, 3, 4, 4)
    with torch.no_grad():
        q = first.model.gaussian(images)  # type: ignore[operator]
        torch.testing.assert_close(latents.flatten(1), q.mean)
        torch.testing.assert_close(second.decode(latents), first.model.decode(q.mean))  # type: ignore[operator]
    every = second.data.splits["train"].images
    assert every is not None
    torch.testing.assert_close(second.model.mean.flatten(), every.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second.model.std.flatten(), every.transpose(0, 1).flatten(1).std(1))
    protocol = json.loads((config.parent / "summary.json").read_text())["metrics"]["test/nll"]["protocol"]
    assert (protocol["likelihood"], protocol["probes"], protocol["draws"]) == ("estimate", 1, 1)
    drawn = genlab("sample", f"run={config.parent}", "n=3", "seed=5")
    assert drawn.code == 0, drawn.err
    assert np.load(drawn.out.split()[-1]).shape == (3, 1, 8, 8)


def test_networks_of_grids_say_the_number_of_latents(genlab: Genlab) -> None:
    for options, line in (
        (("vae/networks=grid",), "latent_dim=32: these networks have 4 x 2 x 2 latents; give model.latent_dim=null"),
        (("model.latent_dim=null",), "latent_dim=None: at least 1 for these networks"),
        (("vae/networks=grid", "model.latent_dim=null", "model.networks.halvings=4"), "cannot be halved so often"),
        (("vae/networks=grid", "model.latent_dim=null", "vae/posterior=planar"), "choose posterior=gaussian"),
    ):
        result = genlab("train", "model=vae/vae", "dataset=digits", *options, *FAST)
        assert result.code == 2
        assert line in result.err
        assert "Traceback" not in result.err


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


def test_the_two_stages_for_large_pictures_of_ones_own(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 40, (36, 32))
    few = ("trainer.max_epochs=1", "dataset.batch_size=8", "metrics.num_samples=8", "callbacks=minimal", "logger=csv")
    few += ("metrics.num_test=4", "metrics.num_shown=2", "metrics.memorization=false")
    small = ("dataset.shape=[3,32,32]", "model.networks.channels=8", f"dataset.source.path={tmp_path / 'photos'}")
    first_stage = genlab("train", "experiment=photos/autoencoder", *small, *few, "metrics/features=pixels")
    assert first_stage.code == 0, first_stage.err
    narrow = ("model.networks.width=8", "model.networks.multipliers=[1,2]", "model.networks.attention_levels=[1]")
    output = tmp_path / "second"
    second = genlab(
        "train",
        "experiment=photos/latents",
        f"dataset.run={first_stage.run}",
        *narrow,
        *few,
        f"paths.output_dir={output}",
    )
    assert second.code == 0, second.err
    (run,) = (path.parent for path in output.rglob("config.yaml"))
    drawn = genlab("sample", run, "n=4", "sampling.num_steps=2")
    assert drawn.code == 0, drawn.err
    assert np.load(drawn.out.split()[-1]).shape == (4, 3, 32, 32)
