"""One place for a default: what ``conf/`` states is what the constructor has, or the line says that it is a choice.

A line such as ``kernel_size: 5 # chosen: wider sees further`` states another value than the constructor's default, and
why. Experiments and debugging are choices all through.
"""

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from genlab.composition.building import located
from support.paths import CONF

CHOSEN = "# chosen: "
ALL = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml"))
FILES = [name for name in ALL if name.partition("/")[0] not in ("experiment", "debug", "hydra")]
# What the data are, which is checked where they are read: no setting.
FACTS = ("kind", "levels", "source_levels", "num_classes", "sha256")


def package_of(name: str) -> list[str]:
    """Find where the keys of a file go in the composed config: its ``# @package``, or its group."""
    first = (CONF / f"{name}.yaml").read_text().partition("\n")[0]
    where = first.removeprefix("# @package ").strip() if first.startswith("# @package") else None
    if where is None:
        where = ".".join(Path(name).parts[:-1])
    return [] if where in ("_global_", "") else where.split(".")


@functools.cache
def composed_with(name: str) -> DictConfig:
    """The config of a run, or of another command, with the choice of a file."""
    group, _, option = name.partition("/")
    chosen = [f"{group}={option}"] if group in ("model", "dataset", "experiment") else []
    if name == "training/adversarial":
        chosen = ["model=gan/dcgan"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train" if option else name, chosen)


def literals(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values that a file states, with their keys: what is neither an interpolation nor still to be given."""
    for key, value in node.items():
        at = (*path, str(key))
        if isinstance(value, dict):
            yield from literals(value, at)
        elif key != "defaults" and "${" not in str(value) and value != "???":
            yield at, value


def lines(node: yaml.MappingNode, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys of a file with the numbers of their lines, from 0."""
    for key, value in node.value:
        at = (*path, key.value)
        yield at, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from lines(value, at)


def default_of(target: str, key: str) -> Any:
    """The default of a constructor's or a function's argument; ``inspect.Parameter.empty`` where it has none."""
    made = located(target, target)
    for source in (
        [vars(c)["__init__"] for c in made.__mro__ if "__init__" in vars(c)] if isinstance(made, type) else [made]
    ):
        parameters = inspect.signature(source).parameters
        if key in parameters:
            return parameters[key].default
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return inspect.Parameter.empty


def alike(value: Any, default: Any) -> bool:
    if isinstance(value, list):
        return isinstance(default, list | tuple) and len(value) == len(default) and all(map(alike, value, default))
    return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)


def stated(name: str) -> Iterator[tuple[str, Any, Any, str]]:
    """Each value that a file gives to an argument of genlab's that has a default: key, value, default, line."""
    text = (CONF / f"{name}.yaml").read_text()
    if not text.strip() or (tree := yaml.compose(text)) is None:
        return
    numbers, rows = dict(lines(tree)), text.splitlines()
    content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    for path, value in literals(content):
        around: Any = content
        for key in path[:-1]:
            around = around[key]
        target = around.get("_target_")
        if target is None:  # the file changes what another one brings
            node = OmegaConf.select(composed_with(name), ".".join([*package_of(name), *path[:-1]]))
            target = node.get("_target_") if OmegaConf.is_dict(node) else None
        if isinstance(target, str) and target.startswith("genlab."):
            default = default_of(target, path[-1])
            if default is not inspect.Parameter.empty:
                yield ".".join(path), value, default, rows[numbers[path]]


@pytest.mark.parametrize("name", FILES)
def test_a_file_states_the_constructors_default_or_says_that_it_does_not(name: str) -> None:
    for key, value, default, line in stated(name):
        if key.rpartition(".")[2] not in FACTS:
            differs, marked = not alike(value, default), CHOSEN in line
            assert differs <= marked, (
                f"conf/{name}.yaml: {key} is {value!r}, the default {default!r}: mend it, or say why"
            )
            assert marked <= differs, f"conf/{name}.yaml: {key} is {value!r}, which is the default and no choice"


def test_most_of_conf_is_read() -> None:
    values = [(value, default) for name in FILES for _, value, default, _ in stated(name)]
    assert len(values) > 400
    assert sum(not alike(*pair) for pair in values) > 60


def test_where_a_value_is_of_a_class_that_inherits_its_options() -> None:
    assert default_of("genlab.training.objective.ObjectiveTraining", "gradient_clip") is None
    assert default_of("genlab.models.autoregressive.pixel_rnn.PixelRNN", "num_layers") == 7
    assert default_of("genlab.models.autoregressive.pixel_rnn.PixelRNN", "shape") is inspect.Parameter.empty


# -- settings that are in force ----------------------------------------------------------------------------------------

CHOICES = [name for name in ALL if name.partition("/")[0] in ("model", "dataset", "experiment")]


@pytest.mark.parametrize("name", CHOICES)
def test_what_a_file_states_is_in_force(name: str) -> None:
    """Not what a group says that its defaults list takes up later: ``_self_`` stands behind whatever it overrides."""
    content: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"), resolve=False)
    in_force: Any = OmegaConf.to_container(composed_with(name), resolve=False)
    for path, value in literals({key: value for key, value in content.items() if key != "hydra"}):
        found = functools.reduce(dict.__getitem__, (*package_of(name), *path), in_force)
        # null holds the place of what a group puts there.
        filled = value is None and isinstance(found, dict) and "_target_" in found
        assert filled or found == value, f"conf/{name}.yaml: {'.'.join(path)} is {value!r}, and {found!r} is in force"


@pytest.mark.parametrize("name", ["flow/glow", "flow/glow_spline", "flow/glow_mixture"])
def test_variants_of_glow_train_as_it_states(name: str) -> None:
    training = composed_with(f"model/{name}").training
    assert (training.optimizer.lr, training.gradient_clip) == (2e-3, 1.0)
