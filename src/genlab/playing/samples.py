"""Draw samples with a seed, a class and the sampling settings of the model: images side by side, points in a plane."""

from dataclasses import dataclass
from typing import Any, ClassVar

from genlab.models.abilities import Writes
from genlab.playing.controls import changes, controls_of, values_of
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.pictures import enlarged
from genlab.playing.stage import Stage, whole
from genlab.playing.widgets import (
    AT_RANDOM,
    IN_TURNS,
    changed,
    class_field,
    classes_of,
    field_of,
    results,
    seed_fields,
    slider,
)
from genlab.runs.loading import Run
from genlab.views.grid import Grid
from genlab.views.view import Shown


@dataclass(frozen=True, kw_only=True)
class Samples(Panel):
    """A panel that draws samples, for every model but those of text.

    Args:
        n: number of samples at first; None for 16 images, or more examples that take less space.
        most: largest number of images that the page offers.
    """

    title: ClassVar[str] = "Samples"

    n: int | None = None
    most: int = 100

    def applies(self, run: Run) -> bool:
        return not isinstance(run.model, Writes)

    def build(self, stage: Stage) -> Opening:
        import gradio as gr

        run, controls = stage.run, controls_of(stage.run.model)
        first, most = (self.n or run.modality.num_shown(16)), run.modality.num_shown(self.most)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                seed, _ = seed_fields()
                num = slider(1, max(first, most), first, step=1, label="samples", elem_id="n")
                of_class = class_field(run, [AT_RANDOM, IN_TURNS])
                fields = [field_of(control) for control in controls]
            with gr.Column(scale=3, min_width=300, elem_classes="shown"):
                outputs = results()
        inputs = [seed, num, of_class, *fields]

        def drawn(seed: Any, num: Any, of_class: str | None, *given: Any) -> tuple[Any, str, str]:
            keys: dict[str, Any] = {"n": whole("samples", num, 1), "seed": whole("seed", seed, 0)}
            if (classes := classes_of(of_class, run)) is not None:
                keys["classes"] = classes
            other = changes(controls, given)
            view = Grid(**keys)
            with stage.using(other):
                view.check_memory(run)
                shown = view.show(run)
            command = stage.command(keys, other)
            about = {"command": command, **keys, "sampling": values_of(controls, given)}
            file = stage.packed(view.name, about, lambda stem: shown.save(stem.with_suffix(".png"), run.modality))
            return as_shown(shown, run), command, file

        listen(changed(inputs), drawn, inputs, outputs)
        return Opening(drawn, inputs, outputs)


def as_shown(shown: Shown, run: Run) -> Any:
    """Give the picture for the page: images enlarged, everything else as it is."""
    return enlarged(shown.samples) if run.modality.is_tiled else shown.picture
