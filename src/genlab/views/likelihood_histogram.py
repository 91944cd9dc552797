"""Compute bits/dim of single images, of a model's own data and of others, and draw them as histograms."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from genlab.composition.building import build
from genlab.composition.configs import composed, conf_dir
from genlab.data.examples import Split
from genlab.data.folders import say
from genlab.data.image_sets import ArrayImages, FolderImages
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import Advance, evaluating, marginal_log_prob, own_randomness
from genlab.models.base import GenerativeModel, LikelihoodModel
from genlab.pictures.figures import COLOURS, as_image, open_sides
from genlab.runs.loading import Run

OWN: tuple[Split, ...] = ("train", "test")


def has_bits(model: GenerativeModel, data: DataModule) -> TypeGuard[LikelihoodModel]:
    """Tell whether a model has bits/dim of single images.

    Args:
        model: any model.
        data: data that the model was trained on.
    """
    return isinstance(model, LikelihoodModel) and model.discrete and data.modality.is_tiled


def per_image_bits(
    model: LikelihoodModel,
    data: DataModule,
    split: Split,
    num: int | None = 1000,
    *,
    seed: int = 0,
    advance: Advance = lambda _: None,
) -> Tensor:
    """Compute bits/dim of single images, spread over a whole split, ``(N,)`` on the CPU.

    The mean over all test images, with the evaluation's seed, is ``test/bits_per_dim``.

    Args:
        model: model with bits/dim of images.
        data: data that the model was trained on.
        split: split to take images from.
        num: maximal number of images, which the model may lower (``most_scored``); None for all.
        seed: random seed of the draws of models whose likelihood is a bound.
        advance: callback for a progress bar, called with the number of images done.
    """
    data.setup()
    limits = [limit for limit in (num, model.most_scored, len(data.splits[split])) if limit is not None]
    x, y = data.some(split, min(limits))
    return bits_of(model, x, y, seed=seed, batch_size=data.eval_batch_size, advance=advance)


def bits_of(
    model: LikelihoodModel,
    x: Tensor,
    y: Tensor | None = None,
    *,
    seed: int = 0,
    batch_size: int = 500,
    advance: Advance = lambda _: None,
) -> Tensor:
    """Compute bits/dim of images, ``(N,)`` on the CPU; a model with a bound on its likelihood uses one draw.

    Args:
        model: model with bits/dim of images.
        x: images ``(N, C, H, W)``, floats in [0, 1], on the grey levels that the model has learned.
        y: classes of the images, int64 ``(N,)``; None makes all classes of a conditional model equally likely.
        seed: random seed of the draws of models whose likelihood is a bound.
        batch_size: number of images computed at once.
        advance: callback for a progress bar, called with the number of images done.

    Raises:
        InputError: if the images do not have the model's shape.
    """
    if tuple(x.shape[1:]) != model.shape:
        raise InputError(f"images of shape {list(x.shape[1:])}: this model's are {list(model.shape)}")
    found: list[Tensor] = []
    with evaluating(model), own_randomness(seed, model.device):
        for i in range(0, len(x), batch_size):
            part = x[i : i + batch_size].to(model.device)
            if y is None:
                log_prob = marginal_log_prob(model, part)
            else:
                log_prob = model.log_prob(part, y[i : i + batch_size].to(model.device))
            found.append(model.bits_per_dim(-log_prob.double()).cpu())
            advance(len(part))
    return torch.cat(found)


# -- images that a model was not trained on ----------------------------------------------------------------------------


def _inverted(x: Tensor, generator: torch.Generator) -> Tensor:
    return 1 - x


def _permuted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the pixels of all images in the same random order."""
    order = torch.randperm(x[0, 0].numel(), generator=generator)
    return x.flatten(2)[..., order].view_as(x)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(x.shape, generator=generator)


def _constant(x: Tensor, generator: torch.Generator) -> Tensor:
    """Fill each image with one random colour."""
    return torch.rand(*x.shape[:2], 1, 1, generator=generator).expand(x.shape)


CHANGES: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "inverted": _inverted,
    "permuted": _permuted,
    "noise": _noise,
    "constant": _constant,
}


def changed(x: Tensor, how: str, levels: int, *, seed: int = 0) -> Tensor:
    """Change images so that they no longer look like the data.

    Args:
        x: images ``(N, C, H, W)``, floats in [0, 1].
        how: name of the change, one of ``CHANGES``.
        levels: number of grey levels of the images, which the result has too.
        seed: random seed of the change.

    Raises:
        InputError: if there is no such change.
    """
    if how not in CHANGES:
        raise InputError(f"{how}: expected one of {', '.join(CHANGES)}")
    return on_levels(CHANGES[how](x, torch.Generator().manual_seed(seed)), levels)


def on_levels(x: Tensor, levels: int) -> Tensor:
    """Round floats in [0, 1] to the nearest grey level ``k / (levels - 1)``."""
    return (x * (levels - 1)).round() / (levels - 1)


