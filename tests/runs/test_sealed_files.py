"""Files of checkpoints: whole or not there, sealed with the hash of what was written, and what is no checkpoint."""

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.errors import InputError
from genlab.runs.checkpoints import MAGIC, SealedCheckpoints, data_of, read_checkpoint, write_checkpoint

SEAL = len(MAGIC) + 32


def weights(value: float, num: int = 3) -> dict[str, Any]:
    return {"state_dict": {"w": torch.full((num,), value)}, "epoch": 2}


def value_of(path: Path) -> float:
    return float(read_checkpoint(path)["state_dict"]["w"][0])


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "best.ckpt"  # folders that are not there yet
    write_checkpoint(weights(1.5), path)
    write_checkpoint(weights(2.5), path)
    found = read_checkpoint(path)
    assert torch.equal(found["state_dict"]["w"], torch.full((3,), 2.5))
    assert found["epoch"] == 2
    assert [p.name for p in path.parent.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize("num", [3, 2**20 + 5, 2**21])  # floats; blocks of 4 MiB are hashed at a time
def test_the_seal_is_the_hash_of_all_that_is_before_it(num: int, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint(weights(1.0, num), path)
    content = path.read_bytes()
    assert content[-SEAL:] == b"genlab:1" + hashlib.sha256(content[:-SEAL]).digest()
    assert len(read_checkpoint(path)["state_dict"]["w"]) == num
    for at in (4 * num // 2, len(content) - SEAL - 1, len(content) - 1):  # in the weights, at their end, in the hash
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"x\.ckpt cannot be read as a checkpoint \(its checksum does not hold\)"):
            read_checkpoint(path)


def test_a_large_file_is_read_in_few_parts_that_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sizes, plain = tmp_path / "x.ckpt", [], Path.open

    class Counted:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Counted":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def read(self, size: int = -1) -> bytes:
            content: bytes = self.file.read(size)
            sizes.append(len(content))
            return content

    write_checkpoint(weights(1.0, 10 * 2**20), path)  # 40 MiB
    monkeypatch.setattr(Path, "open", lambda self, *mode: Counted(plain(self, *mode)))
    read_checkpoint(path)
    assert sum(sizes) >= 40 * 2**20
    assert max(sizes) <= 16 * 2**20
    assert len(sizes) < 100


def test_no_file_is_left_open(tmp_path: Path) -> None:
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("there is no list of open files on this system")
    write_checkpoint(weights(1), tmp_path / "last.ckpt")
    before = len(list(open_files.iterdir()))
    for value in range(5):
        write_checkpoint(weights(value), tmp_path / "last.ckpt")
        read_checkpoint(tmp_path / "last.ckpt")
    assert len(list(open_files.iterdir())) == before


def test_the_newest_becomes_the_one_before_and_no_other_file_does(tmp_path: Path) -> None:
    last, before, best = (tmp_path / f"{name}.ckpt" for name in ("last", "previous", "best"))
    (tmp_path / ".previous.ckpt.link").write_text("left by a process that was killed here")
    write_checkpoint(weights(1), last)
    assert not before.exists()
    write_checkpoint(weights(2), last)
    assert (value_of(before), value_of(last)) == (1, 2)
    write_checkpoint(weights(3), last)
    assert (value_of(before), value_of(last)) == (2, 3)
    for other in (best, tmp_path / "mine.ckpt"):  # whatever letter it begins with
        for value in (4, 5):
            write_checkpoint(weights(value), other)
        assert (value_of(before), value_of(last), value_of(other)) == (2, 3, 5)
    assert {p.name for p in tmp_path.iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt", "mine.ckpt"}


def test_a_whole_file_lies_on_the_disk_before_it_takes_the_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the name would be there after a power cut, and the content not."""
    path, events = tmp_path / "last.ckpt", []
    write_checkpoint(weights(1), path)
    plain_sync, plain_replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        events.append(("synced", os.fstat(handle).st_size))
        plain_sync(handle)

    def replace(source: Any, target: Any) -> None:
        events.append((Path(target).name, os.stat(source).st_size))
        assert path.is_file()  # at every moment there is one
        plain_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write_checkpoint(weights(2, 500), path)
    size = path.stat().st_size
    files = [event for event in events if event[1] == size]
    assert files == [("synced", size), ("last.ckpt", size)]


@pytest.mark.parametrize("at", ["save", "replace"])
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_more(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.ckpt"
    write_checkpoint(weights(1), path)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"save": (torch, "save"), "replace": (os, "replace")}[at], fail)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(weights(2), path)
    monkeypatch.undo()
    assert value_of(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_signal_right_after_the_file_is_in_its_place_is_what_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = tmp_path / "best.ckpt", os.replace

    def replaced(*names: Any) -> None:
        plain(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(weights(2), path)
    assert value_of(path) == 2


def test_the_last_byte_before_the_seal_is_protected_wherever_it_lies(tmp_path: Path) -> None:
    """Also where it is the first of a block of its own."""
    path = tmp_path / "x.ckpt"
    torch.save(weights(1.0, 2**20 - 1000), path)
    content = path.read_bytes()
    for length in (2**22 - 1, 2**22, 2**22 + 1):
        assert 0 < length - len(content) < 2**16
        padded = content.ljust(length, b"\0")  # torch ignores what follows its data
        seal = MAGIC + hashlib.sha256(padded).digest()
        path.write_bytes(padded + seal)
        assert value_of(path) == 1
        path.write_bytes(padded[:-1] + b"\1" + seal)
        with pytest.raises(InputError, match="its checksum does not hold"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("error", "reason"), [(RuntimeError("this\nand more\nof it"), "this"), (EOFError(), "EOFError")]
)
def test_the_reason_is_the_first_line_of_what_was_raised(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint(weights(1), path)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(InputError) as refused:
        read_checkpoint(path)
    assert str(refused.value) == f"{path} cannot be read as a checkpoint ({reason})"


def test_what_is_no_checkpoint_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    with pytest.raises(InputError, match=r"x\.ckpt cannot be read as a checkpoint \(.*No such file") as error:
        read_checkpoint(path)
    assert isinstance(error.value.__cause__, FileNotFoundError)
    for content in (b"", b"x", MAGIC, b"genlab:1" + bytes(31), b"genlab:1" + bytes(32), bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.ckpt cannot be read as a checkpoint \([^\n]+\)$"):
            read_checkpoint(path)
    # Well written, and yet none.
    for wrong in ([1, 2], {"weights": {}}, torch.zeros(2), "state_dict"):
        write_checkpoint(wrong, path)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="it holds no weights"):
            read_checkpoint(path)
    write_checkpoint(OrderedDict(state_dict={}), path)
    assert read_checkpoint(path) == {"state_dict": {}}


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "executed"))


def test_a_sealed_file_with_code_in_it_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint({**weights(1), "evil": Evil(tmp_path / "executed")}, path)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_lightning_writes_reads_and_removes_them_by_the_plugin(tmp_path: Path) -> None:
    plugin, path = SealedCheckpoints(), tmp_path / "x.ckpt"
    plugin.save_checkpoint(weights(3), str(path))
    assert path.read_bytes()[-SEAL:].startswith(MAGIC)
    for where in ({}, {"map_location": None}, {"map_location": "cpu"}):
        assert plugin.load_checkpoint(str(path), **where)["state_dict"]["w"].device.type == "cpu"
    assert plugin.load_checkpoint(str(path), map_location="meta")["state_dict"]["w"].device.type == "meta"
    assert read_checkpoint(path, "meta")["state_dict"]["w"].device.type == "meta"
    for _ in range(2):
        plugin.remove_checkpoint(str(path))
        assert not path.exists()


@pytest.mark.parametrize("added", [1, 40, 1000, 4096 - SEAL])
def test_a_seal_that_bytes_follow_is_found(added: int, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint(weights(1), path)
    path.write_bytes(path.read_bytes() + bytes(added))
    with pytest.raises(InputError, match=r"its checksum is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(("changed", "found"), [((0,), True), ((2, 7), True), ((0, 1, 2), False), ((3, 4, 7), False)])
def test_a_mark_is_known_by_six_of_its_eight_bytes(
    changed: tuple[int, ...], found: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint(weights(1), path)
    content = bytearray(path.read_bytes())
    for at in changed:
        content[len(content) - SEAL + at] ^= 255
    path.write_bytes(content)
    if found:
        with pytest.raises(InputError, match="its checksum is damaged"):
            read_checkpoint(path)
    else:
        assert value_of(path) == 1
        assert "has no checksum" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "config", "opens"),
    [
        ("checkpoints", True, False),
        ("checkpoints", False, True),
        ("weights", True, True),
        ("archive", True, True),
        ("weights", False, True),
    ],
)
def test_a_file_without_a_seal_opens_outside_of_runs_alone(
    folder: str, config: bool, opens: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if config:
        (tmp_path / "config.yaml").write_text("{}")
    path = tmp_path / folder / "x.ckpt"
    write_checkpoint(weights(1), path)
    assert value_of(path) == 1
    assert capsys.readouterr().err == ""
    path.write_bytes(path.read_bytes()[:-SEAL])
    if opens:
        assert value_of(path) == 1
        assert f"genlab: {path} has no checksum" in capsys.readouterr().err
    else:
        with pytest.raises(InputError, match="it has no checksum; outside of a run folder"):
            read_checkpoint(path)


def test_a_checkpoint_says_what_data_it_was_trained_on_or_nothing() -> None:
    assert data_of({"state_dict": {}, "data": {"sizes": {"train": 3}}}) == {"sizes": {"train": 3}}
    assert data_of({"state_dict": {}}) == {}
    assert data_of({"state_dict": {}, "data": "of a stranger"}) == {}
