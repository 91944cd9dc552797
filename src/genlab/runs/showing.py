"""What ``genlab sample`` shows in each of its modes."""

from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from genlab.composition.building import build
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.measure import density_in_plane, draw
from genlab.metrics.receptive_field import receptive_field
from genlab.models.base import AutoregressiveModel, Completes, LatentModel
from genlab.runs import galleries, steering, values
from genlab.runs.likelihood_histogram import beside_others, likelihood_histogram
from genlab.runs.loading import Run
from genlab.runs.maps import beside_heat, field
from genlab.runs.neighbours import beside_neighbours
from genlab.runs.pictures import grid, picture, scatter_classes

Shown = tuple[Image, Tensor, int]  # a picture, what is on it, and how many of a row


def drawn(run: Run, config: dict[str, Any]) -> Shown:
    """A picture, the samples on it, and how many of them are in a row."""
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
        nearest = metrics.nearest(samples, run.data, run.device)
        return beside_neighbours(samples, run.data, nearest, len(samples)), samples, 1
    if len(model.shape) == 3:
        return picture(samples), samples, 1
    return picture(samples, run.data.first("test", 1000), density=density_in_plane(model)), samples, 1


def steered(run: Run, config: dict[str, Any]) -> Shown:
    """As :func:`drawn`, by way of the latents of given images."""
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


def of_values(run: Run, config: dict[str, Any]) -> Shown:
    """As :func:`drawn`, of models that go over an image value by value."""
    mode, model = config["mode"], run.model
    if mode == "receptive_field":
        return _receptive_field(run, config)
    if run.config["dataset"].get("kind") == "codes":
        raise InputError(f"mode={mode} is of images; this run's model draws codes: mode=grid decodes them")
    x, y = _test_images(run, config)
    if mode == "surprise":
        with with_progress("images", len(x)) as advance:
            bits = values.surprise(model, x, y, advance=advance)
        print(f"{bits.flatten(1).sum(1).mean():.1f} bits an image, at most {bits.max():.2f} a pixel")
        return beside_heat(x, bits, "bits a pixel"), bits, 1
    region = values.region_of(config["redraw"], model.shape)
    draws, options = config["draws"], {"seed": config["seed"], "temperature": config["temperature"]}
    with with_progress("samples", len(x) * draws) as advance:
        samples = values.completed(model, x, y, region, draws, advance=advance, **options)
    if isinstance(model, Completes) and (early := values.drawn_too_early(model, region)):
        print(f"{early} of {int(region.sum()) * len(x[0])} values are drawn before known ones, and do not heed these")
    return grid(samples, columns=2 + draws), samples, 2 + draws


def _receptive_field(run: Run, config: dict[str, Any]) -> Shown:
    """Of one pixel's last channel: the values before it that it depends on, over all of them."""
    model = run.model
    if not isinstance(model, AutoregressiveModel):
        raise InputError("mode=receptive_field is of autoregressive models of images; this run's is none")
    C, H, W = model.shape
    pixel = config["pixel"] or [H // 2, W // 2]
    if len(pixel) != 2 or not (0 <= pixel[0] < H and 0 <= pixel[1] < W):
        raise InputError(f"pixel={pixel}: give [row,column] of {H} rows and {W} columns, counted from 0")
    row, column = pixel
    place = (C - 1, row, column)
    with with_progress("values changed", model.num_dims) as advance:
        seen = receptive_field(model, place, advance=advance)
    order = model.orders[0].cpu()
    before = order < order[place]
    print(f"the pixel at row {row}, column {column} sees {seen.sum()} of {before.sum()} values before it")
    return field(seen, before, (row, column)), seen.float().unsqueeze(0), 1


def _test_images(run: Run, config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Those that ``images`` names, or the first ``n`` (to complete them, of every class), as the model sees them."""
    of = run.data.splits["test"]
    first = torch.arange(len(of)) if config["mode"] != "complete" else values.in_turns(of.labels)
    chosen = config["images"] or first[: config["n"]].tolist()
    if not 0 <= min(chosen) <= max(chosen) < len(of):
        raise InputError(f"images={chosen}: the test set has the images 0 to {len(of) - 1}")
    index = torch.tensor(chosen)
    return run.data.transform("test", augment=False)(of.take(index), index, 0), of.labels[index]


def likelihood(run: Run, config: dict[str, Any]) -> Shown:
    """How likely images of the run's data are, and others; what is kept has a row of bits/dim for each of them."""
    bits = beside_others(run, config["against"], config["n"], seed=config["seed"])
    shortest = min(map(len, bits.values()))
    return likelihood_histogram(bits), torch.stack([of_images[:shortest] for of_images in bits.values()]), 1
