"""Start the processes of a run: this one, or one per device under torchrun, on each of the machines of the run."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from genlab.errors import InputError, Interrupted, RunFailed
from genlab.launching.job import work
from genlab.launching.nodes import DEAD, SEEN, Nodes
from genlab.launching.objects import NONE, Objects
from genlab.launching.outcome import Failure, Outcome, failure_of, first_failure
from genlab.machine.process import OF_RUN, SIGNALS, for_processes
from genlab.runs.folder import CONFIG, STATUS, SUMMARY, RunFolder
from genlab.runs.resuming import newest_checkpoint
from genlab.training.parallel import check_strategy
from genlab.training.parts import Parts

GRACE = 10.0  # seconds that processes have to end by themselves when another node is gone


def start(
    folder: RunFolder,
    config: dict[str, Any],
    parts: Parts | None,
    nodes: Nodes | None = None,
    objects: Objects = NONE,
) -> float | None:
    """Train and measure in this process, or in one process per device under torchrun.

    Args:
        folder: folder of the run, in which its config is saved.
        config: config of the run, as plain values.
        parts: parts built from the config; None builds them when they are needed.
        nodes: nodes of a run on several machines, of which this is the first; None for one machine.
        objects: callbacks and loggers of this process, which only a run of one process has.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        Interrupted: if a signal asked the run to stop, after its state was saved.
        RunFailed: if a process or a node died; the run's status says why.
    """
    num = num_processes(config["trainer"])
    if nodes is None and folder.read_json(STATUS).get("nodes"):  # it was begun on several machines
        folder.set_status("running", nodes=None, launch=None)
    if num == 1 and nodes is None:
        return work(folder, config, parts, objects)
    newest_checkpoint(folder)  # puts a damaged checkpoint aside and says so, here once instead of in every process
    options = ["--standalone", "--nnodes=1"]
    if nodes is not None:
        folder.set_status("running", nodes=nodes.hosts, launch=nodes.token)
        port = _free_port()
        nodes.say("start", {"port": port, "config": _digest(folder)})
        options = _options(nodes, port)
    return _torchrun(folder, num, options, nodes)


def follow(folder: RunFolder, config: dict[str, Any], nodes: Nodes) -> float | None:
    """Train on this node when node 0 says so; what :func:`start` is for the other nodes.

    Args:
        folder: folder that node 0 has shown.
        config: config of the run on this node, as plain values.
        nodes: nodes of the run.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        Interrupted: if a signal asked the run to stop, on whichever node.
        RunFailed: if a process or a node died.
    """
    told = nodes.heard("start")
    where = f"for {nodes.name(0)} in {folder.path}"
    print(f"genlab: {nodes.name(nodes.rank)} of {nodes.num} nodes trains {where}", file=sys.stderr)
    until = time.monotonic() + SEEN
    while _digest(folder) != told["config"]:  # a file server's client may show the old file for a while
        if time.monotonic() > until:
            raise InputError(f"{folder.path / CONFIG} is another file on {nodes.name(nodes.rank)} than on node 0")
        time.sleep(0.2)
    return _torchrun(folder, num_processes(config["trainer"]), _options(nodes, told["port"]), nodes)


def num_nodes(trainer: Mapping[str, Any]) -> int:
    """Count the machines that a trainer's config asks for.

    Raises:
        InputError: if the number is none.
    """
    num = trainer.get("num_nodes", 1)
    if not isinstance(num, int) or isinstance(num, bool) or num < 1:
        raise InputError(f"trainer.num_nodes={num}: expected a number of machines, at least 1")
    return num


def num_processes(trainer: Mapping[str, Any]) -> int:
    """Count the processes that a trainer's config asks for on each machine, one per device.

    Args:
        trainer: config of the trainer, as plain values.

    Raises:
        InputError: if it names no number of devices.
    """
    devices = trainer.get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.get("accelerator") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.cuda.device_count() if on_gpu else 1
    if not re.fullmatch(r"\d+", str(devices)) or int(devices) < 1:
        raise InputError(f"trainer.devices={devices}: expected a number of devices, a list such as [0,1], or -1")
    return int(devices)


def check_shares(config: Mapping[str, Any], parts: Parts) -> None:
    """Check that batches can be divided among the devices of all machines, and the model if that is asked for.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.

    Raises:
        InputError: if they cannot.
    """
    batch_size = parts.data.batch_size
    devices, machines = num_processes(config["trainer"]), num_nodes(config["trainer"])
    if batch_size % (devices * machines):
        of = f"{machines} machines with {devices} devices each" if machines > 1 else f"{devices} devices"
        raise InputError(f"dataset.batch_size={batch_size}: a batch does not divide over {of}")
    check_strategy(parts.training, config["trainer"], devices * machines)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _digest(folder: RunFolder) -> str | None:
    with suppress(OSError):
        return hashlib.sha256((folder.path / CONFIG).read_bytes()).hexdigest()
    return None


def _options(nodes: Nodes, port: int) -> list[str]:
    return [
        *("--rdzv-backend=static", f"--nnodes={nodes.num}", f"--node-rank={nodes.rank}"),
        *(f"--master-addr={nodes.meeting.host}", f"--master-port={port}", "--max-restarts=0"),
    ]


def _torchrun(folder: RunFolder, num: int, options: list[str], nodes: Nodes | None) -> float | None:
    """Let torchrun start and watch the processes of this machine, and end all of them if one dies.

    Lightning's own launcher would run the command line again for each device; in a sweep, that is the whole sweep.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num))}
    environment = {**threads, **for_processes(), OF_RUN: str(folder.path)}
    with TemporaryDirectory() as place:
        report = Path(place, "failures.json")
        command = [sys.executable, "-m", "genlab.launching.agent", str(report), *options, f"--nproc-per-node={num}"]
        process = subprocess.Popen([*command, "-m", "genlab.launching.job", str(folder.path)], env=environment)
        try:
            with _signals(folder, process, nodes) as (asked, before):
                code, given_up = _watched(folder, process, nodes, asked)
        finally:
            process.kill()  # such as after an error of this process's own
        failed = failure_of(report, code, nodes, given_up)
    outcome = (_first if nodes is None or nodes.rank == 0 else _other)(folder, code, failed, asked, nodes)
    if outcome.word == "interrupted":
        raise Interrupted(outcome.number, before.get(outcome.number))
    if outcome.word != "done":
        raise RunFailed(f"{folder.path}: {outcome.reason}")
    return outcome.best


