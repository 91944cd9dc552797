"""The folders in which a command finds configs."""

from collections.abc import Sequence
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.installed import conf_dir


def roots(own: Sequence[str] = ()) -> list[Path]:
    """List the folders of configs: ``conf/``, and then the user's own.

    Args:
        own: folders that ``--config-dir`` gives.

    Raises:
        InputError: if one of them is no folder.
    """
    for folder in own:
        if not Path(folder).is_dir():
            raise InputError(f"--config-dir {folder}: there is no such folder")
    return [Path(conf_dir()), *map(Path, own)]
