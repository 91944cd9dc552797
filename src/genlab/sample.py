"""``genlab sample run=FOLDER n=64``: draw from a run's checkpoint; needs the folder and nothing else."""

from typing import TYPE_CHECKING, Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

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
]
STEERED = ("reconstruct", "traverse", "attribute", "scatter", "manifold")


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
    from genlab.runs.pictures import film, grid, save_array, save_png

    config = plain(
        cfg,
        run=str,
        mode=Mode,
        checkpoint=str,
        weights=Weights,
        n=int | None,
        steps=int | None,
        seed=int,
        temperature=float,
        temperatures=list[float],
        classes=int | list[int] | None,
        images=list[int] | None,
        extent=float,
        attribute=list[int] | None,
    )
    mode = config["mode"]
    if config["n"] is None:
        config["n"] = {"grid": 64, "reconstruct": 32, "scatter": 5000}.get(mode, 8)
    if config["steps"] is None:
        config["steps"] = 20 if mode == "manifold" else 8
    if min(config["n"], config["steps"]) < 1:
        raise InputError(f"n={config['n']}, steps={config['steps']}: give a number of samples, 1 or more")
    if lowest := [t for t in [config["temperature"], *config["temperatures"], config["extent"]] if t <= 0]:
        raise InputError(f"temperature, temperatures or extent is {lowest[0]}: give a number above 0")
    run = load(config["run"], config["checkpoint"], config["weights"], config["device"])
    target = Path(config["output"] or run.folder.samples / f"{_name(config)}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    if mode != "grid" and len(run.model.shape) != 3:
        raise InputError(f"mode={mode} is of images; this run's model draws points: mode=grid shows them")
    picture, samples, columns = _steered(run, config) if _is_steered(config) else _drawn(run, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture, target)
    save_array(samples, target.with_suffix(".npy"))
    print(f"{target}\n{target.with_suffix('.npy')}")
    if mode in ("interpolate", "traverse"):  # all rows at once, from left to right
        frames = [grid(samples[i::columns]) for i in range(columns)]
        film([*frames, *frames[-2:0:-1]], target.with_suffix(".gif"), seconds=4)
        print(target.with_suffix(".gif"))


def _name(config: dict[str, Any]) -> str:
    prefix = "" if config["mode"] == "grid" else f"{config['mode']}-"
    chosen = "".join(f"-{i}" for i in (config["images"] or config["attribute"] or []))
    return f"{prefix}seed{config['seed']}-n{config['n']}{chosen}"


def _is_steered(config: dict[str, Any]) -> bool:
    return config["mode"] in STEERED or (config["mode"] == "interpolate" and config["images"] is not None)


def _drawn(run: "Run", config: dict[str, Any]) -> "tuple[Image, Tensor, int]":
    """A picture, the samples on it, and how many of them are in a row."""
    import torch

    from genlab.composition import build
    from genlab.errors import InputError
    from genlab.metrics.measure import density_in_plane, draw
    from genlab.runs import galleries
    from genlab.runs.evaluation import with_progress
    from genlab.runs.pictures import grid, picture

    model, mode, n, seed, temperature = run.model, *(config[k] for k in ("mode", "n", "seed", "temperature"))
    classes = config["classes"]
    if (classes is not None or mode == "classes") and model.num_classes is None:
        raise InputError(
            f"{'classes=...' if classes is not None else 'mode=classes'}: this run's model is not class-conditional"
        )
    chosen = [classes] if isinstance(classes, int) else classes
    y = None if chosen is None else torch.tensor([chosen[i % len(chosen)] for i in range(n)])
    if mode == "interpolate":
        steps = config["steps"]
        between = galleries.between(model, n, steps, seed=seed, y=y, temperature=temperature)
        return grid(between, columns=steps), between, steps
    if mode == "truncation":
        temperatures = config["temperatures"]
        with with_progress("samples", n * len(temperatures)) as advance:
            samples = galleries.tempered(model, n, temperatures, seed=seed, y=y, decode=run.decode, advance=advance)
        return grid(samples, columns=len(temperatures)), samples, len(temperatures)
    if mode == "classes":
        rows = chosen or list(range(min(model.num_classes or 0, 20)))
        with with_progress("samples", n * len(rows)) as advance:
            samples = galleries.by_class(
                model, rows, n, seed=seed, temperature=temperature, decode=run.decode, advance=advance
            )
        return grid(samples, columns=n), samples, n
    with with_progress("samples", n) as advance:
        samples = draw(model, n, seed=seed, y=y, temperature=temperature, decode=run.decode, advance=advance)
    if mode == "nearest":
        metrics = build({**run.config["metrics"], "cache_dir": config["cache_dir"]}, "metrics")
        return metrics.beside_neighbours(samples, run.data, run.device), samples, 1
    if len(model.shape) == 3:
        return picture(samples), samples, 1
    return picture(samples, run.data.first("test", 1000), density=density_in_plane(model)), samples, 1


def _steered(run: "Run", config: dict[str, Any]) -> "tuple[Image, Tensor, int]":
    """As :func:`_drawn`, by way of the latents of given images."""
    from genlab.errors import InputError
    from genlab.models.base import LatentModel
    from genlab.runs import steering
    from genlab.runs.pictures import grid, scatter_classes

    mode, n, steps = (config[k] for k in ("mode", "n", "steps"))
    latents = steering.Latents(run.model, config["seed"])
    if mode == "manifold":
        if getattr(run.model, "latent_dim", None) != 2:
            raise InputError("mode=manifold is of a model with 2 latents: train one with model.latent_dim=2")
        if run.model.num_classes is not None:
            raise InputError("mode=manifold: a class-conditional model has a manifold for each class")
        samples = steering.manifold(latents, None, steps)
        return grid(samples, columns=steps), samples, steps
    if mode == "traverse" and not isinstance(run.model, LatentModel):
        y = run.model.classes(1, None, None)
        samples, chosen = steering.traversed(latents, None, y, n, steps, config["extent"])
        print(f"latents {', '.join(map(str, chosen))}")
        return grid(samples, columns=steps), samples, steps
    if mode == "attribute":
        x, y = run.data.some("test", 2000)
        pair = config["attribute"]
        if pair is not None and len(pair) != 2:
            raise InputError(f"attribute={pair}: give two classes, [4,9]")
        if run.data.num_classes is None:
            raise InputError("mode=attribute: this run's data has no classes")
        among = range(min(run.data.num_classes, n))
        pairs = [(k, (k + 1) % run.data.num_classes) for k in among] if pair is None else [(pair[0], pair[1])]
        samples = steering.with_attribute(latents, x, y, pairs, steps, *run.data.some("train", 5000))
        return grid(samples, columns=steps), samples, steps
    if mode == "scatter":
        x, y = run.data.some("test", n)
        z = latents.encode(x, y)
        return scatter_classes(z, y), z, 1
    x, y = _test_images(run, config)
    if mode == "reconstruct":
        samples = steering.reconstructed(latents, x, y)
        return grid(samples, columns=2 * min(8, len(x))), samples, 2
    if mode == "interpolate":
        if len(x) % 2:
            raise InputError(f"images={config['images']}: give two images for each row")
        samples = steering.from_one_to_another(latents, x, y, steps)
    else:
        known, of_known = run.data.some("test", 1000)
        samples, chosen = steering.traversed(latents, x[:1], y[:1], n, steps, config["extent"], known, of_known)
        print(f"latents {', '.join(map(str, chosen))}")
    return grid(samples, columns=steps), samples, steps


def _test_images(run: "Run", config: dict[str, Any]) -> "tuple[Tensor, Tensor]":
    """Those that ``images`` names, or the first ``n``, as the model sees them."""
    import torch

    from genlab.errors import InputError

    of = run.data.splits["test"]
    chosen = config["images"] or list(range(min(config["n"], len(of))))
    if not 0 <= min(chosen) <= max(chosen) < len(of):
        raise InputError(f"images={chosen}: the test set has the images 0 to {len(of) - 1}")
    index = torch.tensor(chosen)
    return run.data.transform("test", augment=False)(of.take(index), index, 0), of.labels[index]


if __name__ == "__main__":
    main()
