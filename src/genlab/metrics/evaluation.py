"""Everything that a run is measured by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genlab.data.examples import Split
from genlab.data.image_sets import ImageSet, SplitImages
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.catalogue import catalogue
from genlab.metrics.features import as_extractor, extract
from genlab.metrics.figure import Figure
from genlab.metrics.measure import draw
from genlab.metrics.measures.base import Measure
from genlab.metrics.measures.density_coverage import DensityCoverage
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.importance_weighted import ImportanceWeightedLikelihood
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.measures.latents import Latents
from genlab.metrics.measures.likelihood import Likelihood
from genlab.metrics.measures.memorization import TooNearToTrain
from genlab.metrics.measures.modes import ModesReached
from genlab.metrics.measures.precision_recall import PrecisionRecall
from genlab.metrics.memorization import nearest
from genlab.metrics.modes import Modes
from genlab.metrics.result import Result
from genlab.metrics.subject import LEAST, ImagesSubject, ModelSubject, reference_of
from genlab.models.base import GenerativeModel


def first_measures() -> dict[str, Measure]:
    """The measures of runs from before a config could name them; a new measure belongs into ``conf/`` alone."""
    return {
        "likelihood": Likelihood(),
        "importance_weighted": ImportanceWeightedLikelihood(),
        "latents": Latents(),
        "fid": FID(),
        "kid": KID(),
        "inception_score": InceptionScore(),
        "precision_recall": PrecisionRecall(),
        "density_coverage": DensityCoverage(),
        "modes": ModesReached(),
        "memorization": TooNearToTrain(),
    }


@dataclass(frozen=True)
class Measured:
    """What :meth:`Evaluation.measure` gives.

    Attributes:
        figures: results by name, ``test/fid``.
        samples: samples that were measured, ``(N, *shape)``; ``None`` where no measure asked for their neighbours.
        neighbours: indices of the training images nearest to each sample, ``(N, 5)``, nearest first; ``None`` where
            they were not looked for.
    """

    figures: dict[str, Result]
    samples: Tensor | None
    neighbours: Tensor | None


class Evaluation:
    """The measures of ``conf/metrics``, for a model on its data and for two sets of images.

    Args:
        features: extractor, or any module that gives ``(B, d)`` features, or (features, logits), of float images in
            [0, 1]; ``None`` leaves out what compares features.
        modes: counter of modes, where the data has some.
        reference: split that samples are compared with.
        num_samples: number of samples drawn for every measure of samples.
        num_test: number of images of the test set that the likelihood is taken of; ``None`` for all.
        importance_samples: number of draws an image for the importance-weighted likelihood of a model of latents;
            ``None`` leaves it out.
        memorization: whether to compare samples with the training images one by one.
        num_shown: number of samples kept as a picture and an array.
        seed: random seed of the samples, and of a bound's draws.
        cache_dir: folder in which the reference's features are kept; ``None`` for nowhere.
        measures: measures by name, in the order in which their figures are reported; ``None`` entries are left out.
            ``None`` is the list of :func:`first_measures`.

    Raises:
        InputError: for numbers that are too small, and for two measures of one figure.
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
        measures: Mapping[str, Measure | None] | None = None,
    ) -> None:
        if num_samples <= LEAST or num_shown < 1:
            raise InputError(
                f"metrics.num_samples={num_samples}, num_shown={num_shown}: more than {LEAST} to measure, and "
                "at least 1 to show"
            )
        if importance_samples is not None and importance_samples < 1:
            raise InputError(f"metrics.importance_samples={importance_samples}: at least 1, or null")
        self.measures = chosen(measures if measures is not None else first_measures(), "metrics.measures")
        self.features = None if features is None else as_extractor(features)
        self.modes, self.reference = modes, reference
        self.num_samples, self.num_test, self.importance_samples = num_samples, num_test, importance_samples
        self.memorization, self.num_shown, self.seed, self.cache_dir = memorization, num_shown, seed, cache_dir

    @property
    def settings(self) -> dict[str, Any]:
        """What tells one evaluation of a checkpoint from another one, as plain values."""
        features = self.features
        return {
            "measures": [*self.measures],
            "features": features.name if features else None,
            **({"features_sha256": features.weights_hash} if features and features.weights_hash else {}),
            "modes": type(self.modes).__name__ if self.modes else None,
            "reference": self.reference,
            "num_samples": self.num_samples,
            "num_test": self.num_test,
            "importance_samples": self.importance_samples,
            "memorization": self.memorization,
            "seed": self.seed,
        }

    @property
    def declared(self) -> dict[str, Figure]:
        """Declarations of the figures that :func:`~genlab.metrics.catalogue.catalogue` lacks or has otherwise."""
        known = catalogue()
        figures = {name: figure for measure in self.measures.values() for name, figure in measure.figures.items()}
        return {name: figure for name, figure in figures.items() if known.get(name) != figure}

    def draw(self, model: GenerativeModel, data: DataModule) -> Tensor:
        """Draw the samples to measure, and to show where more are shown, ``(N, *shape)``; of text to show alone."""
        total = max(self.num_samples, self.num_shown) if data.modality.is_measured else self.num_shown
        with with_progress("samples", total) as advance:
            return draw(model, total, seed=self.seed, decode=data.decode, advance=advance)

    def measure(
        self,
        model: GenerativeModel,
        data: DataModule,
        samples: Tensor | None = None,
        protocol: Mapping[str, Any] | None = None,
        known: Mapping[str, Result] | None = None,
    ) -> Measured:
        """Measure a model on its data, with samples drawn by the model's own settings of sampling.

        Args:
            samples: samples of :meth:`draw`; ``None`` draws them once a measure asks for some.
            protocol: which checkpoint and weights the model holds; joins each result's own.
            known: figures of the same weights under other settings of sampling; those that no sample counts in, such as
                the likelihood, are not measured again.
        """
        subject = ModelSubject(
            model,
            data,
            lambda: (self.draw(model, data) if samples is None else samples)[: self.num_samples],
            extractor=self.features,
            reference=self.reference,
            cache_dir=self.cache_dir,
            modes=self.modes,
            num_test=self.num_test,
            importance_samples=self.importance_samples,
            memorization=self.memorization,
            seed=self.seed,
        )
        drawn: dict[str, Any] = {
            "sampler": model.describe_sampler(),
            "temperature": model.sampling.temperature,
            "sampling": asdict(model.sampling),
            "seed": self.seed,
        }
        figures: dict[str, Result] = {}
        looked = False
        for measure in self.measures.values():
            if not measure.applies(subject):
                continue
            looked |= isinstance(measure, TooNearToTrain)
            of_samples = measure.needs & {"samples", "features"}
            names = [f"test/{name}" for name in measure.figures]
            if known and not of_samples:
                figures |= {name: known[name] for name in names if name in known}
                continue
            looked |= isinstance(measure, TooNearToTrain)
            how = {**(drawn if of_samples else {}), **(protocol or {})}
            figures |= {f"test/{name}": result.under(how) for name, result in measure(subject).items()}
        if not looked:
            return Measured(figures, None, None)
        return Measured(figures, subject.samples, subject.neighbours[1].cpu())

    def compare(self, real: ImageSet, fake: ImageSet, device: torch.device) -> dict[str, Result]:
        """Measure a set of images against another; no model is needed."""
        if self.features is None:
            raise InputError("metrics.features=null: two folders are compared by features of their images")
        subject = ImagesSubject(
            real,
            fake,
            extractor=self.features,
            cache_dir=self.cache_dir,
            modes=self.modes,
            device=device,
            seed=self.seed,
        )
        about = {"samples": fake.name, **self.features.preprocessing(fake.shape)}
        return {
            name: result.under(about)
            for measure in self.measures.values()
            if measure.applies(subject)
            for name, result in measure(subject).items()
        }

    def nearest(self, samples: Tensor, data: DataModule, device: torch.device) -> Tensor:
        """Indices of the five training images whose features are nearest to those of each sample, ``(N, 5)``.

        Raises:
            InputError: where there are no features to compare.
        """
        if self.features is None:
            raise InputError("the nearest training images are found by features of images: set metrics.features")
        train = reference_of(SplitImages(data.pictured, "train"), self.features, self.cache_dir, device)
        features = extract(self.features, [samples], device, view=data.pictured.modality.features_view)
        _, indices = nearest(features.features.to(device), train.features.features.to(device), 5)
        return indices.cpu()


def chosen(measures: Mapping[str, Measure | None], where: str) -> dict[str, Measure]:
    """The measures that are there, by name.

    Args:
        where: key of the config, for the error's line.

    Raises:
        InputError: where something is no measure, or two of them declare one figure.
    """
    found: dict[str, Measure] = {}
    owners: dict[str, str] = {}
    for name, measure in measures.items():
        if measure is None:
            continue
        if not isinstance(measure, Measure):
            raise InputError(f"{where}.{name}: {type(measure).__name__} is not a genlab measure (a Measure)")
        for figure in measure.figures:
            if (other := owners.setdefault(figure, name)) != name:
                raise InputError(f"{where}: {other} and {name} both measure {figure}; leave one out (~{where}.{other})")
        found[name] = measure
    return found
