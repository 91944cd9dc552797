"""Logging to Trackio: into databases in the outputs folder."""

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image

from genlab.errors import InputError
from genlab.loggers.packages import check_installed
from genlab.loggers.store_tracker import StoreTracker
from genlab.runs.config import flat

TITLE = "Trackio"


def check_environment() -> None:
    """Check that Trackio is installed.

    Raises:
        InputError: if it is not.
    """
    check_installed("trackio", TITLE, "trackio")


class Trackio(StoreTracker):
    """A logger for Trackio, whose steps are numbers of images seen.

    Trackio writes from a thread of its own, which warns of failures and drops what it could not write. It is therefore
    asked at the end whether it has everything. Runs are known by their names, which have to be unique.

    The arguments are those of :class:`StoreTracker`. The store is a folder.
    """

    title = TITLE

    def begin(self, config: dict[str, Any], store: str, known: str | None) -> str:
        Path(store).mkdir(parents=True, exist_ok=True)
        trackio = _imported(store)
        self.sent: dict[str, int] = {}
        values = {key.lstrip("_"): value for key, value in flat(config).items()}
        with redirect_stdout(io.StringIO()):
            self.run = trackio.init(
                project=self.project,
                name=known or self.run_name,
                group=self.group,
                config={**values, "notes": self.notes, "tags": self.tags},
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        warnings.filterwarnings("ignore", module="trackio")  # said in one line at the end
        return str(self.run.name)

    @property
    def experiment(self) -> Any:
        """Trackio's run."""
        return self.run

    def written(self) -> dict[str, int]:
        from trackio.sqlite_storage import SQLiteStorage

        last: dict[str, int] = {}
        for row in SQLiteStorage.get_logs(self.project, self.run.name, run_id=self.run.id):
            for name in row.keys() - {"step", "timestamp"}:
                last[name] = max(row["step"], last.get(name, -1))
        return last

    def _log(self, values: dict[str, Any], images_seen: int) -> None:
        self.sent |= dict.fromkeys(values, images_seen)
        self.run.log(values, step=images_seen)

    def write_figures(self, figures: dict[str, float], images_seen: int) -> None:
        self._log(figures, images_seen)

    def write_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        import trackio

        self._log({name: trackio.Image(picture, caption=caption)}, images_seen)

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        rows = [{"caption": caption, "text": text} for caption, text in zip(captions, texts, strict=True)]
        self._table(name, rows, images_seen)

    def send_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        import trackio

        rows = [
            {"caption": caption, "sample": trackio.Image(picture, caption=caption)}
            for caption, picture in zip(captions, pictures, strict=True)
        ]
        self._table(name, rows, images_seen)

    def send_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        seen = max(self.last.values(), default=0)
        if facts:
            self._table("facts", [{"name": name, "value": str(value)} for name, value in facts.items()], seen)
        rows = [{"figure": name, "protocol": json.dumps(fields, default=str)} for name, fields in protocols.items()]
        self._table("protocols", rows, seen)

    def _table(self, name: str, rows: Any, images_seen: int) -> None:
        import trackio

        if self.is_new(name, images_seen):
            self._log({name: trackio.Table(data=rows)}, images_seen)

    def send_end(self, word: str, reason: str) -> None:
        import trackio

        with redirect_stdout(io.StringIO()):
            if word == "failed":
                self.run.alert(f"{self.run.name} failed", reason, trackio.AlertLevel.ERROR)
            trackio.finish()
        written = self.written()
        if missing := sorted(name for name, seen in self.sent.items() if written.get(name, -1) < seen):
            raise OSError(f"it could not write {', '.join(missing)} into {self.store}")


def _imported(store: str) -> Any:
    """Import Trackio, which reads the name of its folder once, and give the module.

    Raises:
        InputError: if this process has imported it with another folder.
    """
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = store
    try:
        import trackio
        from trackio.utils import TRACKIO_DIR
    finally:
        del os.environ["TRACKIO_DIR"]
        if before is not None:
            os.environ["TRACKIO_DIR"] = before
    if Path(TRACKIO_DIR) != Path(store):
        raise InputError(f"this process has opened {TRACKIO_DIR}, and Trackio opens one folder in a process")
    return trackio
