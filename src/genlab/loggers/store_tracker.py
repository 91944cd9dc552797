"""Trackers whose store can be asked what it has of a run, so that a resumed run sends what is lacking and no more."""

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genlab.loggers.contents import told_config
from genlab.loggers.rows import rows_after
from genlab.loggers.tracker import Tracker, caption
from genlab.runs.folder import RunFolder

FILE = "trackers.json"  # in the run folder: where each tracker has the run, and under which id


class StoreTracker(Tracker):
    """A tracker with a store of many runs, which by default lies in the outputs folder.

    It begins when the config is logged, and asks the store up to which number of images seen it has each figure. From
    there, it sends what the run folder has: after a kill the store has no gap, and nothing twice.

    Args:
        run_dir: folder of the run.
        store: folder of the store, or its address.
        project: project, or experiment, that the run belongs to.
        name: name of the run; None lets the tracker choose one.
        group: group of runs that belong together, such as those of a sweep.
        choices: chosen configs of model, dataset and experiment.
        tags: further tags.
        notes: what the run is for.
    """

    def __init__(
        self,
        run_dir: str,
        store: str,
        project: str = "genlab",
        name: str | None = None,
        group: str | None = None,
        choices: Mapping[str, str | None] | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.store = Path(run_dir), store
        self.project, self.run_name, self.group, self.notes = project, name, group, notes
        self.choices = {key: value for key, value in (choices or {}).items() if value}
        self.tags = [*tags]
        self.last: dict[str, int] = {}
        self.config: dict[str, Any] = {}
        self.begun = False

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.run_name or ""

    @abstractmethod
    def begin(self, config: dict[str, Any], store: str, known: str | None) -> str:
        """Begin a run in the store, or continue one.

        Args:
            config: config that is shown.
            store: store, as an absolute path or an address.
            known: id of the run in the store, if it was begun before.

        Returns:
            The id of the run in the store.
        """

    @abstractmethod
    def written(self) -> dict[str, int]:
        """Ask the store for the last number of images seen of every figure and picture of the run."""

    def send_config(self, config: dict[str, Any]) -> None:
        self.config = told_config(config)
        self._begin()

    def _begin(self) -> None:
        """Begin or continue the run in the store, and send what the store lacks."""
        given, store, known = self.store, absolute(self.store), None
        kept = RunFolder(self.folder).read_json(FILE)
        if (earlier := kept.get(self.title)) and earlier["given"] == given:
            known = earlier["id"]
            if "://" in earlier["store"] or Path(earlier["store"]).exists():  # which may be relative to another folder
                store = earlier["store"]
        found = self.begin(self.config, store, known)
        kept[self.title] = {"given": given, "store": store, "id": found}
        RunFolder(self.folder).write_json(FILE, kept)
        self.begun = True
        self.last = self.written() if found == known else {}
        for seen, figures, pictures in rows_after(self.folder, -1):
            self.send_figures(figures, seen)
            for name, path in pictures.items():
                if self.is_new(name, seen):
                    with Image.open(path) as picture:
                        self.write_picture(name, picture, caption(seen), seen)

    def send_figures(self, figures: Mapping[str, float], images_seen: int) -> None:
        told = {name: value for name, value in figures.items() if name != "images_seen"}
        if new := {name: value for name, value in told.items() if self.is_new(name, images_seen)}:
            self.write_figures(new, images_seen)

    def send_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        if self.is_new(name, images_seen):
            self.write_picture(name, picture, caption, images_seen)

    def is_new(self, name: str, images_seen: int) -> bool:
        """Tell whether the store lacks a figure or picture, and take down that it will have it.

        Args:
            name: name of the figure or picture.
            images_seen: number of images seen.
        """
        if not self.begun:
            self._begin()
        if images_seen <= self.last.get(name, -1):
            return False
        self.last[name] = images_seen
        return True

    @abstractmethod
    def write_figures(self, figures: dict[str, float], images_seen: int) -> None:
        """Write figures into the store."""

    @abstractmethod
    def write_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        """Write a picture into the store."""

    def recover(self) -> None:
        if not self.lost:
            return
        self.lost = False
        try:
            self._begin()
        except Exception:  # as in Tracker.tell, which has said it
            self.lost = True
        else:
            print(f"genlab: {self.title} is there again, and has been sent all of metrics.csv", file=sys.stderr)


def absolute(store: str) -> str:
    """Make the path of a store absolute; an address stays as it is.

    Args:
        store: path, or address such as ``http://tracker:5000``.
    """
    return store if "://" in store else str(Path(store).expanduser().absolute())
