"""Recipes: the experiments of ``conf/experiment/paper``, each with the published figures that it is to reproduce.

Any other experiment is a recipe without published figures: its runs give records, on which there is no verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from genlab.composition.configs import conf_dir
from genlab.composition.explaining import did_you_mean
from genlab.errors import InputError
from genlab.metrics.published import Published, fingerprint
from genlab.runs.config import read_yaml

GROUP = "paper"
NONE = Published(paper="", figures={}, read="", protocol="", tolerance={})


@dataclass(frozen=True)
class Recipe:
    """An experiment that reproduces published figures, or one without them whose runs are recorded.

    Attributes:
        name: name of the recipe, such as ``mnist_made``, or ``mnist/dcgan`` outside of ``paper``.
        model: the experiment's model, such as ``autoregressive/made``.
        dataset: the experiment's data set, such as ``mnist``.
        block: the experiment's ``reference:`` block, as plain values; empty if it has none.
    """

    name: str
    model: str
    dataset: str
    block: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return self.name if "/" in self.name else f"{GROUP}/{self.name}"

    @property
    def family(self) -> str:
        return self.model.partition("/")[0]

    @property
    def needs_files(self) -> bool:
        """Tell whether the data set is read from files, which may have to be downloaded."""
        return _needs_files(self.dataset)

    @cached_property
    def published(self) -> Published:
        """The published figures; there are none if the experiment has no ``reference:`` block."""
        return Published.from_config(self.block, f"{self.experiment}: reference") if self.block else NONE

    @property
    def sha256(self) -> str:
        return fingerprint(self.block)


def recipes() -> dict[str, Recipe]:
    """Read all recipes, by name; their files are read directly, because composing each takes a fifth of a second."""
    folder = Path(conf_dir(), "experiment", GROUP)
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    found = {}
    for name in names:
        chosen, block = _read(f"{GROUP}/{name}")
        if block:
            found[name] = Recipe(name, chosen["model"], chosen["dataset"], block)
    return found


def named(names: list[str]) -> list[Recipe]:
    """Look up recipes by name, and other experiments by their path, such as ``mnist/dcgan``.

    Raises:
        InputError: if there is no recipe or experiment of a name.
    """
    known = recipes()
    for name in (names := [name.removeprefix(f"{GROUP}/") for name in names]):
        if name not in known and "/" in name and Path(conf_dir(), "experiment", f"{name}.yaml").is_file():
            chosen, block = _read(name)
            known[name] = Recipe(name, chosen.get("model", "-"), chosen.get("dataset", "-"), block)
        elif name not in known:
            raise InputError(f"{name}: no such recipe{did_you_mean(name, known)}; genlab reproduce --list shows them")
    return [known[name] for name in names]


def _needs_files(dataset: str) -> bool:
    from omegaconf import OmegaConf

    path = Path(conf_dir(), "dataset", f"{dataset}.yaml")
    text = path.read_text(encoding="utf-8")
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    below = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return "paths.data_dir" in text or "???" in text or any(map(_needs_files, below))


def _read(experiment: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the groups that an experiment chooses and its ``reference:`` block, with what both inherit."""
    content = read_yaml(Path(conf_dir(), "experiment", f"{experiment}.yaml"))
    chosen: dict[str, str] = {}
    block: dict[str, Any] = {}
    for entry in content.get("defaults", []):
        if isinstance(entry, dict):
            chosen |= {key.removeprefix("override /"): value for key, value in entry.items()}
        elif entry != "_self_":
            below, inherited = _read(entry.removeprefix("/experiment/"))
            chosen, block = {**chosen, **below}, _merged(block, inherited)
    return chosen, _merged(block, content.get("reference") or {})


def _merged(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings as OmegaConf does; lists are replaced."""
    both = {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in above.items()
    }
    return {**base, **both}
