"""Logging to Weights & Biases, without ever asking for a key or waiting long for a network that is down."""

import contextlib
import csv
import math
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.errors import InputError
from genlab.loggers.wandb_rows import lacking, written_rows
from genlab.machine.console import on_one_line
from genlab.machine.environment import code
from genlab.metrics.catalogue import figure
from genlab.metrics.result import Result
from genlab.runs.config import flat
from genlab.runs.folder import METRICS
from genlab.runs.verdicts import Standing

# In seconds; W&B's own values are 90, no limit and 15. WANDB_INIT_TIMEOUT and its like take precedence over these.
PATIENCE: dict[str, Any] = {
    "init_timeout": 20,  # after which a run that cannot start online starts offline
    "finish_timeout": 120,  # for sending what is left at the end; wandb sync sends the rest
    "x_transaction_log_flush_interval": 1,  # a kill loses at most this much of W&B's file
}


class ByImagesSeen(WandbLogger):
    """A W&B logger whose step is the number of images seen.

    Steps that a resumed run repeats, and that W&B has already, are therefore skipped. The best value of every
    validation figure is in the summary, as ``best/val/...``.

    A failure of W&B, whose background process may die at any moment, is said once and never ends the run: nothing
    more is sent then, and ``metrics.csv`` has all figures.

    Args:
        experiment: W&B's run object; None if W&B could not be started.
        best: best values reached before the run was resumed, by figure.
        checkpoints: whether the best checkpoint becomes an artifact at the end.
        last: last step of which W&B has a row; -1 if it has none.
        names: names of the values in that row, to which others may be added.
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
        self.lost = experiment is None

    def tell(self, call: Callable[[], Any]) -> None:
        """Call W&B if it is still there. If it fails, say so and never call it again.

        Args:
            call: function that calls W&B.
        """
        if self.lost:
            return
        try:
            call()
        except Exception as error:  # W&B's errors, and those of the connection to its process, have no common class
            self.lost = True
            say_lost(error, _folder(self._experiment))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.tell(lambda: self._log_metrics(metrics, step))

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self.tell(lambda: super(ByImagesSeen, self).log_image(key, images, step, **kwargs))

    @rank_zero_only
    def log_text(self, *args: Any, **kwargs: Any) -> None:
        self.tell(lambda: super(ByImagesSeen, self).log_text(*args, **kwargs))

    def _log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        if step is not None and step <= self.last:
            metrics = {name: value for name, value in metrics.items() if step == self.last and name not in self.names}
            if not metrics:
                return
            # W&B has closed that row, so the values go to the next step, with the same images_seen as x axis.
            metrics, step = {**metrics, "images_seen": step}, step + 1
        self.experiment.log(dict(metrics), step=step)
        better = {name: value for name, value in metrics.items() if is_better(name, value, self.best.get(name))}
        if better:
            self.best |= better
            self.experiment.summary.update({f"best/{name}": value for name, value in better.items()})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log the config as flat keys such as ``model/width`` (W&B nests keys at dots), with the code's version."""
        config = params if isinstance(params, dict) else vars(params)
        values = flat({**config, "code": code()}, dot="/")
        self.tell(lambda: self.experiment.config.update(values, allow_val_change=True))

    @rank_zero_only
    def summarize(self, values: Mapping[str, Any]) -> None:
        """Put values into the summary of the W&B run.

        Args:
            values: plain values by their names in the summary.
        """
        self.tell(lambda: self.experiment.summary.update(dict(values)))

    def finish(self, folder: Path) -> None:
        """Upload the best checkpoint as an artifact, if ``checkpoints`` is set.

        Args:
            folder: folder of the run.
        """
        best = folder / "checkpoints" / "best.ckpt"
        if self.checkpoints and best.is_file():
            self.tell(lambda: self._upload(best))

    def _upload(self, checkpoint: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"checkpoint-{self.experiment.id}", type="model")
        artifact.add_file(str(checkpoint))
        self.experiment.log_artifact(artifact, aliases=["best"])


def say_lost(error: BaseException, folder: Path | None = None) -> None:
    """Say on stderr that W&B failed and that the run goes on without it.

    Args:
        error: what W&B raised.
        folder: folder of W&B's file of the run; None if there is none.
    """
    reason = on_one_line(f"{type(error).__name__}: {error}")
    sync = f"; what W&B has of it is sent by: wandb sync {folder}" if folder else ""
    print(
        f"genlab: W&B failed ({reason}), and the run goes on without it: metrics.csv has all figures{sync}",
        file=sys.stderr,
    )


def _folder(run: Any) -> Path | None:
    """Give the folder of a W&B run's file; None if the run has none, as when W&B is disabled."""
    try:
        return Path(run.dir).parent
    except Exception:  # W&B asks its process for some attributes
        return None


def is_better(name: str, value: float, than: float | None) -> bool:
    """Tell whether the value of a validation figure is better than the best so far.

    Args:
        name: name of the figure; others than ``val/...`` are never better.
        value: new value.
        than: best value so far; None if there is none.
    """
    direction = figure(name).better
    if not name.startswith("val/") or direction is None or not math.isfinite(value):
        return False
    return than is None or (value < than if direction == "min" else value > than)


