"""Explain in one line what is wrong with a user's input."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import YAMLError

from genlab.composition.configs import conf_dir, groups
from genlab.composition.failures import failure, kind_of
from genlab.composition.hints import elsewhere, file_of, having, in_yaml, unreadable
from genlab.composition.renamed_groups import renamed_in_file
from genlab.errors import InputError, OutputLost
from genlab.machine.lost_output import is_lost
from genlab.machine.outcome import tell
from genlab.machine.plain_text import on_one_line


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Give the end of an error message: ``"; did you mean ...?"``, or a list of the known names if none is similar.

    Args:
        name: name that the user gave.
        known: names that exist.
        prefix: text to put before each suggestion, such as the keys above it.
    """
    known = sorted(set(known))
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    # "vae" clearly means "vae/vae", but difflib finds the two too different.
    near += [k for k in known if k.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1] and k not in near]
    if near:
        return "; did you mean " + " or ".join(prefix + k for k in near) + "?"
    return f"; there is {', '.join(known)}" if known else ""


def first_line(error: BaseException) -> str:
    """Give the first line of an error's message, or its class's name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# Hydra plugins that our launchers need: the config file's name, what to call it, and the extra that installs it.
_PLUGINS = {
    "launcher/joblib": ("Hydra's joblib launcher", "joblib"),
    "launcher/submitit_slurm": ("Hydra's submitit launcher", "slurm"),
    "launcher/submitit_local": ("Hydra's submitit launcher", "slurm"),
    "launcher/ray": ("Hydra's Ray launcher", "ray"),
}


def _options(group: str, listed: Iterable[str]) -> set[str]:
    folder = Path(conf_dir(), group)
    return {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")} | set(listed)


def explain(error: BaseException) -> str | None:
    """Explain an error that the user's input caused in one line; give None if the error is a bug.

    What cannot be printed, such as a line's end or a terminal's escape in a value, is spelled with a backslash.
    """
    line = _explanation(error)
    return None if line is None else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _explanation(error: BaseException) -> str | None:
    if isinstance(error, InputError):
        return str(error)
    if (line := failure(error)) is not None:
        return line
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return "a group cannot be null: choose one of its files, or leave it out with a ~ before it (~metrics/modes)"
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, YAMLError):
        return in_yaml(error)
    if isinstance(error, UnicodeDecodeError) and (file := file_of(error.__traceback__)) is not None:
        return f"{file} is not in UTF-8 (byte {error.start + 1}): convert it, as by iconv -f latin1 -t utf-8"
    if isinstance(error, HydraException):
        return _refused_override(error)
    if isinstance(error, MissingMandatoryValue):
        return f"no value for {error.full_key} (give it as {error.full_key}=...)"
    if isinstance(error, InterpolationToMissingValueError):
        key = first_line(error).rpartition(" ")[2]
        return f"no value for {key} (give it as {key}=...)"
    if isinstance(error, InterpolationKeyError) and (needed := re.search(r"key '([^']+)' not found", str(error))):
        what = f"{error.full_key or 'a value'} is to be {needed[1]}"
        return f"{what}, and no such key was chosen or given (give it as +{needed[1]}=...)"
    if isinstance(error, OmegaConfBaseException):
        of_resolver = "InputError raised while resolving interpolation: "
        if of_resolver in str(error):
            return first_line(error).partition(of_resolver)[2]
        return f"{error.full_key}: {first_line(error)}" if error.full_key else first_line(error)
    return None


def _missing_option(error: MissingConfigException) -> str:
    # The file "model/flow/nvp" is missing because the user wrote model=flow/nvp.
    folder, _, option = str(error.missing_cfg_file or "").partition("/")
    if (missing := _PLUGINS.get(option)) is not None:
        return f"{missing[0]} is not installed: pip install 'genlab[{missing[1]}]'"
    if (moved := renamed_in_file(folder)) is not None:
        return f"{first_line(error).partition(': ')[0]}: {moved}"
    if folder == "hydra" or not option or not Path(conf_dir(), folder).is_dir():
        return first_line(error)
    group = max((name for name in groups() if f"{folder}/{option}".startswith(f"{name}/")), key=len, default=folder)
    option = f"{folder}/{option}".removeprefix(f"{group}/")
    return f"{group}={option}: no such option{did_you_mean(option, _options(group, error.options or []))}"


def _refused_override(error: HydraException) -> str:
    """Explain an override that Hydra cannot apply, by matching Hydra's message, whose wording tests pin."""
    if (there := re.match(r"Could not append to config\. An item is already at '([^']+)'", str(error))) is not None:
        return f"{there[1]}: there is such a key already; leave out the + before it"
    override = re.match(r"(In '\S+': )?Could not (?:override|delete|delete from config\.) '([\w./@]+)", str(error))
    if override is not None and (moved := renamed_in_file(override[2])) is not None:
        return f"{override[1] or ''}{moved}"
    if override is None or override[1]:
        return " ".join(str(error).split()) or first_line(error.__cause__ or error)
    cause = error.__cause__
    key = override[2]
    parent = getattr(cause, "parent_node", None)
    if parent is not None and OmegaConf.is_dict(parent):
        siblings = [str(k) for k in parent if not str(k).startswith("_")]
        prefix, _, last = str(getattr(cause, "full_key", None) or key).rpartition(".")
        if key not in groups() and (meant := elsewhere(parent._get_root(), key)):
            return f"{key}: there is no such key; did you mean {' or '.join(meant[:3])}?"
        if not prefix and not get_close_matches(last, siblings):
            siblings = [*siblings, *groups()]
        hint = did_you_mean(last, siblings, f"{prefix}." if prefix else "")
        return f"{key}: there is no such key{hint} (a new key is added with a + before it)"
    known = groups()
    if key in known:
        return f"{key}: nothing that was chosen (model, dataset, experiment) has this group{having(key)}"
    return f"{key}: there is no such key or group{did_you_mean(key, known)}"


def refused(error: BaseException, line: str) -> int:
    """Print the line that explains an error, tell it to the program that called, and give the exit code.

    Args:
        error: error that ended the command.
        line: explanation.
    """
    told = on_one_line(line)
    print(f"genlab: error: {told}", file=sys.stderr)
    tell(error={"kind": kind_of(error), "message": told})
    return 2


def one_line_errors(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wrap a command's task so that a wrong input ends it with one line on stderr and exit code 2.

    Inside a sweep the error is raised to the launcher instead, so that the other jobs still run.
    """

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and (is_lost(sys.stdout) or is_lost(sys.stderr)):
                raise OutputLost from error
            line = explain(error)
            in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            if line is None or in_sweep or os.environ.get("GENLAB_DEBUG"):
                raise
            raise SystemExit(refused(error, line)) from None

    return wrapped
