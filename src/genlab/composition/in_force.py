"""Refuse overrides that nothing in the composed config uses: a setting is in force, or it is an error."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from genlab.composition.configs import conf_dir
from genlab.composition.named_parts import GROUPS, SINGLE
from genlab.errors import InputError

# Keys of a composed config that the commands read, besides those that conf/train.yaml has itself.
_READ = frozenset(
    {"model", "dataset", "training", "trainer", "metrics", "callbacks", "logger", "monitor", "paths", "benchmark"}
)
_REFERENCE = re.compile(r"\$\{(?:[\w.]+:[^}]*\$\{)?(\w+)")
_PACKAGE = re.compile(r"^# *@package +(\S+)", re.MULTILINE)


def check_in_force(cfg: DictConfig, overrides: Iterable[str]) -> None:
    """Check that each override of a run changes something that the run uses.

    Args:
        cfg: composed config, in which interpolations are not resolved.
        overrides: overrides as the user wrote them.

    Raises:
        InputError: if nothing uses the key, or the option of a group, that one sets.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=False)
    used = _used(config)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or key.startswith("~") or value.strip() in ("null", "[]", "{}", ""):
            continue
        place = _place(key.lstrip("+"), value)
        if place is None:
            continue
        top = place.partition(".")[0]
        if top not in used:
            chosen = ", ".join(f"{name}={option}" for name, option in _chosen(cfg).items())
            raise InputError(f"{override}: nothing that was chosen ({chosen}) uses {top}; leave it out")
        if (part := _unchosen_part(config, place)) is not None:
            raise InputError(f"{override}: there is no {part} in this run; leave it out, or choose it")


def _used(config: Mapping[str, Any]) -> set[str]:
    """Find the top keys that are read, and those that interpolations in them refer to, directly or through others."""
    used = set(_read_by_train()) | _READ
    new = used & config.keys()
    while new:
        new = {name for key in new for name in _references(config[key]) if name in config} - used
        used |= new
    return used


@cache
def _read_by_train() -> frozenset[str]:
    own = OmegaConf.load(Path(conf_dir(), "train.yaml"))
    return frozenset(str(key) for key in own if key != "defaults")


def _references(node: Any) -> set[str]:
    if isinstance(node, Mapping):
        return {name for value in node.values() for name in _references(value)}
    if isinstance(node, list):
        return {name for value in node for name in _references(value)}
    return set(re.findall(r"\$\{(\w+)", node)) | set(_REFERENCE.findall(node)) if isinstance(node, str) else set()


def _place(key: str, value: str) -> str | None:
    """Find the key of the config that an override changes; None for a group whose options go everywhere."""
    group, _, package = key.partition("@")
    if "/" not in group and not Path(conf_dir(), group).is_dir():
        return key
    if not package:
        option = re.split(r"[\[\],]", value.strip("'\""))
        name = next((word.strip() for word in option if word.strip()), "")
        file = Path(conf_dir(), group, f"{name}.yaml")
        if not file.is_file():  # an option of the user's own folder of configs
            return None
        header = _PACKAGE.search(file.read_text(encoding="utf-8"))
        package = header[1] if header else group.replace("/", ".")
    package = package.removeprefix("_global_").lstrip(".")
    return package or None


def _unchosen_part(config: Mapping[str, Any], place: str) -> str | None:
    """Find the part that a key lies in, if the part was not chosen; None if it was, or the key lies in no part."""
    for group in GROUPS:
        if not place.startswith(f"{group}."):
            continue
        name, inside, _ = place.removeprefix(f"{group}.").partition(".")
        if inside and _lacks_target(config, f"{group}.{name}"):
            return f"{group}.{name}"
    return next((one for one in SINGLE if place.startswith(f"{one}.") and _lacks_target(config, one)), None)


def _lacks_target(config: Any, place: str) -> bool:
    for key in place.split("."):
        if not isinstance(config, Mapping) or key not in config:
            return False
        config = config[key]
    return isinstance(config, Mapping) and "_target_" not in config


def _chosen(cfg: DictConfig) -> dict[str, Any]:
    choices = cfg.get("choices") or {}
    return {key: choices[key] for key in ("model", "dataset") if key in choices}
