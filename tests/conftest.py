"""What the tests share: the command run in this process, MNIST where it can be had, and folders of made-up images."""

import logging
import os
import shutil
from pathlib import Path

# Before PyTorch is imported: its compiler's pool of threads does not survive a fork, and tests fork.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

from genlab.data import cifar10
from support.command import Genlab, Result, Trained
from support.image_folders import write_images

# A few examples wherever a test does not ask for many, and the same ones every time.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("quick")

# What takes long to set up, or exists once on a machine: one worker runs all tests that use it.
SHARED = ("browser", "elsewhere", "inception_weights", "slurm")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs from all tests but their own: a GPU that a process has met is lost to its forks, and tests fork."""
    if config.getoption("markexpr") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        # The first backward pass of a process starts autograd's engine. If it is torch.compile's, no fork can train.
        torch.ones(1, requires_grad=True).sum().backward()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        for name in set(SHARED) & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of real images, shared by all tests and by all workers, of which each has a folder in one of xdist's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "cache").mkdir(exist_ok=True)
    return str(folder / "cache")


@pytest.fixture(autouse=True)
def _quiet_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache_dir: str) -> None:
    """No test writes into the checkout's outputs or the user's cache, asks W&B for anything or shares randomness."""
    monkeypatch.setenv("GENLAB_CACHE", cache_dir)
    monkeypatch.setenv("GENLAB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("GENLAB_DEBUG", raising=False)
    monkeypatch.setattr(cifar10, "SORTED_SHA256", dict(cifar10.SORTED_SHA256))  # made-up files change it
    torch.manual_seed(0)


@pytest.fixture
def genlab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Genlab:
    """``genlab(*arguments)`` as the command line would run it, in this process."""
    from genlab.cli import main

    monkeypatch.setattr("sys.argv", ["genlab"])

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            # Hydra's handlers write to this test's captured stream, which is closed when the next one runs.
            logging.getLogger().handlers.clear()
        captured = capsys.readouterr()
        assert isinstance(code, int), code
        return Result(code, captured.out, captured.err, Path(os.environ["GENLAB_OUTPUTS"]))

    return call


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, ...], Path]]:
    """A folder, and the runs in it by the arguments they were trained with."""
    return tmp_path_factory.mktemp("trained"), {}


@pytest.fixture
def trained(
    genlab: Genlab, monkeypatch: pytest.MonkeyPatch, trained_runs: tuple[Path, dict[tuple[str, ...], Path]]
) -> Trained:
    """``trained(*arguments)``: a copy of the run of ``genlab train`` with them, which trains once for all tests."""
    folder, runs = trained_runs

    def copy(*arguments: str) -> Path:
        if arguments not in runs:
            with monkeypatch.context() as apart:
                apart.setenv("GENLAB_OUTPUTS", str(folder / str(len(runs))))
                result = genlab("train", *arguments)
            assert result.code == 0, result.err
            runs[arguments] = result.run
        run = runs[arguments]
        outputs = Path(os.environ["GENLAB_OUTPUTS"])
        return Path(shutil.copytree(run, outputs / run.parent.name / run.name))

    return copy


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """The folder that holds MNIST; tests that need it are skipped where it can neither be found nor downloaded."""
    from genlab.data.mnist import MNIST
    from genlab.errors import InputError

    root = os.environ.get("GENLAB_DATA", "data")
    try:
        MNIST(root).load()
    except InputError as error:
        pytest.skip(str(error))
    return root


@pytest.fixture
def colour_folder(tmp_path: Path) -> Path:
    """100 colour PNGs of 32x32."""
    write_images(tmp_path / "images", 100)
    return tmp_path / "images"
