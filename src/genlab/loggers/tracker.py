"""What genlab asks of an experiment tracker, such as W&B or MLflow. No failure of a tracker ever ends a run."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from PIL import Image
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.machine.plain_text import on_one_line

LONGEST = 300  # characters of a reason, of which that of a database is its whole statement


class Tracker(Logger):
    """A logger that shows figures, pictures and the config of a run in a program of its own.

    A class for one program overrides the methods whose names begin with ``send_``; what the program cannot show stays
    unsent. If one of them fails, the failure is said once on stderr, nothing more is sent, and the run goes on:
    ``metrics.csv`` has all figures.

    Attributes:
        title: name of the program.
        lost: whether the program has failed.
    """

    title: ClassVar[str] = "the tracker"
    lost = False

    def tell(self, call: Callable[[], Any]) -> None:
        """Call the program if it is still there. If it fails, say so and never call it again.

        Args:
            call: function that calls the program.
        """
        if self.lost:
            return
        try:
            call()
        except Exception as error:  # the errors of these programs have no common class
            self.lost = True
            say_lost(self.title, error, self.advice())

    def advice(self) -> str:
        """Say what can be done about a failure; empty if nothing can."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.tell(lambda: self.send_figures(metrics, step or 0))

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        config = params if isinstance(params, dict) else vars(params)
        self.tell(lambda: self.send_config(config))

    @rank_zero_only
    def log_picture(self, name: str, picture: Image.Image, images_seen: int) -> None:
        """Show a picture.

        Args:
            name: name of the picture.
            picture: picture to show.
            images_seen: number of training images seen.
        """
        self.tell(lambda: self.send_picture(name, picture, caption(images_seen), images_seen))

    @rank_zero_only
    def log_texts(self, name: str, texts: Sequence[str], images_seen: int) -> None:
        """Show texts, such as samples of a model of text.

        Args:
            name: name of the texts.
            texts: texts to show.
            images_seen: number of training images seen.
        """
        captions = [f"sample {i}, {caption(images_seen)}" for i in range(len(texts))]
        self.tell(lambda: self.send_texts(name, texts, captions, images_seen))

    @rank_zero_only
    def log_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        """Show single samples, each with a caption.

        Args:
            name: name of the table of samples.
            pictures: one picture for each sample.
            captions: one caption for each sample.
            images_seen: number of training images seen.
        """
        self.tell(lambda: self.send_samples(name, pictures, captions, images_seen))

    @rank_zero_only
    def log_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell what belongs to the run as a whole.

        Args:
            facts: plain values by name, such as published figures.
            protocols: how each final figure was measured, by the figure's name.
        """
        self.tell(lambda: self.send_facts(facts, protocols))

    @rank_zero_only
    def close(self, word: str = "done", reason: str = "") -> None:
        """End the program's run.

        Args:
            word: ``"done"``, ``"interrupted"`` or ``"failed"``.
            reason: reason of the end, in one line; empty for a run that is done.
        """
        self.recover()
        self.tell(lambda: self.send_end(word, reason))

    def recover(self) -> None:
        """Try again a program that has failed, at the end of the run, and send it what it lacks; if it can do that."""

    def send_figures(self, figures: Mapping[str, float], images_seen: int) -> None:
        """Send figures measured when the run had seen this number of images."""

    def send_config(self, config: dict[str, Any]) -> None:
        """Send the config of the run."""

    def send_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        """Send a picture."""

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        """Send texts, one caption for each."""

    def send_samples(
        self, name: str, pictures: Sequence[Image.Image], captions: Sequence[str], images_seen: int
    ) -> None:
        """Send single samples, one caption for each."""

    def send_facts(self, facts: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> None:
        """Send values of the run as a whole."""

    def send_end(self, word: str, reason: str) -> None:
        """Send how the run ended."""


def caption(images_seen: int) -> str:
    """Say when in a training something was drawn."""
    return f"after {images_seen:,} images"


def say_lost(title: str, error: BaseException, advice: str = "") -> None:
    """Say on stderr that a tracker failed and that the run goes on without it.

    Args:
        title: name of the tracker.
        error: what it raised.
        advice: what can be done about it; empty if nothing can.
    """
    reason = on_one_line(f"{type(error).__name__}: {error}")
    if len(reason) > LONGEST:
        reason = f"{reason[:LONGEST]} ..."
    more = f"; {advice}" if advice else ""
    print(
        f"genlab: {title} failed ({reason}), and the run goes on without it: metrics.csv has all figures{more}",
        file=sys.stderr,
    )
