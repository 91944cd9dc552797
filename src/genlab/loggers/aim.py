"""Logging to Aim: by default into a repository in the outputs folder, where ``aim up`` finds it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from genlab.loggers.packages import check_installed
from genlab.loggers.store_tracker import StoreTracker

TITLE = "Aim"


def check_environment() -> None:
    """Check that Aim is installed.

    Raises:
        InputError: if it is not.
    """
    check_installed("aim", TITLE, "aim")


class Aim(StoreTracker):
    """Aim's own logger for Lightning, whose steps are numbers of images seen.

    Aim keeps one value for each step, so that a repeated step changes nothing. The arguments are those of
    :class:`StoreTracker`.
    """

    title = TITLE

    def begin(self, config: dict[str, Any], store: str, known: str | None) -> str:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from aim import Repo
        from aim.pytorch_lightning import AimLogger

        if "://" not in store:
            Path(store).mkdir(parents=True, exist_ok=True)
        repo = Repo.from_path(store, init=not Repo.exists(store))
        known = known if known and repo.run_exists(known) else None
        # Neither the terminal nor the machine is logged, and names stay whole, as in metrics.csv.
        self.logger = AimLogger(
            repo=store,
            experiment=self.project,
            run_name=self.run_name,
            run_hash=known,
            context_prefixes={},
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )
        self.run = self.logger.experiment
        self.run.description = self.notes or ""
        for tag in dict.fromkeys([*self.choices.values(), *self.tags]):
            if tag not in self.run.tags:
                self.run.add_tag(tag)
        self.run["group"] = self.group or ""
        self.logger.log_hyperparams(config)
        return str(self.run.hash)

    @property
    def experiment(self) -> Any:
        """Aim's run."""
        return self.run

    def written(self) -> dict[str, int]:
        figures = {name: self.run.get_metric(name, context) for name, context, _ in self.run.iter_metrics_info()}
        pictures = {
            name: self.run.get_image_sequence(name, context)
            for name, context, _ in self.run.iter_sequence_info_by_type("aim.image")
        }
        return {name: int(found.last_step()) for name, found in {**figures, **pictures}.items() if found is not None}

    def write_figures(self, figures: dict[str, float], images_seen: int) -> None:
        for name, value in figures.items():  # Aim's logger takes a figure named epoch for the epoch of the others
            self.run.track(float(value), name=name, step=images_seen)

    def write_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        from aim import Image as AimImage

        self.run.track(AimImage(picture, caption=caption), name=name, step=images_seen)

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        from aim import Text

        values = [Text(f"-- {caption}\n{text}") for caption, text in zip(captions, texts, strict=True)]
        self.run.track(values, name=name, step=images_seen)

    def send_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        from aim import Image as AimImage

        values = [AimImage(picture, caption=one) for one, picture in zip(captions, pictures, strict=True)]
        self.run.track(values, name=name, step=images_seen)

    def send_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        self.run["facts"] = dict(facts)
        self.run.set(("protocols",), {name: dict(fields) for name, fields in protocols.items()}, strict=False)

    def send_end(self, word: str, reason: str) -> None:
        self.run["ended"] = {"word": word, "reason": reason}
        self.logger.finalize()
