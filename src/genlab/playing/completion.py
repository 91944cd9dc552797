"""Paint over a part of an image, and let the model draw it again."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from genlab.models.base import Completes
from genlab.pictures.files import save_png
from genlab.playing.chosen import Chooser
from genlab.playing.controls import changes, controls_of
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.pictures import canvas, enlarged, painted_region, region_picture
from genlab.playing.stage import Stage, whole
from genlab.playing.widgets import changed, field_of, results, seed_fields, slider
from genlab.runs.loading import Run
from genlab.views.complete import Complete, completed, region_of
from genlab.views.view import Shown

BRUSH = "#e8590c"


@dataclass(frozen=True, kw_only=True)
class Completion(Panel):
    """A panel that draws a part of an image again, for models that can complete images.

    Args:
        draws: number of draws at first.
        most: largest number of draws that the page offers.
    """

    title: ClassVar[str] = "Completion"

    draws: int = 4
    most: int = 16

    def applies(self, run: Run) -> bool:
        return run.modality.is_tiled and not run.is_coded and isinstance(run.model, Completes)

    def build(self, stage: Stage) -> Opening:
        import gradio as gr

        run, controls = stage.run, controls_of(stage.run.model)
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                chooser = Chooser(stage)
                seed, _ = seed_fields()
                draws = slider(1, self.most, self.draws, step=1, label="draws", elem_id="draws")
                fields = [field_of(control) for control in controls]
            with gr.Column(scale=3, min_width=300, elem_classes="shown"):
                editor = gr.ImageEditor(
                    label="paint here",
                    type="numpy", format="png", sources=(), transforms=(), layers=False, buttons=[], height=480,
                    brush=gr.Brush(default_size=40, colors=[BRUSH], color_mode="fixed"), elem_id="canvas",
                )  # fmt: skip
                gr.Markdown("What is painted over is drawn again; if nothing is, the lower half.")
                complete = gr.Button("draw it again", variant="primary", elem_id="complete")
                picture, command, file = results()

        def placed(*given: Any) -> Any:
            begun = chooser.begun(*given)
            return None if begun is None else canvas(begun.x[0])

        def drawn(*given: Any) -> tuple[Any, str, str | None]:
            (painted, seed, draws, *others), given = given[-3 - len(fields) :], given[: len(chooser.inputs)]
            if (begun := chooser.begun(*given)) is None:
                return None, "", None
            region = painted_region((painted or {}).get("layers") or [], run.model.shape)
            keys = {
                "mode": Complete.mode,
                **begun.keys,
                "redraw": "bottom" if region is None else "region.png",
                "draws": whole("draws", draws, 1),
                "seed": whole("seed", seed, 0),
            }
            region = region_of("bottom", run.model.shape) if region is None else region
            other = changes(controls, others)
            with stage.using(other):
                images = completed(
                    run.model, begun.x, begun.y, region, keys["draws"], seed=keys["seed"], advance=lambda _: None
                )
            sheet = enlarged(images, columns=min(len(images), 4))
            line = stage.command(keys, other) if begun.keys else "(of a picture of your own: none)"

            def write(stem: Path) -> Collection[Path]:
                region_file = stem.with_name("region.png")
                save_png(region_picture(region), region_file)
                return [*Shown(sheet, images).save(stem.with_suffix(".png"), run.modality), region_file]

            return sheet, line, stage.packed("completion", {"command": line, **keys}, write)

        inputs, outputs = [*chooser.inputs, editor, seed, draws, *fields], [picture, command, file]
        listen(chooser.events, placed, chooser.inputs, [editor])
        listen([complete.click, *changed([seed, draws, *fields])], drawn, inputs, outputs)
        return Opening(placed, chooser.inputs, [editor])
