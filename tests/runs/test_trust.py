"""A run folder runs no code that the user did not name: whatever its config says, and however it is opened."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab import load
from genlab.composition import trained, trust
from genlab.errors import InputError
from support.command import FAST, Genlab
from support.harm import WORD, harmful, watched

VQ_VAE = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move" / "vae-vq_vae"
# Where a config has nodes, and where one fits in.
KEYS = ("model", "dataset", "dataset.source", "metrics.features", "model.distribution._args_", "callbacks.x", "trainer.x")
NEW_RUN = ("model=transformer/maskgit", "dataset=latent_codes", "trainer.max_epochs=1", "logger=csv")


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who has trusted nothing yet, nor trained with anything."""
    monkeypatch.setattr(trust, "declared", trust.Declared())
    monkeypatch.setattr(trained, "texts", set())
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{WORD}_module.py").write_text("class Net: pass")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VQ_VAE, tmp_path / "a_run"))


def put(run: Path, key: str, value: Any) -> None:
    """Set a key of a saved config, such as ``model.x``."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node.setdefault(parent, {}) if node.get(parent) is not None else node.__setitem__(parent, {}) or node[parent]
    node[last] = [value] if last == "_args_" else value
    path.write_text(yaml.safe_dump(config))


def opened_by_load(run: Path, genlab: Genlab) -> tuple[int, str]:
    try:
        opened = load(run, device="cpu")
        opened.model, opened.data  # noqa: B018
    except InputError as error:
        return 2, f"genlab: error: {error}\n"
    return 0, ""


def opened_by(*command: str) -> Callable[[Path, Genlab], tuple[int, str]]:
    def call(run: Path, genlab: Genlab) -> tuple[int, str]:
        result = genlab(*(word.format(run) for word in command))
        return result.code, result.err

    return call


WAYS = {
    "load": opened_by_load,
    "evaluate": opened_by("evaluate", "{}", "metrics.num_samples=32", "metrics.importance_samples=null"),
    "sample": opened_by("sample", "run={}", "n=2"),
    "resume": opened_by("train", "resume={}", "trainer.max_epochs=2"),
    "dataset.run": opened_by("train", *NEW_RUN, "dataset.run={}"),
}


def assert_refused(code: int, err: str, *words: str) -> None:
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("genlab: error: ")
    for word in words:
        assert word in err


def attempt(run: Path, key: str, node: dict[str, Any], way: str, genlab: Genlab) -> None:
    put(run, key, node)
    with watched() as events:
        code, err = WAYS[way](run, genlab)
    assert not events, (key, node)
    assert_refused(code, err, key.removesuffix("._args_"), f"config.yaml: {key}", "trust=")


def test_the_list_is_long_and_its_watch_sees_what_is_done(tmp_path: Path, run: Path) -> None:
    """Otherwise the other tests could not fail: what they see is done as soon as it is trusted."""
    nodes = harmful(_made(tmp_path / WORD))
    assert len({node["_target_"] for node in nodes.values()}) >= 100
    seen = {}
    for name in ("shutil.copy", "numpy.load", "torch.load", "torch.hub.load", "sqlite3.connect", "logging.FileHandler",
                 "importlib.import_module", "runpy.run_path", "joblib.load", "urllib.request.urlopen", "tarfile.open",
                 "numpy.savetxt", "genlab.machine.files.write_atomically", f"{WORD}_module.Net"):  # fmt: skip
        (node,) = [node for node in nodes.values() if node["_target_"] == name]
        shutil.rmtree(tmp_path / WORD)
        harmful(_made(tmp_path / WORD))
        put(run, "model", node)
        with watched() as events:
            try:
                load(run, device="cpu", trust=[name.rpartition(".")[0], "numpy", "_sqlite3", "pathlib"]).model
            except Exception as error:
                seen[name] = str(error)
        if events:
            seen.pop(name, None)
        else:
            seen.setdefault(name, "nothing was done")
    hydras = ("runpy", "importlib", "builtins", "subprocess", "os")  # has a list of its own, which trust= does not lift
    assert not {name: why for name, why in seen.items() if name.partition(".")[0] not in hydras}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_no_harm_is_done_by_loading(tmp_path: Path, run: Path, genlab: Genlab) -> None:
    for number, node in enumerate(harmful(_made(tmp_path / WORD)).values()):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, KEYS[number % len(KEYS)], node, "load", genlab)


@pytest.mark.parametrize("way", WAYS)
def test_no_harm_is_done_in_any_way_of_opening(way: str, tmp_path: Path, run: Path, genlab: Genlab) -> None:
    nodes = list(harmful(_made(tmp_path / WORD)).values())
    for key, node in zip(KEYS, nodes[len(way) :: 17], strict=False):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, key, node, way, genlab)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_harm_is_done_by_any_of_them_in_any_way(way: str, tmp_path: Path, run: Path, genlab: Genlab) -> None:
    for number, node in enumerate(harmful(_made(tmp_path / WORD)).values()):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, KEYS[number % len(KEYS)], node, way, genlab)
