"""Where tables go: the terminal's width on a terminal, wide lines elsewhere, so that no path is cut."""

from rich.console import Console

WIDE = 180


def console(*, stderr: bool = False, at_least: int = WIDE) -> Console:
    """Standard output or error.

    Args:
        at_least: width of the lines where there is no terminal.
    """
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=max(WIDE, at_least))
