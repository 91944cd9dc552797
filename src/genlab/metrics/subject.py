"""Subjects of measures: samples and, if they come from a model, the model and its data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from genlab.data.examples import Split
from genlab.data.image_sets import ImageSet, SplitImages
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.features import FeatureExtractor, Features, extract
from genlab.metrics.measures.base import Need
from genlab.metrics.memorization import nearest
from genlab.metrics.modes import Modes
from genlab.metrics.reference import Reference
from genlab.models.abilities import Diagnosable
from genlab.models.base import GenerativeModel, LikelihoodModel

LEAST = 5  # comparing nearest neighbours needs more than this number of samples and of real images
MATCH_SEED = 2020  # seed of the random subset of real images that is taken if there are more of them than samples


class Subject(ABC):
    """Samples, their features and features of real images; each is computed once, on first access.

    Attributes:
        device: device that distances are computed on.
        seed: random seed of samples and of the draws in a likelihood bound.
        modes: counter of the modes among samples; None if the modes cannot be counted.
        model: model that the samples were drawn from; None for samples of unknown origin.
        data: data of the model, as the model sees it.
        num_test: number of test examples on which a likelihood is measured.
        importance_samples: number of latents drawn per image for the importance-weighted likelihood; None disables it.
        memorization: whether to search the training images for near copies of the samples.
    """

    device: torch.device = torch.device("cpu")
    seed: int = 0
    modes: Modes | None = None
    model: GenerativeModel | None = None
    data: DataModule | None = None
    num_test: int = 0
    importance_samples: int | None = None
    memorization: bool = False

    @property
    @abstractmethod
    def provides(self) -> frozenset[Need]:
        """The needs of measures that this subject meets."""

    @property
    def facts(self) -> Mapping[str, object]:
        """Protocol fields of the data as it is shown to people, such as its name and sizes."""
        return {} if self.data is None else self.data.pictured.protocol

    @property
    def samples(self) -> Tensor:
        """The samples ``(N, *shape)`` as they are shown to people, on the CPU."""
        raise InputError("there are features of samples here, and not the samples themselves")

    @property
    @abstractmethod
    def features(self) -> Features:
        """Features of the samples."""

    @property
    @abstractmethod
    def real(self) -> Reference:
        """Features of the real images that the samples are compared with."""

    def reference(self, split: Split) -> Reference:
        """Return the features of a split of the model's data."""
        raise InputError(f"there is no {split} split here: these samples came without their model's data")

    @cached_property
    def compared(self) -> tuple[Features, Reference]:
        """Features of samples and of real images.

        Raises:
            InputError: if there are too few samples or real images for a comparison, or their features differ in
                number.
        """
        fake, real = self.features, self.real
        widths = fake.features.shape[1], real.features.features.shape[1]
        if widths[0] != widths[1]:
            raise InputError(f"{widths[0]} features of a sample and {widths[1]} of a real image cannot be compared")
        if min(len(fake), len(real)) <= LEAST:
            raise InputError(f"{len(fake)} samples and {len(real)} real images: more than {LEAST} of each are needed")
        return fake, real

    @cached_property
    def matched(self) -> tuple[Tensor, Tensor]:
        """Features of samples ``(N, d)`` and of real images ``(M, d)``, M <= N, on the device."""
        fake, real = self.compared
        chosen = real.features.features
        if len(chosen) > len(fake):
            index = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(MATCH_SEED))[: len(fake)]
            chosen = chosen[index.sort().values]
        return fake.features.to(self.device), chosen.to(self.device)

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """Distances of every sample to the five nearest training images, and their indices, each ``(N, 5)``."""
        keys = self.reference("train").features.features.to(self.device)
        return nearest(self.features.features.to(self.device), keys, 5)

    @property
    def own_model(self) -> GenerativeModel:
        """The model, for measures that require one."""
        assert self.model is not None
        return self.model

    @property
    def likelihood_model(self) -> LikelihoodModel:
        """The model, for measures that need its likelihood."""
        assert isinstance(self.model, LikelihoodModel)
        return self.model

    @property
    def own_data(self) -> DataModule:
        """The model's data, for measures that require it."""
        assert self.data is not None
        return self.data


