"""Run folders: writing, reading, evaluating and resuming runs on disk."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """This package, whose name is also that of a function: ``genlab.runs("outputs")`` opens the runs of a folder."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Open all runs at or below a folder; see :func:`genlab.api.runs`."""
        # By name, because nothing in this package depends on what lies above it.
        return import_module("genlab.api").runs(*arguments, **options)


sys.modules[__name__].__class__ = _Package
