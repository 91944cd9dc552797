"""Logging to MLflow: by default into a database in the outputs folder, where ``mlflow ui`` finds it."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genlab.loggers.packages import check_installed
from genlab.loggers.store_tracker import StoreTracker
from genlab.runs.config import flat

TITLE = "MLflow"
LONGEST = 250  # characters of a parameter that Lightning's logger keeps
PATIENCE = 300  # seconds to wait for another process to make the database
MOST_METRICS = 1000  # that MLflow takes in one call
STATUS = {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def check_environment() -> None:
    """Check that MLflow is installed.

    Raises:
        InputError: if it is not.
    """
    check_installed("mlflow", TITLE, "mlflow")


class MLflow(StoreTracker):
    """Lightning's logger of MLflow, whose steps are numbers of images seen.

    The run's group, choices and tags become tags, as MLflow has no groups. A parameter that a resumed run changes, such
    as ``trainer.max_epochs``, becomes the tag ``changed/trainer.max_epochs``, as MLflow's parameters cannot change.

    The arguments are those of :class:`StoreTracker`. The store is a folder, for ``mlflow.db`` and pictures in it, or an
    address such as ``http://host:5000``.
    """

    title = TITLE
    # Seconds between two writes of figures: a write takes some 20 ms, as long as many steps of a small model. What a
    # kill loses of them is sent when the run is resumed.
    between_writes = 2.0
    last_write = 0.0

    def begin(self, config: dict[str, Any], store: str, known: str | None) -> str:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient
        from pytorch_lightning.loggers import MLFlowLogger

        for name in ("mlflow", "alembic"):  # once it is imported, which sets them
            logging.getLogger(name).setLevel(logging.WARNING)
        self.waiting: list[Any] = []
        address = store if "://" in store else _database(Path(store))
        known = known if known and _exists(MlflowClient(address), known) else None
        if known is None:
            _make_experiment(MlflowClient(address), self.project, None if "://" in store else Path(store))
        self.logger = MLFlowLogger(
            experiment_name=self.project,
            run_name=self.run_name,
            tracking_uri=address,
            run_id=known,
            tags=self._run_tags(),
        )
        self.client, found = self.logger.experiment, str(self.logger.run_id)
        self.client.update_run(found, status="RUNNING")
        self._send_parameters(config, found)
        return found

    def _run_tags(self) -> dict[str, str]:
        tags = {**self.choices, "group": self.group, "tags": ", ".join(self.tags), "mlflow.note.content": self.notes}
        return {key: value for key, value in tags.items() if value}

    def _send_parameters(self, config: dict[str, Any], run: str) -> None:
        now = {key: str(value)[:LONGEST] for key, value in flat(config).items()}
        before = self.client.get_run(run).data.params
        self.logger.log_hyperparams({key: value for key, value in now.items() if key not in before})
        for key, value in now.items():
            if before.get(key, value) != value:
                self.client.set_tag(run, f"changed/{key}", value)

    @property
    def experiment(self) -> Any:
        """MLflow's client."""
        return self.client

    def written(self) -> dict[str, int]:
        run = str(self.logger.run_id)
        last = {
            name: max(point.step for point in self.client.get_metric_history(run, name))
            for name in self.client.get_run(run).data.metrics
        }
        for file in self.client.list_artifacts(run, "images"):
            # Such as images/samples%step%384%timestamp%1700000000000%<uuid>.png
            if found := re.match(r"images/(.+?)[%+]step[%+](\d+)[%+]", file.path):
                last[found[1]] = max(int(found[2]), last.get(found[1], -1))
        return last

    def is_new(self, name: str, images_seen: int) -> bool:
        return super().is_new(_allowed(name), images_seen)

    def write_figures(self, figures: dict[str, float], images_seen: int) -> None:
        from mlflow.entities import Metric

        now = time.time()
        for name, value in figures.items():
            self.waiting.append(Metric(_allowed(name), float(value), int(1000 * now), images_seen))
        if now - self.last_write > self.between_writes:
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self.waiting:
            self.client.log_batch(str(self.logger.run_id), metrics=self.waiting[:MOST_METRICS])
            del self.waiting[:MOST_METRICS]
        self.last_write = time.time()

    def write_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        self.client.log_image(str(self.logger.run_id), picture.convert("RGB"), key=name, step=images_seen)

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        text = "\n\n".join(f"-- {caption}\n{text}" for caption, text in zip(captions, texts, strict=True))
        self.client.log_text(str(self.logger.run_id), text, f"{name}/{images_seen:010d}.txt")

    def send_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        for caption, picture in zip(captions, pictures, strict=True):
            self.client.log_image(str(self.logger.run_id), picture, artifact_file=f"{name}/{caption}.png")

    def send_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        run = str(self.logger.run_id)
        self._write_waiting()
        for key, value in facts.items():
            self.client.set_tag(run, key, str(value))
        self.client.log_dict(run, dict(protocols), "protocols.json")

    def send_end(self, word: str, reason: str) -> None:
        run = str(self.logger.run_id)
        self._write_waiting()
        if reason:
            self.client.set_tag(run, "reason", reason)
        self.client.set_terminated(run, STATUS[word])


def _allowed(name: str) -> str:
    """Replace the characters of a name that MLflow does not allow in names of metrics."""
    return re.sub(r"[^\w/. :-]", "_", name, flags=re.ASCII)


def _database(folder: Path) -> str:
    """Give the address of the database in a folder, which is made if it is not there.

    Jobs of a sweep that begin together wait for each other: MLflow fails if two processes make one database.
    """
    from filelock import FileLock  # which PyTorch needs
    from mlflow.tracking import MlflowClient

    folder.mkdir(parents=True, exist_ok=True)
    address = f"sqlite:///{folder / 'mlflow.db'}"
    with FileLock(folder / ".mlflow.lock", timeout=PATIENCE):
        MlflowClient(address).search_experiments(max_results=1)
    return address


def _exists(client: Any, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _make_experiment(client: Any, name: str, folder: Path | None) -> None:
    """Make MLflow's experiment if there is none; another job of a sweep may make it at the same time."""
    from mlflow.exceptions import MlflowException

    if client.get_experiment_by_name(name) is not None:
        return
    try:
        client.create_experiment(name, artifact_location=(folder / "mlruns").as_uri() if folder else None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
