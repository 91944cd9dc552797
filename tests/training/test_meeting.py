"""Where nodes meet, by the variables of what started them; and what they notice of each other there."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from genlab.errors import InputError, RunFailed
from genlab.launching import nodes as nodes_module
from genlab.launching.agreement import agree
from genlab.launching.joining import is_here, join
from genlab.launching.meeting import Meeting, first_host, meeting, patience
from genlab.launching.nodes import Nodes
from genlab.launching.outcome import Failure, failure_of, first_failure

SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "gpu[03-04]",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "1",
}  # fmt: skip
KUBEFLOW = {"MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "RANK": "1", "WORLD_SIZE": "2"}
OPTIONS = {"PET_MASTER_ADDR": "node-0-0", "PET_MASTER_PORT": "29500", "PET_NODE_RANK": "1", "PET_NNODES": "2"}
MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "MASTER_ADDR": "first"}


@pytest.mark.parametrize(
    ("environment", "address", "rank"),
    [
        ({"GENLAB_RDZV": "head:5000"}, "head:5000", None),
        ({"GENLAB_RDZV": "head"}, "head:29400", None),
        ({"GENLAB_RDZV": "head:5000", "GENLAB_NODE": "1"}, "head:5000", 1),
        ({"GENLAB_RDZV": "[fd00::2]:5000"}, "[fd00::2]:5000", None),
        (SRUN, "gpu03:20217", 1),
        (KUBEFLOW, "job-master-0:23456", 1),
        (OPTIONS, "node-0-0:29500", 1),
        ({"PET_RDZV_ENDPOINT": "head:1234", "PET_NNODES": "1:2"}, "head:1234", None),
        (MPI, "first:29400", 1),
        # The first of the table counts.
        ({**SRUN, **KUBEFLOW, **OPTIONS, **MPI, "GENLAB_RDZV": "head:5000"}, "head:5000", None),
        ({**SRUN, **KUBEFLOW, **OPTIONS, **MPI}, "gpu03:20217", 1),
        ({**KUBEFLOW, **OPTIONS, **MPI}, "node-0-0:29500", 1),
        ({**MPI, **KUBEFLOW}, "job-master-0:23456", 1),
    ],
)
def test_where_nodes_meet(environment: dict[str, str], address: str, rank: int | None) -> None:
    found = meeting(2, environment)
    assert (found.address, found.rank) == (address, rank)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "nothing says where the nodes meet"),
        ({"GENLAB_RDZV": "head:port"}, "expected HOST:PORT"),
        ({"GENLAB_RDZV": "head:5000", "GENLAB_NODE": "first"}, "GENLAB_NODE=first: expected the number of this node"),
        ({"GENLAB_RDZV": "head:5000", "GENLAB_NODE": "2"}, "GENLAB_RDZV and GENLAB_NODE number this node 2"),
        ({"GENLAB_RDZV": ":80"}, "expected HOST:PORT"),
        ({"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}, "srun --nodes=2"),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 tasks on 2 nodes"),
        ({**SRUN, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}, "started 1 tasks on 1 nodes"),
        ({**OPTIONS, "PET_NNODES": "3"}, "PET_NNODES=3"),
        ({**MPI, "OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4"),
        ({**KUBEFLOW, "RANK": "2"}, "once on each node"),
        ({**KUBEFLOW, "RANK": "one"}, "RANK=one"),
        ({**KUBEFLOW, "TORCHELASTIC_RUN_ID": "x"}, "nothing says where the nodes meet"),  # of a process of torchrun
    ],
)
def test_what_does_not_fit_is_said_in_one_line(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        meeting(2, environment)


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_patience_is_a_number_of_seconds(given: str) -> None:
    assert patience({}) == 300
    with pytest.raises(InputError, match="GENLAB_RDZV_TIMEOUT"):
        patience({"GENLAB_RDZV_TIMEOUT": given})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("gpu[003-007,012],cpu1", "gpu003"), ("n[7,9]", "n7"), ("r[1-2]n[03-04]", "r1n03")],
)
def test_the_first_host_of_slurms_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_names_of_this_machine() -> None:
    assert is_here("localhost")
    assert is_here(socket.gethostname())
    assert not is_here("192.0.2.77")  # kept for documentation: nobody's
    assert not is_here("no-such-host.invalid")


# -- together, as threads of one process -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


@contextmanager
def two(monkeypatch: pytest.MonkeyPatch, ranks: tuple[int | None, int | None] = (None, None)) -> Iterator[list[Nodes]]:
    """Two nodes that have joined, the first of which holds the store."""
    monkeypatch.setattr(nodes_module, "DEAD", 1.5)
    monkeypatch.setattr(nodes_module, "BEAT", 0.1)
    monkeypatch.setattr(nodes_module, "SEEN", 1.0)
    port = free_port()
    found = []
    with ThreadPoolExecutor(2) as pool:
        places = [Meeting("localhost", port, rank, "test") for rank in ranks]
        waiting = [pool.submit(join, place, 2, 20) for place in places]
        for place, one in zip(places, waiting, strict=True):
            store, rank, hosts = one.result()
            found.append(Nodes(store, place, rank, hosts))
    found.sort(key=lambda nodes: nodes.rank)
    try:
        yield found
    finally:
        for nodes in reversed(found):
            nodes.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What calls in threads give, or the errors that they raise."""

    def outcome(one: Future[Any]) -> Any:
        return one.exception(20) or one.result()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [outcome(one) for one in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize("ranks", [(None, None), (1, 0), (0, 1)])
def test_all_nodes_join_and_one_is_the_first(
    ranks: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with two(monkeypatch, ranks) as nodes:
        assert [one.rank for one in nodes] == [0, 1]
        assert nodes[0].hosts == nodes[1].hosts == [socket.gethostname()] * 2


def test_without_the_others_a_node_says_how_many_came() -> None:
    place = Meeting("localhost", free_port(), None, "test")
    with pytest.raises(InputError, match=rf"1 of 3 nodes joined .* within 1 s \({socket.gethostname()}\)"):
        join(place, 3, 1)
    found = at_once(lambda: join(place, 3, 1.5), lambda: join(place, 3, 1.5))
    assert any("2 of 3 nodes joined" in str(error) for error in found)
    assert all(isinstance(error, InputError) for error in found)
    with pytest.raises(InputError, match=r"1 of 2 nodes joined at 192.0.2.77:29400 within 1 s"):
        join(Meeting("192.0.2.77", 29400, None, "test"), 2, 1)


def test_a_third_node_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes, pytest.raises(InputError, match="2 nodes have joined there already"):
        join(nodes[0].meeting, 2, 1)


def test_a_port_that_another_program_has() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(InputError, match=r"port .* of this machine is taken"):
            join(Meeting("localhost", other.getsockname()[1], 0, "test"), 2, 1)


def test_nodes_that_agree_and_nodes_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        facts = {"model.width": 8, "torch": "2"}
        assert at_once(lambda: agree(nodes[0], facts), lambda: agree(nodes[1], facts)) == [None, None]
    with two(monkeypatch) as nodes:
        found = at_once(lambda: agree(nodes[0], facts), lambda: agree(nodes[1], {**facts, "model.width": 16}))
        host = socket.gethostname()
        line = f"the nodes do not agree: model.width is 8 on node 0 ({host}) and 16 on node 1 ({host})"
        assert [str(error) for error in found] == [line] * 2
        assert all(isinstance(error, InputError) for error in found)


def test_the_folder_is_found_by_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        assert at_once(lambda: nodes[0].show(tmp_path), nodes[1].find) == [None, tmp_path]
        assert nodes[0].token == nodes[1].token != ""
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(nodes: Nodes) -> Path:
        try:
            return nodes.find()
        except InputError as error:
            nodes.end(reason=str(error))
            raise

    with two(monkeypatch) as nodes:
        words = nodes[0].say

        def another(key: str, value: Any) -> None:  # as if a folder of this name lay on another disk
            words(key, {**value, "token": "that of another disk"} if key == "folder" else value)

        monkeypatch.setattr(nodes[0], "say", another)
        shown, found = at_once(lambda: nodes[0].show(tmp_path), lambda: find(nodes[1]))
        assert "a shared disk that is not shared?" in str(found)
        assert isinstance(found, InputError)
        assert str(shown) == str(found)  # both say it
        assert list(tmp_path.iterdir()) == []


def test_a_node_that_dies_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        assert nodes[0].trouble() is None
        nodes[1]._stop.set()  # its thread ends without a word, as that of a killed process
        with pytest.raises(RunFailed, match=r"node 1 \(.*\) died: no sign of life for 2 s"):
            nodes[0].heard("anything", 10)
        lost = Failure("lost", "process 0: Connection closed by peer")
        assert first_failure(lost, None, nodes[0]).startswith("node 1")


def test_the_death_of_the_first_node_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        nodes[0]._stop.set()
        with pytest.raises(RunFailed, match=r"node 0 \(.*\), which holds the meeting of the nodes, died"):
            nodes[1].heard("anything", 10)


def test_a_failure_reaches_all_and_the_first_cause_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        nodes[1].end(reason="process 3 of node 1 was killed (SIGKILL)", how="killed")
        with pytest.raises(RunFailed, match="process 3 of node 1 was killed"):
            nodes[0].heard("anything", 10)
        lost = Failure("lost", "process 0: Connection closed by peer")
        assert (
            first_failure(lost, "RuntimeError: reset by peer", nodes[0]) == "process 3 of node 1 was killed (SIGKILL)"
        )
        diverged = "the training diverged: train/loss is nan"
        assert first_failure(Failure("lost", "process 1: gloo"), diverged, None) == diverged


def test_what_ended_the_processes_of_a_machine(tmp_path: Path) -> None:
    report = tmp_path / "failures.json"
    assert failure_of(report, 0, None) is None
    assert failure_of(report, -9, None) == Failure("killed", "torchrun ended with code -9")
    # Ended by its own supervisor, because another node was gone.
    assert failure_of(report, -9, None, given_up=True) == Failure("lost", "torchrun ended with code -9")
    lost = {"rank": 0, "exit_code": 1, "message": "RuntimeError: [gloo] Connection closed by peer"}
    raised = {"rank": 1, "exit_code": 1, "message": "Traceback\n  of a file\nMemoryError: too much\n"}
    ended = {"rank": 2, "exit_code": -15, "message": ""}
    killed = {"rank": 3, "exit_code": -9, "message": ""}
    for failures, how, text in (
        ([lost, ended], "lost", "process 0: RuntimeError: [gloo] Connection closed by peer"),
        ([lost, raised, ended], "raised", "process 1: MemoryError: too much"),
        ([lost, raised, ended, killed], "killed", "process 3 was killed (SIGKILL)"),
    ):
        report.write_text(json.dumps(failures))
        assert failure_of(report, 1, None) == Failure(how, text)  # type: ignore[arg-type]


def test_a_signal_at_another_node_reaches_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with two(monkeypatch) as nodes:
        assert nodes[0].asked is None
        nodes[1].say("asked", 15)
        until = time.monotonic() + 5
        while nodes[0].asked is None and time.monotonic() < until:
            time.sleep(0.05)
        assert nodes[0].asked == 15


def test_nothing_of_a_meeting_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    with two(monkeypatch):
        pass
    assert threading.active_count() <= before
