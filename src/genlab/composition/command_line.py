"""Translate what users write on the command line into Hydra's syntax."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genlab.composition.configs import conf_dir
from genlab.composition.free_text import quoted, with_quotes
from genlab.composition.renamed_groups import say_new_names
from genlab.errors import InputError

# Flags of Hydra's command line: those that stand alone, and those that a value follows.
_ALONE = ("-m", "--multirun", "-r", "--run", "--resolve", "-h", "--help", "--hydra-help", "--version")
_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"),
    "--experimental-rerun",
)
# Of these, Hydra takes one.
_MODES = {"-m": "--multirun", "-r": "--run", "-c": "--cfg", "-i": "--info"}
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def spelled(command: str, arguments: Iterable[str]) -> list[str]:
    """Rewrite a command's arguments as Hydra reads them: flags first, groups by name, free text in quotes.

    Args:
        command: command that the arguments are for, such as ``"train"``.
        arguments: arguments after the command, as the user wrote them.

    Raises:
        InputError: if an argument is not in UTF-8, a path is empty, or flags exclude each other.
    """
    words = list(arguments)
    _check_flags(words)
    return with_quotes(command, as_groups(flags_first(words)))


def _check_flags(words: Iterable[str]) -> None:
    """Check that at most one flag says what to do, and that ``--resolve`` has a config to resolve."""
    names = [word.partition("=")[0] for word in words]
    modes = sorted({_MODES.get(name, name) for name in names} & set(_MODES.values()))
    if len(modes) > 1:
        raise InputError(f"{' and '.join(modes)} exclude each other: give one of them")
    if "--resolve" in names and not {"-c", "--cfg", "-h", "--help"} & set(names):
        raise InputError("--resolve goes with --cfg job, whose interpolations it resolves")


def flags_first(arguments: Iterable[str]) -> list[str]:
    """Move Hydra's flags before the overrides; Hydra refuses overrides on both sides of a flag.

    Args:
        arguments: arguments after the command, as the user wrote them.
    """
    flags, others, info = list[str](), list[str](), list[str]()
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in _ALONE:
            flags.append(word)
        elif word in _WITH_VALUE:
            flags += [word, *words[:1]]
            del words[:1]
        elif word in ("-i", "--info"):
            # Its value may be left out: at the end, it takes no override for one.
            info = [word, words.pop(0)] if words and words[0] in _INFO else [word]
        else:
            others.append(word)
    return [*flags, *others, *info]


def as_groups(overrides: Iterable[str]) -> list[str]:
    """Rewrite overrides in Hydra's syntax.

    - ``metrics.features=mnist`` becomes ``metrics/features=mnist`` because ``conf/metrics/features`` is a group; Hydra
      would set the key to the string ``"mnist"``. A list of options, ``gan.regularizer=[r1,r2]``, is one, too.
    - ``sampling.num_steps=8`` becomes ``++sampling.num_steps=8``: no config lists the sampling settings, because each
      model's class has its own.
    - ``trust=one,two`` becomes ``trust=[one,two]``; Hydra would read a sweep.
    - A group's old name is replaced by its new one, and a line on stderr says so.

    Args:
        overrides: overrides as the user wrote them.
    """
    spelled = []
    for override in say_new_names(overrides):
        key, equals, value = override.partition("=")
        if equals and key.startswith("sampling."):
            key = f"++{key}"
        if key == "trust" and "," in value and value[0] not in "[{'\"":
            value = f"[{value}]"  # a list and no sweep
        names_option = equals and "." in key and re.fullmatch(r"[\w,]+|\[[\w,]*\]", value)
        if names_option and Path(conf_dir(), *key.split(".")).is_dir():
            key = key.replace(".", "/")
        spelled.append(key + equals + value)
    return spelled


def flags_as(*keys: str) -> None:
    """Turn ``--format json`` and ``--format=json`` in ``sys.argv`` into Hydra's ``format=json``.

    Args:
        *keys: config keys that may be given as flags.

    Raises:
        InputError: if a flag has no value.
    """
    arguments, words = [], iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name.removeprefix("--") in keys and name.startswith("--"):
            key = name.removeprefix("--")
            if not equals and (value := next(words, "")) == "":
                raise InputError(f"{name} needs a value")
            word = f"{key}={quoted(value)}"
        arguments.append(word)
    sys.argv = [sys.argv[0], *arguments]


def switches_as(prefix: str, *keys: str) -> None:
    """Turn ``--flops`` in ``sys.argv`` into Hydra's ``benchmark.flops=true``.

    Args:
        prefix: config that has the keys, such as ``"benchmark"``; empty for the whole config.
        *keys: its keys that may be given as flags.
    """
    switches = {f"--{key}": f"{prefix}.{key}=true".removeprefix(".") for key in keys}
    sys.argv = [sys.argv[0], *(switches.get(word, word) for word in sys.argv[1:])]


def lists_of(prefix: str) -> None:
    """Turn ``sampling.num_steps=4,8`` in ``sys.argv`` into a list, ``sampling.num_steps=[4,8]``.

    Hydra would read the comma as a sweep.

    Args:
        prefix: beginning of the keys whose values may be lists, such as ``"sampling."``.
    """
    sys.argv = [sys.argv[0], *with_lists(prefix, sys.argv[1:])]


def with_lists(prefix: str, words: Iterable[str]) -> list[str]:
    """Give words with lists where commas separate the values of a key, as :func:`lists_of` does.

    Args:
        prefix: beginning of the keys whose values may be lists.
        words: arguments as the user wrote them.
    """
    arguments = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+").startswith(prefix) and "," in value and value[0] not in "[{'\"":
            word = f"{key}=[{value}]"
        arguments.append(word)
    return arguments


def _is_path(argument: str) -> bool:
    """Tell whether an argument is a path: no ``key=value``, no flag and no deletion (``~metrics.measures.kid``)."""
    if argument.startswith("-") or re.match(r"~[^/]", argument):
        return False
    # A path may have an equals sign: sweeps of other programs name folders lr=0.1.
    return "=" not in argument or argument.startswith(("/", "./", "../", "~/")) or Path(argument).exists()


def paths_as(key: str) -> None:
    """Turn the bare arguments of ``sys.argv``, which are paths, into ``key=[...]``, quoted for Hydra's grammar.

    Args:
        key: config key that takes the list of paths.
    """
    if paths := _take_paths():
        _give(f"{key}=[{','.join(map(quoted, paths))}]")


def path_as(key: str) -> None:
    """Turn the bare argument of ``sys.argv``, a path, into ``key=...``, quoted for Hydra's grammar.

    Args:
        key: config key that takes the path.

    Raises:
        InputError: if there are several.
    """
    paths = _take_paths()
    if len(paths) > 1:
        raise InputError(f"{' '.join(paths)}: give one {key}, and settings as key=value")
    if paths:
        _give(f"{key}={quoted(paths[0])}")


def _give(override: str) -> None:
    """Add an override to ``sys.argv``, before the others and behind the flags."""
    sys.argv = [sys.argv[0], *flags_first([override, *sys.argv[1:]])]


def _take_paths() -> list[str]:
    """Remove the bare arguments, which are paths, from ``sys.argv``, and give them."""
    words = list(zip(sys.argv, sys.argv[1:], strict=False))
    paths = [after for before, after in words if before not in _WITH_VALUE and _is_path(after)]
    sys.argv = [sys.argv[0], *(after for before, after in words if before in _WITH_VALUE or not _is_path(after))]
    return paths
