"""Sweeps on several cores, GPUs, Ray and SLURM, and searches: real ones, small, with jobs killed in the middle.

A launcher whose plugin is not installed is skipped, and SLURM where it cannot be started.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException

from genlab.composition.explaining import explain

SHORT = (
    "model=vae/vae", "model.networks.hidden=[32]", "dataset=digits", "metrics.num_samples=16", "metrics.num_test=16",
    "metrics.num_shown=2", "metrics.memorization=false", "callbacks=minimal", "logger=csv", "trainer=cpu",
)  # fmt: skip
# Some seconds of training, so that there is a middle to be killed in.
LONG = (*SHORT, "trainer.max_epochs=30")
SLURM = Path(__file__).parents[1] / "support" / "slurm.sh"

needs_joblib = pytest.mark.skipif(
    not find_spec("hydra_plugins.hydra_joblib_launcher"), reason="genlab[joblib] is missing"
)
needs_ray = pytest.mark.skipif(not find_spec("hydra_plugins.hydra_ray_launcher"), reason="genlab[ray] is missing")
needs_submitit = pytest.mark.skipif(
    not find_spec("hydra_plugins.hydra_submitit_launcher"), reason="genlab[slurm] is missing"
)
needs_optuna = pytest.mark.skipif(not find_spec("optuna"), reason="genlab[optuna] is missing")


class Sweep:
    """``genlab train -m`` in a process of its own, as a user starts it."""

    started: list["Sweep"] = []

    def __init__(self, outputs: Path, *arguments: str, **environment: str) -> None:
        self.outputs, self.log = outputs, outputs.parent / f"{len(list(outputs.parent.glob('*.log')))}.log"
        self.log.touch()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "genlab", "train", "-m", *arguments],
                env={**os.environ, "GENLAB_OUTPUTS": str(outputs), "COLUMNS": "180", **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(self)

    def end(self, seconds: float = 240) -> int:
        return self.process.wait(seconds)

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def folder(self) -> Path:
        return next(iter({path.parents[1] for path in self.outputs.rglob("status.json")}))

    def jobs(self) -> dict[str, dict[str, Any]]:
        found = self.outputs.rglob("status.json")
        return {path.parent.name: json.loads(path.read_text()) for path in sorted(found)}

    def words(self) -> list[str]:
        return [status["status"] for status in self.jobs().values()]

    def middle_of(self, job: str, seconds: float = 300) -> int:
        """Wait until a job has a checkpoint and is at work; gives its process."""

        def begun() -> bool:
            return any(path.parents[1].name == job for path in self.outputs.rglob("last.ckpt"))

        self.until(begun, seconds)
        status = self.jobs()[job]
        assert status["status"] == "running", f"job {job} was too fast to be killed"
        return int(status["pid"])

    def until(self, what: Callable[[], bool], seconds: float = 300) -> None:
        for _ in range(int(seconds / 0.05)):
            if what():
                return
            assert self.process.poll() is None, self.text
            time.sleep(0.05)
        raise AssertionError(f"waited for {seconds} seconds: {self.text}")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """No process outlives its test."""
    yield
    for sweep in Sweep.started:
        with suppress(ProcessLookupError):
            os.killpg(sweep.process.pid, signal.SIGKILL)
    Sweep.started.clear()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


# -- the cores and GPUs of one machine ---------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.slow
@needs_joblib
def test_a_job_killed_beside_another_goes_on(outputs: Path) -> None:
    arguments = (*LONG, "seed=1,2,3", "hydra/launcher=cores", "hydra.launcher.n_jobs=2")
    sweep = Sweep(outputs, *arguments)
    sweep.until(lambda: sweep.jobs().keys() == {"0", "1"})
    pid = sweep.middle_of("1")
    assert pid not in (sweep.process.pid, sweep.jobs()["0"]["pid"])
    os.kill(pid, signal.SIGKILL)
    assert sweep.end() == 2
    assert "running" in sweep.words()
    assert sweep.text.splitlines()[-1].startswith("genlab: error: a job's process was killed, maybe for want of memory")
    again = Sweep(outputs, *arguments, f"sweep.resume={sweep.folder}")
    assert again.end() == 0, again.text
    assert again.words() == ["done"] * 3
    assert len(again.jobs()["1"]["resumed"]) == 1
    assert "resumed" not in again.jobs()["2"]
    assert f"3 done: {sweep.folder}" in again.text


@pytest.mark.e2e
@needs_joblib
def test_jobs_divide_the_cores(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sweep = Sweep(
        outputs, *SHORT, "trainer.max_epochs=1", "seed=1,2", "hydra/launcher=cores", "hydra.launcher.n_jobs=2",
        "tags=['${oc.env:OMP_NUM_THREADS}']",
    )  # fmt: skip
    assert sweep.end() == 0, sweep.text
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for config in outputs.rglob("config.yaml"):
        assert f"tags:\n- '{max(1, cores // 2)}'\n" in config.read_text()


@pytest.mark.e2e
@needs_joblib
def test_each_job_sees_one_gpu(outputs: Path, tmp_path: Path) -> None:
    """No GPU is needed to see which one a job would have."""
    sweep = Sweep(
        outputs, *SHORT, "trainer.max_epochs=3", "seed=1,2,3,4", "hydra/launcher=gpus",
        "tags=['${oc.env:CUDA_VISIBLE_DEVICES}']", CUDA_VISIBLE_DEVICES="4,6", TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert sweep.end() == 0, sweep.text
    gpu_of_process: dict[int, set[str]] = {}
    for job, status in sweep.jobs().items():
        text = (sweep.folder / job / "config.yaml").read_text()
        (gpu,) = [name for name in ("4", "6") if f"tags:\n- '{name}'\n" in text]
        gpu_of_process.setdefault(status["pid"], set()).add(gpu)
    assert all(len(gpus) == 1 for gpus in gpu_of_process.values())
    gpus = [gpu for (gpu,) in gpu_of_process.values()]
    assert len(gpus) == len(set(gpus))  # no two processes have one


@pytest.mark.e2e
@needs_joblib
def test_without_gpus_there_is_one_line(outputs: Path) -> None:
    sweep = Sweep(outputs, *SHORT, "seed=1,2", "hydra/launcher=gpus", CUDA_VISIBLE_DEVICES="")
    assert sweep.end() == 2
    assert sweep.text.splitlines()[-1].startswith("genlab: error: hydra/launcher=gpus: this machine has no CUDA GPU")


# -- Ray ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.e2e
@needs_ray
def test_ray_starts_a_killed_job_again_and_it_goes_on(outputs: Path) -> None:
    sweep = Sweep(outputs, *LONG, "seed=1,2", "hydra/launcher=ray_cluster", "hydra.launcher.ray.init.num_cpus=2")
    os.kill(sweep.middle_of("1"), signal.SIGKILL)
    assert sweep.end() == 0, sweep.text
    assert sweep.words() == ["done", "done"]
    assert len(sweep.jobs()["1"]["resumed"]) == 1
    assert f"2 done: {sweep.folder}" in sweep.text


@pytest.mark.slow
@pytest.mark.e2e
@needs_ray
def test_a_ray_job_that_is_killed_for_good_is_said_in_a_line(outputs: Path) -> None:
    once = (
        "hydra/launcher=ray_cluster",
        "hydra.launcher.ray.init.num_cpus=2",
        "hydra.launcher.ray.remote.max_retries=0",
    )
    sweep = Sweep(outputs, *LONG, "seed=1,2", *once)
    os.kill(sweep.middle_of("0"), signal.SIGKILL)
    assert sweep.end() == 2, sweep.text
    assert sweep.words() == ["running", "done"]
    assert sweep.text.splitlines()[-1].startswith("genlab: error: Ray lost the process of a job")
    again = Sweep(outputs, *LONG, "seed=1,2", *once, f"sweep.resume={sweep.folder}")
    assert again.end() == 0, again.text
    assert again.words() == ["done", "done"]


@pytest.fixture
def two_machines() -> Iterator[dict[str, str]]:
    """A Ray cluster of two nodes, which are both this machine; gives what its users' environment needs."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    yield {"RAY_ADDRESS": cluster.address}
    cluster.shutdown()


