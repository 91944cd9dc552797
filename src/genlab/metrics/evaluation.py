"""What a run is measured by, with progress bars, and the figures as a table."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from genlab.data.examples import Split
from genlab.data.image_sets import ImageSet, SplitImages
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.console import console
from genlab.metrics.features import FeatureExtractor, Features, as_extractor, extract
from genlab.metrics.measure import draw, evaluating, importance_weighted, likelihood, own_randomness
from genlab.metrics.memorization import Memorization, nearest
from genlab.metrics.modes import Modes
from genlab.metrics.quality import DC_NEIGHBOURS, Result, sample_quality
from genlab.metrics.reference import Reference
from genlab.models.base import Diagnosable, GenerativeModel, ImportanceWeighted, LikelihoodModel
from genlab.runs.figures import digits, figure, remark
from genlab.views.pictures import grid


@contextmanager
def with_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal; elsewhere a line every half minute, and none if it is quicker."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield _Lines(what, total)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


class _Lines:
    """Progress for a log file."""

    def __init__(self, what: str, total: int, every: float = 30.0) -> None:
        self.what, self.total, self.every = what, total, every
        self.done = 0
        self.started = self.last = time.monotonic()

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= self.every and self.done < self.total:
            self.last = now
            left = (now - self.started) * (self.total - self.done) / self.done
            console(stderr=True).print(f"{self.what}: {self.done:,} of {self.total:,}, {left:.0f} s left")


class Evaluation:
    """The measures of ``conf/metrics``, for a model on its data and for two sets of images.

    Args:
        features: an extractor, or any module that gives ``(B, d)`` features, or (features, logits), of float images in
            [0, 1]; ``None`` leaves out what compares features.
        modes: counts them, where the data has some.
        reference: the split that samples are compared with.
        num_samples: drawn for every measure of samples.
        num_test: images of the test set that the likelihood is taken of; ``None`` for all.
        importance_samples: draws an image for the importance-weighted likelihood of a model of latents; ``None``
            leaves it out.
        memorization: compare samples with the training images one by one.
        num_shown: samples kept as a picture and an array.
        seed: of the samples, and of a bound's draws.
        cache_dir: where the reference's features are kept; ``None`` for nowhere.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        modes: Modes | None = None,
        reference: Split = "train",
        num_samples: int = 10000,
        num_test: int | None = None,
        importance_samples: int | None = None,
        memorization: bool = True,
        num_shown: int = 64,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if num_samples <= DC_NEIGHBOURS or num_shown < 1:
            raise InputError(
                f"metrics.num_samples={num_samples}, num_shown={num_shown}: more than {DC_NEIGHBOURS} to measure, and "
                "at least 1 to show"
            )
        if importance_samples is not None and importance_samples < 1:
            raise InputError(f"metrics.importance_samples={importance_samples}: at least 1, or null")
        self.features = None if features is None else as_extractor(features)
        self.modes, self.reference = modes, reference
        self.num_samples, self.num_test, self.importance_samples = num_samples, num_test, importance_samples
        self.memorization, self.num_shown, self.seed, self.cache_dir = memorization, num_shown, seed, cache_dir

    def draw(self, model: GenerativeModel, data: DataModule) -> Tensor:
        """The samples to measure, and to show where more of them are shown, ``(N, *shape)``; of text to show alone."""
        total = self.num_shown if data.kind == "tokens" else max(self.num_samples, self.num_shown)
        with with_progress("samples", total) as advance:
            return draw(model, total, seed=self.seed, decode=data.decode, advance=advance)

    def measure(
        self, model: GenerativeModel, data: DataModule, samples: Tensor, protocol: Mapping[str, Any]
    ) -> tuple[dict[str, Result], Image.Image | None]:
        """A model's figures, and a picture of samples beside the training images they are nearest to.

        Args:
            samples: of :meth:`draw`.
            protocol: which checkpoint and weights ``model`` holds; joins each result's own.
        """
        device = model.device
        samples = samples[: self.num_samples]
        results = self._likelihood(model, data) | _of_latents(model, data, self.seed)
        data = data.pictured
        sampler = {"sampler": model.sampler, "temperature": 1.0, "seed": self.seed}
        quality: dict[str, Result] = {}
        neighbours = None
        if self.features is not None:
            with with_progress("features of samples", len(samples)) as advance:
                fake = extract(self.features, samples.split(500), device, advance)
            real = self._reference(SplitImages(data, self.reference), self.features, device)
            quality |= sample_quality(fake, real, device)
        if self.modes is not None:
            quality |= _of_modes(self.modes, samples, data.protocol)
        if self.features is not None and self.memorization:
            train = real
            if self.reference != "train":
                train = self._reference(SplitImages(data, "train"), self.features, device)
            held_out = self._reference(SplitImages(data, "test"), self.features, device)
            quality["too_near_to_train"], indices = _of_memorization(fake, train, held_out, device)
            neighbours = _beside_neighbours(samples, data, indices)
        for name, result in quality.items():
            result["protocol"] |= sampler
            results[f"test/{name}"] = result
        for result in results.values():
            result["protocol"] = {**result["protocol"], **protocol}
        return results, neighbours

    def compare(self, real: ImageSet, fake: ImageSet, device: torch.device) -> dict[str, Result]:
        """The figures of a set of images against another; no model is needed."""
        if self.features is None:
            raise InputError("metrics.features=null: two folders are compared by features of their images")
        with with_progress(f"features of {fake.name}", len(fake)) as advance:
            features = extract(self.features, fake, device, advance)
        results = sample_quality(features, self._reference(real, self.features, device), device)
        if self.modes is not None:
            results |= _of_modes(self.modes, torch.cat(list(fake)), {})
        for result in results.values():
            result["protocol"] |= {"samples": fake.name, **self.features.preprocessing(fake.shape)}
        return results

    def beside_neighbours(self, samples: Tensor, data: DataModule, device: torch.device) -> Image.Image:
        """A row of a sample and the five training images nearest to it by their features."""
        data = data.pictured
        if self.features is None or not isinstance(data, ImageDataModule):
            raise InputError("the nearest training images are found by features of images: set metrics.features")
        train = self._reference(SplitImages(data, "train"), self.features, device)
        features = extract(self.features, [samples], device)
        _, indices = nearest(features.features.to(device), train.features.features.to(device), 5)
        return _beside_neighbours(samples, data, indices.cpu(), len(samples))

    def _reference(self, images: ImageSet, features: FeatureExtractor, device: torch.device) -> Reference:
        with with_progress(f"features of {images.name}", len(images)) as advance:
            return Reference.of(images, features, self.cache_dir, device, advance)

    def _likelihood(self, model: GenerativeModel, data: DataModule) -> dict[str, Result]:
        results: dict[str, Result] = {}
        if not isinstance(model, LikelihoodModel):
            return results
        num = min(self.num_test or len(data.splits["test"]), len(data.splits["test"]))
        with with_progress("test likelihood", num) as advance:
            results |= likelihood(model, data, num=num, seed=self.seed, advance=advance)
        if self.importance_samples is not None and isinstance(model, ImportanceWeighted):
            draws = self.importance_samples
            with with_progress(f"test likelihood, {draws:,} draws an image", num) as advance:
                results |= importance_weighted(model, data, draws=draws, num=num, seed=self.seed, advance=advance)
        return results


