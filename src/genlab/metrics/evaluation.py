"""Evaluation of a run: applies all configured measures to a model and its data, or to two sets of images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.data.examples import Split
from genlab.data.folders import say
from genlab.data.image_sets import ImageSet, SplitImages
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.memory import check_fits
from genlab.machine.progress import signs_of_life, with_progress
from genlab.metrics.catalogue import catalogue
from genlab.metrics.drawing import bytes_of, draw
from genlab.metrics.features import as_extractor, extract
from genlab.metrics.figure import Figure
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
from genlab.metrics.norm_statistics import batch_norms, with_own_statistics
from genlab.metrics.result import Result
from genlab.metrics.subject import LEAST, ImagesSubject, ModelSubject, reference_of
from genlab.models.abilities import CountsEvaluations
from genlab.models.base import GenerativeModel


def first_measures() -> dict[str, Measure]:
    """Build the measures of runs whose config predates ``metrics.measures``; add new measures in ``conf/`` only."""
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
    """Output of :meth:`Evaluation.measure`.

    Attributes:
        figures: results by name, e.g. ``test/fid``.
        samples: samples that were measured, ``(N, *shape)``; None if no measure needed their neighbours.
        neighbours: indices of the training images nearest to each sample, ``(N, 5)``, nearest first; None if no
            measure needed them.
    """

    figures: dict[str, Result]
    samples: Tensor | None
    neighbours: Tensor | None


class Evaluation:
    """The measures configured in ``conf/metrics``, applied to a model on its data or to two sets of images.

    Args:
        features: feature extractor, or any module that maps float images in [0, 1] to ``(B, d)`` features or to
            (features, logits); None disables all measures that compare features.
        modes: counter of the data's modes; None if the modes cannot be counted.
        reference: split whose images the samples are compared with.
        num_samples: number of samples drawn for the measures that need samples.
        num_test: number of test examples on which the likelihood is measured; None for all.
        importance_samples: number of latents drawn per image for the importance-weighted likelihood of a
            latent-variable model; None disables this measure.
        memorization: whether to search the training images for near copies of the samples.
        num_shown: number of samples that are saved as a picture and an array.
        seed: random seed of the samples and of the draws in a likelihood bound.
        cache_dir: folder in which features of the reference images are cached; None disables the cache.
        measures: measures by name, in the order in which their figures are reported; entries that are None are
            skipped. None for the measures of :func:`first_measures`.
        norm_statistics: number of samples from which the statistics of batch normalization are computed anew for the
            weights that are measured; None to use the running statistics of training.

    Raises:
        InputError: if a number is too small, or if two measures declare the same figure.
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        modes: Modes | None = None,
        reference: Split = "train",
        num_samples: int = 10000,
        num_test: PositiveInt | None = None,
        importance_samples: int | None = None,
        memorization: bool = True,
        num_shown: int = 64,
        seed: int = 0,
        cache_dir: str | None = None,
        measures: Mapping[str, Measure | None] | None = None,
        norm_statistics: PositiveInt | None = None,
    ) -> None:
        if num_samples <= LEAST or num_shown < 1:
            raise InputError(
                f"metrics.num_samples={num_samples}, num_shown={num_shown}: more than {LEAST} to measure, and "
                "at least 1 to show"
            )
        if not -(2**63) <= seed < 2**64:
            raise InputError(f"metrics.seed={seed}: expected a number of 64 bits")
        if importance_samples is not None and importance_samples < 1:
            raise InputError(f"metrics.importance_samples={importance_samples}: at least 1, or null")
        self.measures = chosen(measures if measures is not None else first_measures(), "metrics.measures")
        self.features = None if features is None else as_extractor(features)
        self.modes, self.reference = modes, reference
        self.num_samples, self.num_test, self.importance_samples = num_samples, num_test, importance_samples
        self.memorization, self.num_shown, self.seed, self.cache_dir = memorization, num_shown, seed, cache_dir
        self.norm_statistics = norm_statistics

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that identify an evaluation of a checkpoint, as plain values."""
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
            **self._statistics,
        }

    @property
    def _statistics(self) -> dict[str, Any]:
        """Protocol field of statistics that are computed anew; empty for those of training."""
        return {} if self.norm_statistics is None else {"norm_statistics": self.norm_statistics}

    @property
    def declared(self) -> dict[str, Figure]:
        """Declarations of figures that are missing from the catalogue or differ from it."""
        known = catalogue()
        figures = {name: figure for measure in self.measures.values() for name, figure in measure.figures.items()}
        return {name: figure for name, figure in figures.items() if known.get(name) != figure}

    def check_memory(self, model: GenerativeModel, data: DataModule) -> None:
        """Check that the samples to measure will fit in memory, and that their settings have an effect.

        Raises:
            InputError: if they will not, or have none.
        """
        if self.norm_statistics is not None and not batch_norms(model):
            raise InputError(
                f"metrics.norm_statistics={self.norm_statistics}: {type(model).__name__} is sampled without batch "
                "normalization; set it to null"
            )
        total = self.num_drawn(data)
        check_fits(bytes_of(total, model), f"metrics.num_samples={total}: too many samples; measure fewer")

    @property
    def needs_samples(self) -> bool:
        """Tell whether a measure needs samples, if there is a kind of data that it applies to."""
        return any(measure.needs & {"samples", "features"} for measure in self.measures.values())

    def num_drawn(self, data: DataModule) -> int:
        """Count the samples that are drawn, to be measured or to be shown."""
        return max(self.num_samples, self.num_shown) if data.modality.is_measured else self.num_shown

    def draw(self, model: GenerativeModel, data: DataModule) -> Tensor:
        """Draw the samples to measure and to show, ``(N, *shape)``; text samples are only shown, not measured."""
        total = self.num_drawn(data)
        if self.norm_statistics is not None:
            model = with_own_statistics(model, self.norm_statistics, self.seed)
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
        """Measure a model on its data, with samples drawn under the model's own sampling settings.

        Args:
            model: model to measure.
            data: data on which the model was trained.
            samples: samples from :meth:`draw`; None draws them as soon as a measure needs them.
            protocol: fields added to the protocol of every result, such as the checkpoint and the weights.
            known: figures of the same weights under other sampling settings; figures that do not depend on samples,
                such as the likelihood, are taken from here instead of being measured again.
        """
        if samples is None:
            self.check_memory(model, data)
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
            **self._statistics,
        }
        figures: dict[str, Result] = {}
        looked = False
        for title, measure in self.measures.items():
            if not measure.applies(subject):
                continue
            of_samples = measure.needs & {"samples", "features"}
            names = [f"test/{name}" for name in measure.figures]
            if known and not of_samples:
                figures |= {name: known[name] for name in names if name in known}
                continue
            looked |= isinstance(measure, TooNearToTrain)
            with signs_of_life(title.replace("_", " ")):
                measured = measure(subject)
            how = {**(drawn | _counted(model) if of_samples else {}), **(protocol or {})}
            figures |= {f"test/{name}": result.under(how) for name, result in measured.items()}
        if not looked:
            return Measured(figures, None, None)
        return Measured(figures, subject.samples, subject.neighbours[1].cpu())

    def compare(self, real: ImageSet, fake: ImageSet, device: torch.device) -> dict[str, Result]:
        """Measure the images ``fake`` against the images ``real``; no model is needed."""
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
        about: dict[str, object] = {"samples": fake.name}
        of_real = self.features.preprocessing(real.shape)
        for key, how in self.features.preprocessing(fake.shape).items():
            about[key] = how if how == of_real.get(key, how) else f"{how}; real images: {of_real[key]}"
        figures: dict[str, Result] = {}
        for title, measure in self.measures.items():
            if measure.applies(subject):
                with signs_of_life(title.replace("_", " ")):
                    figures |= {name: result.under(about) for name, result in measure(subject).items()}
        for images in (real, fake):
            say(images.found)
        return figures

    def nearest(self, samples: Tensor, data: DataModule, device: torch.device) -> Tensor:
        """Find the five training images whose features are nearest to those of each sample, as indices ``(N, 5)``.

        Raises:
            InputError: if no feature extractor is configured.
        """
        if self.features is None:
            raise InputError("the nearest training images are found by features of images: set metrics.features")
        train = reference_of(SplitImages(data.pictured, "train"), self.features, self.cache_dir, device)
        features = extract(self.features, [samples], device, view=data.pictured.modality.features_view)
        _, indices = nearest(features.features.to(device), train.features.features.to(device), 5)
        return indices.cpu()


def _counted(model: GenerativeModel) -> dict[str, Any]:
    """Give the protocol field of the evaluations that an adaptive solver took for a sample; empty for others."""
    mean = model.tally.mean if isinstance(model, CountsEvaluations) else None
    return {} if mean is None else {"network_evaluations": mean}


def chosen(measures: Mapping[str, Measure | None], where: str) -> dict[str, Measure]:
    """Check the configured measures and drop the entries that are None.

    Args:
        measures: measures by name.
        where: config key of the measures, for error messages.

    Raises:
        InputError: if an entry is not a measure, or if two measures declare the same figure.
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
