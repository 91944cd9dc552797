"""Check before training that the figure which selects checkpoints will be measured."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from genlab.callbacks.latent_watch import LatentWatch
from genlab.callbacks.sample_metrics import SampleMetrics
from genlab.composition.building import located
from genlab.composition.explaining import did_you_mean
from genlab.composition.named_parts import named
from genlab.errors import InputError
from genlab.metrics.figure import short
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.measures.latents import Latents
from genlab.metrics.measures.modes import ModesReached
from genlab.models.abilities import Diagnosable
from genlab.training.parts import Parts

MEASURES = (FID, KID, InceptionScore, ModesReached)  # of SampleMetrics, if a config names none


def check_monitor(config: Mapping[str, Any], parts: Parts, overrides: Iterable[str]) -> None:
    """Check that validation can measure the monitored figure.

    A figure that a user asks for must be measured in this run. A figure that a model's or an experiment's file names
    may be disabled, as by ``callbacks.sample_metrics.num_samples=null``, but must exist.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.
        overrides: overrides that the run was started with.

    Raises:
        InputError: if the figure cannot be measured.
    """
    metric = config["monitor"]["metric"]
    is_users = any(override.partition("=")[0].lstrip("+") == "monitor.metric" for override in overrides)
    exists = metric.startswith("val/") and short(metric) in _all_known()
    if exists and not is_users:
        return
    measured = parts.training.figures_of_validation(parts.data)
    callbacks = {name: located(node["_target_"], f"callbacks.{name}") for name, node in named(config["callbacks"])}
    if measured is None or any(not callback.__module__.startswith("genlab.") for callback in callbacks.values()):
        return  # a procedure or a callback of the user's own may measure anything
    disabled: dict[str, str] = {}
    for name, callback in callbacks.items():
        node = config["callbacks"][name]
        if _is_a(callback, LatentWatch) and isinstance(parts.training.sampling_model, Diagnosable):
            measured |= set(Latents.figures)
        if _is_a(callback, SampleMetrics):
            measures = _measures(node)
            if measures is None:
                return
            for measure in measures:
                why = _disabled(measure, node, f"callbacks.{name}")
                (measured.update if why is None else _noting(disabled, why))(measure.figures)
    if metric.startswith("val/") and short(metric) in measured:
        return
    if metric.startswith("val/") and (why := disabled.get(short(metric))) is not None:
        if is_users:
            raise InputError(f"monitor.metric={metric}: it is not measured in this run, because {why}")
        return
    known = sorted(f"val/{name}" for name in {*measured, *disabled})
    raise InputError(f"monitor.metric={metric}: validation measures no such figure{did_you_mean(metric, known)}")


def _is_a(found: Any, kind: type) -> bool:
    return isinstance(found, type) and issubclass(found, kind)


def _noting(disabled: dict[str, str], why: str) -> Any:
    return lambda figures: disabled.update(dict.fromkeys(figures, why))


def _measures(node: Mapping[str, Any]) -> list[Any] | None:
    """List the classes of the measures of a SampleMetrics node; None if one may measure what it does not declare."""
    if node.get("measures") is None:
        return list(MEASURES)
    found = [located(measure["_target_"], "measures") for _, measure in named(node["measures"])]
    return found if all(isinstance(measure, type) and getattr(measure, "figures", None) for measure in found) else None


def _disabled(measure: type, node: Mapping[str, Any], where: str) -> str | None:
    """Say why a measure is not taken during training; None if it is."""
    if node.get("num_samples", 1000) is None:
        return f"{where}.num_samples is null"
    if issubclass(measure, FeatureMeasure | InceptionScore) and node.get("features") is None:
        return "metrics.features is null"
    if issubclass(measure, ModesReached) and node.get("modes") is None:
        return "metrics.modes is null"
    return None


def _all_known() -> Collection[str]:
    from genlab.metrics.catalogue import catalogue

    return catalogue().keys() | {"bits_per_dim", "nll", "accuracy_real"}
