"""Runs that start from the weights of another run: what is taken over, what is refused, and that a resume is exact."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.composition.building import plain
from genlab.composition.configs import composed
from genlab.errors import InputError
from genlab.launching.initial import built
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained
from support.small_runs import same

SMALL = ("model.networks.hidden=[16]", "callbacks=minimal", *FAST)
SOURCE = (*SMALL, "training.ema_decay=0.9", "model.num_classes=10")


def parts_of(*overrides: str) -> Any:
    return built(plain(composed("train", [*SMALL, *overrides])))


def test_weights_of_the_same_name_and_shape_are_taken_over(trained: Trained) -> None:
    source = trained(*SOURCE)
    parts = parts_of(f"init={source}", "model.latent_dim=8", "training.ema_decay=0.5")
    weights, theirs = parts.model.state_dict(), load(source).model.state_dict()
    assert load(source, weights="ema").model.state_dict().keys() == theirs.keys()
    for name in parts.match.matched:
        assert torch.equal(weights[name], theirs[name]), name
        assert torch.equal(parts.training.ema.model.state_dict()[name], theirs[name]), "the averages start there, too"
    assert parts.match.kind == "ema"
    # The classes are an input of both networks, and the latents leave one and enter the other.
    other = {"encoder.body.0.weight", "encoder.last.weight", "encoder.last.bias", "decoder.body.0.weight"}
    assert set(parts.match.other_shape) == other
    assert parts.match.other_shape["encoder.body.0.weight"] == ([16, 64], [16, 74])
    untouched = parts_of("model.latent_dim=8").model.state_dict()
    assert all(torch.equal(weights[name], untouched[name]) for name in other)
    raw = parts_of(f"init={source}", "init_weights=raw")
    assert not torch.equal(raw.model.state_dict()["decoder.last.weight"], theirs["decoder.last.weight"])
    assert raw.match.sha256 != parts.match.sha256


def test_missing_and_unexpected_weights_are_listed(genlab: Genlab, trained: Trained) -> None:
    source = trained(*SOURCE)
    result = genlab("train", *SMALL, f"init={source}", "model.networks.hidden=[16,16]", "trainer.max_epochs=1")
    assert result.code == 0, result.err
    (run,) = [path.parent for path in result.outputs.rglob("init.json")]
    found = json.loads((run / "init.json").read_text())
    assert "encoder.body.2.weight" in found["missing"]
    assert found["unexpected"] == []
    assert "missing" in result.err
    assert "encoder.body.2.weight: stays as initialized" in result.err
    back = genlab("train", *SMALL, f"init={run}", "trainer.max_epochs=1")
    assert "unexpected" in back.err
    assert "encoder.body.2.weight: left out" in back.err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model=gan/dcgan", "model.channels=4", "init={run}"), "shares no weight with this model"),
        (("init=nowhere",), "nowhere: there is no run folder"),
        (("init={run}", "init_sha256=abc"), "are others than those with init_sha256=abc"),
        (("init_weights=raw",), "init_weights=raw is about the weights of another run: give init=RUN, too"),
        (("init={run}", "init_weights=often"), "init_weights='often'"),
    ],
)
def test_what_cannot_start_is_refused_before_anything_is_written(
    genlab: Genlab, trained: Trained, overrides: tuple[str, ...], said: str
) -> None:
    run = trained(*SOURCE)
    before = sorted(run.parents[1].rglob("*"))
    # A GAN has no such networks.
    small = SMALL[1:] if "model=gan/dcgan" in overrides else SMALL
    result = genlab("train", *small, *(word.format(run=run) for word in overrides))
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert said in line
    assert sorted(run.parents[1].rglob("*")) == before


def test_broken_and_foreign_weights_are_refused(trained: Trained, tmp_path: Path) -> None:
    path = trained(*SOURCE) / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    checkpoint["state_dict"]["ema.model.decoder.last.weight"][0] = torch.nan
    write_checkpoint(checkpoint, path)
    with pytest.raises(InputError, match=r"NaN or infinite, such as decoder\.last\.weight"):
        parts_of(f"init={path}")

    class Code:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "foreign.ckpt").write_bytes(pickle.dumps({"state_dict": Code()}))
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        parts_of(f"init={tmp_path / 'foreign.ckpt'}")
    assert not (tmp_path / "ran").exists()


def test_a_resumed_run_is_exact_and_does_not_look_at_the_start_again(
    genlab: Genlab, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    source = trained(*SOURCE)
    whole = genlab("train", *SMALL, f"init={source}", "paths.output_dir=whole", "name=a")
    (whole_run,) = [path.parent for path in Path("whole").rglob("config.yaml")]
    assert (
        genlab("train", *SMALL, f"init={source}", "paths.output_dir=half", "name=a", "trainer.max_epochs=1").code == 0
    )
    (half_run,) = [path.parent for path in Path("half").rglob("config.yaml")]
    shutil.rmtree(source)
    resumed = genlab("train", f"resume={half_run}", "trainer.max_epochs=2")
    assert (whole.code, resumed.code) == (0, 0), resumed.err
    ends = [read_checkpoint(run / "checkpoints" / "last.ckpt") for run in (whole_run, half_run)]
    assert all(same(ends[0][part], ends[1][part]) for part in ("state_dict", "optimizer_states", "randomness"))
    assert not same(ends[0]["state_dict"], read_checkpoint(half_run / "checkpoints" / "previous.ckpt")["state_dict"])
    compared = genlab("compare", whole_run, half_run, "format=csv")
    assert compared.code == 0, compared.err
    # Without a checkpoint, there is nothing but the start to begin from, and it is gone.
    status = json.loads((half_run / "status.json").read_text())
    (half_run / "status.json").write_text(json.dumps({**status, "status": "interrupted", "trained": False}))
    shutil.rmtree(half_run / "checkpoints")
    again = genlab("train", f"resume={half_run}")
    assert again.code == 2
    assert f"init={source}: there is no run folder" in again.err
    other = genlab("train", f"resume={whole_run}", f"init={half_run}")
    assert "cannot be resumed with another config: init was" in other.err


def test_a_start_distinguishes_runs(genlab: Genlab, trained: Trained) -> None:
    source, plain_run = trained(*SOURCE), trained(*SMALL)
    assert genlab("train", *SMALL, f"init={source}", "trainer.max_epochs=1").code == 0
    (started,) = [path.parent for path in source.parents[1].rglob("init.json")]
    rows = genlab("compare", plain_run, started, "format=csv").out.splitlines()
    assert "init" in rows[0].split(",")
    assert len(rows) == 3
    # A run of an earlier version has no such keys, and is of the same setting as one without a start.
    older = plain_run.with_name("older")
    shutil.copytree(plain_run, older)
    lines = (older / "config.yaml").read_text().splitlines()
    lines = [line.replace("seed: 0", "seed: 5") for line in lines if not line.startswith("init")]
    (older / "config.yaml").write_text("\n".join(lines))
    assert len(genlab("compare", plain_run, older, "format=csv").out.splitlines()) == 2
