"""A command's config composed for a call from Python, with the errors of a command line as exceptions."""

from collections.abc import Iterable

from omegaconf import DictConfig

from genlab.composition.command_line import spelled
from genlab.composition.configs import composed
from genlab.composition.explaining import explain
from genlab.errors import InputError


def composed_by(command: str, overrides: Iterable[str]) -> DictConfig:
    """Compose a command's config from overrides as the user writes them.

    Args:
        command: name of the command, such as ``"train"``.
        overrides: overrides as on the command line.

    Raises:
        InputError: if an override is wrong.
    """
    try:
        return composed(command, spelled(command, overrides))
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise InputError(line) from error
