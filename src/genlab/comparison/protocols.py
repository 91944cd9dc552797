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
        sampler: how samples were drawn, in words.
        settings: settings of the sampler. Numbers of one sampler must agree in them. Two samplers have settings of
            their own, and their numbers agree where each sampled as at the end of its run's training.
        usual: whether the settings are those of the end of training.
    """

    fields: Mapping[str, Any]
    sampler: str | None
    settings: Mapping[str, Any]
    usual: bool

    def joins(self, other: "Agreement") -> bool:
        """Whether two results may stand in one column."""
        sampled_alike = self.settings == other.settings if self.sampler == other.sampler else self.usual and other.usual
        return self.fields == other.fields and sampled_alike

    def shown(self) -> dict[str, Any]:
        """The fields that are stated, the sampler's settings among them."""
        stated = {key: value for key, value in self.fields.items() if value is not None}
        return {**stated, **{f"sampling.{key}": value for key, value in self.settings.items()}}


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
        return Agreement(fields, None, {}, True)
    settings, trained = _settings(result), run.trained.get(name)
    usual = not settings or (trained is not None and settings == _settings(trained))
    return Agreement(fields, protocol.get("sampler"), settings, usual)


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
    """A sampler's settings that are in force, without the temperature, which is a field of its own."""
    stated = result.protocol.get("sampling")
    found = stated if isinstance(stated, Mapping) else {}
    return {key: found[key] for key in sorted(found) if key != "temperature" and found[key] is not None}
