"""A sweep of many short jobs whose processes are killed at random, to sweep_of_stubs.json.

python benchmarks/sweep_of_stubs.py [--jobs 1000] [--kills 20] [--launcher cores]
python benchmarks/sweep_of_stubs.py --launcher slurm [KEY=VALUE...]       # where this machine is a node of a SLURM

A job trains the smallest model of the digits for one step, and measures it on eight examples. Every few seconds, at
random, SIGKILL ends a worker or the sweep's own process. A user would continue the sweep with sweep.resume, and so does
this script. At the end, every job must be done exactly once in the sweep's folder: none lost, none damaged.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
STUB = ("model=autoregressive/fvsbn", "dataset=digits", "callbacks=minimal", "logger=csv", "trainer.max_steps=1",
        "metrics.num_samples=8", "metrics.num_test=8", "callbacks.progress=null")  # fmt: skip


@dataclass
class Sweep:
    """A sweep that is started again until it ends by itself.

    Attributes:
        command: command line of its first start.
        kills: number of processes to kill.
        seed: random seed of the times and the victims.
        starts: number of starts of the sweep so far.
        killed: number of victims by kind.
        peak_mb: peak memory of the sweep's own process in MB.
        first_job: seconds from each start to the first job that was done after it.
        folder: folder of the sweep, once it is there.
    """

    command: list[str]
    outputs: Path
    kills: int
    seed: int
    starts: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    peak_mb: float = 0.0
    first_job: list[float] = field(default_factory=list)

    @property
    def folder(self) -> Path | None:
        found = [path.parent for path in self.outputs.rglob("multirun.yaml")]
        return found[0] if found else None

    @property
    def states(self) -> Counter[str]:
        """Number of jobs in each state, as their folders tell it."""
        found: Counter[str] = Counter()
        for path in self.folder.glob("*/status.json") if self.folder else ():
            try:
                found[str(json.loads(path.read_text()).get("status"))] += 1
            except (OSError, ValueError) as error:
                found[f"damaged: {error}"] += 1
        return found

    def run(self, between: float) -> None:
        """Start the sweep, kill processes of it, and continue it until it ends by itself.

        Args:
            between: mean number of seconds between two kills.
        """
        draw = random.Random(self.seed)
        while True:
            resumed = [f"sweep.resume={self.folder}"] if self.folder else []
            with tempfile.TemporaryFile() as out:
                process = subprocess.Popen([*self.command, *resumed], stdout=out, stderr=subprocess.STDOUT)
                self.starts += 1
                started, before = time.perf_counter(), self.states["done"]
                strike, seen = time.perf_counter() + draw.expovariate(1 / between), False
                while process.poll() is None:
                    time.sleep(0.2)
                    self.peak_mb = max(self.peak_mb, peak_of(process.pid))
                    if not seen and self.states["done"] > before:
                        self.first_job.append(round(time.perf_counter() - started, 2))
                        seen = True
                    if seen and time.perf_counter() > strike and sum(self.killed.values()) < self.kills:
                        self.kill(process.pid, draw)
                        strike = time.perf_counter() + draw.expovariate(1 / between)
                if process.returncode == 0:
                    return
                out.seek(0)
                last = out.read().decode(errors="replace").strip().splitlines()[-1:]
            print(f"start {self.starts} ended with {process.returncode}: {dict(self.states)} {last}", flush=True)
            if self.starts > self.kills + 20:
                raise RuntimeError("the sweep does not come to an end")

    def kill(self, parent: int, draw: random.Random) -> None:
        """Kill the sweep's own process or one of its workers."""
        workers = [pid for pid in children(parent) if "loky" in command_of(pid) or "ray::" in command_of(pid)]
        workers += [pid for pid in everything() if is_slurm_job(command_of(pid), self.outputs)]
        victim = draw.choice([parent, *workers])
        self.killed["parent" if victim == parent else "worker"] += 1
        os.kill(victim, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """List the processes that a process started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def everything() -> list[int]:
    """List all processes of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def is_slurm_job(command: str, outputs: Path) -> bool:
    """Tell whether a command line is that of Python in a SLURM job of the sweep, and not of the shell around it."""
    program, *arguments = command.split() or [""]
    return "python" in program and "submitit.core._submit" in arguments and str(outputs) in command


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def peak_of(pid: int) -> float:
    """Give the peak memory of a process in MB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM:")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--between", type=float, default=15.0, help="mean seconds between two kills")
    parser.add_argument("--launcher", default="cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="further overrides, such as the partition of a SLURM")
    parser.add_argument("--output", type=Path, default=HERE / "sweep_of_stubs.json")
    options = parser.parse_args()
    from genlab.machine.hardware import machine

    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "genlab", "train", "-m", *STUB, f"seed=range({options.jobs})",
                   f"hydra/launcher={options.launcher}", f"paths.output_dir={scratch}", *options.overrides]  # fmt: skip
        sweep = Sweep(command, Path(scratch), options.kills, options.seed)
        started = time.perf_counter()
        sweep.run(options.between)
        seconds = time.perf_counter() - started
        states = sweep.states
    found = {
        "machine": machine(),
        "launcher": options.launcher,
        "jobs": options.jobs,
        "killed": dict(sweep.killed),
        "starts": sweep.starts,
        "states": dict(states),
        "lost": options.jobs - states["done"],
        "seconds": round(seconds, 1),
        "seconds_to_first_job": sweep.first_job,
        "peak_mb_of_the_sweeps_own_process": round(sweep.peak_mb),
    }
    print(json.dumps(found, indent=2))
    options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
