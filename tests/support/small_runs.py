"""One small run of each family, and what must be the same of two runs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlab.runs.checkpoints import read_checkpoint

# One of each family, small: 12 batches an epoch, three epochs, a checkpoint also within each of them, averaged weights,
# a schedule, and what is particular to a procedure: gradients added up, D's steps before one of G.
COMMON = (
    "dataset.train_size=400", "dataset.batch_size=32", "dataset.val_size=40", "+dataset.eval_batch_size=20",
    "trainer.max_epochs=3", "trainer.log_every_n_steps=2", "training.ema_decay=0.9", "lr_schedule=cosine",
    "callbacks.last.every_images=150", "callbacks.sample_metrics.num_samples=20", "metrics.num_samples=16",
    "metrics.num_test=20", "metrics.num_shown=4", "callbacks.sample_grid.num_samples=4", "logger=csv",
)  # fmt: skip
FAMILIES: dict[str, tuple[str, ...]] = {
    "gan/dcgan": ("model.channels=4", "training.discriminator_steps=2", "training.gradient_clip=1.0"),
    "vae/vae": ("model.networks.hidden=[16]", "training.accumulate=2", "training.gradient_clip=1.0"),
    "vae/vq_vae": ("model.channels=8", "model.num_codes=8", "model.num_blocks=1", "model.restart_below=0.5"),
    "flow/real_nvp": ("model.width=8", "+dataset.flip=true"),
    "autoregressive/pixel_cnn": ("model.channels=4", "model.num_layers=2", "trainer.precision=bf16-mixed"),
    "transformer/image_gpt": ("model.width=8", "model.num_heads=1", "model.num_layers=1", "model.dropout=0.1"),
    "diffusion/flow_matching": (
        "model.num_classes=10", "diffusion/networks=dit", "model.networks.width=8", "model.networks.num_heads=1",
        "model.networks.num_layers=1", "model.networks.dropout=0.1", "diffusion/coupling=optimal_transport",
        "diffusion/times=logit_normal", "model.num_steps=3", "model.tolerance=0.1", "metrics.num_test=5",
        "callbacks.likelihood_histogram=null", "callbacks.latent_grid=null",
    ),
}  # fmt: skip
MACHINE = ("seconds", "train/images_per_second", "train/peak_memory_mb")


def only_run(outputs: Path) -> Path:
    (config,) = outputs.rglob("config.yaml")
    return config.parent


def history(run: Path) -> list[dict[str, str]]:
    """All that was logged but times, speed and memory."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{k: v for k, v in row.items() if v and k not in MACHINE} for row in rows]
    return [row for row in kept if row.keys() - {"images_seen"}]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_identical(run: Path, other: Path) -> None:
    assert history(run) == history(other)
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (read_checkpoint(r / "checkpoints" / name) for r in (run, other))
        for checkpoint in (a, b):
            del checkpoint["progress"]["rows_logged"]  # the speed has none where it could not be measured
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "progress", "randomness", "global_step"):
            assert same(a[part], b[part]), (name, part)
    assert np.array_equal(*(np.load(r / "samples" / "final.npy") for r in (run, other)))
    assert sorted(p.name for p in (run / "samples").iterdir()) == sorted(p.name for p in (other / "samples").iterdir())
    for picture in (run / "samples").glob("0*.png"):
        assert picture.read_bytes() == (other / "samples" / picture.name).read_bytes()
    figures, others = (json.loads((r / "summary.json").read_text())["metrics"] for r in (run, other))
    assert {k: v["value"] for k, v in figures.items()} == {k: v["value"] for k, v in others.items()}


def outputs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    monkeypatch.setenv("GENLAB_OUTPUTS", str(folder))
    return folder