NODES = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.log_every_n_steps=2")


def task_of_node(number: int) -> int:
    """The process of Ray's task for a node of the job that runs."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(folder.name)
            of_ray = (folder / "cmdline").read_bytes().startswith(b"ray::")
            if of_ray and f"GENLAB_NODE={number}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return pid
    raise AssertionError(f"no task of node {number}")


@pytest.mark.slow
@pytest.mark.e2e
@needs_ray
def test_a_ray_job_on_two_machines_goes_on_after_one_is_lost(outputs: Path, two_machines: dict[str, str]) -> None:
    on_ray = ("hydra/launcher=ray_cluster", "hydra.launcher.ray.remote.num_cpus=2")
    sweep = Sweep(outputs, *LONG, *NODES, *on_ray, "trainer.max_epochs=60", "seed=1", **two_machines)
    sweep.middle_of("0")
    assert len(sweep.jobs()["0"]["nodes"]) == 2
    os.kill(task_of_node(1), signal.SIGKILL)
    assert sweep.end(480) == 0, sweep.text
    assert "job 0: Ray lost node 1" in sweep.text
    assert sweep.words() == ["done"]
    assert sweep.jobs()["0"]["resumed"] == [{"changes": [], "after": "failed"}]
    assert len(sweep.jobs()["0"]["nodes"]) == 2


@pytest.mark.slow
@pytest.mark.e2e
@needs_ray
def test_a_ray_job_on_more_machines_than_there_are(outputs: Path) -> None:
    on_ray = ("hydra/launcher=ray_cluster", "hydra.launcher.ray.init.num_cpus=2")
    sweep = Sweep(outputs, *SHORT, *NODES, *on_ray, "seed=1", GENLAB_RDZV_TIMEOUT="1")
    assert sweep.end() == 2, sweep.text
    assert "genlab: error: trainer.num_nodes=2: Ray has 1 of 2 machines with 1 CPU" in sweep.text


@pytest.mark.e2e
@needs_ray
@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:1", "no Ray cluster answers there"), ("head", "Invalid address")]
)
def test_a_ray_cluster_that_is_not_there(address: str, reason: str, outputs: Path) -> None:
    sweep = Sweep(outputs, *SHORT, "hydra/launcher=ray_cluster", "seed=1", RAY_ADDRESS=address)
    assert sweep.end(60) == 2
    *_, before, last = sweep.text.splitlines()
    assert last.startswith(f"genlab: error: RAY_ADDRESS={address}: {reason}")
    assert before.startswith("no job has begun; the same command with sweep.resume=")


# -- SLURM -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The cluster that is there, or one of this machine; gives what its users' environment needs."""
    folder = "/tmp/genlab-slurm"
    was_there = Path(folder).is_dir()
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
        yield {}
        return
    started = subprocess.run([str(SLURM), "start"], capture_output=True, text=True)
    if started.returncode != 0:
        pytest.skip(started.stderr.strip().splitlines()[-1])
    yield {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    if not was_there:
        subprocess.run([str(SLURM), "stop"], check=True)


def on_slurm(*arguments: str) -> tuple[str, ...]:
    return (*arguments, "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10")


def slurm_job(sweep: Sweep, job: int) -> str:
    """SLURM's name of a job, which submitit names its folder by."""
    (folder,) = sweep.folder.glob(f".submitit/*_{job}")
    return folder.name


@pytest.mark.slow
@pytest.mark.e2e
@needs_submitit
def test_a_slurm_job_whose_time_is_up_goes_back_into_the_queue_and_on(outputs: Path, slurm: dict[str, str]) -> None:
    sweep = Sweep(outputs, *on_slurm(*LONG, "seed=1,2"), **slurm)
    sweep.middle_of("0")
    # What SLURM sends before a job's time is up.
    subprocess.run(["scancel", "--signal=USR2", slurm_job(sweep, 0)], env={**os.environ, **slurm}, check=True)
    sweep.until(lambda: sweep.jobs()["0"]["status"] == "interrupted")
    assert sweep.jobs()["0"]["reason"] == "SIGUSR2"
    assert sweep.end() == 0, sweep.text
    assert sweep.words() == ["done", "done"]
    assert sweep.jobs()["0"]["resumed"] == [{"changes": [], "after": "interrupted"}]


@pytest.mark.slow
@pytest.mark.e2e
@needs_submitit
def test_a_cancelled_slurm_job_goes_on_when_the_sweep_is_launched_again(outputs: Path, slurm: dict[str, str]) -> None:
    sweep = Sweep(outputs, *on_slurm(*LONG, "seed=1,2"), **slurm)
    sweep.middle_of("0")
    subprocess.run(["scancel", slurm_job(sweep, 0)], env={**os.environ, **slurm}, check=True)
    assert sweep.end() != 0
    assert sweep.jobs()["0"]["status"] == "interrupted"
    again = Sweep(outputs, *on_slurm(*LONG, "seed=1,2"), f"sweep.resume={sweep.folder}", **slurm)
    assert again.end() == 0, again.text
    assert again.words() == ["done", "done"]


@pytest.mark.slow
@pytest.mark.e2e
@needs_submitit
def test_a_killed_slurm_job_is_named_when_the_others_have_ended(outputs: Path, slurm: dict[str, str]) -> None:
    arguments = on_slurm(*LONG, "seed=1,2,3")
    sweep = Sweep(outputs, *arguments, **slurm)
    os.kill(sweep.middle_of("0"), signal.SIGKILL)
    assert sweep.end() == 2, sweep.text
    assert sweep.words() == ["running", "done", "done"]
    name = slurm_job(sweep, 0)
    told = f"genlab: error: a SLURM job ended without a result: {name} (FAILED); see {sweep.folder}"
    assert sweep.text.splitlines()[-1].startswith(told)
    again = Sweep(outputs, *arguments, f"sweep.resume={sweep.folder}", **slurm)
    assert again.end() == 0, again.text
    assert again.words() == ["done"] * 3


@pytest.mark.slow
@pytest.mark.e2e
@needs_submitit
def test_a_slurm_job_on_two_nodes_goes_back_into_the_queue_and_on(outputs: Path, slurm: dict[str, str]) -> None:
    count = ["sinfo", "--noheader", "--Node", "--format=%N"]
    nodes = subprocess.run(count, env={**os.environ, **slurm}, capture_output=True, text=True).stdout.split()
    if len(set(nodes)) < 2:
        pytest.skip("this SLURM has one node")
    two = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "trainer.log_every_n_steps=2")
    sweep = Sweep(outputs, *on_slurm(*LONG, *two, "trainer.max_epochs=60", "seed=1"), **slurm)
    sweep.middle_of("0")
    (folder,) = sweep.folder.glob(".submitit/*/*_submitted.pkl")
    subprocess.run(["scancel", "--signal=USR2", folder.parent.name], env={**os.environ, **slurm}, check=True)
    sweep.until(lambda: sweep.jobs()["0"]["status"] == "interrupted")
    assert sweep.jobs()["0"]["reason"] == "SIGUSR2"
    assert len(sweep.jobs()["0"]["nodes"]) == 2
    assert sweep.end(480) == 0, sweep.text
    assert sweep.words() == ["done"]
    assert sweep.jobs()["0"]["resumed"] == [{"changes": [], "after": "interrupted"}]


