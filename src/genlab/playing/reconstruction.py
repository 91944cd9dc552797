"""Encode an image, of the test set or of the user's own, and decode it again."""

from dataclasses import dataclass
from typing import Any, ClassVar

from genlab.models.abilities import LatentModel
from genlab.playing.chosen import Chooser
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.pictures import enlarged
from genlab.playing.stage import Stage
from genlab.playing.widgets import results
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.reconstruct import PAIRS, Reconstruct, reconstructed
from genlab.views.view import Shown


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Panel):
    """A panel that shows an image beside what the model decodes its latents to, for models with an encoder."""

    title: ClassVar[str] = "Reconstruction"

    def applies(self, run: Run) -> bool:
        return run.modality.is_tiled and not run.is_coded and isinstance(run.model, LatentModel)

    def build(self, stage: Stage) -> Opening:
        import gradio as gr

        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                chooser = Chooser(stage)
            with gr.Column(scale=3, min_width=300, elem_classes="shown"):
                outputs = results()

        def decoded(*given: Any) -> tuple[Any, str, str | None]:
            if (begun := chooser.begun(*given)) is None:
                return None, "", None
            with stage.using({}):
                pair = reconstructed(Latents(stage.run.model), begun.x, begun.y)
            picture = enlarged(pair, columns=2, labels=PAIRS)
            keys = {"mode": Reconstruct.mode, **begun.keys}
            command = stage.command(keys, {}) if begun.keys else "(of a picture of your own: none)"
            file = stage.packed(
                "reconstruction",
                {"command": command, **keys},
                lambda stem: Shown(picture, pair, 2).save(stem.with_suffix(".png"), stage.run.modality),
            )
            return picture, command, file

        listen(chooser.events, decoded, chooser.inputs, outputs)
        return Opening(decoded, chooser.inputs, outputs)
