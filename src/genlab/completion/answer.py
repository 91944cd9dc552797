"""Answer a shell that completes a command line of genlab: the words that may stand at the cursor."""

from collections.abc import Collection
from pathlib import Path

from genlab.completion.folders import run_folders
from genlab.completion.groups import Groups
from genlab.completion.keys import complete_key, composed_values
from genlab.completion.line import FLAGS, KEYS, VALUES, Line
from genlab.machine.installed import conf_dir

# Their bare arguments are folders of runs.
TAKES_RUNS = ("evaluate", "sample", "export", "play", "compare", "dashboard")
OF_RUNS = ("run", "runs", "resume")  # last parts of the keys whose values are such folders


def candidates(line: Line, commands: Collection[str]) -> list[str]:
    """Give the words that may stand at the cursor; those that are whole end with a space.

    Args:
        line: command line up to the cursor.
        commands: names of the commands.
    """
    if line.is_quoted:
        return []
    if not line.before:
        words = FLAGS[""] if line.word.startswith("-") else commands
        return [f"{name} " for name in words if name.startswith(line.word)]
    if line.command not in commands:
        return []
    if line.flag is not None:
        return [f"{value} " for value in VALUES.get(line.flag, ()) if value.startswith(line.word)]
    if line.word.startswith("-"):
        return [f"{flag} " for flag in FLAGS[line.command] if flag.startswith(line.word)]
    roots = [Path(conf_dir()), *(Path(folder) for folder in line.config_dirs)]
    if line.command == "reproduce":
        return _recipes(line.word, roots)
    if line.command in ("models", "datasets"):
        return Groups("train", roots).options(line.command.removesuffix("s"), line.word)
    if line.command in KEYS:
        return _of_keys(line, roots)
    return _of_config(line, roots)


def _of_config(line: Line, roots: list[Path]) -> list[str]:
    groups = Groups(line.command, roots)
    key, equals, value = line.word.partition("=")
    if equals and key.rpartition(".")[2] in OF_RUNS:
        start = value.rpartition(",")[2].removeprefix("[")
        kept = value[: len(value) - len(start)]
        return [f"{key}={kept}{folder}" for folder in run_folders(start, sweeps=key == "sweep.resume")]
    word = _with_new_name(line.word, groups)
    found: list[str] = []
    if equals:
        key = word.partition("=")[0]
        if (group := groups.group_of(key)) is not None:
            return [f"{key}={option}" for option in groups.options(group, value)]
    else:
        found = groups.complete(word)
        if line.command in TAKES_RUNS:
            found += run_folders(word)
    if "/" not in word or equals:
        chosen = [override for override in map(_first, line.overrides) if _chosen(override, groups)]
        values = composed_values(line.command, [_with_new_name(override, groups) for override in chosen], roots)
        wants_hydra = word.lstrip("+~").startswith("hydra")
        shown = {key: now for key, now in values.items() if wants_hydra or key.partition(".")[0] != "hydra"}
        # A group's name is also that of a node: both may follow, "model=" and "model.".
        found += [one for one in complete_key(word, shown) if one not in found]
    return found


def _of_keys(line: Line, roots: list[Path]) -> list[str]:
    """Complete the keys of a command that composes no config, their values, and folders of runs."""
    keys = KEYS[line.command]
    key, equals, value = line.word.partition("=")
    if equals:
        if key in ("model", "dataset"):
            return [f"{key}={option}" for option in Groups("train", roots).options(key, value)]
        before, comma, start = value.rpartition(",")
        return [f"{key}={before}{comma}{one} " for one in keys.get(key, ()) if one.startswith(start)]
    first = ["prune "] if len(line.before) == 1 and "prune".startswith(line.word) else []
    return [*first, *(f"{one}=" for one in keys if one.startswith(line.word)), *run_folders(line.word)]


def _chosen(override: str, groups: Groups) -> bool:
    return groups.group_of(_with_new_name(override, groups).partition("=")[0]) is not None


def _first(override: str) -> str:
    """Give an override with the first one of a sweep's values."""
    return override.partition(",")[0]


def _with_new_name(word: str, groups: Groups) -> str:
    """Replace the old name of a group by its new one, and a dot in the name of one by a slash."""
    key, equals, value = word.partition("=")
    if not equals:
        return word
    if (group := groups.group_of(key)) is None:
        if "." in key or "/" in key:  # not so spelled; the import takes longer than the rest
            return word
        from genlab.composition.renamed_groups import RENAMED

        if (new := RENAMED.get(key.lstrip("+~"))) is not None:
            return f"{key.replace(key.lstrip('+~'), new)}{equals}{value}"
        return word
    return word if "@" in key or group in key else key.replace(".", "/") + equals + value


def _recipes(word: str, roots: list[Path]) -> list[str]:
    """Complete the names of recipes: those of papers stand without their folder."""
    experiments = Groups("train", roots)
    others = [name for name in experiments.options("experiment", word) if not name.startswith("paper/")]
    papers = experiments.options("experiment", f"paper/{word}") if "/" not in word else []
    return [*(name.removeprefix("paper/") for name in papers), *others]
