"""The checksum of a checkpoint: no change of a byte is missed, and neither is a checksum that is gone."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab import load
from genlab.errors import InputError
from genlab.runs.checkpoints import MAGIC, read_checkpoint, write_checkpoint
from support.command import Genlab

FIXTURE = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move" / "vae-vae"
SEAL = len(MAGIC) + 32


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "one byte added": lambda c: c + b"\0",
    "one byte cut": lambda c: c[:-1],
    "many bytes added": lambda c: c + b"x" * 1000,
    "half the checksum cut": lambda c: c[:-20],
    "a flip in the weights": lambda c: flipped(c, len(c) // 2),
    "a flip in the checksum": lambda c: flipped(c, len(c) - 5),
    "a flip in the mark": lambda c: flipped(c, len(c) - SEAL + 3, 7),
    "a flip and a byte added": lambda c: flipped(c, len(c) // 2) + b"g",
    "a flip and a byte cut": lambda c: flipped(c, len(c) // 2)[:-1],
    "a flip in the weights and one in the mark": lambda c: flipped(flipped(c, len(c) // 2), len(c) - SEAL),
    "a byte inserted": lambda c: c[:-SEAL] + b"\0" + c[-SEAL:],
}
WITHOUT: dict[str, Callable[[bytes], bytes]] = {
    "no checksum": lambda c: c[:-SEAL],
    "a flip and no checksum": lambda c: flipped(c, len(c) // 2)[:-SEAL],
    "all but the mark's first bytes": lambda c: c[: -SEAL + 5],
    "zeros for the checksum": lambda c: c[:-SEAL] + bytes(SEAL),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(FIXTURE, tmp_path / "run"))
    config = (copy / "config.yaml").read_text().replace("~/.cache/genlab", os.environ["GENLAB_CACHE"])
    (copy / "config.yaml").write_text(config.replace(f"{FIXTURE.parent.name}/{FIXTURE.name}", str(copy)))
    return copy


@pytest.mark.parametrize("how", [*CHANGES, *WITHOUT])
def test_a_checkpoint_of_a_run_has_its_checksum(how: str, run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes({**CHANGES, **WITHOUT}[how](path.read_bytes()))
    for name in ("last", str(path)):
        with pytest.raises(InputError, match=r"last\.ckpt cannot be read as a checkpoint") as refused:
            load(run, name, device="cpu").model  # noqa: B018
        assert "\n" not in str(refused.value)
    if how in WITHOUT:
        assert "it has no checksum" in str(refused.value)


def test_every_command_says_that_the_checksum_is_gone(run: Path, genlab: Genlab) -> None:
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-SEAL])
    for command in (["sample", f"run={run}"], ["evaluate", run], ["train", f"resume={run}", "trainer.max_epochs=2"]):
        result = genlab(*command)
        assert result.code == 2
        assert "last.ckpt cannot be read as a checkpoint (it has no checksum" in result.err
        assert result.err.splitlines()[-1].startswith("genlab: error: ")


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_file_is_noticed_anywhere(how: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint({"state_dict": {"w": torch.randn(100)}}, path)
    path.write_bytes(CHANGES[how](path.read_bytes()))
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_no_byte_added_or_cut_anywhere_goes_unnoticed(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    write_checkpoint({"state_dict": {"w": torch.randn(50)}}, path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*rng.integers(0, len(content), 40), *range(len(content) - SEAL - 2, len(content))]
    for at in places:
        for changed in (
            content[:at] + b"\x07" + content[at:],
            content[:at] + content[at + 1 :],
            flipped(content, at, 6),
        ):
            path.write_bytes(changed)
            with pytest.raises(InputError, match="cannot be read as a checkpoint"):
                read_checkpoint(path)


def test_another_file_without_a_checksum_opens_by_its_path_and_this_is_said(
    run: Path, tmp_path: Path, genlab: Genlab
) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes()[:-SEAL])
    result = genlab("sample", f"run={run}", f"checkpoint={other}", "n=2")
    assert result.code == 0, result.err
    assert f"{other} has no checksum" in result.err
    whole = genlab("sample", f"run={run}", "checkpoint=last", "n=2")
    assert whole.code == 0
    assert "checksum" not in whole.err