class ModelSubject(Subject):
    """A model with its data; samples are drawn on first access.

    Args:
        model: model to measure.
        data: data of the model.
        draw: function that draws the samples.
        extractor: feature extractor; None if no features are compared.
        reference: split whose images the samples are compared with.
        cache_dir: folder in which features of the reference images are cached; None disables the cache.
        modes: counter of the modes among samples; None if the modes cannot be counted.
        num_test: number of test examples on which a likelihood is measured; None for as many as the model allows, in
            most cases the whole test set.
        importance_samples: number of latents drawn per image for the importance-weighted likelihood; None disables it.
        memorization: whether to search the training images for near copies of the samples.
        seed: random seed of the draws in a likelihood bound.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: DataModule,
        draw: Callable[[], Tensor],
        *,
        extractor: FeatureExtractor | None,
        reference: Split,
        cache_dir: str | None,
        modes: Modes | None,
        num_test: int | None,
        importance_samples: int | None,
        memorization: bool,
        seed: int,
    ) -> None:
        self.model, self.data, self.draw, self.extractor = model, data, draw, extractor
        self.split, self.cache_dir, self.modes, self.device = reference, cache_dir, modes, model.device
        self.importance_samples, self.memorization, self.seed = importance_samples, memorization, seed
        most = model.most_scored if isinstance(model, LikelihoodModel) else None
        self.num_test = min(num_test or most or len(data.splits["test"]), len(data.splits["test"]))
        self._references: dict[Split, Reference] = {}

    @property
    def provides(self) -> frozenset[Need]:
        there: dict[Need, bool] = {
            "samples": True,
            "features": self.extractor is not None,
            "likelihood": isinstance(self.model, LikelihoodModel),
            "latents": isinstance(self.model, Diagnosable),
        }
        return frozenset(need for need, is_there in there.items() if is_there)

    @cached_property
    def samples(self) -> Tensor:
        return self.draw()

    @cached_property
    def features(self) -> Features:
        assert self.extractor is not None
        with with_progress("features of samples", len(self.samples)) as advance:
            view = self.own_data.pictured.modality.features_view
            return extract(self.extractor, self.samples.split(500), self.device, advance, view)

    @cached_property
    def real(self) -> Reference:
        return self.reference(self.split)

    def reference(self, split: Split) -> Reference:
        assert self.extractor is not None
        if split not in self._references:
            images = SplitImages(self.own_data.pictured, split)
            self._references[split] = reference_of(images, self.extractor, self.cache_dir, self.device)
        return self._references[split]


class ImagesSubject(Subject):
    """A set of images that is compared with another set.

    Args:
        real: images to compare with.
        fake: images to measure.
        extractor: feature extractor.
        cache_dir: folder in which the features of ``real`` are cached; None disables the cache.
        modes: counter of modes; None if the modes cannot be counted.
        device: device to compute on.
        seed: random seed of the measures.

    Raises:
        InputError: if the images have shapes whose features cannot be compared.
    """

    def __init__(
        self,
        real: ImageSet,
        fake: ImageSet,
        *,
        extractor: FeatureExtractor,
        cache_dir: str | None,
        modes: Modes | None,
        device: torch.device,
        seed: int,
    ) -> None:
        self.images, self.fake, self.extractor, self.cache_dir = real, fake, extractor, cache_dir
        self.modes, self.device, self.seed = modes, device, seed
        if tuple(real.shape) != tuple(fake.shape):
            # Found on noise, before all images are read.
            widths = [extract(extractor, [noise(shape)]).features.shape[1] for shape in (fake.shape, real.shape)]
            if widths[0] != widths[1] or extractor.layout(real.shape) != extractor.layout(fake.shape):
                raise InputError(
                    f"{extractor.name} features cannot be compared: {real.name} has images of shape "
                    f"{list(real.shape)}, {fake.name} of {list(fake.shape)}; give both one size (shape="
                    f"{str(list(fake.shape)).replace(' ', '')} reads folders as for training), or choose features that "
                    "do not depend on it (metrics.features=efficientnet_lite0)"
                )

    @property
    def provides(self) -> frozenset[Need]:
        return frozenset({"samples", "features"})

    @cached_property
    def samples(self) -> Tensor:
        return torch.cat(list(self.fake))

    @cached_property
    def features(self) -> Features:
        with with_progress(f"features of {self.fake.name}", len(self.fake)) as advance:
            return extract(self.extractor, self.fake, self.device, advance, self.fake.features_view)

    @cached_property
    def real(self) -> Reference:
        return reference_of(self.images, self.extractor, self.cache_dir, self.device)


class FeaturesSubject(Subject):
    """Features of samples and of real images that are already extracted."""

    def __init__(self, fake: Features, real: Reference, device: torch.device) -> None:
        self.given, self.device = (fake, real), device

    @property
    def provides(self) -> frozenset[Need]:
        return frozenset({"features"})

    @property
    def features(self) -> Features:
        return self.given[0]

    @property
    def real(self) -> Reference:
        return self.given[1]


def noise(shape: Sequence[int]) -> Tensor:
    """Make two images of noise, uint8 ``(2, C, H, W)``, always the same."""
    return torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0)).byte()


def reference_of(
    images: ImageSet, extractor: FeatureExtractor, cache_dir: str | None, device: torch.device
) -> Reference:
    """Read the features of real images from the cache, or extract them with a progress bar."""
    with with_progress(f"features of {images.name}", len(images)) as advance:
        return Reference.of(images, extractor, cache_dir, device, advance)