# -- searches ----------------------------------------------------------------------------------------------------------

SEARCH = (
    *SHORT, "hydra/sweeper=optuna", "training.optimizer.lr=tag(log, interval(1e-4, 1e-2))",
    "model.latent_dim=int(interval(2, 16))", "trainer.max_epochs=15", "hydra.sweeper.n_trials=4",
)  # fmt: skip


@pytest.mark.e2e
@needs_optuna
def test_a_search_killed_in_the_middle_goes_on(outputs: Path) -> None:
    sweep = Sweep(outputs, *SEARCH)
    assert sweep.middle_of("1") == sweep.process.pid
    sweep.process.kill()
    sweep.end()
    before = sweep.jobs()
    assert sweep.words() == ["done", "running"]
    again = Sweep(outputs, *SEARCH, f"sweep.resume={sweep.folder}")
    assert again.end() == 0, again.text
    assert again.words() == ["done"] * 4
    assert again.jobs()["0"] == before["0"]
    assert len(again.jobs()["1"]["resumed"]) == 1
    found = json.loads((sweep.folder / "search.json").read_text())
    values = [json.loads(path.read_text())["monitor"]["best"] for path in sorted(outputs.rglob("summary.json"))]
    assert [trial["value"] for trial in found["trials"]] == values
    assert found["best"]["value"] == min(values)
    assert len({tuple(trial["params"].items()) for trial in found["trials"]}) == 4
    # A longer search goes on from there; another one does not go into that folder.
    longer = Sweep(outputs, *SEARCH[:-1], "hydra.sweeper.n_trials=5", f"sweep.resume={sweep.folder}")
    assert longer.end() == 0, longer.text
    assert longer.words() == ["done"] * 5
    other = Sweep(outputs, *SEARCH, "model.objective.beta=2", f"sweep.resume={sweep.folder}")
    assert other.end() == 2
    assert "holds another search" in other.text.splitlines()[-1]


