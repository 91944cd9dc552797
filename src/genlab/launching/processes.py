"""Start the processes of a run: this one, or one per device under torchrun."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

import torch

from genlab.callbacks.last_checkpoint import SIGNALS
from genlab.errors import InputError, Interrupted, RunFailed
from genlab.launching.job import work
from genlab.machine.process import OF_RUN, RANKS
from genlab.runs.folder import STATUS, SUMMARY, RunFolder
from genlab.runs.resuming import newest_checkpoint
from genlab.training.parts import Parts

# torchrun ends with this process, and its processes with it: nothing goes on in a folder that this process has let go.
_TORCHRUN = (
    "from genlab.machine.process import end_with_parent as e; e(); from torch.distributed.run import main; main()"
)


def start(folder: RunFolder, config: dict[str, Any], parts: Parts | None) -> float | None:
    """Train and measure in this process, or in one process per device under torchrun.

    Args:
        folder: folder of the run, in which its config is saved.
        config: config of the run, as plain values.
        parts: parts built from the config; None builds them when they are needed.

    Returns:
        The best value of the monitored metric, or None if there is none.
    """
    num = num_processes(config["trainer"])
    if num == 1:
        return work(folder, config, parts)
    return _torchrun(folder, num)


def num_processes(trainer: dict[str, Any]) -> int:
    """Count the processes that a trainer's config asks for, one per device.

    Args:
        trainer: config of the trainer, as plain values.

    Raises:
        InputError: if it asks for more than one machine, or names no number of devices.
    """
    if trainer.get("num_nodes", 1) != 1:
        raise InputError(f"trainer.num_nodes={trainer['num_nodes']}: a run takes the devices of one machine")
    devices = trainer.get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.get("accelerator") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.cuda.device_count() if on_gpu else 1
    if not re.fullmatch(r"\d+", str(devices)) or int(devices) < 1:
        raise InputError(f"trainer.devices={devices}: expected a number of devices, a list such as [0,1], or -1")
    return int(devices)


def _torchrun(folder: RunFolder, num: int) -> float | None:
    """Let torchrun start and watch the processes of a run, and end all of them if one dies.

    Lightning's own launcher would run the command line again for each device; in a sweep, that is the whole sweep.

    Raises:
        RunFailed: if a process died; the run's status says why.
    """
    newest_checkpoint(folder)  # puts a damaged checkpoint aside and says so, here once instead of in every process
    command = [sys.executable, "-c", _TORCHRUN, "--standalone", "--nnodes=1", f"--nproc-per-node={num}"]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num)), **os.environ, OF_RUN: str(folder.path)}
    for name in [*environment]:
        if name in RANKS or name.startswith("PET_"):  # PET_*: torchrun's options, as Kubeflow sets them
            del environment[name]
    process = subprocess.Popen([*command, "-m", "genlab.launching.job", str(folder.path)], env=environment)

    def pass_on(number: int, _: Any) -> None:
        # Only the first process gets the signal, and tells the others; torchrun would not give them time to save.
        pid = folder.read_json(STATUS).get("pid")
        os.kill(pid if pid not in (None, os.getpid()) else process.pid, signal.SIGTERM)

    before = {}
    for number in SIGNALS:
        before[number] = signal.signal(number, pass_on)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = folder.read_json(STATUS)
    if status["status"] == "interrupted":
        raise Interrupted(signal.SIGTERM, before[signal.SIGTERM])
    if code != 0 or status["status"] != "done":
        reason = status.get("reason", f"torchrun ended with code {code}")
        if status["status"] == "running":
            folder.set_status("failed", reason=f"a process died: {reason}")
        raise RunFailed(f"{folder.path}: {reason}")
    best = folder.read_json(SUMMARY)["monitor"]["best"]
    return None if best is None else float(best)