def other_images(name: str, data: ImageDataModule, num: int = 1000, *, seed: int = 0) -> Tensor:
    """Load images to compare with those of a data set, ``(N, C, H, W)`` on its grey levels.

    Args:
        name: one of ``CHANGES``, for changed test images; a data set of ``conf/dataset``, for its test images; or a
            folder of images or a ``.npy`` file of uint8.
        data: data set to compare with.
        num: maximal number of images.
        seed: random seed of a change.

    Raises:
        InputError: if none of these has that name.
    """
    if name in CHANGES:
        return changed(data.some("test", num)[0], name, data.levels, seed=seed)
    if Path(name).expanduser().exists():
        images = ArrayImages(name) if name.endswith(".npy") else FolderImages(name, grey=data.shape[0] == 1)
        pixels = torch.cat(list(images))[:num]
        say(images.found)
        return on_levels(pixels.float() / 255, data.levels)
    if not Path(conf_dir(), "dataset", f"{name}.yaml").is_file():
        raise InputError(
            f"{name} is neither a change of test images ({', '.join(CHANGES)}) nor a data set of conf/dataset, and "
            "there is no such folder"
        )
    other = build(OmegaConf.to_container(composed("train", [f"dataset={name}"]).dataset, resolve=True), "dataset")
    if not isinstance(other, ImageDataModule):
        raise InputError(f"dataset={name} has no images")
    return on_levels(other.some("test", num)[0], data.levels)


def beside_others(run: Run, others: Sequence[str], num: int = 1000, *, seed: int = 0) -> dict[str, Tensor]:
    """Compute bits/dim of training images, test images and other images by a run's model.

    A class-conditional model is given no classes, because other images have none.

    Args:
        run: run whose model gives the likelihood.
        others: names of the other sets of images, see :func:`other_images`.
        num: maximal number of images of each set.
        seed: random seed of changes, and of models whose likelihood is a bound.

    Returns:
        Bits/dim ``(N,)`` of each set, by its name.

    Raises:
        InputError: if the model has no likelihood of images, or another set does not exist or has another shape.
    """
    model, data = run.model, run.data
    if not has_bits(model, data) or not isinstance(data, ImageDataModule):
        raise InputError("mode=likelihood: this run's model has no bits/dim of images")
    sets = {split: data.some(split, num)[0] for split in OWN} | {
        name: other_images(name, data, num, seed=seed) for name in others
    }
    found: dict[str, Tensor] = {}
    for name, x in sets.items():
        with with_progress(f"likelihood of {name}", len(x)) as advance:
            found[name] = bits_of(model, x, seed=seed, batch_size=data.eval_batch_size, advance=advance)
    return found


# -- the picture -------------------------------------------------------------------------------------------------------


def likelihood_histogram(bits: Mapping[str, Tensor]) -> Image.Image:
    """Draw a histogram of bits/dim for each set of images, with a line at its median.

    The axis is logarithmic if the sets lie far apart. The outermost 0.5 % of each set may be out of view.

    Args:
        bits: bits/dim ``(N,)`` of each set of images, by its name.

    Raises:
        InputError: if a set is empty, or some of its bits/dim are NaN or infinite.
    """
    for name, of_set in bits.items():
        if len(of_set) == 0:
            raise InputError(f"{name}: there are no images")
        if not of_set.isfinite().all():
            raise InputError(f"{name}: {int((~of_set.isfinite()).sum())} images have bits/dim that are NaN or infinite")

    from matplotlib.figure import Figure

    sets = {name: values.double().numpy() for name, values in bits.items()}
    medians = {name: float(np.median(values)) for name, values in sets.items()}
    ends = np.concatenate([np.quantile(values, [0.005, 0.995]) for values in sets.values()])
    low, high = ends.min(), max(ends.max(), ends.min() + 1e-6)
    far_apart = low > 0 and max(medians.values()) > 4 * min(medians.values())
    edges = (np.geomspace(low, high, 81) if far_apart else np.linspace(low, high, 61)).tolist()
    figure = Figure(figsize=(6.4, 3.6), dpi=100)
    axes = figure.add_axes((0.11, 0.14, 0.87, 0.83))
    for i, (name, values) in enumerate(sets.items()):
        colour = COLOURS[i % len(COLOURS)]
        weights = np.full(len(values), 1 / len(values))
        label = f"{name}, median {medians[name]:.3f}"
        style: dict[str, Any] = {"weights": weights, "color": colour}
        axes.hist(values, edges, alpha=0.35, **style)
        axes.hist(values, edges, histtype="step", label=label, **style)
        axes.axvline(medians[name], color=colour, linestyle="--", linewidth=1)
    if far_apart:
        from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(low, high)
    axes.set_xlabel("bits/dim")
    axes.set_ylabel("share of images")
    axes.legend(frameon=False, fontsize=9)
    open_sides(axes)
    return as_image(figure)
