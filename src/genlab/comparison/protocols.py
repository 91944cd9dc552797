"""Agreement of protocols: the conditions under which two values may share a column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genlab.comparison.later_keys import LATER_SETTINGS
from genlab.comparison.runs import Run
from genlab.metrics.figure import Figure
from genlab.metrics.result import Result


@dataclass(frozen=True)
class Agreement:
    """The part of a result's protocol that must match another result's for the two to be compared.

    Attributes:
        fields: protocol fields that must be equal; None for a field that the protocol lacks.
        settings: sampling settings by name; None for a setting that is disabled. If two samplers have the same setting
            names, the values must be equal. If the names differ, the results are comparable if both runs were sampled
            with the settings used at the end of their training.
        usual: whether the settings are those used at the end of training.
        own_weights: whether the weights are those that the run samples with: the averaged ones if it has an average.
            Then they are a part of the method, and the results of a run with and one without an average are comparable.
    """

    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    usual: bool
    own_weights: bool = False

    def joins(self, other: "Agreement") -> bool:
        """Tell whether two results may share a column."""
        one_kind = self.settings.keys() == other.settings.keys()
        sampled_alike = self.settings == other.settings if one_kind else self.usual and other.usual
        apart = {"weights"} if self.own_weights and other.own_weights else set()
        keys = (self.fields.keys() | other.fields.keys()) - apart
        return all(self.fields.get(key) == other.fields.get(key) for key in keys) and sampled_alike

    def shown(self) -> dict[str, Any]:
        """Give the fields and sampling settings that are not None."""
        stated = {key: value for key, value in self.fields.items() if value is not None}
        settings = {f"sampling.{key}": value for key, value in self.settings.items() if value is not None}
        return {**stated, **settings}


def shared(terms: Sequence[Agreement]) -> dict[str, Any]:
    """Give what the results of a column have in common, as far as it is not None; weights of several kinds are listed.

    Args:
        terms: agreements of the column's results, the most frequent first.
    """
    found = {key: value for one in reversed(terms) for key, value in one.shown().items()}
    kinds = list(dict.fromkeys(str(one.fields["weights"]) for one in terms if one.fields.get("weights") is not None))
    return {**found, "weights": ", ".join(kinds)} if len(kinds) > 1 else found


def agreement(run: Run, name: str, result: Result, about: Figure) -> Agreement:
    """Extract the fields that must agree from a result; fields missing in older results are derived from the config.

    Args:
        run: run of the result.
        name: name of the figure, e.g. ``test/fid``.
        result: result of the figure.
        about: declaration of the figure.
    """
    unsaid = _unsaid(run)
    protocol = {**unsaid, **result.protocol}
    own_weights = protocol["weights"] == unsaid["weights"]
    fields = {key: protocol.get(key) for key in about.protocol if key != "sampling"}
    if fields.get("test_sha256") is not None:
        fields.pop("split_seed", None)  # the hash says more
    if "checkpoint" in fields:
        fields["checkpoint"] = _checkpoint(str(fields["checkpoint"]))
    if "sampling" not in about.protocol:
        return Agreement(fields, {}, True, own_weights)
    return Agreement(fields, _settings(run, result), _is_usual(run, result, run.trained.get(name)), own_weights)


def _unsaid(run: Run) -> dict[str, Any]:
    """Derive protocol fields that older results lack from the run's config.

    Older runs were measured at their best checkpoint if they kept one, and with averaged weights if they had these.
    The likelihood of a class-conditional model was that of examples given their classes. The hash of the test examples
    stays unknown, which is no hash of later results: a path does not say what lay there.
    """
    config = run.config
    return {
        "checkpoint": "last" if "callbacks.best" in config and config["callbacks.best"] is None else "best",
        "weights": "ema" if config.get("training.ema_decay") or config.get("training.ema_images") else "raw",
        "given": None if config.get("model.num_classes") is None else "classes",
        "split_seed": config.get("dataset.split_seed") or config.get("dataset.of.split_seed") or None,
    }


def _checkpoint(name: str) -> str:
    """Normalize a checkpoint's name: ``none`` stands for the final weights of training, which equal ``last``."""
    return "last" if name == "none" else Path(name).stem


def _settings(run: Run, result: Result) -> dict[str, Any]:
    """Give the sampling settings except for the temperature, which is a separate protocol field."""
    stated = result.protocol.get("sampling")
    if not isinstance(stated, Mapping):
        return {}
    complete = {**LATER_SETTINGS.get(str(run.config.get("model._target_")), {}), **stated}
    return {key: complete[key] for key in sorted(complete) if key != "temperature"}


def _is_usual(run: Run, result: Result, trained: Result | None) -> bool:
    """Tell whether samples were drawn as at the end of training; older records only have the sampler's description."""
    settings = _settings(run, result)
    if not any(value is not None for value in settings.values()):
        return True
    if trained is None:
        return False
    if "sampling" not in trained.protocol:
        return result.protocol.get("sampler") == trained.protocol.get("sampler")
    return settings == _settings(run, trained)
