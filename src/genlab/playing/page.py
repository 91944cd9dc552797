"""The page: what is said of the run, and a tab for each panel that applies to it."""

from collections.abc import Sequence
from typing import Any

from genlab.errors import InputError
from genlab.playing.panel import Opening, Panel, listen
from genlab.playing.stage import Stage

# Gradio tells the place in its queue, which is nothing to the user, and leaves the old result as if it were the new
# one. Ours is dimmed until the new one is there; not at once, because most take less time than that.
CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto !important; }
.wrap.minimal .meta-text { font-size: 0; padding: 0; }
.wrap.minimal:not(.hide) .meta-text { animation: 0.1s 0.4s backwards appear; }
.wrap.minimal .meta-text::after { content: "working ..."; font-size: 0.85rem; padding: 4px 8px; }
.block:has(> .wrap.minimal:not(.hide)) :is(img, textarea) { opacity: 0.3; transition: opacity 0.3s 0.4s; }
@keyframes appear { from { opacity: 0; } }
#canvas canvas { image-rendering: pixelated; }
.picture { min-height: 240px; }
.command textarea, #text textarea { font-family: ui-monospace, Consolas, monospace; font-size: 0.85rem; }
.seed { align-items: end; }
footer { display: none !important; }
@media (max-width: 720px) { .shown { order: -1; } }
"""


def page_of(stage: Stage, panels: Sequence[Panel]) -> Any:
    """Build the page of a run, a ``gradio.Blocks``.

    Args:
        stage: run that is played with.
        panels: ways to play; those that do not apply to the run are left out.

    Raises:
        InputError: if none of them applies.
    """
    import gradio as gr

    applying = [panel for panel in panels if panel.applies(stage.run)]
    if not applying:
        raise InputError(f"none of the panels applies to this run's model, a {type(stage.run.model).__name__}")
    with gr.Blocks(title=f"genlab play {stage.run.folder.path.name}", analytics_enabled=False) as page:
        gr.Markdown(headline(stage))
        with gr.Tabs():
            for panel in applying:
                name = type(panel).__name__
                with gr.Tab(panel.title, id=name, elem_id=f"tab-{name}") as tab:
                    opening = panel.build(stage)
                    # Other tabs are filled when they are first looked at: encoding many images may take a while.
                    listen([page.load if panel is applying[0] else tab.select], *_once(opening))
    return page


def _once(opening: Opening) -> tuple[Any, list[Any], list[Any]]:
    """Make the arguments of a listener that fills a panel the first time, and then leaves it as the user left it."""
    import gradio as gr

    filled, num = gr.State(False), len(opening.outputs)

    def fill(is_filled: bool, *given: Any) -> list[Any]:
        if is_filled:
            return [True, *(gr.skip() for _ in range(num))]
        found = opening.call(*given)
        return [True, *(found if num > 1 else [found])]

    return fill, [filled, *opening.inputs], [filled, *opening.outputs]


def headline(stage: Stage) -> str:
    """Say in a line of Markdown which model this is, and with which weights."""
    run = stage.run
    facts = [
        f"**{type(run.model).__name__}** on {run.config['dataset'].get('name', 'its data')}",
        f"`{run.folder.path}`",
        f"{run.used_weights} weights of `{run.checkpoint_path.name}`",
        str(run.device),
    ]
    return " · ".join(facts)
