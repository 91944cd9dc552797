"""Where tables go: the terminal's width on a terminal, wide lines elsewhere, so that no path is cut."""

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=180)
