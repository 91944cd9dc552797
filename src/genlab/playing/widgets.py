"""Fields of the page that several panels have."""

from collections.abc import Sequence
from typing import Any

from genlab.playing.controls import Control
from genlab.runs.loading import Run

AT_RANDOM, IN_TURNS = "at random", "each in turn"


def slider(low: float, high: float, now: float, **options: Any) -> Any:
    """Make a slider, beside which any number may be typed: what is not allowed is refused in genlab's own line.

    Args:
        low: lowest value that the slider reaches.
        high: highest value that the slider reaches.
        now: value at first.
        **options: further options of Gradio's sliders.
    """
    import gradio as gr

    made: Any = gr.Slider(low, high, now, **options)
    made.preprocess = lambda value: value
    return made


def number(now: float, **options: Any) -> Any:
    """Make the field of a number; what is not allowed is refused in genlab's own line.

    Args:
        now: value at first.
        **options: further options of Gradio's fields of numbers.
    """
    import gradio as gr

    made: Any = gr.Number(now, **options)
    made.preprocess = lambda value: value
    return made


def field_of(control: Control) -> Any:
    """Make the field of a sampling setting: choices, a slider, or a number that may be left empty."""
    import gradio as gr

    said: dict[str, Any] = {"label": control.name, "info": control.about, "elem_id": control.name}
    if control.values:
        return gr.Dropdown(list(control.values), value=control.now, **said)
    usual = control.range
    if usual is not None and not control.is_optional:
        return slider(usual.low, usual.high, control.now, step=usual.step, **said)
    # Gradio's fields of numbers turn an empty one into 0.
    now = "" if control.now is None else f"{control.now:g}"
    return gr.Textbox(now, placeholder="none" if control.is_optional else "", lines=1, max_lines=1, **said)


def changed(fields: Sequence[Any]) -> list[Any]:
    """Give the events by which fields say that their values changed: of a text, when it is left or entered."""
    import gradio as gr

    return [
        event
        for field in fields
        for event in ([field.submit, field.blur] if isinstance(field, gr.Textbox) else [field.change])
    ]


def seed_fields() -> tuple[Any, Any]:
    """Make the field of the seed, and a button that takes the next one."""
    import gradio as gr

    with gr.Row(elem_classes="seed"):
        seed = number(0, label="seed", minimum=0, elem_id="seed", min_width=80)
        following = gr.Button("next seed", elem_id="next-seed", min_width=100)
    following.click(
        lambda value: (value or 0) + 1, seed, seed, queue=False, api_visibility="private", show_progress="hidden"
    )
    return seed, following


def class_field(run: Run, choices: Sequence[str] = (), *, label: str = "class", visible: bool = True) -> Any:
    """Make the field of the class, which is not shown if the model has no classes.

    Args:
        run: run that is played with.
        choices: choices beside the classes, the first of which is chosen.
        label: what is written above the field.
        visible: whether the field of a model with classes is shown at first.
    """
    import gradio as gr

    num, names = run.model.num_classes or 0, run.class_names
    labels = [f"{i}: {names[i]}" if i < len(names) and names[i] != str(i) else str(i) for i in range(num)]
    options = [*((word, word) for word in choices), *((label, str(i)) for i, label in enumerate(labels))]
    first = options[0][1] if options else None
    return gr.Dropdown(options, value=first, label=label, elem_id="class", visible=visible and bool(num))


def classes_of(chosen: str | None, run: Run) -> int | list[int] | None:
    """Read the field of the class: a class, all of them in turns, or None to draw them at random."""
    if run.model.num_classes is None or chosen in (None, AT_RANDOM):
        return None
    return list(range(run.model.num_classes)) if chosen == IN_TURNS else int(str(chosen))


def results() -> tuple[Any, Any, Any]:
    """Make the fields of what comes out: the picture, the command line that makes it again, and the file to take."""
    import gradio as gr

    picture = gr.Image(
        type="pil", format="png", show_label=False, interactive=False, buttons=["fullscreen"], elem_classes="picture"
    )
    return picture, *taken_away()


def taken_away() -> tuple[Any, Any]:
    """Make the fields of the command line that makes a result again, and of the file to take away."""
    import gradio as gr

    command = gr.Textbox(
        label="the same from the command line", interactive=False, lines=2, buttons=["copy"], elem_classes="command"
    )
    file = gr.DownloadButton("download with settings", size="sm")
    return command, file
