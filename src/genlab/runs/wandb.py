"""Weights & Biases without ever asking for a key."""

import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc(Path.home() / ".netrc").authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def wandb_logger(save_dir: str, project: str, name: str | None = None, **options: Any) -> WandbLogger:
    """A logger that is online where the user is logged in, offline elsewhere, and what ``WANDB_MODE`` says before both.

    Every curve is drawn over images seen.

    Args:
        save_dir: the run folder.
        **options: of ``wandb.init``: ``group``, ``job_type``, ``tags``, ``entity``, ``notes``.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    settings = wandb.Settings(silent=True)
    run = wandb.init(dir=save_dir, project=project, name=name, mode=mode, settings=settings, **options)  # type: ignore[arg-type]
    run.define_metric("images_seen")
    run.define_metric("*", step_metric="images_seen")
    return WandbLogger(experiment=run)
