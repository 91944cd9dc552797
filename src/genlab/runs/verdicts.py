"""Published figures beside finished runs: what of a run folder counts for a verdict, for one run or for several seeds.

Nothing heavy is imported here, so that runs can be compared without PyTorch.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genlab.composition.renamed_groups import with_new_names
from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.metrics.figure import short
from genlab.metrics.published import Outcome, Published, Tolerance, Verdict, judged
from genlab.metrics.result import Result
from genlab.runs.config import below
from genlab.runs.folder import RunFolder

# What may differ between machines without another result: where files lie, the device, and what is logged where.
FREE = (
    "trainer",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.tune",  # which changes nothing of an experiment with published figures
    "paths.",
    "logger",
    "logger.",
    "tags",
    "notes",
    "group",
)
# Overrides that choose the experiment and the seed, or are about the command and not about the run.
OF_THE_COMMAND = ("experiment", "seed", "name", "resume", "sweep", "trust", "force", "dataset.num_workers")
# Overrides with which a figure is measured on other data, or otherwise, than its experiment says.
OF_EVERY_PROTOCOL = ("dataset", "distribution", "text/tokenizer", "text", "callbacks.best", "debug")
OF_LIKELIHOODS = ("metrics.num_test", "metrics.importance_samples")
OF_SAMPLES = (
    "metrics.num_samples",
    "metrics.features",
    "metrics/features",
    "metrics.modes",
    "metrics/modes",
    "metrics.reference",
    "metrics.norm_statistics",
    "sampling",
)
OF_THE_TRAINING = ("dataset.batch_size", "dataset.flip")  # which are no other data to be measured on

OTHER_DATA = "on other data than it was trained on"  # in the warning of a result


def is_free(key: str) -> bool:
    """Tell whether an override of a key only changes where a run runs and what it logs.

    Args:
        key: key of the config, such as ``trainer.devices``.
    """
    return any(key == free or (free.endswith(".") and key.startswith(free)) for free in FREE)


def overridden(texts: Iterable[str]) -> dict[str, str]:
    """Split overrides into keys and values: ``+a/b@c=d`` becomes ``{"a/b": "d"}``, and ``~a`` becomes ``{"a": ""}``.

    Args:
        texts: overrides as they were given on a command line.
    """
    found = (re.match(r"[+~]*([^=@]+)(?:@[^=]*)?(?:=(.*))?$", text, re.DOTALL) for text in with_new_names(texts))
    return {one[1]: one[2] or "" for one in found if one}


def published_in(config: Mapping[str, Any]) -> Published | None:
    """Read the published figures in a run's config; None if it has none, or a block that cannot be read.

    Args:
        config: config of a run, as plain values.
    """
    block = config.get("reference")
    try:
        return Published.from_config(block) if block else None
    except InputError:  # of an earlier version: a run that begins today is refused
        return None


def ended(config: Mapping[str, Any], summary: Mapping[str, Any], folder: RunFolder) -> bool:
    """Tell whether a training ended by its own criterion; a run with early stopping must have been stopped by it.

    Args:
        config: config of the run, as plain values.
        summary: content of its ``summary.json``.
        folder: folder of the run, whose checkpoint is read if the summary is of an earlier version.
    """
    callbacks = [node for node in (config.get("callbacks") or {}).values() if isinstance(node, Mapping)]
    if not any("EarlyStopping" in str(node.get("_target_")) for node in callbacks):
        return True
    if "ended" in summary:
        return bool(summary["ended"])
    path = folder.checkpoints / "last.ckpt"
    if not path.is_file():
        return False
    from genlab.runs.checkpoints import read_checkpoint  # imports PyTorch

    states = read_checkpoint(path)["callbacks"]
    return any(state.get("stopped_epoch") for name, state in states.items() if name.startswith("EarlyStopping"))


@dataclass(frozen=True)
class Finished:
    """A run that was trained to its end, as far as a verdict needs it.

    Attributes:
        published: published figures of its experiment.
        trained: results from the end of its training, by short name.
        results: all results of each figure in order of time, by short name.
        images_seen: number of images that the training has seen.
        ended: whether the training ended as its experiment says, and not before.
        changed: overrides by which the run differs from its experiment, by key.
        draws: number of draws of the importance-weighted likelihood in its config; None if it is not measured.
    """

    published: Published
    trained: Mapping[str, Result]
    results: Mapping[str, Sequence[Result]]
    images_seen: int
    ended: bool
    changed: Mapping[str, str]
    draws: int | None = None

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        summary: Mapping[str, Any],
        status: Mapping[str, Any],
        folder: RunFolder,
        results: Mapping[str, Sequence[Result]] | None = None,
    ) -> "Finished | None":
        """Collect what a verdict needs of a run; None if its config has no published figures.

        Args:
            config: config of the run, as plain values.
            summary: content of its ``summary.json``.
            status: content of its ``status.json``.
            folder: folder of the run.
            results: results to judge by name; None for those of the summary.
        """
        published = published_in(config)
        if published is None:
            return None
        trained = {short(name): Result.from_json(one) for name, one in summary.get("metrics", {}).items()}
        judged_on = {name: [one] for name, one in trained.items()} if results is None else results
        return cls(
            published,
            trained,
            {short(name): several for name, several in judged_on.items()},
            summary.get("images_seen", 0),
            ended(config, summary, folder),
            _changed(config, status),
            (config.get("metrics") or {}).get("importance_samples"),
        )

    def measured(self, name: str) -> float | str | None:
        """Give the last value of a figure that was measured as the run's experiment says.

        Args:
            name: short name of a published figure.

        Returns:
            The value; or what is unlike the experiment, in words, if it was only measured otherwise; None if it was not
            measured at all.
        """
        unlike = None
        for result in reversed(self.results.get(name, ())):
            if (unlike := self._unlike(name, result)) is None:
                return float(result.value)
        return unlike

    def _unlike(self, name: str, result: Result) -> str | None:
        """Say in what a result differs from what the experiment measures; None if in nothing."""
        fields = figure(name).protocol
        of_samples = "num_samples" in fields
        keys = (*OF_EVERY_PROTOCOL, *(OF_SAMPLES if of_samples else OF_LIKELIHOODS))
        for key, value in self.changed.items():
            if below(key, keys) and not below(key, OF_THE_TRAINING):
                return f"{key}={value}" if value else f"no {key}"
        if OTHER_DATA in (result.warning or ""):
            return "other data"
        for key, value in self._expected(name, fields, result).items():
            if (found := _comparable(key, result.protocol.get(key))) != (wanted := _comparable(key, value)):
                return f"{key} {_shown(found)}, not {_shown(wanted)}"
        return None

    def _expected(self, name: str, fields: Iterable[str], result: Result) -> dict[str, Any]:
        """Give the protocol that a figure must have: that of the end of training.

        If it was not measured then, the config and the figures that were measured say what they can.
        """
        if name in self.trained:
            protocol = self.trained[name].protocol
            return {key: protocol[key] for key in fields if key in protocol}
        others = {key: value for one in self.trained.values() for key, value in one.protocol.items()}
        expected = {key: others[key] for key in fields if key in others and key in result.protocol}
        return {**expected, "draws": self.draws} if "draws" in fields else expected


def _changed(config: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, str]:
    """List the overrides by which a run differs from its experiment; one without an experiment differs from nothing."""
    if not (config.get("choices") or {}).get("experiment"):
        return {}
    later = [change for one in status.get("resumed", ()) for change in one.get("changes", ())]
    given = overridden([*status.get("overrides", ()), *later])
    return {key: value for key, value in given.items() if not is_free(key) and not below(key, OF_THE_COMMAND)}


def _comparable(key: str, value: Any) -> Any:
    """Bring the value of a protocol field to a form in which one from a file and one just measured are equal."""
    if key == "checkpoint" and isinstance(value, str):
        return "last" if value == "none" else Path(value).stem  # none: the final weights of training
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if value is None:
        return "none"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else f"{text[:8]}…"


@dataclass(frozen=True)
class Standing:
    """A published figure beside that of a run, or of several seeds of one setting.

    Attributes:
        name: short name of the figure.
        published: published value.
        tolerance: tolerance of the published value.
        verdict: verdict; its mean is None if no value was measured as the experiment says.
        remark: what a reader must know beside the verdict, such as what is unlike the experiment; may be empty.
    """

    name: str
    published: float
    tolerance: Tolerance
    verdict: Verdict
    remark: str = ""

    @property
    def words(self) -> str:
        """The verdict with its remark, such as ``truncated 25 %; changed: trainer.max_epochs=3``."""
        if self.verdict.mean is None:
            return self.remark or "not measured"
        return "; ".join(filter(None, (str(self.verdict), self.remark)))

    @property
    def target(self) -> str:
        """The published value with its tolerance, such as ``84.87 ± 0.5``."""
        side = "" if self.tolerance.side == "both" else " (worse side)"
        return f"{self.published:g} ± {self.tolerance.value:g}{side}"

    @property
    def line(self) -> str:
        """A line for a terminal: figure, published value, tolerance, ours and verdict."""
        ours = "" if self.verdict.mean is None else f", ours {self.verdict.measured}"
        return f"{figure(self.name).label} {self.target}{ours}: {self.words}"

    def withheld(self, reason: str) -> "Standing":
        """Return a copy with a reason in place of the verdict."""
        return replace(self, verdict=Verdict("unrun"), remark=reason)

    def to_json(self) -> dict[str, Any]:
        """Convert to the form stored in ``evaluation.json``."""
        return {"value": self.published, "tolerance": self.tolerance.value, "verdict": self.words}


def standings(published: Published, runs: Sequence[Finished]) -> dict[str, Standing]:
    """Judge each published figure of a setting from all of its seeds, by short name.

    A run whose figure was measured otherwise than its experiment says does not count, and the remark says so.

    Args:
        published: published figures of the setting's experiment.
        runs: finished runs that differ in nothing but their seed.
    """
    found = {}
    for name, value in published.figures.items():
        measured = [(run, run.measured(name)) for run in runs]
        counted = {id(run): one for run, one in measured if isinstance(one, float)}
        outcomes = [Outcome({name: counted[id(run)]}, run.images_seen, run.ended) for run in runs if id(run) in counted]
        unlike = [one for _, one in measured if isinstance(one, str)]
        remarks = []
        if unlike:
            which = f" ({unlike[0]})"
            remarks.append(
                f"other protocol{which}" if not counted else f"without {len(unlike)} of other protocol{which}"
            )
        changed = {key: one for run in runs if id(run) in counted for key, one in run.changed.items()}
        if changed:
            remarks.append(
                "changed: " + ", ".join(f"{key}={one}" if one else f"no {key}" for key, one in changed.items())
            )
        verdict = judged(published, name, outcomes)
        found[name] = Standing(name, value, published.tolerance[name], verdict, "; ".join(remarks))
    return found
