"""The interface of generative models, on which training, sampling and evaluation rely.

Examples have the same format for every model: images are float in [0, 1], ``(B, C, H, W)``; binary images are {0., 1.};
points are float ``(B, D)``; windows of text are int64 ``(B, 1 + L)``, the preceding token followed by L tokens; samples
of text are int64 ``(B, L)``. A model converts internally and accounts for every change of variables, so that
``log_prob`` is in nats of the discrete data and bits/dim are comparable across families.

Every model receives ``y``, int64 classes ``(B,)``, which are zeros if the data has no classes. A model without classes
ignores them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from genlab.distributions.drawing import Draws, check_known
from genlab.distributions.noise import Generators, integers, uniform
from genlab.distributions.pixel import Likelihood, PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.models.graph import Graph, of_method, typical
from genlab.models.sampling import SamplingSettings


class GenerativeModel(nn.Module, ABC):
    """A model that can be sampled.

    Attributes:
        shape: shape of one example: ``(C, H, W)``, ``(D,)`` or ``(L,)``.
        num_classes: number of classes; None for an unconditional model.
        kinds: names of the modalities that the model can be trained on.
        Sampling: class of the model's sampling settings.
        sampling: default sampling settings, used if ``sample`` is called without settings.
        most_diagnosed: upper limit on the number of examples passed to ``diagnose``; None for no limit.
        training_only: names of the submodules that sampling does not use, such as a discriminator or the network of a
            perceptual loss. Their weights are not averaged (``training.ema_decay``).
    """

    kinds: ClassVar[Set[str]] = frozenset({"image", "binary"})
    Sampling: ClassVar[type[SamplingSettings]] = SamplingSettings
    most_diagnosed: ClassVar[int | None] = None
    training_only: ClassVar[Sequence[str]] = ()

    def __init__(self, shape: tuple[int, ...], num_classes: int | None = None) -> None:
        super().__init__()
        if not shape or min(shape) < 1:
            raise InputError(f"shape {tuple(shape)}: expected positive sizes")
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.sampling = self.Sampling()

    @abstractmethod
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw samples ``(num_samples, *shape)``.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample (see :mod:`genlab.distributions.noise`); with one
                per sample, a sample does not depend on the batch in which it is drawn.
            sampling: settings of the model's class ``Sampling``; None for the model's own settings.

        Raises:
            InputError: if ``y`` or ``sampling`` does not fit the model.
        """

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Initialize parameters that depend on the data, such as biases and scales; called once before training.

        Args:
            x: a thousand training examples, ``(B, ...)``.
            y: classes of the examples, ``(B,)``.
        """

    def prepare(self, images_seen: int) -> None:
        """Update quantities that follow a schedule, such as the weight of a loss term; called before each batch."""

    def settings(self, sampling: SamplingSettings | None) -> SamplingSettings:
        """Return the sampling settings to use: ``sampling`` if given, otherwise the model's own.

        Raises:
            InputError: if ``sampling`` is not an instance of the model's class ``Sampling``.
        """
        if sampling is None:
            return self.sampling
        if type(sampling) is not self.Sampling:
            raise InputError(
                f"{type(self).__name__} is sampled by settings of the class {self.Sampling.__qualname__}, "
                f"not {type(sampling).__qualname__}"
            )
        return sampling

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        """Describe in words how samples are drawn, for the protocol of every figure measured on them."""
        return "ancestral"

    @property
    def sampling_choices(self) -> Mapping[str, Sequence[str]]:
        """Values that this model has of a sampling setting, by its name, if they are fewer than ``Sampling`` allows.

        A setting without a value is of no use with this model.
        """
        return {}

    @property
    def num_dims(self) -> int:
        """Number of dimensions of one example, the divisor in bits/dim."""
        return math.prod(self.shape)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def classes(self, num: int, y: Tensor | None, generator: Generators) -> Tensor | None:
        """Return the classes to sample, ``(num,)``: ``y`` if given, otherwise uniform draws; None if unconditional.

        Raises:
            InputError: if ``y`` does not have ``num`` valid classes.
        """
        if self.num_classes is None:
            return None
        if y is None:
            return integers(self.num_classes, num, generator, self.device)
        if y.shape != (num,) or y.min() < 0 or y.max() >= self.num_classes:
            raise InputError(f"y: expected {num} classes in 0..{self.num_classes - 1}")
        return y.to(self.device)


class ObjectiveModel(GenerativeModel):
    """A model that is trained by minimizing one scalar."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute scalars of a batch by name: ``"loss"`` is minimized, the others are logged."""


