"""``genlab sample run=FOLDER n=64``: draw from a run's checkpoint; needs the folder and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors

if TYPE_CHECKING:
    from genlab.runs.loading import Run

Mode = Literal[
    "grid",
    "interpolate",
    "truncation",
    "classes",
    "nearest",
    "reconstruct",
    "traverse",
    "attribute",
    "scatter",
    "manifold",
    "complete",
    "surprise",
    "receptive_field",
    "likelihood",
]
STEERED = ("reconstruct", "traverse", "attribute", "scatter", "manifold")
OF_VALUES = ("complete", "surprise", "receptive_field")
SAMPLES = {
    "grid": 64,
    "reconstruct": 32,
    "scatter": 5000,
    "complete": 10,
    "surprise": 16,
    "likelihood": 1000,
}  # where n is not given


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="sample")
@one_line_errors
def main(cfg: DictConfig) -> None:
    sample(cfg)


def sample(cfg: DictConfig) -> None:
    """Write samples as a picture and an array, or as text; the same ones for the same seed."""
    from genlab.composition.building import plain
    from genlab.devices import tune_processor
    from genlab.errors import InputError
    from genlab.runs import showing
    from genlab.runs.loading import Weights, load
    from genlab.runs.pictures import film, grid, save_array, save_png
    from genlab.runs.process import keep_freed_memory

    config = plain(
        cfg,
        run=str,
        mode=Mode,
        checkpoint=str,
        weights=Weights,
        n=int | None,
        steps=int | None,
        seed=int,
        sampling=dict[str, Any],
        temperature=float | None,
        temperatures=list[float],
        classes=int | list[int] | None,
        images=list[int] | None,
        extent=float,
        attribute=list[int] | None,
        redraw=Literal["top", "bottom", "left", "right"] | list[int],
        draws=int,
        pixel=list[int] | None,
        against=list[str],
        prompt=str | None,
        length=int | None,
        top_k=int | None,
        top_p=float | None,
    )
    keep_freed_memory()
    tune_processor()
    short = {key: config[key] for key in ("temperature", "top_k", "top_p") if config[key] is not None}
    sampling = {**config["sampling"], **short}
    run = load(config["run"], config["checkpoint"], config["weights"], config["device"], sampling=sampling)
    if run.config["dataset"]["kind"] == "tokens":
        _write(run, config)
        return
    mode = config["mode"]
    if config["n"] is None:
        config["n"] = SAMPLES.get(mode, 8)
    if config["steps"] is None:
        config["steps"] = 20 if mode == "manifold" else 8
    if lowest := [f"{k}={config[k]}" for k in ("n", "steps", "draws") if config[k] < 1]:
        raise InputError(f"{lowest[0]}: give a number of samples, 1 or more")
    if cold := [t for t in [*config["temperatures"], config["extent"]] if t <= 0]:
        raise InputError(f"temperatures or extent is {cold[0]}: give a number above 0")
    target = Path(config["output"] or run.folder.samples / f"{_name(config)}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    if mode != "grid" and len(run.model.shape) != 3:
        raise InputError(f"mode={mode} is of images; this run's model draws points: mode=grid shows them")
    if config["prompt"] is not None:
        raise InputError("prompt: this run's model writes no text")
    show = showing.drawn
    if mode == "likelihood":
        show = showing.likelihood
    elif mode in OF_VALUES:
        show = showing.of_values
    elif _is_steered(config):
        show = showing.steered
    picture, samples, columns = show(run, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture, target)
    save_array(samples, target.with_suffix(".npy"))
    print(f"{target}\n{target.with_suffix('.npy')}")
    if mode in ("interpolate", "traverse"):  # all rows at once, from left to right
        frames = [grid(samples[i::columns]) for i in range(columns)]
        film([*frames, *frames[-2:0:-1]], target.with_suffix(".gif"), seconds=4)
        print(target.with_suffix(".gif"))


def _write(run: "Run", config: dict[str, Any]) -> None:
    """Text to the terminal, the first one as it comes, and all of them to a file."""
    import sys

    from genlab.errors import InputError
    from genlab.runs.texts import RULE, continued, save_texts

    if config["mode"] != "grid":
        raise InputError(f"mode={config['mode']} is of images; this run's model writes text: give prompt=...")
    target = Path(config["output"] or run.folder.samples / f"text-seed{config['seed']}-n{config['n'] or 1}.txt")
    if target.suffix != ".txt":
        raise InputError(f"output={target}: give the name of a .txt file")

    def tell(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    options = {key: config[key] for key in ("prompt", "length", "seed")}
    texts = continued(run, n=config["n"] or 1, tell=tell, **options)
    tell("".join(RULE + text for text in texts[1:]) + "\n")
    save_texts(texts, target)
    print(target, file=sys.stderr)


def _name(config: dict[str, Any]) -> str:
    prefix = "" if config["mode"] == "grid" else f"{config['mode']}-"
    numbers = [config["images"] or config["attribute"] or []]
    if config["mode"] == "complete":
        numbers.append([config["redraw"]] if isinstance(config["redraw"], str) else config["redraw"])
        numbers.append([f"draws{config['draws']}"])
    if config["mode"] == "receptive_field":
        return f"{prefix}{'-'.join(map(str, config['pixel'] or ['centre']))}"
    if config["mode"] == "likelihood":
        return f"{prefix}{'-'.join(Path(name).name for name in config['against'])}"
    chosen = "".join(f"-{i}" for part in numbers for i in part)
    return f"{prefix}seed{config['seed']}-n{config['n']}{chosen}"


def _is_steered(config: dict[str, Any]) -> bool:
    return config["mode"] in STEERED or (config["mode"] == "interpolate" and config["images"] is not None)


if __name__ == "__main__":
    main()
