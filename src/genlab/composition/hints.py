"""What to do about a command line or a config file that Hydra refuses: which key was meant, where a file is wrong."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from genlab.composition.configs import conf_dir
from genlab.composition.free_text import quoted


def unreadable(override: str) -> str:
    """Explain in one line why Hydra's grammar refuses an override, and how it may be spelled.

    Args:
        override: override as Hydra was given it.
    """
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[+~]*[\w$][\w$./@:-]*", key):
        return f"{override}: cannot be read as an override; expected key=value, or group=option"
    if value.rstrip().endswith(",") and value.rstrip(" ,") != "":
        return f"{override}: cannot be read as an override; a value is missing after the last comma"
    spelled = f"{key}={quoted(value)}"
    spelled = shlex.quote(spelled) if re.search(r'["$`\\!]', spelled) else f'"{spelled}"'
    return f"{override}: cannot be read as an override; if the value is text, quote it for Hydra too: {spelled}"


def elsewhere(config: DictConfig, key: str) -> list[str]:
    """List the keys of a composed config that end like a key that is not there: ``model.objective.beta``.

    Args:
        config: root of the composed config.
        key: key that the user gave, such as ``objective.beta``.
    """
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, Mapping)
    keys = _keys({name: node for name, node in content.items() if name != "hydra"})
    return [name for name in keys if name.endswith(f".{key}")]


def _keys(node: Mapping[Any, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in node.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, Mapping):
            found += _keys(value, f"{prefix}{name}.")
    return found


def having(group: str) -> str:
    """Say which models have a group, as the end of an error message; empty if none is known to.

    Args:
        group: name of a group, such as ``gan/loss``.
    """
    models = sorted(
        str(path.relative_to(Path(conf_dir(), "model")).with_suffix(""))
        for path in Path(conf_dir(), "model").rglob("*.yaml")
        if group in _groups_of(path)
    )
    if not models:
        return ""
    family = group.partition("/")[0]
    of_family = [name for name in models if name.startswith(f"{family}/")]
    if of_family == models and len(models) > 4:
        return f"; {group}=... is for model={family}/..., such as {models[0]}"
    return f"; {group}=... is for model={' or '.join(models[:4])}"


def _groups_of(path: Path) -> set[str]:
    """List the groups that a config's defaults list names, in the files that it includes as well."""
    content = OmegaConf.load(path)
    top = Path(conf_dir())
    found: set[str] = set()
    for entry in content.get("defaults", []) if isinstance(content, DictConfig) else []:
        if isinstance(entry, str):
            group, option = "model", entry  # another file of the same group
        else:
            name, option = next(iter(entry.items()))
            group = str(name).removeprefix("override ").partition("@")[0].removeprefix("/")
            found.add(group)
        if isinstance(option, str) and (included := top / group / f"{option}.yaml").is_file() and included != path:
            found |= _groups_of(included)
    return found


def in_yaml(error: Exception) -> str:
    """Explain in one line what is wrong with a YAML file.

    Args:
        error: PyYAML's error.
    """
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return f"a config is no YAML: {' '.join(str(error).split())}"
    hint = ": indent with blanks, YAML allows no tabs" if "'\\t'" in problem else ""
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {problem}{hint}"


def file_of(trace: TracebackType | None) -> str | None:
    """Find the config file that was being read when an error was raised; None if none was.

    Args:
        trace: traceback of the error.
    """
    while trace is not None:
        code, local = trace.tb_frame.f_code, trace.tb_frame.f_locals
        if code.co_name == "load_config" and (path := local.get("full_path")):  # Hydra's, of a config in a file
            return str(path)
        trace = trace.tb_next
    return None
