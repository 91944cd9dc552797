"""Consoles that tables are printed to: as wide as the terminal, or wide lines elsewhere, so that no path is cut.

Texts of users and of run folders are shown as they are: nothing in them is taken for Rich's markup, and no character
of theirs controls the terminal.
"""

from typing import Any

from rich.console import Console
from rich.text import Text

from genlab.errors import OutputLost
from genlab.machine.plain_text import printable

WIDE = 180


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
