"""Fields of the page that several panels have."""

from collections.abc import Sequence
from typing import Any

from genlab.playing.controls import Control
from genlab.runs.loading import Run

AT_RANDOM, IN_TURNS = "at random", "each in turn"


def field_of(control: Control) -> Any:
    """Make the field of a sampling setting: choices, a slider, or a number that may be left empty."""
    import gradio as gr

    label, about = control.name, control.about
    if control.values:
        return gr.Dropdown(list(control.values), value=control.now, label=label, info=about, elem_id=control.name)
    if control.range is None or control.is_optional:
        limits = {} if control.range is None else {"minimum": control.range.low, "maximum": control.range.high}
        step = 1 if control.is_whole else "any" if control.range is None else control.range.step
        hint = {"placeholder": "none"} if control.is_optional else {}
        step = {} if step == "any" else {"step": step}
        return gr.Number(control.now, label=label, info=about, elem_id=control.name, **limits, **step, **hint)
    limits = control.range
    return gr.Slider(
        limits.low, limits.high, control.now, step=limits.step, label=label, info=about, elem_id=control.name
    )


def seed_fields() -> tuple[Any, Any]:
    """Make the field of the seed, and a button that takes the next one."""
    import gradio as gr

    with gr.Row(elem_classes="seed"):
        seed = gr.Number(0, label="seed", precision=0, minimum=0, elem_id="seed", min_width=80)
        following = gr.Button("next seed", elem_id="next-seed", min_width=100)
    following.click(
        lambda value: (value or 0) + 1, seed, seed, queue=False, api_visibility="private", show_progress="hidden"
    )
    return seed, following


def class_field(run: Run, choices: Sequence[str] = ()) -> Any:
    """Make the field of the class, which is not shown if the model has no classes.

    Args:
        run: run that is played with.
        choices: choices beside the classes, the first of which is chosen.
    """
    import gradio as gr

    num, names = run.model.num_classes or 0, run.class_names
    labels = [f"{i}: {names[i]}" if i < len(names) and names[i] != str(i) else str(i) for i in range(num)]
    options = [*((word, word) for word in choices), *((label, str(i)) for i, label in enumerate(labels))]
    first = options[0][1] if options else None
    return gr.Dropdown(options, value=first, label="class", elem_id="class", visible=bool(num))


def classes_of(chosen: str | None, run: Run) -> int | list[int] | None:
    """Read the field of the class: a class, all of them in turns, or None to draw them at random."""
    if run.model.num_classes is None or chosen in (None, AT_RANDOM):
        return None
    return list(range(run.model.num_classes)) if chosen == IN_TURNS else int(str(chosen))


def results(height: int = 640) -> tuple[Any, Any, Any]:
    """Make the fields of what comes out: the picture, the command line that makes it again, and the file to take."""
    import gradio as gr

    picture = gr.Image(
        type="pil", format="png", show_label=False, interactive=False, buttons=["fullscreen"], elem_classes="picture",
        height=height,
    )  # fmt: skip
    return picture, *taken_away()


def taken_away() -> tuple[Any, Any]:
    """Make the fields of the command line that makes a result again, and of the file to take away."""
    import gradio as gr

    command = gr.Textbox(
        label="the same from the command line", interactive=False, lines=2, buttons=["copy"], elem_classes="command"
    )
    file = gr.DownloadButton("download with settings", size="sm")
    return command, file
