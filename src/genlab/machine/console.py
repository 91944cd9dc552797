"""Consoles that tables are printed to: as wide as the terminal, or wide lines elsewhere, so that no path is cut."""

from rich.console import Console

WIDE = 180


def console(*, stderr: bool = False, at_least: int = WIDE) -> Console:
    """Make a console on standard output or error.

    Args:
        stderr: whether to print to standard error instead of standard output.
        at_least: minimal width of the lines in characters, if the output is not a terminal.
    """
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=max(WIDE, at_least))
