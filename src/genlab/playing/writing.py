"""Let a model of text go on after a prompt, and watch it write."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from genlab.modalities.text import save_texts
from genlab.models.abilities import Writes
from genlab.playing.controls import changes, controls_of, values_of
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.stage import Stage, whole
from genlab.playing.widgets import field_of, seed_fields, slider, taken_away
from genlab.runs.loading import Run
from genlab.views.write import Write


@dataclass(frozen=True, kw_only=True)
class Writing(Panel):
    """A panel that continues a prompt token by token, for models of text.

    Args:
        prompt: prompt at first; empty for none.
        most: largest number of tokens that the page offers, in contexts of the model.
    """

    title: ClassVar[str] = "Text"

    prompt: str = ""
    most: int = 8

    def applies(self, run: Run) -> bool:
        return isinstance(run.model, Writes)

    def build(self, stage: Stage) -> Opening:
        import gradio as gr

        run, controls = stage.run, controls_of(stage.run.model)
        context = run.model.num_dims
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                prompt = gr.Textbox(self.prompt, label="prompt", lines=3, elem_id="prompt", placeholder="none")
                seed, _ = seed_fields()
                length = slider(1, self.most * context, context, step=1, label="tokens", elem_id="length")
                fields = [field_of(control) for control in controls]
            with gr.Column(scale=3, min_width=300, elem_classes="shown"):
                with gr.Row():
                    start = gr.Button("write", variant="primary", elem_id="write")
                    stop = gr.Button("stop", elem_id="stop")
                text = gr.Textbox(
                    label="text", lines=16, max_lines=30, interactive=False, buttons=["copy"], elem_id="text"
                )
                command, file = taken_away()
        inputs = [prompt, seed, length, *fields]

        def written(prompt: str, seed: Any, length: Any, *given: Any) -> Iterator[tuple[str, str, str | None]]:
            keys: dict[str, Any] = {
                "prompt": prompt or None,
                "length": whole("tokens", length, 1),
                "seed": whole("seed", seed, 0),
            }
            changed = changes(controls, given)
            line = stage.command({key: value for key, value in keys.items() if value is not None}, changed)
            yield "", line, None
            so_far = ""
            for piece in pieces(stage, Write(**keys), changed):
                so_far += piece
                yield so_far, line, None
            about = {"command": line, **keys, "sampling": values_of(controls, given)}

            def write(stem: Any) -> Any:
                target = stem.with_suffix(".txt")
                save_texts([so_far], target)
                return [target]

            yield so_far, line, stage.packed(f"text-seed{keys['seed']}", about, write)

        begun = listen([start.click, prompt.submit], written, inputs, [text, command, file], show_progress="hidden")
        stop.click(None, cancels=[begun], api_visibility="private")
        return Opening(lambda: ("", "", None), [], [text, command, file])


class _Unwanted(Exception):  # noqa: N818, as GeneratorExit
    """The end of a text that nobody waits for any more."""


def pieces(stage: Stage, way: Write, changed: dict[str, Any]) -> Iterator[str]:
    """Write a text in a thread of its own, and give it piece by piece; it ends when nobody takes the pieces.

    The generator runs wherever Gradio calls it, in another thread for each piece. What PyTorch knows of a thread, such
    as that no gradients are wanted, would be lost between two of them.

    Args:
        stage: run whose model writes.
        way: prompt, length and seed.
        changed: sampling settings that differ from those that the model was opened with.

    Yields:
        Pieces of the text, the prompt first.

    Raises:
        InputError: if the prompt or a setting is wrong.
    """
    said: queue.Queue[str | BaseException | None] = queue.Queue()
    unwanted = threading.Event()

    def tell(piece: str) -> None:
        if unwanted.is_set():
            raise _Unwanted
        said.put(piece)

    def write() -> None:
        try:
            with stage.using(changed):
                way.texts(stage.run, tell)
        except _Unwanted:
            pass
        except BaseException as error:  # is raised where the pieces are taken
            said.put(error)
        finally:
            said.put(None)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        while (piece := said.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        unwanted.set()
        thread.join()
