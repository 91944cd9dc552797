"""The interface of GANs: a generator and a discriminator, and what they exchange in a step of training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from genlab.distributions.noise import Generators, normal, truncated
from genlab.errors import InputError
from genlab.models.base import GenerativeModel
from genlab.models.graph import Graph, of_method, typical
from genlab.models.sampling import SamplingSettings, usual


@dataclass
class Played:
    """Output of the generator for one training step.

    Attributes:
        fake: generated examples for the discriminator, ``(B, *shape)``.
        terms: further scalar terms that the generator minimizes in addition to the adversarial loss, such as a
            reconstruction error, by the names used in logs. They already include their weights.
    """

    fake: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Players:
    """The parameters of generator and discriminator.

    Attributes:
        generator: parameters that minimize the generator's loss; for an autoencoder including those of the encoder.
        discriminator: parameters that minimize the discriminator's loss.
        last_layer: weight of the generator's last layer, needed by ``training.adaptive_weight``; None if there is none.
    """

    generator: Sequence[nn.Parameter]
    discriminator: Sequence[nn.Parameter]
    last_layer: nn.Parameter | None = None


class AdversarialModel(GenerativeModel):
    """A generator with its discriminator; ``AdversarialTraining`` calls the generator only through :meth:`play`.

    ``discriminator(x, y)`` maps examples to logits ``(B / pack,)``, high for real. By default ``generator(z, y)`` maps
    latents ``(B, latent_dim)`` from N(0, I) to examples (images in [0, 1]), and there are no further loss terms. Other
    models, such as autoencoders, override :meth:`play`, :meth:`players` and :meth:`sample`.

    Attributes:
        latent_dim: number of dimensions of a latent.
        generator: network from latents to examples.
        discriminator: network from examples to logits.
        pack: number of examples that the discriminator judges together: PacGAN (arXiv:1712.04086).
    """

    training_only: ClassVar[Sequence[str]] = ("discriminator",)

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Settings for drawing the generator's latents.

        Args:
            temperature: factor that scales z after truncation; without truncation, the standard deviation of z.
            truncation: largest absolute value of the standard normal numbers in z; None for no bound. A small value
                trades variety for quality: the truncation trick of BigGAN (arXiv:1809.11096).
        """

        truncation: float | None = usual(None, 0.1, 4.0, 0.1)

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
        """Generate as many examples as there are real ones, and compute the generator's further loss terms.

        For the discriminator's step, this is called without gradients; for validation, in evaluation mode.

        Args:
            x: real examples, ``(B, *shape)``.
            y: classes of the real examples, int64 ``(B,)``.
        """
        z = torch.randn(len(x), self.latent_dim, device=x.device)
        return Played(self.generator(z, y))

    def players(self) -> Players:
        """Return the parameters that each player optimizes."""
        return Players(list(self.generator.parameters()), list(self.discriminator.parameters()))

    @property
    def has_terms(self) -> bool:
        """Tell whether the generator may have further loss terms, which is the case if :meth:`play` is overridden."""
        return type(self).play is not AdversarialModel.play

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents ``(B, latent_dim)`` to examples; images are clipped to [0, 1]."""
        x = self.generator(z, y)
        return x.clamp(0, 1) if len(self.shape) == 3 else x

    def draw_latents(self, num: int, generator: Generators, sampling: SamplingSettings | None = None) -> Tensor:
        """Draw latents ``(num, latent_dim)`` according to the sampling settings."""
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
        """Draw samples ``(num_samples, *shape)`` by decoding latents from :meth:`draw_latents`."""
        y = self.classes(num_samples, y, generator)
        return self.decode(self.draw_latents(num_samples, generator, sampling), y).float()

    def graph(self) -> Graph:
        """Give the generator: latents to examples."""
        about = f"z: latents from N(0, I), (B, {self.latent_dim}); x: examples, images in [0, 1]"
        return of_method(self, "decode", {"z": typical(2, self.latent_dim)}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "G(z)"


def given(y: Tensor | None) -> Tensor:
    """Return the classes y for a class-conditional network.

    Raises:
        InputError: if y is None.
    """
    if y is None:
        raise InputError("this model is class-conditional: give the classes y")
    return y
