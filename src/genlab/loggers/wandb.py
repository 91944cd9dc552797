"""Logging to Weights & Biases, without ever asking for a key or waiting long for a network that is down."""

import contextlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.errors import InputError
from genlab.loggers.best import best_so_far, is_better
from genlab.loggers.contents import told_config
from genlab.loggers.rows import rows_after
from genlab.loggers.tracker import Tracker, say_lost
from genlab.loggers.wandb_rows import written_rows
from genlab.loggers.wandb_settings import check_environment as check_environment
from genlab.loggers.wandb_settings import chosen_mode, settings
from genlab.machine.plain_text import on_one_line
from genlab.runs.folder import METRICS

TITLE = "W&B"
PROTOCOLS = "protocols"  # key in the summary, of JSON


class ByImagesSeen(Tracker, WandbLogger):
    """A W&B logger whose step is the number of images seen.

    Steps that a resumed run repeats, and that W&B has already, are therefore skipped. The best value of every
    validation figure is in the summary, as ``best/val/...``.

    Args:
        experiment: W&B's run object; None if W&B could not be started.
        best: best values reached before the run was resumed, by figure.
        checkpoints: whether the best checkpoint becomes an artifact at the end.
        last: last step of which W&B has a row; -1 if it has none.
        names: names of the values in that row, to which others may be added.
        folder: folder of the run; None if nothing of it is to be uploaded.
    """

    title = TITLE

    def __init__(
        self,
        experiment: Any,
        best: Mapping[str, float] | None = None,
        checkpoints: bool = False,
        last: int = -1,
        names: Collection[str] = (),
        folder: Path | None = None,
    ) -> None:
        super().__init__(experiment=experiment)
        self.best, self.checkpoints, self.last, self.names = dict(best or {}), checkpoints, last, names
        self.lost, self.folder = experiment is None, folder

    def advice(self) -> str:
        return _advice(_folder(self._experiment))

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

    def send_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        super().log_image(name, [picture], step=images_seen)

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        rows = [list(row) for row in zip(captions, texts, strict=True)]
        super().log_text(name, columns=["caption", "text"], data=rows, step=images_seen)

    def send_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        import wandb

        shown = [wandb.Image(picture, caption=one) for one, picture in zip(captions, pictures, strict=True)]
        # To the row of the final figures, which W&B may have put at a later step than images_seen.
        step = max(images_seen, self.experiment.step)
        table = wandb.Table(
            columns=["caption", "sample"], data=[list(row) for row in zip(captions, shown, strict=True)]
        )
        try:
            self.experiment.log({name: table}, step=step)
        except Exception:  # of a run that is online, and whose network is lost: a table takes the server's word
            self.experiment.log({name: shown}, step=step)

    def send_config(self, config: dict[str, Any]) -> None:
        self.experiment.config.update(told_config(config), allow_val_change=True)

    def send_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        text = json.dumps(protocols, default=str)
        self.experiment.summary.update({**facts, **({PROTOCOLS: text} if protocols else {})})
        best = self.folder / "checkpoints" / "best.ckpt" if self.folder else None
        if self.checkpoints and best is not None and best.is_file():
            self._upload(best)

    def _upload(self, checkpoint: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"checkpoint-{self.experiment.id}", type="model")
        artifact.add_file(str(checkpoint))
        self.experiment.log_artifact(artifact, aliases=["best"])

    def send_end(self, word: str, reason: str) -> None:
        if word == "failed":
            self.experiment.alert(title=f"{self.experiment.name} failed", text=reason, level="ERROR")

    def close(self, word: str = "done", reason: str = "") -> None:
        super().close(word, reason)
        # Otherwise the next run of this process would continue this W&B run.
        close_run(exit_code=0 if word == "done" else 1, lost=self.lost)


def _advice(folder: Path | None) -> str:
    return f"what W&B has of it is sent by: wandb sync {folder}" if folder else ""


def _folder(run: Any) -> Path | None:
    """Give the folder of a W&B run's file; None if the run has none, as when W&B is disabled."""
    try:
        return Path(run.dir).parent
    except Exception:  # W&B asks its process for some attributes
        return None


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

    chosen_settings = settings()
    earlier = written_rows(Path(save_dir))
    chosen = {key: value for key, value in (choices or {}).items() if value}
    options |= {
        "dir": save_dir,
        "project": project,
        "name": name,
        "settings": chosen_settings,
        "job_type": chosen.get("model", "").partition("/")[0] or None,
        "tags": [*dict.fromkeys(word[:64] for word in [*chosen.values(), *tags])],
    }
    try:
        run = _begun(chosen_mode(), options)
        run.define_metric("images_seen")
        run.define_metric("*", step_metric="images_seen")
        # Online, the server says what it has; offline, the files on disk say what will be sent to it.
        last = run.step - 1 if run.resumed and not run.offline else max(earlier, default=-1)
    except wandb.errors.UsageError as error:
        raise InputError(on_one_line(str(error))) from error
    except Exception as error:  # as in Tracker.tell
        say_lost(TITLE, error)
        return ByImagesSeen(None)
    logger = ByImagesSeen(
        run, best_so_far(Path(save_dir, METRICS)), checkpoints, last, earlier.get(last, ()), Path(save_dir)
    )
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
    for seen, figures, pictures in rows_after(folder, last):
        logger.log_metrics(figures, step=seen)
        for name, path in pictures.items():
            logger.log_picture(name, Image.open(path), seen)


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
    except Exception as error:  # as in Tracker.tell
        if not lost:
            say_lost(TITLE, error, _advice(folder))
        lost = True
    if lost:
        _forget_process()


def _forget_process() -> None:
    """Give up W&B's dead process, so that the next run of this process starts another one."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
