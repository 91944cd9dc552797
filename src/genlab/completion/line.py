"""Read the command line that a shell is completing, up to its cursor."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

# A part of a word: in quotes, after a backslash, or plain.
_PART = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)""", re.DOTALL)
_VALUE_OF = ("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path", "-p", "--package", "-c", "--cfg")


@dataclass(frozen=True)
class Line:
    """A command line: the words before the one at the cursor, and the beginning of that one.

    Attributes:
        before: words after the program's name, without quotes.
        word: what stands between the last space and the cursor.
        typed: the same as it was typed, perhaps with backslashes.
        is_quoted: whether the cursor is inside quotes, where nothing is completed.
    """

    before: tuple[str, ...]
    word: str
    typed: str = ""
    is_quoted: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Line":
        """Read the line from ``COMP_LINE`` and ``COMP_POINT``, as bash sets them."""
        line = environment.get("COMP_LINE", "")
        point = environment.get("COMP_POINT", "")
        if point.isdigit():
            line = os.fsdecode(os.fsencode(line)[: int(point)]) if len(line) < int(point) else line[: int(point)]
        words, at, begun = list[str](), 0, 0
        while (rest := line[at:].lstrip()) and not line[at:].isspace():
            at = len(line) - len(rest)
            word, begun = "", at
            while (part := _PART.match(line, at)) is not None:
                word += next(group for group in part.groups() if group is not None)
                at = part.end()
            if at < len(line) and not line[at].isspace():  # a quote that is not closed, or a backslash at the end
                return cls(tuple(words[1:]), word, is_quoted=True)
            words.append(word)
        ended = line[-1:].isspace() and not re.search(r"(?<!\\)(\\\\)*\\\s$", line)
        before, last = (words, "") if ended or not words else (words[:-1], words[-1])
        return cls(tuple(before[1:]), last, "" if ended else line[begun:])

    @property
    def command(self) -> str:
        """The command, such as ``train``; empty if it is the word at the cursor."""
        return self.before[0] if self.before else ""

    @property
    def overrides(self) -> list[str]:
        """The words before the cursor that set a key or choose from a group."""
        return [word for word in self.before[1:] if "=" in word and not word.startswith("-")]

    @property
    def config_dirs(self) -> list[str]:
        """Folders of configs of the user's own, given by ``--config-dir``."""
        found = [word.partition("=")[2] for word in self.before if word.startswith("--config-dir=")]
        pairs = zip(self.before, self.before[1:], strict=False)
        return found + [value for flag, value in pairs if flag in ("-cd", "--config-dir")]

    @property
    def flag(self) -> str | None:
        """The flag whose value is at the cursor, such as ``--format``; None if there is none."""
        last = self.before[-1] if self.before else ""
        return last if last in _VALUE_OF or last in VALUES else None


# Values of flags; a path, if there are none.
VALUES: dict[str, tuple[str, ...]] = {
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-i": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--format": ("table", "markdown", "csv", "json", "latex"),
    "--spread": ("std", "sem"),
    "--html": (),
    "--outputs": (),
    "--results": (),
}

# Keys of commands that compose no config, with their values where there are few.
KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "runs": {
        "status": ("done", "running", "interrupted", "failed", "cut_off", "damaged", "unknown"),
        "model": (),
        "dataset": (),
        "older": (),
        "sort": ("folder", "size", "age", "images", "status", "model"),
        "what": ("runs", "checkpoints"),
        "yes": ("true", "false"),
    },
}
_OF_HYDRA = ("--help", "--cfg", "--info")
FLAGS: dict[str, tuple[str, ...]] = {
    "": ("--help", "--version"),
    "train": ("--multirun", *_OF_HYDRA, "--config-dir"),
    "evaluate": _OF_HYDRA,
    "sample": _OF_HYDRA,
    "export": _OF_HYDRA,
    "play": _OF_HYDRA,
    "runs": ("--help", "--format"),
    "models": ("--help", "--format", "--config-dir"),
    "datasets": ("--help", "--format", "--config-dir"),
    "compare": (
        *("--baseline", "--format", "--html", "--sort", "--spread", "--title", "--watch", "--port"),
        *_OF_HYDRA,
    ),
    "reproduce": (
        *("--help", "--list", "--check", "--table", "--retrain", "--seeds", "--again", "--budget", "--threads"),
        *("--results", "--outputs"),
    ),
    "benchmark": ("--flops", "--memory", *_OF_HYDRA, "--config-dir"),
    "dashboard": ("--dry-run", "--name", "--entity", *_OF_HYDRA),
}


def own_flags(command: str) -> list[str]:
    """List the flags of a command that stand for keys of its config, such as ``--format``.

    Args:
        command: name of the command.
    """
    return [flag for flag in FLAGS[command] if flag not in (*_OF_HYDRA, "--multirun", "--config-dir")]
