"""The contract that every generative model keeps, and that training, sampling and measuring rely on.

Images cross it as float in [0, 1], ``(B, C, H, W)``; binary images as {0., 1.}; points as float ``(B, D)``; a window of
text as int64 ``(B, 1 + L)``, the token before it and its own L; samples of text as int64 ``(B, L)``. A model converts
inside and counts every change of variables, so that ``log_prob`` is in nats of the discrete data and bits/dim compare
across families.

Every model is given ``y``, int64 classes ``(B,)``, which are zeros where the data has none; a model without classes
ignores it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from genlab.distributions.drawing import Draws, check_known
from genlab.distributions.noise import Generators, integers, normal, truncated, uniform
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.models.sampling import SamplingSettings


class GenerativeModel(nn.Module, ABC):
    """Something that can be sampled.

    Attributes:
        shape: of one example: ``(C, H, W)``, ``(D,)`` or ``(L,)``.
        num_classes: ``None`` for an unconditional model.
        kinds: names of the modalities that the model can be trained on.
        Sampling: class of the model's sampling settings.
        sampling: settings that ``sample`` uses where it is given none.
        most_diagnosed: examples that it is diagnosed on, at most; ``None`` for as many as whoever asks has.
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
        """Draw ``(num_samples, *shape)``.

        Args:
            y: int64 classes ``(num_samples,)`` of a conditional model; drawn uniformly where left out.
            generator: see :mod:`genlab.distributions.noise`; with one generator per sample, a sample does not depend
                on the batch that it is drawn in.
            sampling: settings, of the model's class ``Sampling``; the model's own where left out.

        Raises:
            InputError: ``y`` or ``sampling`` does not fit the model.
        """

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set what depends on the data, such as biases and scales, before training.

        Args:
            x: a thousand training examples, ``(B, ...)``.
            y: their classes.
        """

    def prepare(self, images_seen: int) -> None:
        """Update what changes over training, such as the weight of a term; called before each batch."""

    def settings(self, sampling: SamplingSettings | None) -> SamplingSettings:
        """The settings to sample by: ``sampling``, checked to be of this model's class, or else the model's own."""
        if sampling is None:
            return self.sampling
        if type(sampling) is not self.Sampling:
            raise InputError(
                f"{type(self).__name__} is sampled by settings of the class {self.Sampling.__qualname__}, "
                f"not {type(sampling).__qualname__}"
            )
        return sampling

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        """Say in words how samples are drawn, for the protocol of every number measured on them."""
        return "ancestral"

    @property
    def num_dims(self) -> int:
        """Dimensions of one example, the divisor of bits/dim."""
        return math.prod(self.shape)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def classes(self, num: int, y: Tensor | None, generator: Generators) -> Tensor | None:
        """The classes to sample: ``y`` checked, drawn uniformly where a conditional model is given none."""
        if self.num_classes is None:
            return None
        if y is None:
            return integers(self.num_classes, num, generator, self.device)
        if y.shape != (num,) or y.min() < 0 or y.max() >= self.num_classes:
            raise InputError(f"y: expected {num} classes in 0..{self.num_classes - 1}")
        return y.to(self.device)


@runtime_checkable
class DiscreteLatents(Protocol):
    """A model whose latents are codes, for a prior over them to be learned as a second model.

    Attributes:
        code_shape: of an example's codes, ``(1, h, w)``.
        num_codes: that each of them is one of.
    """

    code_shape: tuple[int, int, int]
    num_codes: int

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """int64 ``(B, *code_shape)``."""
        ...

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """The codes' examples, ``(B, *shape)``."""
        ...


class ObjectiveModel(GenerativeModel):
    """A model that is trained by minimising one scalar."""

    @abstractmethod
    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Scalars of a batch: ``"loss"`` is minimised, the others are logged."""


class LikelihoodModel(ObjectiveModel):
    """A model with a normalised likelihood, or a bound on it.

    Attributes:
        likelihood: ``"exact"``, or ``"lower_bound"`` where ``log_prob`` is one draw of a bound (ELBO, dequantization).
        discrete: whether ``log_prob`` is of discrete data; a density of real numbers is told in nats, not in bits/dim.
    """

    likelihood: ClassVar[Literal["exact", "lower_bound"]] = "exact"
    discrete: ClassVar[bool] = True

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood in nats of the discrete data, or the log-density of points, ``(B,)``."""

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Nats per example to bits per dimension."""
        return nats / (self.num_dims * math.log(2))

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Negative log-likelihood, minimised in bits/dim so that its scale does not depend on the shape."""
        nll = -self.log_prob(x, y).mean()
        return {"loss": self.bits_per_dim(nll), "nll": nll}