def _best_so_far(path: Path) -> dict[str, float]:
    """Find the best validation values of a resumed run in ``metrics.csv``; W&B cannot be asked for them offline."""
    best: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
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
    """Start a W&B run and give its logger.

    The run is online if the user is logged in, else offline; the environment variable ``WANDB_MODE`` overrides this.
    All curves have images seen as x axis. If a run with the same ``id`` exists, it is continued.

    Args:
        save_dir: folder of the run.
        project: W&B's project.
        name: name of the run in W&B; None lets W&B choose one.
        choices: chosen configs of model, dataset and experiment; they become tags, and the model's family becomes the
            job type.
        tags: further tags.
        checkpoints: whether the best checkpoint becomes an artifact at the end.
        **options: further arguments of ``wandb.init``: ``id``, ``resume``, ``group``, ``entity``, ``notes``.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    fields = wandb.Settings.model_fields  # older versions of W&B have fewer settings
    patience = {key: value for key, value in PATIENCE.items() if key in fields and _variable(key) not in os.environ}
    check_environment()
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
        run = _begun(mode, options)
        run.define_metric("images_seen")
        run.define_metric("*", step_metric="images_seen")
        # Online, the server says what it has; offline, the files on disk say what will be sent to it.
        last = run.step - 1 if run.resumed and not run.offline else max(earlier, default=-1)
    except wandb.errors.UsageError as error:
        raise InputError(on_one_line(str(error))) from error
    except Exception as error:  # as in ByImagesSeen.tell
        say_lost(error)
        return ByImagesSeen(None)
    logger = ByImagesSeen(run, _best_so_far(Path(save_dir, METRICS)), checkpoints, last, earlier.get(last, ()))
    logger.tell(lambda: _send_lacking(logger, Path(save_dir), last))
    return logger


def _begun(mode: str, options: Mapping[str, Any]) -> Any:
    """Start the W&B run; offline if it cannot start online."""
    import wandb

    try:
        return wandb.init(mode=mode, **options)  # type: ignore[arg-type]
    except wandb.Error as error:
        if mode != "online" or isinstance(error, wandb.errors.UsageError):
            raise
        reason = on_one_line(str(error))
        print(
            f"genlab: W&B cannot be reached, so the run is offline: wandb sync sends it later ({reason})",
            file=sys.stderr,
        )
        wandb.teardown()  # otherwise its service keeps trying, and keeps the id
        return wandb.init(mode="offline", **options)


def _send_lacking(logger: ByImagesSeen, folder: Path, last: int) -> None:
    """Send what the run folder has and W&B lacks, because a process was killed before W&B had it."""
    for seen, row in lacking(folder, last):
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        logger.log_metrics(figures, step=seen)
        for name, picture in row.items():
            if name not in figures:
                logger.log_image(name, [picture], step=seen)


def check_environment() -> None:
    """Check the values of the environment's ``WANDB_...`` variables; without a well-formed key, the run is offline.

    Raises:
        InputError: if W&B would refuse one; the message names it and its value.
    """
    import wandb
    from pydantic import ValidationError

    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except (ValidationError, wandb.Error) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        name = _variable(str(fault["loc"][0])) if fault["loc"] else "WANDB_API_KEY"  # the one checked without pydantic
        if name == "WANDB_API_KEY" and name in os.environ:  # whose value is a secret
            print(f"genlab: {name} is no key ({fault['msg']}), so the run is offline", file=sys.stderr)
            del os.environ[name]
            return check_environment()
        raise InputError(f"{name}={fault.get('input')}: {fault['msg'][0].lower()}{fault['msg'][1:]}") from None
    except AttributeError:  # a version of W&B without this method; wandb.init checks
        return


def _variable(setting: str) -> str:
    """Name the environment variable of one of W&B's settings."""
    return f"WANDB_{setting.removeprefix('x')}".upper()


def close_run(exit_code: int, lost: bool = False) -> None:
    """End the W&B run of this process; if it could not be sent in time, print the command that sends it later.

    Args:
        exit_code: exit code for W&B to record; 0 for success.
        lost: whether W&B failed before, and it was said.
    """
    import wandb

    folder = _folder(wandb.run) if wandb.run else None
    try:
        wandb.finish(exit_code=exit_code)
    except TimeoutError:
        print(f"genlab: W&B was not sent everything; this sends it later: wandb sync {folder}", file=sys.stderr)
    except Exception as error:  # as in ByImagesSeen.tell
        if not lost:
            say_lost(error, folder)
        lost = True
    if lost:
        _forget_process()


def _forget_process() -> None:
    """Give up W&B's dead process, so that the next run of this process starts another one."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()


def record_protocols(loggers: Iterable[Any], figures: Mapping[str, Result]) -> None:
    """Put how each figure was measured into the W&B summary, as ``protocol/<figure>/<field>``.

    Args:
        loggers: loggers of the run, of which those of W&B are used.
        figures: results by the name of the figure.
    """
    fields = {
        f"protocol/{name}/{key}": value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, result in figures.items()
        for key, value in {**result.to_json(), **result.protocol}.items()
        if key not in ("value", "protocol")
    }
    for logger in loggers:
        if isinstance(logger, ByImagesSeen):
            logger.summarize(fields)


def record_verdicts(loggers: Iterable[Any], beside: Mapping[str, Standing]) -> None:
    """Put published figures into the W&B summary, as ``published/<figure>``, and verdicts, as ``verdict/<figure>``.

    Args:
        loggers: loggers of the run, of which those of W&B are used.
        beside: published figures beside the run's, by short name.
    """
    fields: dict[str, Any] = {f"published/{name}": one.published for name, one in beside.items()}
    fields |= {f"verdict/{name}": one.words for name, one in beside.items()}
    for logger in loggers:
        if fields and isinstance(logger, ByImagesSeen):
            logger.summarize(fields)
