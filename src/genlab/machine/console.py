"""Consoles that tables are printed to: as wide as the terminal, or wide lines elsewhere, so that no path is cut.

Texts of users and of run folders are shown as they are: nothing in them is taken for Rich's markup, and no character
of theirs controls the terminal.
"""

import os
import re
import select
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from genlab.errors import OutputLost

WIDE = 180

# All control characters but tab and line feed, the marks that turn the direction of writing, and the halves of
# surrogate pairs, which stand for bytes of a file's name that are no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace characters that control a terminal, or that cannot be encoded, by their escapes."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """Join the lines of a text, and make it :func:`printable`."""
    return printable(" ".join(line.strip() for line in text.splitlines()).strip())


def styled(text: str, style: str) -> Text:
    """Give a text a style, without reading markup in it."""
    return Text(printable(text), style=style)


class LiteralConsole(Console):
    """A console that shows strings as they are: it knows neither markup nor names of emojis.

    Args:
        **options: further options of Rich's console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise what ends the command without a word; Rich would end the process with the exit code 1."""
        raise OutputLost

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into Rich's text, also those in the cells of a table."""
        return super().render_str(printable(text), **options)


def console(*, stderr: bool = False, at_least: int = WIDE) -> Console:
    """Make a console on standard output or error.

    Args:
        stderr: whether to print to standard error instead of standard output.
        at_least: minimal width of the lines in characters, if the output is not a terminal.
    """
    found = LiteralConsole(stderr=stderr)
    return found if found.is_terminal else LiteralConsole(stderr=stderr, width=max(WIDE, at_least))


def is_lost(stream: Any) -> bool:
    """Tell whether a stream, such as standard output, is a pipe that nobody reads any more."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file, such as a notebook's
        return False
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def forget_lost_output() -> None:
    """Let standard output and error write nowhere from now on, if they are pipes that nobody reads any more.

    A command then ends without a word, as its last words would be an error, too.
    """
    for stream in (sys.stdout, sys.stderr):
        if is_lost(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