class Completes(GenerativeModel):
    """A model that can draw what is missing of an image."""

    @property
    @abstractmethod
    def orders(self) -> Tensor:
        """When each value is drawn, counted from 0, in each of K orders; int64 ``(K, C, H, W)``."""

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
        """Draw ``(num_samples, C, H, W)``, or complete images.

        Args:
            known: ``(num_samples, C, H, W)`` in [0, 1], NaN at the values to be drawn. Known values are kept.
        """


class AutoregressiveModel(LikelihoodModel, Completes):
    """A model of images, one value after the other: ``p(x) = prod_i p(x_i | x_<i)``.

    Attributes:
        distribution: of one value.
    """

    distribution: PixelDistribution

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in [0, 1] to the parameters of each value given the values before, ``(B, num_params, C, H, W)``."""

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """``log p(x_i | x_<i)`` of every value in nats, ``(B, C, H, W)``."""
        return self.distribution.log_prob(self(x, y), x)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Exact log-likelihood in nats, ``(B,)``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
        """
        return self.log_prob_map(x, y).flatten(1).sum(1)

    @property
    def orders(self) -> Tensor:
        """When each value is drawn, counted from 0, in each of K orders; int64 ``(K, C, H, W)``.

        It is one order, the raster's with the channels of a pixel one after the other, unless a model says otherwise.
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
        """Draw ``(num_samples, C, H, W)``, or complete images.

        Args:
            known: ``(num_samples, C, H, W)`` in [0, 1], NaN at the values to be drawn. Known values are kept, and the
                others drawn each given all values before it. Where the known values come first in the model's order,
                that is a sample of the others given them; a value drawn before a known one does not depend on it.
        """
        temperature = self.settings(sampling).temperature
        y = self.classes(num_samples, y, generator)
        order = self._choose_order(num_samples, generator)
        u = self._uniforms(num_samples, generator)
        if known is not None:
            known = check_known(known, u)
        return self._generate(Draws(self.distribution, u, temperature, known, order), y)

    def _choose_order(self, num: int, generator: Generators) -> Tensor | None:
        """Which of ``orders`` each sample is drawn in, int64 ``(num,)``; ``None`` for a model of one order."""
        return None

    def _uniforms(self, num: int, generator: Generators) -> Tensor:
        """A uniform number for every value, ``(num, C, H, W)``."""
        return uniform((num, *self.shape), generator, self.device)

    @abstractmethod
    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Images ``(N, C, H, W)``, value by value, each of its distribution by ``draws``; ``y`` are their classes."""


@runtime_checkable
class Pointwise(Protocol):
    """A model whose likelihood is a product over the values of an image."""

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-probability of every value in nats, ``(B, C, H, W)``; its sum is ``log_prob``."""
        ...


@runtime_checkable
class Diagnosable(Protocol):
    """A model that can say what its latents carry."""

    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Figures of ``N`` examples, taken together; a tensor ``(D,)`` has one for every latent."""
        ...


@runtime_checkable
class ImportanceWeighted(Protocol):
    """A model of latents whose bound tightens with more draws of them."""

    def importance_weighted(self, x: Tensor, y: Tensor | None = None, *, num_samples: int = 5000) -> Tensor:
        """A bound on the log-likelihood from ``num_samples`` latents an image, nats ``(B,)``, in bounded memory."""
        ...


@dataclass
class Played:
    """What the generator plays in one turn of the game.

    Attributes:
        fake: examples for the discriminator to judge, ``(B, *shape)``.
        terms: further scalar terms that the generator minimises beside the adversarial loss, such as a reconstruction
            error, by the names that they are logged with; the model has weighted them.
    """

    fake: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Players:
    """The parameters of the two players.

    Attributes:
        generator: everything that minimises the generator's loss, of an autoencoder the encoder's too.
        discriminator: likewise the discriminator's.
        last_layer: weight of the generator's last layer, which ``training.adaptive_weight`` needs.
    """

    generator: Sequence[nn.Parameter]
    discriminator: Sequence[nn.Parameter]
    last_layer: nn.Parameter | None = None


