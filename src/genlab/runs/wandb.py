"""Weights & Biases without ever asking for a key."""

import os
from collections.abc import Iterable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only


class ByImagesSeen(WandbLogger):
    """W&B's own step is the images seen, so that it takes what a resumed run repeats for what it has already."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(dict(metrics), step=step)


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc(Path.home() / ".netrc").authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def wandb_logger(save_dir: str, project: str, name: str | None = None, **options: Any) -> WandbLogger:
    """A logger that is online where the user is logged in, offline elsewhere, and what ``WANDB_MODE`` says before both.

    Every curve is drawn over images seen. A run of the same ``id`` is gone on with.

    Args:
        save_dir: the run folder.
        **options: of ``wandb.init``: ``id``, ``resume``, ``group``, ``job_type``, ``tags``, ``entity``, ``notes``.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    settings = wandb.Settings(silent=True)
    run = wandb.init(dir=save_dir, project=project, name=name, mode=mode, settings=settings, **options)  # type: ignore[arg-type]
    run.define_metric("images_seen")
    run.define_metric("*", step_metric="images_seen")
    return ByImagesSeen(experiment=run)


def record_protocols(loggers: Iterable[Any], figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Put how each figure was made into the W&B summary, as ``protocol/<figure>/<field>``."""
    fields = {
        f"protocol/{name}/{key}": value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, result in figures.items()
        for key, value in {**{k: v for k, v in result.items() if k != "value"}, **result["protocol"]}.items()
        if key != "protocol"
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(fields)