@pytest.mark.e2e
@needs_optuna
def test_trials_that_fail_are_told_so_and_the_search_goes_on(outputs: Path) -> None:
    # Half of the options are refused.
    search = Sweep(
        outputs, *SHORT, "hydra/sweeper=optuna", "model.latent_dim=choice(-1,2)", "trainer.max_epochs=1",
        "hydra.sweeper.n_trials=6",
    )  # fmt: skip
    assert search.end() == 2
    trials = json.loads((search.folder / "search.json").read_text())["trials"]
    assert {(trial["params"]["model.latent_dim"], trial["state"]) for trial in trials} == {
        ("-1", "fail"),
        ("2", "complete"),
    }
    assert len(trials) == 6


@pytest.mark.slow
@pytest.mark.e2e
@needs_optuna
@needs_joblib
def test_a_search_on_several_cores(outputs: Path) -> None:
    parallel = ("hydra/launcher=cores", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2")
    sweep = Sweep(outputs, *SEARCH, *parallel)
    os.kill(sweep.middle_of("1"), signal.SIGKILL)
    assert sweep.end() != 0
    again = Sweep(outputs, *SEARCH, *parallel, f"sweep.resume={sweep.folder}")
    assert again.end() == 0, again.text
    assert again.words() == ["done"] * 4


@pytest.mark.e2e
@needs_optuna
def test_nothing_to_search(outputs: Path) -> None:
    sweep = Sweep(outputs, *SHORT, "hydra/sweeper=optuna")
    assert sweep.end() == 2
    assert "nothing to search" in sweep.text.splitlines()[-1]


# -- what is not installed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "extra"),
    [("joblib", "joblib"), ("submitit_slurm", "slurm"), ("submitit_local", "slurm"), ("ray", "ray")],
)
def test_a_missing_plugin_is_named_with_its_extra(config: str, extra: str) -> None:
    error = MissingConfigException(f"Could not load 'hydra/launcher/{config}'.", f"hydra/launcher/{config}")
    line = explain(error)
    assert line is not None
    assert f"pip install 'genlab[{extra}]'" in line
