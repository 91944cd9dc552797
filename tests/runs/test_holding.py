"""One process at a time works in a folder: the lock, the signs of life, and what a refused command leaves as it was."""

import csv
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import genlab.runs.lock as lock
from genlab.errors import InputError
from genlab.runs.folder import RunFolder
from genlab.runs.lock import HOLDER, LOCK, STALE, held, is_at_work, is_held
from support.command import Genlab, Trained
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import history, outputs

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

TINY = (
    "model.networks.hidden=[8]", "dataset.train_size=64", "trainer.max_epochs=1", "metrics.num_samples=8",
    "metrics.num_test=8", "metrics.num_shown=2", "metrics.memorization=false", "callbacks=minimal", "logger=csv",
)  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def status_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


def forked(work: Callable[[], object]) -> int:
    """Begin some work in a fork; gives its process."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def holding(folder: Path) -> int:
    """A process that holds a folder until it is killed."""
    pid = forked(lambda: _hold(folder))
    for _ in range(500):
        if (folder / HOLDER).is_file():
            return pid
        time.sleep(0.01)
    raise AssertionError("the folder was not taken")


def _hold(folder: Path) -> None:
    with held(folder):
        time.sleep(60)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def elsewhere(folder: Path, age: float) -> None:
    """The folder looks as if a process of another machine held it, whose last sign of life has some age."""
    holder = {**vars(lock.Holder.this_process()), "host": "elsewhere", "machine": "another", "pid": 7, "token": "x"}
    (folder / HOLDER).write_text(json.dumps(holder))
    os.utime(folder / HOLDER, (time.time() - age,) * 2)


# -- the lock itself ---------------------------------------------------------------------------------------------------


def test_a_folder_has_one_holder_and_is_clean_afterwards(tmp_path: Path) -> None:
    assert is_held(tmp_path) is None
    with held(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(InputError, match=f"by the process {os.getpid()} of this machine"), held(tmp_path):
            pass
        with pytest.raises(InputError, match="stop it first"), held(tmp_path, force=True):  # it lives for certain
            pass
        assert is_held(tmp_path)
    assert not content(tmp_path)
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    assert not content(tmp_path)


def test_a_killed_holder_frees_the_folder_at_once_even_as_a_zombie(tmp_path: Path) -> None:
    pid = holding(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(InputError, match=f"by the process {pid} of this machine since .*kill {pid}"), held(tmp_path):
        pass
    os.kill(pid, signal.SIGKILL)  # and is not waited for
    started = time.monotonic()
    with held(tmp_path):
        assert time.monotonic() - started < 0.9
    os.waitpid(pid, 0)
    assert not content(tmp_path)


def test_a_fork_that_survives_the_holder_does_not_keep_the_folder(tmp_path: Path) -> None:
    read, write = os.pipe()

    def hold_with_a_worker() -> None:
        with held(tmp_path):
            worker = forked(lambda: time.sleep(60))
            os.write(write, b"%d" % worker)
            time.sleep(60)

    pid = forked(hold_with_a_worker)
    worker = int(os.read(read, 20))
    try:
        assert is_held(tmp_path)
        end(pid)
        with held(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_fork_that_ends_does_not_free_the_folder(tmp_path: Path) -> None:
    with held(tmp_path):

        def leave() -> None:
            with pytest.raises(InputError), held(tmp_path):
                pass

        pid = forked(leave)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert is_held(tmp_path)


def test_a_lock_file_that_somebody_removed_frees_nothing(tmp_path: Path) -> None:
    pid = holding(tmp_path)
    try:
        (tmp_path / LOCK).unlink()
        with pytest.raises(InputError, match=f"process {pid}"), held(tmp_path):
            pass
    finally:
        end(pid)


def test_another_machine_counts_while_its_signs_of_life_are_young(tmp_path: Path) -> None:
    elsewhere(tmp_path, STALE - 30)
    before = (tmp_path / HOLDER).read_text()
    assert is_held(tmp_path)
    with pytest.raises(InputError, match=r"on elsewhere by the process 7, .* 15\d s old: .*force=true"), held(tmp_path):
        pass
    assert (tmp_path / HOLDER).read_text() == before
    with held(tmp_path, force=True):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert not content(tmp_path)
    elsewhere(tmp_path, STALE + 30)
    assert is_held(tmp_path) is False
    with held(tmp_path):
        pass
    # A power cut may leave an empty file, of which nobody knows whose it was.
    (tmp_path / HOLDER).touch()
    with pytest.raises(InputError, match="an unknown machine"), held(tmp_path):
        pass


def test_of_two_machines_that_take_a_folder_at_once_one_has_it(tmp_path: Path) -> None:
    """As they see it, one after the other: both found it free, or held by one that is gone."""
    elsewhere(tmp_path, STALE + 30)
    gone = lock._read(tmp_path / HOLDER)
    first, second = lock.Holder.this_process(), lock.Holder.this_process()
    for found in (gone, None):
        lock._sign(tmp_path, first, found)
        with pytest.raises(InputError, match="has just been taken"):
            lock._sign(tmp_path, second, found)
        assert lock._read(tmp_path / HOLDER) == first
        assert sorted(content(tmp_path)) == [HOLDER]
        (tmp_path / HOLDER).unlink()


def test_a_slurm_job_that_was_started_again_goes_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another machine, a moment after it was killed on the first: SLURM starts a job again when it is gone."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    elsewhere(tmp_path, 1)
    with pytest.raises(InputError, match="elsewhere"), held(tmp_path):  # another task of the same job
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with held(tmp_path):
        pass
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    elsewhere(tmp_path, 1)
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(InputError, match="elsewhere"), held(tmp_path):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_flock", lambda *_, **__: None)
    pid = holding(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(InputError, match=f"process {pid}"), held(tmp_path):
        pass
    end(pid)
    assert is_held(tmp_path) is False
    with held(tmp_path):
        pass


def test_signs_of_life_go_on_and_a_holder_that_lost_its_folder_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    pid = holding(tmp_path)
    os.utime(tmp_path / HOLDER, (0, 0))
    for _ in range(100):
        time.sleep(0.05)
        if (tmp_path / HOLDER).stat().st_mtime > 0:
            break
    else:
        end(pid)
        raise AssertionError("no sign of life")
    elsewhere(tmp_path, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


# -- the commands ------------------------------------------------------------------------------------------------------


def test_a_stale_status_is_no_hindrance_and_a_running_run_is_told_as_such(genlab: Genlab, trained: Trained) -> None:
    run = trained(*TINY)
    status = status_of(run)
    for pid in (1, os.getppid()):
        stale = {**status, "status": "running", "pid": pid, "host": socket.gethostname()}
        (run / "status.json").write_text(json.dumps(stale))
        assert is_at_work(run, stale) is False
        assert "cut off" in genlab("compare", run).out
    with held(run):
        assert is_at_work(run, stale) is True
        assert "cut off" not in genlab("compare", run).out
        assert genlab("sample", f"run={run}", "n=1").code == 0  # reading goes on
    assert genlab("train", f"resume={run}").code == 0
    assert status_of(run)["status"] == "done"


def test_a_run_of_another_machine_is_refused_and_force_is_the_way_on(genlab: Genlab, trained: Trained) -> None:
    run = trained(*TINY)
    status = {**status_of(run), "status": "running"}
    (run / "status.json").write_text(json.dumps(status))
    elsewhere(run, 10)
    before = content(run)
    for arguments in ((), ("trainer.max_epochs=2",)):
        result = genlab("train", f"resume={run}", *arguments)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "is being trained on elsewhere by the process 7" in result.err
        assert "force=true" in result.err
    assert {name: data for name, data in content(run).items() if name != LOCK} == before
    result = genlab("train", f"resume={run}", "force=true")
    assert result.code == 0, result.err
    assert "force" not in (run / "config.yaml").read_text()
    assert not any("force" in str(entry) for entry in status_of(run)["resumed"])
    # One by an earlier version, which held nothing.
    (run / "status.json").write_text(json.dumps({**status, "host": "elsewhere"}))
    assert "is being trained on elsewhere" in genlab("train", f"resume={run}").err
    for path in run.rglob("*"):
        os.utime(path, (time.time() - STALE - 10,) * 2)
    assert genlab("train", f"resume={run}").code == 0
    assert "force='maybe': input should be a valid boolean" in genlab("train", f"resume={run}", "force=maybe").err


def test_a_refused_resume_changes_no_byte(genlab: Genlab, trained: Trained) -> None:
    run = trained(*TINY, "trainer.max_epochs=2")
    before = content(run)
    for changes, words in (
        ((), "is done: a larger trainer.max_epochs would train it on"),
        (("trainer.max_epochs=1",), "has seen 2 epochs already: give a larger trainer.max_epochs"),
        (("trainer.max_epochs=2", "tags=[a]"), "is done"),
        (("budget.images=64",), "has seen 128 images already: give a larger trainer.max_epochs and a larger budget"),
        (("trainer.max_epochs=9", "trainer.max_steps=1"), "has taken 2 steps already: give a larger trainer.max_steps"),
        (("trainer.max_epochs=9", "model.latent_dim=3"), "model.latent_dim was"),
        (("trainer.max_epochs=9", "model.nothing=3"), "model.nothing"),
        (("trainer.max_epochs=many",), "trainer.max_epochs"),
        (("training.images=many",), "training.images"),
        (("trainer.max_epochs=9", "trainer.max_time=soon"), "trainer.max_time=soon"),
        (("trainer.max_epochs=9", "trainer.accelerator=gpu"), "trainer"),
        (("trainer.max_epochs=9", "trainer.num_nodes=0"), "trainer.num_nodes=0"),
        (("trainer.max_epochs=9", "callbacks.progress.nothing=2"), "callbacks.progress"),
        (("trainer.max_epochs=9", "logger.csv.nothing=2"), "logger.csv"),
    ):
        result = genlab("train", f"resume={run}", *changes)
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert words in result.err
        assert content(run) == before, changes
    # A checkpoint of another model.
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes((trained(*TINY, "model.latent_dim=3") / "checkpoints" / "last.ckpt").read_bytes())
    before = content(run)
    result = genlab("train", f"resume={run}", "trainer.max_epochs=9")
    assert result.code == 2
    assert "does not fit the model of the run's config" in result.err
    assert content(run) == before


def test_a_finished_run_that_fails_before_it_gets_further_keeps_its_results(
    genlab: Genlab, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(*TINY)
    before = content(run)

    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    with monkeypatch.context() as patched:
        patched.setattr("genlab.launching.job._announce", broken)
        with pytest.raises(ConnectionError):
            genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert content(run) == before
    # If it was killed then, its results are there all the same, and it goes on.
    killed = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 1)
    assert in_child(["train", f"resume={run}", "trainer.max_epochs=2"], killed) == -signal.SIGKILL
    assert (run / "metrics.csv").read_bytes().startswith(before["metrics.csv"])
    assert (run / "summary.json").read_bytes() == before["summary.json"]
    assert in_child(["train", f"resume={run}"]) == 0
    with (run / "metrics.csv").open(newline="") as file:
        tests = [row["images_seen"] for row in csv.DictReader(file) if row["test/nll"]]
    assert tests == ["64", "128"]


def test_a_run_that_max_time_ended_says_so(genlab: Genlab, trained: Trained) -> None:
    run = trained(*TINY, "trainer.max_epochs=100000", "trainer.max_time='00:00:00:01'")
    assert "is done: a larger trainer.max_time would train it on" in genlab("train", f"resume={run}").err
    result = genlab("train", f"resume={run}", "trainer.max_epochs=200000")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "has trained for 1 s already: give a larger trainer.max_time" in result.err


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_a_sweep_that_is_not_there_is_not_begun_anew(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained(*TINY)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for name, words in (
        (tmp_path / "typo", "there is no such folder"),
        (tmp_path / "other", "this is not the folder of a sweep"),
        (run, "this is a run, not a sweep: genlab train resume="),
    ):
        for more in ((), ("hydra/sweeper=optuna",)):
            result = genlab("train", "-m", *TINY, "seed=1,2", f"sweep.resume={name}", *more)
            assert (result.code, result.err.count("\n")) == (2, 1), result.err
            assert words in result.err
    assert not (tmp_path / "typo").exists()
    result = genlab("train", *TINY, f"sweep.resume={run.parent}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "add -m" in result.err


@pytest.mark.parametrize("override", ["seed=range(3,3)", "model=glob(nothing/*)"])
def test_a_sweep_over_nothing_is_refused(genlab: Genlab, override: str) -> None:
    for more in ((), ("hydra/sweeper=optuna",)):
        result = genlab("train", "-m", *TINY, override, *more)
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert f"{override}: there is nothing to sweep over" in result.err
    assert not result.outputs.exists()


def test_jobs_that_are_alike_have_names(genlab: Genlab) -> None:
    result = genlab("train", "-m", *TINY, "seed=1,1", "debug=fast_dev_run")
    assert result.code == 0, result.err
    assert result.err.count("│ seed=1 ") == 2


def test_a_job_that_was_cut_off_before_it_began_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    folder = outputs(monkeypatch, tmp_path)
    command = ["train", "-m", *TINY, "seed=1,2"]
    assert in_child(command, kill_at("genlab.runs.folder.RunFolder.set_status", 1)) == -signal.SIGKILL
    (sweep,) = folder.glob("*/*")
    assert (sweep / "0").is_dir()
    assert not (sweep / "0" / "status.json").exists()
    for _ in range(2):
        result = genlab(*command, f"sweep.resume={sweep}")
        assert result.code == 0, result.err
        assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
        assert "2 done" in result.err
    # Checkpoints of nobody knows what are not trained on.
    (sweep / "1" / "status.json").unlink()
    result = genlab(*command, f"sweep.resume={sweep}")
    assert result.code == 2
    assert "there is no status.json that says what it is of" in result.err


def test_a_job_that_dies_of_a_bug_before_it_begins_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")

    def trap() -> None:
        import genlab.launching.begin as begin

        original, count = begin.built, iter(range(9))

        def broken(*arguments: Any, **options: Any) -> Any:
            if next(count) == 0:
                raise OverflowError("too much")
            return original(*arguments, **options)

        begin.built = broken  # type: ignore[assignment]

    assert in_child(["train", "-m", *TINY, "seed=1,2"], trap) == 1
    assert sorted(status_of(path.parent)["status"] for path in folder.rglob("status.json")) == ["done", "failed"]
    assert "OverflowError: too much" in " ".join((tmp_path / "log").read_text().split())


# -- pairs that are started at once ------------------------------------------------------------------------------------


def race(commands: Sequence[list[str]], tmp_path: Path) -> list[tuple[int, list[str]]]:
    """Run commands in forks of this process at one moment; gives the exit code and the errors of each."""
    go_read, go = os.pipe()
    children = []
    for i, command in enumerate(commands):
        log = tmp_path / f"{i}.log"
        log.unlink(missing_ok=True)

        def run(command: list[str] = command, log: Path = log) -> None:
            os.close(go)
            os.environ["GENLAB_TEST_LOG"] = str(log)
            os.read(go_read, 1)
            os._exit(in_child(command))

        children.append((forked(run), log))
    os.close(go)  # all of them go on
    os.close(go_read)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children]
    return [(code, log.read_text().splitlines()) for code, (_, log) in zip(codes, children, strict=True)]


def assert_one_went_on(results: list[tuple[int, list[str]]], of: Path) -> None:
    assert sorted(code for code, _ in results) == [0, 2], results
    (lines,) = [lines for code, lines in results if code == 2]
    assert len(lines) == 1, lines
    assert f"{of} is being trained by the process" in lines[0] or f"{of} is done" in lines[0], lines


def assert_in_order(run: Path) -> None:
    seen = [int(line.partition(",")[0]) for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert seen == sorted(seen)
    rows = history(run)
    assert len({str(row) for row in rows}) == len(rows)


PAIRS = [2, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
SWEEPS = [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@pytest.fixture
def warm(genlab: Genlab, trained: Trained) -> Path:
    """A run to copy; this process has imported what its forks need."""
    return trained(*TINY)


@pytest.mark.parametrize("num", PAIRS)
def test_of_two_resumes_at_once_one_goes_on(num: int, warm: Path, tmp_path: Path) -> None:
    alone = {}
    for epochs in (2, 3, 4)[:num]:
        run = tmp_path / f"alone-{epochs}"
        shutil.copytree(warm, run)
        assert in_child(["train", f"resume={run}", f"trainer.max_epochs={epochs}"]) == 0
        alone[epochs] = history(run)
    for i in range(num):
        run = tmp_path / f"run-{i}"
        shutil.copytree(warm, run)
        command = ["train", f"resume={run}", f"trainer.max_epochs={2 + i % 3}"]
        assert_one_went_on(race([command, command], tmp_path), run)
        assert status_of(run)["status"] == "done"
        assert len(status_of(run)["resumed"]) == 1
        assert_in_order(run)
        assert history(run) == alone[2 + i % 3]
        assert not (run / LOCK).exists()
        assert not (run / HOLDER).exists()
        shutil.rmtree(run)


@pytest.mark.parametrize("num", SWEEPS)
def test_of_two_sweeps_continued_at_once_one_goes_on(
    num: int, warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "-m", *TINY, "seed=1,2"]
    folder = outputs(monkeypatch, tmp_path / "cut")
    stop = kill_at("genlab.callbacks.last_checkpoint.LastCheckpoint.on_train_epoch_end", 1, after=True)
    assert in_child(command, stop) == -signal.SIGKILL
    (cut,) = folder.glob("*/*")
    for i in range(num):
        sweep = tmp_path / f"sweep-{i}"
        shutil.copytree(cut, sweep)
        results = race([[*command, f"sweep.resume={sweep}"]] * 2, tmp_path)
        assert sorted(code for code, _ in results) == [0, 2], results
        (lines,) = [lines for code, lines in results if code == 2]
        assert len(lines) == 1, lines
        assert f"{sweep} is being trained by the process" in lines[0]
        assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
        for job in ("0", "1"):
            assert status_of(sweep / job)["status"] == "done"
            assert_in_order(sweep / job)
        shutil.rmtree(sweep)


def test_a_killed_command_frees_its_run_at_once(warm: Path, tmp_path: Path, genlab: Genlab) -> None:
    run = tmp_path / "run"
    shutil.copytree(warm, run)
    pid = forked(lambda: os._exit(in_child_here(["train", f"resume={run}", "trainer.max_epochs=100000"])))
    for _ in range(3000):
        if (run / HOLDER).is_file() and status_of(run)["status"] == "running":
            break
        time.sleep(0.01)
    result = genlab("train", f"resume={run}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"process {pid} of this machine" in result.err
    end(pid)
    longer = status_of(run)["resumed"][-1]["changes"]
    assert longer == ["trainer.max_epochs=100000"]
    result = genlab("train", f"resume={run}", "budget.images=1")
    assert "images already" in result.err  # the budget is looked at, so the folder was free


def in_child_here(arguments: list[str]) -> int:
    """The command in this process, which is a fork already."""
    from genlab.cli import main

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    main(arguments)
    return 0


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_the_current_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = genlab("train", *TINY)
    assert (result.code, result.err) == (2, "genlab: error: the current folder is gone: change to one that exists\n")


def test_a_folder_removed_while_it_is_trained_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")

    def trap() -> None:
        from genlab.callbacks.last_checkpoint import LastCheckpoint

        LastCheckpoint.on_train_start = lambda *_: shutil.rmtree(folder)  # type: ignore[method-assign]

    assert in_child(["train", *TINY], trap) == 2
    assert "genlab: error: the run folder" in (last := (tmp_path / "log").read_text().splitlines()[-1])
    assert "is gone: it was removed while the run was training" in last


def a_small_disk(at: Path, size: str) -> Callable[[], None]:
    """A trap: this process alone sees a disk in memory at a folder."""

    def set_trap() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        NEW_MOUNTS, ALL_PRIVATE = 0x00020000, 0x4000 | 0x40000
        assert libc.unshare(NEW_MOUNTS) == 0
        assert libc.mount(b"none", b"/", None, ALL_PRIVATE, None) == 0
        assert libc.mount(b"none", str(at).encode(), b"tmpfs", 0, f"size={size}".encode()) == 0

    return set_trap


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "disk"
    path.mkdir()
    trap = a_small_disk(path, "1m")
    if os.waitstatus_to_exitcode(os.waitpid(forked(trap), 0)[1]) != 0:
        pytest.skip("no disk can be mounted here: only root may")
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    return outputs(monkeypatch, path)


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on_with_room(disk: Path, tmp_path: Path) -> None:
    """In a child that can look at its own disk when the command has ended."""

    def work() -> None:
        a_small_disk(disk, "40m")()  # three checkpoints of 8 MB
        (disk / "filler").write_bytes(bytes(36 * 2**20))
        command = ["train", *TINY, "model.networks.hidden=[512]", "trainer.max_epochs=3"]
        assert in_child(command) == 2
        (run,) = (path.parent for path in disk.rglob("status.json"))
        status = status_of(run)
        assert (status["status"], "no space left" in status["reason"].lower()) == ("failed", True), status
        assert not list(run.rglob(".*"))
        (disk / "filler").unlink()
        os.environ["GENLAB_TEST_LOG"] = os.devnull
        assert in_child(["train", f"resume={run}"]) == 0

    log = tmp_path / "log"
    code = os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])
    lines = [line for line in log.read_text().splitlines() if line.startswith("genlab: error:")]
    assert code == 0, log.read_text()
    assert "no space left on the disk of" in lines[0]
    assert "make room, and go on with genlab train resume=" in lines[0]
    assert "Traceback" not in log.read_text()


def test_outputs_that_may_not_be_written(disk: Path, tmp_path: Path, genlab: Genlab) -> None:
    def read_only() -> None:
        a_small_disk(disk, "4m")()
        READ_ONLY_REMOUNT = 0x1 | 0x20
        assert ctypes.CDLL(None).mount(b"none", str(disk).encode(), None, READ_ONLY_REMOUNT, None) == 0

    for more in ((), ("-m", "seed=1,2")):
        assert in_child(["train", *more, *TINY], read_only) == 2
        (line,) = (tmp_path / "log").read_text().splitlines()
        assert line.startswith("genlab: error:")
        assert "Read-only file system" in line
        (tmp_path / "log").unlink()
    # A file where the folder of outputs should be.
    (tmp_path / "file").touch()
    result = genlab("train", *TINY, f"paths.output_dir={tmp_path / 'file'}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "Not a directory" in result.err


def test_the_lock_needs_a_folder_to_write_in(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written in: No such file"), held(tmp_path / "nothing"):
        pass
    assert RunFolder(tmp_path).path == tmp_path
