"""Weights & Biases without ever asking for a key, or waiting for a network that is not there."""

import csv
import math
import os
import sys
from argparse import Namespace
from collections.abc import Collection, Iterable, Mapping, Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.loggers.wandb_rows import lacking, written_rows
from genlab.machine.environment import code
from genlab.metrics.catalogue import figure
from genlab.metrics.result import Result
from genlab.runs.config import flat
from genlab.runs.folder import METRICS

# In seconds; W&B's own are 90, for ever and 15. WANDB_INIT_TIMEOUT and the like come before them.
PATIENCE: dict[str, Any] = {
    "init_timeout": 20,  # until a run that cannot be begun online is offline
    "finish_timeout": 120,  # for what is still to be sent at the end; wandb sync sends the rest
    "x_transaction_log_flush_interval": 1,  # what a kill takes from W&B's file
}


class ByImagesSeen(WandbLogger):
    """W&B's own step is the images seen, so that it takes what a resumed run repeats for what it has already.

    The best value of every validation figure is in the summary, as ``best/val/...``.

    Args:
        experiment: W&B's run.
        best: values that were reached before, by figure.
        checkpoints: whether the best checkpoint becomes an artifact at the end.
        last: W&B has rows of the run up to this step.
        names: what there is in the last of them, to which more may come.
    """

    def __init__(
        self,
        experiment: Any,
        best: Mapping[str, float] | None = None,
        checkpoints: bool = False,
        last: int = -1,
        names: Collection[str] = (),
    ) -> None:
        super().__init__(experiment=experiment)
        self.best, self.checkpoints, self.last, self.names = dict(best or {}), checkpoints, last, names

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None and step <= self.last:
            metrics = {name: value for name, value in metrics.items() if step == self.last and name not in self.names}
            if not metrics:
                return
            # That row is closed; the next one is drawn over the same images seen.
            metrics, step = {**metrics, "images_seen": step}, step + 1
        self.experiment.log(dict(metrics), step=step)
        better = {name: value for name, value in metrics.items() if is_better(name, value, self.best.get(name))}
        if better:
            self.best |= better
            self.experiment.summary.update({f"best/{name}": value for name, value in better.items()})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config as flat keys, ``model/width``, as W&B takes a dot for nesting; beside it the code's version."""
        config = params if isinstance(params, dict) else vars(params)
        self.experiment.config.update(flat({**config, "code": code()}, dot="/"), allow_val_change=True)

    def finish(self, folder: Path) -> None:
        """What is there at the end only.

        Args:
            folder: of the run.
        """
        best = folder / "checkpoints" / "best.ckpt"
        if self.checkpoints and best.is_file():
            import wandb

            artifact = wandb.Artifact(f"checkpoint-{self.experiment.id}", type="model")
            artifact.add_file(str(best))
            self.experiment.log_artifact(artifact, aliases=["best"])


def is_better(name: str, value: float, than: float | None) -> bool:
    """Whether a validation figure's value is the best so far."""
    direction = figure(name).better
    if not name.startswith("val/") or direction is None or not math.isfinite(value):
        return False
    return than is None or (value < than if direction == "min" else value > than)


def _best_so_far(path: Path) -> dict[str, float]:
    """Of a run that goes on: W&B's offline files cannot be asked."""
    best: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if text and name.startswith("val/") and is_better(name, float(text), best.get(name)):
                        best[name] = float(text)
    return best


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc(Path.home() / ".netrc").authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def wandb_logger(
    save_dir: str,
    project: str,
    name: str | None = None,
    choices: Mapping[str, str | None] | None = None,
    tags: Sequence[str] = (),
    checkpoints: bool = False,
    **options: Any,
) -> WandbLogger:
    """A logger that is online where the user is logged in, offline elsewhere, and what ``WANDB_MODE`` says before both.

    Every curve is drawn over images seen. A run of the same ``id`` is gone on with.

    Args:
        save_dir: the run folder.
        choices: of model, dataset and experiment: they become tags, and the model's family the job type.
        tags: more of them.
        checkpoints: whether the best checkpoint becomes an artifact at the end.
        **options: of ``wandb.init``: ``id``, ``resume``, ``group``, ``entity``, ``notes``.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    fields = wandb.Settings.model_fields  # of an older W&B there are fewer
    patience = {key: value for key, value in PATIENCE.items() if key in fields and _variable(key) not in os.environ}
    settings = wandb.Settings(silent=True, **patience)
    if "finish_timeout_raises" in fields:
        settings.finish_timeout_raises = True
    earlier = written_rows(Path(save_dir))
    chosen = {key: value for key, value in (choices or {}).items() if value}
    options |= {
        "dir": save_dir,
        "project": project,
        "name": name,
        "settings": settings,
        "job_type": chosen.get("model", "").partition("/")[0] or None,
        "tags": [*dict.fromkeys(word[:64] for word in [*chosen.values(), *tags])],
    }
    try:
        run = wandb.init(mode=mode, **options)  # type: ignore[arg-type]
    except wandb.Error as error:
        if mode != "online":
            raise
        reason = " ".join(str(error).split())
        print(
            f"genlab: W&B cannot be reached, so the run is offline: wandb sync sends it later ({reason})",
            file=sys.stderr,
        )
        wandb.teardown()  # its service goes on trying, and keeps the id
        run = wandb.init(mode="offline", **options)
    run.define_metric("images_seen")
    run.define_metric("*", step_metric="images_seen")
    # The server knows what it has; where it cannot be asked, the files are what will be sent to it.
    last = run.step - 1 if run.resumed and not run.offline else max(earlier, default=-1)
    logger = ByImagesSeen(run, _best_so_far(Path(save_dir, METRICS)), checkpoints, last, earlier.get(last, ()))
    for seen, row in lacking(Path(save_dir), last):
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        logger.log_metrics(figures, step=seen)
        for name, picture in row.items():
            if name not in figures:
                logger.log_image(name, [picture], step=seen)
    return logger


def _variable(setting: str) -> str:
    """The environment variable of one of W&B's settings."""
    return f"WANDB_{setting.removeprefix('x')}".upper()


def close_run(exit_code: int) -> None:
    """End the W&B run of this process; what could not be sent in time is named."""
    import wandb

    folder = Path(wandb.run.dir).parent if wandb.run else None
    try:
        wandb.finish(exit_code=exit_code)
    except TimeoutError:
        print(f"genlab: W&B was not sent everything; this sends it later: wandb sync {folder}", file=sys.stderr)


def record_protocols(loggers: Iterable[Any], figures: Mapping[str, Result]) -> None:
    """Put how each figure was made into the W&B summary, as ``protocol/<figure>/<field>``."""
    fields = {
        f"protocol/{name}/{key}": value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, result in figures.items()
        for key, value in {**result.to_json(), **result.protocol}.items()
        if key not in ("value", "protocol")
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(fields)