class LikelihoodModel(ObjectiveModel):
    """A model with a normalized likelihood, or a bound on it.

    Attributes:
        likelihood: ``"exact"``, ``"lower_bound"`` if ``log_prob`` is one draw of a bound (ELBO, dequantization), or
            ``"estimate"`` if it is one draw whose mean is the log-likelihood. A class sets it, or computes it from its
            parts by a property.
        discrete: whether ``log_prob`` is a probability of discrete data; the density of real numbers is only reported
            in nats, not in bits/dim.
        most_scored: upper limit on the number of examples whose likelihood is measured, unless a config says how many;
            None for no limit. Models whose likelihood takes far longer than a step of training set it.
        likelihood_details: how the likelihood is computed, for the protocol of figures.
    """

    likelihood: Likelihood = "exact"
    discrete: ClassVar[bool] = True
    most_scored: ClassVar[int | None] = None

    @property
    def likelihood_details(self) -> Mapping[str, object]:
        return {}

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the log-likelihood of the discrete data, or the log-density of points, in nats, ``(B,)``."""

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Convert nats per example to bits per dimension."""
        return nats / (self.num_dims * math.log(2))

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the negative log-likelihood: ``nll`` in nats, and ``loss`` in bits/dim, independent of the shape.

        A model that is not trained by its likelihood has another loss, without ``nll``.
        """
        nll = -self.log_prob(x, y).mean()
        return {"loss": self.bits_per_dim(nll), "nll": nll}


class Completes(GenerativeModel):
    """A model that can fill in the missing values of an image."""

    @property
    @abstractmethod
    def orders(self) -> Tensor:
        """Position of each value in the order of drawing, from 0, for each of K orders; int64 ``(K, C, H, W)``."""

    @abstractmethod
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Draw samples ``(num_samples, C, H, W)``, or complete images.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample.
            sampling: settings of the model's class ``Sampling``; None for the model's own settings.
            known: images ``(num_samples, C, H, W)`` in [0, 1] with NaN at the values to draw; the other values are
                kept. None draws all values.
        """


class AutoregressiveModel(LikelihoodModel, Completes):
    """A model that generates an image value by value: ``p(x) = prod_i p(x_i | x_<i)``.

    Attributes:
        distribution: distribution of one value given the values before it.
    """

    distribution: PixelDistribution

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]  # a property that only reads replaces an attribute
        """Tell whether the log-likelihood is exact or a bound, as that of a single value is."""
        return self.distribution.likelihood

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict the parameters of each value given the values before it, ``(B, num_params, C, H, W)``."""

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute ``log p(x_i | x_<i)`` of every value in nats, ``(B, C, H, W)``."""
        return self.distribution.log_prob(self(x, y), x)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the log-likelihood in nats, ``(B,)``; exact if the distribution of a value is.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        return self.log_prob_map(x, y).flatten(1).sum(1)

    @property
    def orders(self) -> Tensor:
        """Position of each value in the order of drawing, from 0, for each of K orders; int64 ``(K, C, H, W)``.

        By default there is one order: raster order, with the channels of a pixel one after the other.
        """
        return to_image(torch.arange(self.num_dims, device=self.device), self.shape).unsqueeze(0)

    @final
    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Draw samples ``(num_samples, C, H, W)``, or complete images.

        Each missing value is drawn given all values before it in the model's order. If the known values come first in
        this order, the result is a sample of the missing values given the known ones. A value drawn before a known one
        does not depend on it.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample.
            sampling: settings of the model's class ``Sampling``; None for the model's own settings.
            known: images ``(num_samples, C, H, W)`` in [0, 1] with NaN at the values to draw; the other values are
                kept. None draws all values.
        """
        temperature = self.settings(sampling).temperature
        y = self.classes(num_samples, y, generator)
        order = self._choose_order(num_samples, generator)
        u = self._uniforms(num_samples, generator)
        if known is not None:
            known = check_known(known, u)
        return self._generate(Draws(self.distribution, u, temperature, known, order), y)

    def graph(self) -> Graph:
        """Give one evaluation: images to the parameters of each value's distribution given the values before it."""
        x = typical(2, *self.shape).sigmoid()
        about = (
            f"x: images in [0, 1], (B, {', '.join(map(str, self.shape))}); params: parameters of p(x_i | x_<i), "
            f"(B, num_params, ...), of a {type(self.distribution).__name__}"
        )
        return of_method(self, "forward", {"x": x}, ["params"], about, self.num_classes)

    def _choose_order(self, num: int, generator: Generators) -> Tensor | None:
        """Choose the index into ``orders`` of each sample, int64 ``(num,)``; None if the model has a single order."""
        return None

    def _uniforms(self, num: int, generator: Generators) -> Tensor:
        """Draw a uniform number for every value, ``(num, C, H, W)``."""
        return uniform((num, *self.shape), generator, self.device)

    @abstractmethod
    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Generate images ``(N, C, H, W)`` value by value, drawing each from its distribution with ``draws``."""
