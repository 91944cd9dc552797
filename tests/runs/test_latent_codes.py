"""Two stages: a VQ-VAE's run, and a prior over its codes that is trained, sampled and measured end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained

SMALL = ("model.channels=8", "model.code_dim=4", "model.num_codes=7", "model.num_blocks=1")


@pytest.fixture(params=["vae/vq_vae", "vae/vq_vae2"])
def first_stage(request: pytest.FixtureRequest, trained: Trained) -> Path:
    return trained(f"model={request.param}", *SMALL, "name=first", *FAST)


@pytest.mark.parametrize("model", ["autoregressive/pixel_cnn", "transformer/image_gpt"])
def test_a_prior_is_trained_on_the_codes_and_its_samples_are_images(
    genlab: Genlab, first_stage: Path, model: str
) -> None:
    first = load(first_stage)
    narrow = ("model.channels=8", "model.num_layers=2") if model.startswith("auto") else ("model.width=16",)
    result = genlab(
        "train", f"model={model}", "dataset=latent_codes", f"dataset.run={first_stage}", *narrow, "name=second", *FAST
    )
    assert result.code == 0, result.err
    (config,) = (result.outputs / "second").rglob("config.yaml")
    second = load(config.parent)
    codes, labels = second.data.some("test", 5)
    assert codes.shape == (5, *first.model.code_shape)
    images, of_first = first.data.some("test", 5)
    assert torch.equal(labels, of_first)
    assert torch.equal((codes * 6).round().long(), first.model.codes(images))  # 7 codes
    torch.testing.assert_close(second.decode(codes), first.model.decode(first.model.encode(images)))
    metrics = json.loads((config.parent / "summary.json").read_text())["metrics"]
    assert metrics["test/bits_per_dim"]["value"] > 0
    first_metrics = json.loads((first_stage / "summary.json").read_text())["metrics"]
    assert metrics["test/fid"]["protocol"] | {"sampler": None, "weights": None} == first_metrics["test/fid"][
        "protocol"
    ] | {"sampler": None, "weights": None}
    drawn = genlab("sample", f"run={config.parent}", "n=3", "seed=5")
    assert drawn.code == 0, drawn.err
    samples = np.load(drawn.out.split()[-1])
    assert samples.shape == (3, 1, 8, 8)


def test_a_run_without_codes_is_refused_in_a_line(genlab: Genlab, trained: Trained) -> None:
    without = trained("model=vae/vae", "model.networks.hidden=[8]", *FAST)
    for run, line in ((without, "has no codes"), ("nowhere", "is no finished run")):
        result = genlab("train", "model=autoregressive/pixel_cnn", "dataset=latent_codes", f"dataset.run={run}")
        assert result.code != 0
        assert line in result.err
        assert "Traceback" not in result.err
