"""Answer ``genlab -sc query=SHELL``, which a shell asks at TAB, and ``genlab -sc install=SHELL``."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from genlab.completion.answer import candidates
from genlab.completion.line import Line
from genlab.completion.shells import REMOVED, SCRIPTS, escaped, replacing
from genlab.errors import InputError


def answer(arguments: Collection[str], commands: Collection[str]) -> None:
    """Print the candidates, one a line, or the script that makes a shell ask for them.

    Args:
        arguments: arguments after ``-sc``: ``query=``, ``install=`` or ``uninstall=`` and a shell.
        commands: names of the commands.

    Raises:
        InputError: if there is no such shell.
    """
    what, _, shell = next(iter(arguments), "").partition("=")
    if shell not in SCRIPTS or what not in ("query", "install", "uninstall"):
        raise InputError(f"-sc {' '.join(arguments)}: give install=, uninstall= or query= with {', '.join(SCRIPTS)}")
    if what == "query":
        line = Line.of(os.environ)
        words = [escaped(word, shell) for word in candidates(line, commands)]
        if (current := os.environ.get("COMP_CURRENT")) is not None:
            words = [part for word in words if (part := replacing(word, line.typed, current)) is not None]
        print("".join(f"{word}\n" for word in words), end="")
        return
    name = Path(sys.argv[0]).name
    scripts = SCRIPTS if what == "install" else REMOVED
    print(scripts[shell].replace("{name}", "genlab" if name.endswith(".py") else name), end="")
