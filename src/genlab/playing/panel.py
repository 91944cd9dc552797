"""The base of the panels of the page, each a way to play, and how they listen to what the user does."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from genlab.errors import InputError
from genlab.playing.stage import Stage
from genlab.runs.loading import Run


class Panel(ABC):
    """A way to play with a model, shown as a tab of the page.

    To add one, write a class in a file of its own, and name it in ``conf/play.yaml``.

    Attributes:
        title: title of the tab.
    """

    title: ClassVar[str]

    @abstractmethod
    def applies(self, run: Run) -> bool:
        """Tell whether a run's model, and its kind of data, can be played with in this way."""

    @abstractmethod
    def build(self, stage: Stage) -> "Opening":
        """Put the panel's fields on the page that is being built.

        Args:
            stage: run that is played with.

        Returns:
            What fills the panel when the page is opened.
        """


class Opening:
    """A function that is called when the page is opened, with the fields that it reads and fills.

    Args:
        call: function from the values of the inputs to those of the outputs.
        inputs: fields that it reads.
        outputs: fields that it fills.
    """

    def __init__(self, call: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.call, self.inputs, self.outputs = call, list(inputs), list(outputs)


def listen(
    triggers: Sequence[Any], call: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], **options: Any
) -> Any:
    """Call a function whenever one of some fields changes, after all computations that were asked for before.

    While one computation waits, only the last change counts: a slider that is dragged does not fill the queue.

    Args:
        triggers: events of the fields, such as ``slider.change``.
        call: function, or generator function, from the values of the inputs to those of the outputs.
        inputs: fields that it reads.
        outputs: fields that it fills.
        **options: further options of Gradio's listeners.

    Returns:
        The listener, which can be cancelled.
    """
    import gradio as gr

    options = {"trigger_mode": "always_last", "show_progress": "minimal", **options}
    shared = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
    return gr.on(list(triggers), explained(call), list(inputs), list(outputs), **shared, **options)


def explained(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let a wrong input be told on the page in its one line; all other errors are bugs, and say so in the terminal."""
    import gradio as gr

    if inspect.isgeneratorfunction(call):

        @functools.wraps(call)
        def streaming(*given: Any) -> Iterator[Any]:
            try:
                yield from call(*given)
            except InputError as error:
                raise gr.Error(str(error), duration=None, print_exception=False) from error

        return streaming

    @functools.wraps(call)
    def once(*given: Any) -> Any:
        try:
            return call(*given)
        except InputError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    return once
