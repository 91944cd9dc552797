"""Logging to TensorBoard, in the run folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.loggers.packages import check_installed
from genlab.loggers.tracker import Tracker

TITLE = "TensorBoard"


def check_environment() -> None:
    """Check that TensorBoard is installed.

    Raises:
        InputError: if it is not.
    """
    check_installed("tensorboard", TITLE, "tensorboard")


class TensorBoard(Tracker, TensorBoardLogger):
    """Lightning's logger of TensorBoard, whose steps are numbers of images seen.

    Args:
        save_dir: folder of the run.
        name: name of the folder in it.
        version: name of a folder in that folder; empty for none.
    """

    title = TITLE

    def __init__(self, save_dir: str, name: str = "tensorboard", version: str = "") -> None:
        super().__init__(save_dir, name, version)

    def send_figures(self, figures: Mapping[str, float], images_seen: int) -> None:
        super(Tracker, self).log_metrics(dict(figures), step=images_seen)

    def send_config(self, config: dict[str, Any]) -> None:
        super(Tracker, self).log_hyperparams(config)

    @rank_zero_only
    def save(self) -> None:
        self.tell(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.tell(lambda: super(TensorBoard, self).finalize(status))

    def send_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        self.experiment.add_image(name, np.asarray(picture), images_seen, dataformats="HWC")

    def send_texts(self, name: str, texts: Sequence[str], captions: Sequence[str], images_seen: int) -> None:
        self.experiment.add_text(name, "\n\n".join(f"```\n{text}\n```" for text in texts), images_seen)

    def send_end(self, word: str, reason: str) -> None:
        super().finalize(word)
