"""Callbacks and loggers that a program gives a run as objects, beside those of its config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.loggers.logger import Logger

from genlab.errors import InputError


@dataclass(frozen=True)
class Objects:
    """Objects of this process that take part in a training.

    Attributes:
        callbacks: Lightning's callbacks.
        loggers: Lightning's loggers.
    """

    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger] = ()

    def __post_init__(self) -> None:
        for name, kind, group in (("callbacks", Callback, "callbacks"), ("loggers", Logger, "logger")):
            given = getattr(self, name)
            if isinstance(given, str):
                raise InputError(f"{name} are objects here; give an option of the config as a text: '{group}={given}'")
            for one in given:
                if not isinstance(one, kind):
                    raise InputError(f"{name}: {type(one).__name__} is not a {kind.__name__} of pytorch_lightning")

    def named(self) -> dict[str, Callback]:
        """Give the callbacks under names that no config uses."""
        return {f"<{i}>": callback for i, callback in enumerate(self.callbacks)}

    def check_alone(self, is_alone: bool) -> None:
        """Check that the run has one process, as objects cannot be sent to others.

        Args:
            is_alone: whether this process is the only one.

        Raises:
            InputError: if it is not, and there are objects.
        """
        if self and not is_alone:
            raise InputError(
                "callbacks and loggers that are objects take part in runs of one process: set trainer.devices=1, or "
                "name their classes in a config"
            )

    def __bool__(self) -> bool:
        return bool(self.callbacks or self.loggers)

    def facts(self) -> Mapping[str, Any]:
        """Give what the run's status says of them, because its config does not."""
        if not self:
            return {}
        return {
            "objects": [f"{type(one).__module__}.{type(one).__qualname__}" for one in (*self.callbacks, *self.loggers)]
        }


NONE = Objects()
