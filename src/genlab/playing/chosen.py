"""The fields that choose the image to begin at: one of the test set by its number, or a picture of the user's own."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genlab.playing.pictures import uploaded
from genlab.playing.stage import Stage, whole
from genlab.playing.widgets import class_field, classes_of, slider
from genlab.views.view import chosen_images


@dataclass(frozen=True)
class Begun:
    """An image to begin at.

    Attributes:
        x: the image, ``(1, C, H, W)``.
        y: its class, int64 ``(1,)``; None if the model has no classes.
        index: its number in the test set; None for a picture of the user's own.
    """

    x: Tensor
    y: Tensor | None
    index: int | None

    @property
    def keys(self) -> dict[str, Any]:
        """Keys of ``genlab sample`` that choose the same image; none of a picture of the user's own."""
        return {} if self.index is None else {"images": [self.index]}


class Chooser:
    """The fields of the image to begin at.

    Args:
        stage: run that is played with.
        own: whether a picture of the user's own may be given.
    """

    def __init__(self, stage: Stage, own: bool = True) -> None:
        import gradio as gr

        self.stage = stage
        has_data = stage.missing_data is None
        last = len(stage.run.data.splits["test"]) - 1 if has_data else 0
        self.index = slider(0, last, 0, step=1, label="image of the test set", elem_id="image", visible=has_data)
        if not has_data:
            gr.Markdown(f"The test images are not here: {stage.missing_data}")
        self.own = gr.Image(
            type="filepath", sources=["upload", "clipboard"], label="or a picture of your own", height=140, visible=own,
            elem_id="own",
        )  # fmt: skip
        self.of_own = class_field(stage.run, label="class of your own picture", visible=False)
        if stage.run.model.num_classes:
            self.own.change(
                lambda path: gr.Dropdown(visible=path is not None), self.own, self.of_own, queue=False,
                api_visibility="private", show_progress="hidden",
            )  # fmt: skip
        self.inputs = [self.index, self.own, self.of_own]
        self.events = [field.change for field in self.inputs]

    def begun(self, index: Any, own: str | None, of_own: str | None) -> Begun | None:
        """Give the image that the fields choose; None as long as there is none.

        Args:
            index: number of a test image.
            own: file of a picture of the user's own, which then counts; None for none.
            of_own: class of that picture.
        """
        run = self.stage.run
        if own is not None:
            number = classes_of(of_own, run)
            y = None if number is None else torch.tensor([number])
            return Begun(uploaded(own, run), y, None)
        if self.stage.missing_data is not None:
            return None
        number = whole("image of the test set", index, 0)
        x, y = chosen_images(run, [number], torch.arange(1))
        return Begun(x, y, number)
