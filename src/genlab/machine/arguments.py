"""The command lines of commands that compose no config."""

import argparse
from typing import NoReturn

from genlab.errors import InputError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of the other commands.

    Args:
        name: the command as users type it, such as ``"genlab models"``.
        description: what the command does, for ``--help``.
    """

    def __init__(self, name: str, description: str | None) -> None:
        super().__init__(name, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; {self.prog} --help says more")
