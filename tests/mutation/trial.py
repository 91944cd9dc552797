"""The trial of a mutant: the tests of its file, in a fork of a process that has imported everything but genlab."""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from support.paths import ROOT

OURS = ("genlab", "hydra_plugins", "support", "mutation", "conftest", "test_")


@dataclass(frozen=True)
class Outcome:
    """What the tests said of a mutant.

    Attributes:
        killed: whether a test failed, or did not end.
        by: the test that failed first, or what else happened; empty if all passed.
        seconds: how long they took.
    """

    killed: bool
    by: str
    seconds: float


class MutatedLoader(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """An import hook for one module of genlab, whose source is another than its file's; nothing is written."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        super().__init__(name, str(path))
        self.source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")  # type: ignore[no-any-return]


def warm_up() -> None:
    """Import what genlab and the tests import of other packages, but genlab itself not, which each fork imports."""
    # Before PyTorch is imported: one thread, no GPU, and no pool of the compiler, none of which a fork could use.
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
            commands = [f"genlab.commands.{name}" for name in ("train", "evaluate", "sample", "compare")]
            for name in ("genlab.cli", *commands, "conftest", "genlab.launching.job", "genlab.launching.processes",
                         "genlab.callbacks.best_checkpoint", "genlab.models.transformer.gpt",
                         "genlab.data.digits"):  # fmt: skip
                importlib.import_module(name)
            with os.fdopen(writing, "w") as pipe:
                pipe.write("\n".join(sys.modules))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names = pipe.read().split("\n")
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("genlab cannot be imported")
    for name in (*names, "pytest", "hypothesis", "scipy.stats", "scipy.linalg", "sklearn.datasets"):
        if not name.startswith(OURS):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # or every fork would look through all of it again, and copy it


def run_tests(file: str, source: str | None, tests: Sequence[str], folder: Path, limit: float = 600.0) -> Outcome:
    """Run tests, up to the first that fails, on genlab with another source of one of its files.

    Args:
        file: path below src/genlab.
        source: source to use; None for the file's own.
        tests: pytest's names of files or tests, from the checkout's root on; quick ones first.
        folder: where to write the output of the tests, and their files, which are removed.
        limit: seconds until all processes are ended.

    Raises:
        RuntimeError: if there are no such tests.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    result, temporary = folder / "result.json", folder / "tmp"
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
            os.chdir(ROOT)
            result.write_text(json.dumps(_in_fork(file, source, tests, temporary)), encoding="utf-8")
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() - began > limit:
            _kill_group(pid)
            os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    _kill_group(pid)  # what a failed test left running
    shutil.rmtree(temporary, ignore_errors=True)
    seconds = round(time.monotonic() - began, 1)
    if not result.is_file():
        return Outcome(True, "no end" if seconds > limit else "the process died", seconds)
    code, by = json.loads(result.read_text(encoding="utf-8"))
    if code not in (0, 1, 2):  # 2: the tests cannot be imported
        raise RuntimeError(f"pytest ends with {code} for {tests}: {(folder / 'log.txt').read_text()[-2000:]}")
    return Outcome(code != 0, by or ("" if code == 0 else "import"), seconds)


def _in_fork(file: str, source: str | None, tests: Sequence[str], temporary: Path) -> tuple[int, str]:
    assert not [name for name in sys.modules if name.startswith("genlab")]
    sys.path[:0] = [str(ROOT / "src")]
    if source is not None:
        name = "genlab." + file.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, MutatedLoader(name, ROOT / "src/genlab" / file, source))
    for name in [name for name in sys.modules if name.split(".")[0] in ("support", "mutation", "conftest")]:
        if name not in ("mutation.trial", "mutation", "support"):
            del sys.modules[name]
    import pytest

    failed: list[str] = []

    class First:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    # No plugins of other packages, and assertions as they are: starting pytest would take longer than most tests.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "-m", "not cuda", f"--basetemp={temporary}"]
    return int(pytest.main([*options, *tests], plugins=[First()])), (failed or [""])[0]


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