def _of_latents(model: GenerativeModel, data: DataModule, seed: int, num: int = 2000) -> dict[str, Result]:
    """What the latents of test images carry."""
    if not isinstance(model, Diagnosable):
        return {}
    num = min(num, model.most_diagnosed or num)
    x, y = (part.to(model.device) for part in data.some("test", num))
    with own_randomness(seed, model.device), evaluating(model):
        found = model.diagnose(x, y if model.num_classes is not None else None)
    protocol = {**data.protocol, "split": "test", "num": len(x), "seed": seed}
    nats = ("rate", "distortion", "aggregate_gap")
    return {
        f"test/{name}": {
            "value": float(value),
            **({"unit": "nats"} if name in nats else {}),
            "protocol": dict(protocol),
        }
        for name, value in found.items()
        if not isinstance(value, Tensor)
    }


def _of_modes(modes: Modes, samples: Tensor, facts: dict[str, object]) -> dict[str, Result]:
    found = modes(samples)
    protocol = {**facts, **modes.protocol, "num_samples": len(samples)}
    floor = (modes.num_modes - 1) / (2 * len(samples))
    results: dict[str, Result] = {}
    for name, value in found.items():
        results[name] = {"value": value, "protocol": dict(protocol)}
    results["modes"]["out_of"] = modes.num_modes
    results["kl_to_uniform"] |= {"unit": "nats", "sampling_floor": floor}
    if len(samples) < 10 * modes.num_modes:
        results["modes"]["warning"] = f"{len(samples)} samples cannot show {modes.num_modes} modes well"
    return results


def _of_memorization(
    fake: Features, train: Reference, held_out: Reference, device: torch.device
) -> tuple[Result, Tensor]:
    keys = train.features.features.to(device)
    of_samples, indices = nearest(fake.features.to(device), keys, 5)
    of_held_out, _ = nearest(held_out.features.features.to(device), keys)
    test = Memorization.test(of_samples[:, 0].cpu(), of_held_out[:, 0].cpu())
    result: Result = {
        "value": test.too_near,
        "expected": test.quantile,
        "z": test.z,
        "protocol": {
            **train.protocol,
            "backend": "genlab",
            "estimator": f"share of samples nearer to a training image than {1 - test.quantile:.0%} of test images are",
            "num_samples": len(fake),
            "num_held_out": len(held_out),
        },
    }
    if test.too_near > 0.5:
        result["warning"] = "most samples lie nearer to training images than test images do: look at neighbours.png"
    return result, indices.cpu()


def _beside_neighbours(samples: Tensor, data: DataModule, indices: Tensor, rows: int = 10) -> Image.Image:
    """A row of a sample and, after it, the training images nearest to it."""
    shown = samples[:rows].float().cpu()
    assert isinstance(data, ImageDataModule)
    nearest_images = data.splits["train"].take(indices[: len(shown)].flatten()).float().cpu() / (data.source_levels - 1)
    together = torch.cat([shown.unsqueeze(1), nearest_images.view(len(shown), -1, *shown.shape[1:])], 1)
    return grid(together.flatten(0, 1), columns=together.shape[1])


def print_figures(figures: Mapping[str, Result], more: Mapping[str, str]) -> None:
    """A table of results and what was warned of, then of whatever else is to be known."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    for name, result in figures.items():
        spread = next((f" ± {result[key]:.2g}" for key in ("standard_error", "std") if key in result), "")
        words = [remark(result), *([f"[yellow]{result['warning']}[/]"] if "warning" in result else [])]
        table.add_row(figure(name).label, f"{digits(result['value'])}{spread}", "; ".join(words))
    out = console()
    out.print(table)
    for name, value in more.items():  # unbroken, however long, so that a path can be copied
        out.print(f"  {name:<14}{value}", soft_wrap=True, highlight=False, markup=False)
