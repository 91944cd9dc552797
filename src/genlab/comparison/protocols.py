"""What must agree before two numbers share a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genlab.comparison.runs import Run
from genlab.metrics.figure import Figure
from genlab.metrics.result import Result


@dataclass(frozen=True)
class Agreement:
    """The part of a result's protocol that must be another result's, too.

    Attributes:
        fields: fields that must be equal, ``None`` for one that is not stated.
        settings: settings of the sampler by name, ``None`` for one that is not in force. Samplers that have the same
            settings must agree in them. Others have nothing to agree in, and their numbers stand together where each
            run was sampled as at the end of its training.
        usual: whether the settings are those of the end of training.
    """

    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    usual: bool

    def joins(self, other: "Agreement") -> bool:
        """Whether two results may stand in one column."""
        one_kind = self.settings.keys() == other.settings.keys()
        sampled_alike = self.settings == other.settings if one_kind else self.usual and other.usual
        return self.fields == other.fields and sampled_alike

    def shown(self) -> dict[str, Any]:
        """The fields that are stated, the sampler's settings among them."""
        stated = {key: value for key, value in self.fields.items() if value is not None}
        settings = {f"sampling.{key}": value for key, value in self.settings.items() if value is not None}
        return {**stated, **settings}


def agreement(run: Run, name: str, result: Result, about: Figure) -> Agreement:
    """Read what must agree off a result, with what older records of the run left unsaid.

    Args:
        name: name of the figure, ``test/fid``.
    """
    protocol = {**_unsaid(run), **result.protocol}
    fields = {key: protocol.get(key) for key in about.protocol if key != "sampling"}
    if "checkpoint" in fields:
        fields["checkpoint"] = _checkpoint(str(fields["checkpoint"]))
    if "sampling" not in about.protocol:
        return Agreement(fields, {}, True)
    return Agreement(fields, _settings(result), _is_usual(result, run.trained.get(name)))


def _unsaid(run: Run) -> dict[str, Any]:
    """What a run's config says of its results that they do not say themselves.

    Runs were measured at their best checkpoint where they kept one, with averaged weights where they had some, and
    likelihoods of class-conditional models were those of examples given their classes.
    """
    config = run.config
    return {
        "checkpoint": "last" if "callbacks.best" in config and config["callbacks.best"] is None else "best",
        "weights": "ema" if config.get("training.ema_decay") else "raw",
        "given": None if config.get("model.num_classes") is None else "classes",
    }


def _checkpoint(name: str) -> str:
    """``best``, ``last`` or a file's name; the weights that training ended with are those of the last checkpoint."""
    return "last" if name == "none" else Path(name).stem


def _settings(result: Result) -> dict[str, Any]:
    """A sampler's settings without the temperature, which is a field of its own."""
    stated = result.protocol.get("sampling")
    return {key: stated[key] for key in sorted(stated) if key != "temperature"} if isinstance(stated, Mapping) else {}


def _is_usual(result: Result, trained: Result | None) -> bool:
    """Whether samples were drawn as at the end of training; of earlier records, as the sampler's words say."""
    settings = _settings(result)
    if not any(value is not None for value in settings.values()):
        return True
    if trained is None:
        return False
    if "sampling" not in trained.protocol:
        return result.protocol.get("sampler") == trained.protocol.get("sampler")
    return settings == _settings(trained)
