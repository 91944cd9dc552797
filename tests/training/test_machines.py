"""One run on several machines, which are processes of this one: the same bits as on one, and one end for all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genlab.runs.checkpoints import read_checkpoint
from support.machines import Node, free_port, nodes
from support.small_runs import assert_identical, only_run

if sys.platform != "linux":
    pytest.skip("the kernel ends the processes of a node that dies", allow_module_level=True)

SMALL = (
    "model=vae/vae", "model.networks.hidden=[16]", "dataset.train_size=512", "trainer=ddp_cpu", "trainer.devices=2",
    "trainer.log_every_n_steps=2", "callbacks=minimal", "logger=csv", "metrics.num_samples=16", "metrics.num_test=16",
    "metrics.num_shown=2", "metrics.memorization=false",
)  # fmt: skip
SHORT = (*SMALL, "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2")
LONG = (*SMALL, "trainer.max_epochs=60", "trainer.check_val_every_n_epoch=30")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """No node outlives its test."""
    yield
    Node.end_all()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def status(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


@pytest.mark.e2e
@pytest.mark.slow
def test_two_machines_train_what_one_does(tmp_path: Path, outputs: Path) -> None:
    found = nodes(outputs, *SHORT)
    assert [node.end() for node in found] == [0, 0], found[0].text + found[1].text
    run = only_run(outputs)
    assert status(run)["status"] == "done"
    assert len(status(run)["nodes"]) == 2
    assert "test/nll" in json.loads((run / "summary.json").read_text())["metrics"]
    assert not any(path.name.startswith(".") for path in run.iterdir())
    assert len(found[1].text.splitlines()) <= 2  # the first node speaks for all
    one = Node(tmp_path / "one", *SHORT, "trainer.devices=4")
    assert one.end() == 0, one.text
    assert_identical(only_run(tmp_path / "one"), run)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_node_that_dies_ends_the_run_and_the_run_goes_on(dies: int, tmp_path: Path, outputs: Path) -> None:
    found = nodes(outputs, *LONG)
    found[0].until(lambda: bool(list(outputs.rglob("last.ckpt"))))
    found[dies].kill()
    since = time.monotonic()
    assert found[1 - dies].end(60) == 2
    assert time.monotonic() - since < 45  # 15 to notice it, and more on a busy machine
    run = only_run(outputs)
    assert status(run)["status"] == "failed"
    words = f"node {dies} ("
    assert words in status(run)["reason"]
    assert "died" in status(run)["reason"]
    last = found[1 - dies].text.splitlines()[-1]
    assert last.startswith("genlab: error: ")
    assert words in last
    # On two machines again, or on one with as many devices.
    one = ("trainer.num_nodes=1", "trainer.devices=4")
    again = [Node(outputs, f"resume={run}", *one)] if dies else nodes(outputs, f"resume={run}")
    assert [node.end() for node in again] == [0] * len(again), [node.text for node in again]
    assert status(run)["status"] == "done"
    assert len(status(run)["resumed"]) == 1
    undisturbed = Node(tmp_path / "one", *LONG, "trainer.devices=4")
    assert undisturbed.end() == 0, undisturbed.text
    assert_identical(only_run(tmp_path / "one"), run)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_process_of_another_node_that_dies_ends_the_run(outputs: Path) -> None:
    found = nodes(outputs, *LONG)
    found[0].until(lambda: bool(list(outputs.rglob("last.ckpt"))))
    run = only_run(outputs)
    os.kill(worker_of(found[1], 3), signal.SIGKILL)
    assert [node.end(60) for node in found] == [2, 2]
    assert status(run)["status"] == "failed"
    assert "process 3 of node 1" in status(run)["reason"]
    assert "killed (SIGKILL)" in status(run)["reason"]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize(("asked", "number"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_signal_at_any_node_stops_all_after_the_state_is_saved(asked: int, number: int, outputs: Path) -> None:
    found = nodes(outputs, *LONG, "trainer.max_epochs=2000")
    found[0].until(lambda: bool(list(outputs.rglob("last.ckpt"))))
    run = only_run(outputs)
    found[asked].process.send_signal(number)
    assert [node.end(60) for node in found] == [128 + number] * 2
    assert status(run)["status"] == "interrupted"
    seen = read_checkpoint(run / "checkpoints" / "last.ckpt")["progress"]["images_seen"]
    # On one machine, with as many devices.
    one = Node(outputs, f"resume={run}", "trainer.num_nodes=1", "trainer.devices=4", f"budget.images={seen + 640}")
    assert one.end() == 0, one.text
    assert json.loads((run / "summary.json").read_text())["images_seen"] == seen + 640
    assert status(run)["nodes"] is None


@pytest.mark.e2e
@pytest.mark.slow
def test_what_is_refused_is_refused_before_anything_is_written(tmp_path: Path, outputs: Path) -> None:
    # Another config on the other node.
    place = {"GENLAB_RDZV": f"localhost:{free_port()}"}
    two = (*SHORT, "trainer.num_nodes=2")
    found = [Node(outputs, *two, **place), Node(outputs, *two, "model.latent_dim=3", **place)]
    assert [node.end() for node in found] == [2, 2]
    for node in found:
        assert "the nodes do not agree: model.latent_dim is " in node.text.splitlines()[-1]
    # Nobody else, a batch that cannot be divided, and no word about where to meet.
    alone = Node(outputs, *two, **place, GENLAB_RDZV_TIMEOUT="3")
    assert alone.end() == 2
    assert "1 of 2 nodes joined" in alone.text.splitlines()[-1]
    for arguments, environment, line in (
        (("trainer.num_nodes=3",), place, "dataset.batch_size=64: a batch does not divide over 3 machines with 2"),
        (("trainer.num_nodes=2",), {}, "trainer.num_nodes=2: nothing says where the nodes meet"),
        (("-m", "trainer.num_nodes=2", "seed=1,2"), place, "only hydra/launcher=slurm"),
    ):
        node = Node(outputs, *SHORT, *arguments, **environment)
        assert node.end() == 2
        assert line in node.text
    assert not list(outputs.rglob("config.yaml"))


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="mounting takes root")
def test_a_disk_that_is_not_shared_is_named(tmp_path: Path, outputs: Path) -> None:
    outputs.mkdir()
    place = {"GENLAB_RDZV": f"localhost:{free_port()}", "GENLAB_OUTPUTS": str(outputs)}
    command = f"exec {sys.executable} -m genlab train {' '.join(SHORT)} trainer.num_nodes=2"
    first = Node(outputs, *SHORT, "trainer.num_nodes=2", **place)
    first.until(lambda: "waits at" in first.text)
    # Its own mounts: an empty disk at the same path.
    other = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {outputs} && {command}"],
        env={**os.environ, **place}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    if "unshare" in other.stderr or "mount" in other.stderr:
        pytest.skip(other.stderr)
    assert other.returncode == first.end() == 2
    for text in (other.stderr, first.text):
        assert "node 1" in text.splitlines()[-1]
        assert "a shared disk that is not shared?" in text.splitlines()[-1]
    assert not list(outputs.rglob("*.yaml"))


def worker_of(node: Node, rank: int) -> int:
    """The process of a rank that a node has started."""
    for path in Path("/proc").iterdir():
        try:
            environment = (path / "environ").read_bytes().split(b"\0") if path.name.isdigit() else []
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment and b"GENLAB_RUN" in b" ".join(environment):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            above = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            if above == node.process.pid:
                return int(path.name)
    raise AssertionError(f"no process of rank {rank}")