class AdversarialModel(GenerativeModel):
    """A generator in a game with a discriminator; ``AdversarialTraining`` plays it through :meth:`play` alone.

    ``discriminator(x, y)`` maps examples to logits ``(B / pack,)``, high for real. By default ``generator(z, y)`` maps
    latents ``(B, latent_dim)`` from N(0, I) to examples (images in [0, 1]), and nothing else is minimised. A model that
    plays otherwise, as an autoencoder does, overrides :meth:`play`, :meth:`players` and :meth:`sample`.

    Attributes:
        pack: examples that the discriminator sees as one: PacGAN (arXiv:1712.04086).
    """

    training_only: ClassVar[Sequence[str]] = ("discriminator",)

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """How G's latents are drawn.

        Args:
            temperature: standard deviation of z, before what ``truncation`` cuts.
            truncation: largest absolute value of each of z's normal numbers; ``None`` for no bound. Samples gain in
                quality what they lose in variety: the truncation trick of BigGAN (arXiv:1809.11096).
        """

        truncation: float | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.truncation is not None and not 0 < self.truncation < math.inf:
                raise InputError(f"truncation={self.truncation}: give a number above 0, or null")

    latent_dim: int
    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, shape: tuple[int, ...], num_classes: int | None = None, pack: int = 1) -> None:
        super().__init__(shape, num_classes)
        if pack < 1:
            raise InputError(f"pack={pack}: the discriminator sees at least one example at a time")
        self.pack = pack

    def play(self, x: Tensor, y: Tensor | None = None) -> Played:
        """Make as many examples as are real, and compute what else the generator minimises.

        It is called without gradients in the discriminator's turn, and on validation batches in evaluation mode.

        Args:
            x: real examples, ``(B, *shape)``.
            y: their classes, int64 ``(B,)``.
        """
        z = torch.randn(len(x), self.latent_dim, device=x.device)
        return Played(self.generator(z, y))

    def players(self) -> Players:
        """Say which parameters each player moves."""
        return Players(list(self.generator.parameters()), list(self.discriminator.parameters()))

    @property
    def has_terms(self) -> bool:
        """Whether the generator may minimise further terms: whether :meth:`play` is the model's own."""
        return type(self).play is not AdversarialModel.play

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Examples of latents ``(B, latent_dim)``, images cut to [0, 1]."""
        x = self.generator(z, y)
        return x.clamp(0, 1) if len(self.shape) == 3 else x

    def draw_latents(self, num: int, generator: Generators, sampling: SamplingSettings | None = None) -> Tensor:
        """Latents ``(num, latent_dim)`` as the sampling settings ask for them."""
        chosen = self.settings(sampling)
        z = normal((num, self.latent_dim), generator, self.device)
        assert isinstance(chosen, AdversarialModel.Sampling)
        if chosen.truncation is not None:
            z = truncated(z, chosen.truncation)
        return chosen.temperature * z

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw ``(num_samples, *shape)``: G of latents by :meth:`draw_latents`."""
        y = self.classes(num_samples, y, generator)
        return self.decode(self.draw_latents(num_samples, generator, sampling), y).float()

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "G(z)"


def given(y: Tensor | None) -> Tensor:
    """The classes of a class-conditional network; raises InputError where there are none."""
    if y is None:
        raise InputError("this model is class-conditional: give the classes y")
    return y


@runtime_checkable
class LatentModel(Protocol):
    """A model with latents ``z`` to interpolate and traverse (VAE, flow; a GAN decodes only)."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor: ...

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class DecodesNoise(Protocol):
    """A model that decodes latents from N(0, I), such as a GAN's generator.

    Attributes:
        latent_dim: dimensions of a latent.
    """

    latent_dim: int

    def draw_latents(self, num: int, generator: Generators, sampling: SamplingSettings | None = None) -> Tensor:
        """Latents to sample from, ``(num, latent_dim)``."""
        ...

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Examples of latents ``(B, latent_dim)``."""
        ...


@runtime_checkable
class Writes(Protocol):
    """A model of text that continues it.

    Attributes:
        start: the token that a text begins after.
        num_dims: tokens that it sees at most.
    """

    start: int

    @property
    def num_dims(self) -> int: ...

    def generate(self, prompt: Tensor, u: Tensor, sampling: SamplingSettings | None = None) -> Iterator[Tensor]:
        """Tokens int64 ``(B,)`` after ``(B, T)``, one for every column of the uniform numbers ``(B, num)``."""
        ...
