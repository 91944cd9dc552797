"""Whether the packages of the chosen loggers are installed, asked before a run begins."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from genlab.composition.building import located
from genlab.composition.named_parts import named
from genlab.errors import InputError


def check_loggers(group: Mapping[str, Any] | None) -> None:
    """Call ``check_environment`` of the module of every chosen logger that has such a function.

    Args:
        group: nodes of the config's loggers, by name.

    Raises:
        InputError: if a logger cannot work here, such as for want of its package.
    """
    for name, node in named(group):
        module = sys.modules.get(getattr(located(node["_target_"], f"logger.{name}"), "__module__", ""))
        if (check := getattr(module, "check_environment", None)) is not None:
            check()


def check_installed(module: str, title: str, extra: str) -> None:
    """Check that the package of a tracker is installed, without importing it.

    Args:
        module: name of the module.
        title: name of the tracker.
        extra: extra of genlab that installs it.

    Raises:
        InputError: if it is not.
    """
    if find_spec(module) is None:
        raise InputError(f"{title} is not installed: pip install 'genlab[{extra}]'")
