"""Move the most active latents of an image by sliders, and see what the decoder makes of them."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from genlab.modalities.image import to_uint8
from genlab.models.abilities import LatentModel
from genlab.pictures.files import save_array, save_png
from genlab.pictures.labels import Labels
from genlab.playing.beginnings import AtAnImage, AtASeed
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.pictures import enlarged
from genlab.playing.stage import Stage
from genlab.playing.widgets import results, slider
from genlab.runs.loading import Run
from genlab.views.latents import Latents, has_latents
from genlab.views.traverse import Traverse


@dataclass(frozen=True, kw_only=True)
class LatentSliders(Panel):
    """A panel that moves latents of a test image or, of a model without an encoder, of a random sample.

    Args:
        sliders: number of latents, the most active ones.
        extent: largest distance that a latent moves to either side, in standard deviations.
        background: number of test images that say how active a latent is.
    """

    title: ClassVar[str] = "Latents"

    sliders: int = 8
    extent: float = 3.0
    background: int = 1000

    def applies(self, run: Run) -> bool:
        return run.modality.is_tiled and not run.is_coded and has_latents(run.model)

    def build(self, stage: Stage) -> Opening:
        import gradio as gr

        model = stage.run.model
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                encodes = isinstance(model, LatentModel)
                beginning = AtAnImage(stage, self.sliders, self.background) if encodes else AtASeed(stage, self.sliders)
                gr.Markdown("Distance of the most active latents from where they are, in standard deviations:")
                moves = [
                    slider(-self.extent, self.extent, 0, step=0.1, label=f"latent {i + 1}", elem_id=f"latent-{i}")
                    for i in range(self.sliders)
                ]
                back = gr.Button("all back to 0", size="sm")
            with gr.Column(scale=3, min_width=300, elem_classes="shown"):
                picture, command, file = results()
        begun = lru_cache(1)(beginning.begun)  # moving a slider does not encode the images again
        num = len(beginning.inputs)

        def decoded(*given: Any) -> tuple[Any, str, str]:
            chosen, by = given[:num], given[num:]
            with stage.using({}):
                start = begun(*chosen)
                z = start.start.z.repeat(2, 1)
                for i, distance in zip(start.start.chosen, by, strict=False):
                    z[1, i] += distance * start.start.std[i]
                images = Latents(model).decode(z, None if start.y is None else start.y.repeat(2))
            words = stage.command({"mode": Traverse.mode, **start.keys, "n": self.sliders, "extent": self.extent}, {})
            moved = dict(zip(map(str, start.start.chosen), by, strict=False))
            about = {"traversal": words, **start.keys, "standard_deviations_from_the_beginning": moved}

            def write(stem: Path) -> Collection[Path]:
                array, shown = stem.with_suffix(".npy"), stem.with_suffix(".png")
                save_array(to_uint8(images[1:]).numpy(), array)
                save_png(enlarged(images[1:]), shown)
                return array, shown

            sheet = enlarged(images, columns=2, labels=Labels(["at 0", "moved"]))
            return sheet, words, stage.packed("latents", about, write)

        def begin(*given: Any) -> list[Any]:
            shown = decoded(*given, *([0] * self.sliders))
            names = [f"latent {i}" for i in begun(*given).start.chosen]
            fields = [
                gr.Slider(label=names[i], value=0, visible=True) if i < len(names) else gr.Slider(visible=False)
                for i in range(self.sliders)
            ]
            return [*fields, *shown]

        inputs, outputs = [*beginning.inputs, *moves], [picture, command, file]
        command.label = "the traversal of these latents from the command line"
        listen([field.change for field in beginning.inputs], begin, beginning.inputs, [*moves, *outputs])
        listen([slider.change for slider in moves], decoded, inputs, outputs)
        back.click(lambda: [0] * len(moves), None, moves, queue=False, api_visibility="private")
        return Opening(begin, beginning.inputs, [*moves, *outputs])