@contextmanager
def _signals(
    folder: RunFolder, process: subprocess.Popen[bytes], nodes: Nodes | None
) -> Iterator[tuple[list[int], dict[int, Any]]]:
    """Collect the signals that ask for the end, and pass them on; gives them and the handlers that were there before.

    Only the first process of the run gets a signal, and tells the others. On another node, :func:`_watched` tells
    node 0, because a handler may come in the middle of talking to it.
    """
    asked: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        asked.append(number)
        if nodes is None or nodes.rank == 0:
            _pass_on(folder, process, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield asked, before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(folder: RunFolder, process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the first process; if it has not begun yet, end torchrun."""
    pid = folder.read_json(STATUS).get("pid")
    if pid in (None, os.getpid()):
        process.kill()
        return
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _watched(
    folder: RunFolder, process: subprocess.Popen[bytes], nodes: Nodes | None, asked: list[int]
) -> tuple[int, bool]:
    """Wait until torchrun has ended, and end it if another node is gone or has failed; tell its code, and if so."""
    if nodes is None:
        return process.wait(), False
    told = given_up = False
    until: float | None = None
    while True:
        try:
            return process.wait(0.2), given_up
        except subprocess.TimeoutExpired:
            if not told and nodes.rank == 0 and nodes.asked is not None:
                told = True
                if asked:  # SLURM sends signals to all nodes
                    continue
                asked.append(nodes.asked)
                _pass_on(folder, process, nodes.asked)
            if not told and nodes.rank > 0 and asked:
                told = True
                with suppress(RunFailed):
                    nodes.say("asked", asked[0])
            if until is None and (nodes.trouble() is not None or 0 in nodes.ends()):
                until = time.monotonic() + GRACE
            if until is not None and time.monotonic() > until:
                given_up = True
                process.kill()


def _first(folder: RunFolder, code: int, failed: Failure | None, asked: list[int], nodes: Nodes | None) -> Outcome:
    """Find how the run ended, write it to its status, and tell the other nodes; for the first node, or the only one."""
    status = folder.read_json(STATUS)
    number = asked[0] if asked else int(signal.SIGTERM)
    if status["status"] == "interrupted" or (asked and status["status"] == "running"):
        if status["status"] == "running":  # it was not training, and so had nothing to save
            folder.set_status("interrupted", reason=signal.Signals(number).name)
        outcome = Outcome("interrupted", "interrupted", number)
    elif code == 0 and status["status"] == "done":
        best = folder.read_json(SUMMARY)["monitor"]["best"]
        outcome = Outcome("done", best=None if best is None else float(best))
    else:
        reason = first_failure(failed or Failure.of_code(code), status.get("reason"), nodes)
        if reason != status.get("reason") and status["status"] != "done":
            folder.set_status("failed", reason=reason)
        outcome = Outcome("failed", reason)
    if nodes is not None:
        nodes.end(**outcome.words())
    return outcome


def _other(folder: RunFolder, code: int, failed: Failure | None, asked: list[int], nodes: Nodes | None) -> Outcome:
    """Hear from node 0 how the run ended; if node 0 is gone, write it to the run's status."""
    assert nodes is not None
    if failed is not None and 0 not in nodes.ends() and not nodes.silent():
        nodes.end(reason=failed.text, how=failed.how)
    until = time.monotonic() + 4 * DEAD if failed is not None else float("inf")
    while 0 not in nodes.ends() and 0 not in nodes.silent() and time.monotonic() < until:
        time.sleep(0.1)
    if (words := nodes.ends().get(0)) is not None:
        return Outcome.of_words(words)
    reason = nodes.trouble() or (failed.text if failed is not None else f"{nodes.name(0)} does not end")
    with suppress(OSError):
        status = folder.read_json(STATUS)
        if status.get("status") == "running" and status.get("launch") == nodes.token:
            folder.set_status("failed", reason=reason)
    return Outcome("failed", reason)
