"""``genlab sample run=FOLDER n=64``: draw from a run's checkpoint; needs the folder and nothing else."""

from typing import Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors

Mode = Literal["grid", "interpolate", "truncation", "classes", "nearest"]


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="sample")
@one_line_errors
def main(cfg: DictConfig) -> None:
    sample(cfg)


def sample(cfg: DictConfig) -> None:
    """Write samples as a picture and an array; the same ones for the same seed."""
    from pathlib import Path

    from genlab.composition import plain
    from genlab.errors import InputError
    from genlab.runs.loading import Weights, load
    from genlab.runs.pictures import save_array, save_png

    config = plain(
        cfg,
        run=str,
        mode=Mode,
        checkpoint=str,
        weights=Weights,
        n=int | None,
        steps=int,
        seed=int,
        temperature=float,
        temperatures=list[float],
        classes=int | list[int] | None,
    )
    mode = config["mode"]
    if config["n"] is None:
        config["n"] = 64 if mode == "grid" else 8
    if min(config["n"], config["steps"]) < 1:
        raise InputError(f"n={config['n']}, steps={config['steps']}: give a number of samples, 1 or more")
    if lowest := [t for t in [config["temperature"], *config["temperatures"]] if t <= 0]:
        raise InputError(f"temperature={lowest[0]}: give a number above 0")
    run = load(config["run"], config["checkpoint"], config["weights"], config["device"])
    target = Path(config["output"] or run.folder.samples / f"{_name(config)}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    picture, samples = _drawn(run, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture, target)
    save_array(samples, target.with_suffix(".npy"))
    print(f"{target}\n{target.with_suffix('.npy')}")


def _name(config: dict[str, Any]) -> str:
    prefix = "" if config["mode"] == "grid" else f"{config['mode']}-"
    return f"{prefix}seed{config['seed']}-n{config['n']}"


def _drawn(run: Any, config: dict[str, Any]) -> tuple[Any, Any]:
    """A picture and the samples on it."""
    import torch

    from genlab.composition import build
    from genlab.errors import InputError
    from genlab.metrics.measure import draw
    from genlab.runs import galleries
    from genlab.runs.evaluation import with_progress
    from genlab.runs.pictures import grid, picture

    model, mode, n, seed, temperature = run.model, *(config[k] for k in ("mode", "n", "seed", "temperature"))
    if mode != "grid" and len(model.shape) != 3:
        raise InputError(f"mode={mode} is of images; this run's model draws points: mode=grid shows them")
    classes = config["classes"]
    if (classes is not None or mode == "classes") and model.num_classes is None:
        raise InputError(
            f"{'classes=...' if classes is not None else 'mode=classes'}: this run's model is not class-conditional"
        )
    chosen = [classes] if isinstance(classes, int) else classes
    y = None if chosen is None else torch.tensor([chosen[i % len(chosen)] for i in range(n)])
    if mode == "interpolate":
        between = galleries.between(model, n, config["steps"], seed=seed, y=y, temperature=temperature)
        return grid(between, columns=config["steps"]), between
    if mode == "truncation":
        temperatures = config["temperatures"]
        with with_progress("samples", n * len(temperatures)) as advance:
            samples = galleries.tempered(model, n, temperatures, seed=seed, y=y, advance=advance)
        return grid(samples, columns=len(temperatures)), samples
    if mode == "classes":
        rows = chosen or list(range(min(model.num_classes, 20)))
        with with_progress("samples", n * len(rows)) as advance:
            samples = galleries.by_class(model, rows, n, seed=seed, temperature=temperature, advance=advance)
        return grid(samples, columns=n), samples
    with with_progress("samples", n) as advance:
        samples = draw(model, n, seed=seed, y=y, temperature=temperature, advance=advance)
    if mode == "nearest":
        metrics = build({**run.config["metrics"], "cache_dir": config["cache_dir"]}, "metrics")
        return metrics.beside_neighbours(samples, run.data, run.device), samples
    return picture(samples, None if len(model.shape) == 3 else run.data.first("test", 1000)), samples


if __name__ == "__main__":
    main()
