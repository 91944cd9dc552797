"""Protocols of what only some models can do, by which views, metrics and the export tell models apart."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

from genlab.distributions.noise import Generators
from genlab.models.graph import Graph
from genlab.models.sampling import SamplingSettings, Tally


@runtime_checkable
class DiscreteLatents(Protocol):
    """A model whose latents are discrete codes, over which a second model can learn a prior.

    Attributes:
        code_shape: shape of the codes of an example, ``(1, h, w)``.
        num_codes: number of values that a code can take.
    """

    code_shape: tuple[int, int, int]
    num_codes: int

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode examples to codes, int64 ``(B, *code_shape)``."""
        ...

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode codes to examples, ``(B, *shape)``."""
        ...


@runtime_checkable
class LatentModel(Protocol):
    """A model with encoder and decoder of latents ``z``, for interpolation and traversal (VAE, flow; not GAN)."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor: ...

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class DecodesNoise(Protocol):
    """A model that decodes latents from N(0, I), such as the generator of a GAN.

    Attributes:
        latent_dim: number of dimensions of a latent.
    """

    latent_dim: int

    def draw_latents(self, num: int, generator: Generators, sampling: SamplingSettings | None = None) -> Tensor:
        """Draw latents, ``(num, latent_dim)``."""
        ...

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents ``(B, latent_dim)`` to examples."""
        ...


@runtime_checkable
class Varies(Protocol):
    """A model that can draw variations of examples."""

    def vary(
        self,
        x: Tensor,
        strength: float,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw a variation of each example, ``(B, *shape)``, the more different the greater the strength in (0, 1]."""
        ...


@runtime_checkable
class GoesInSteps(Protocol):
    """A model whose samples come from noise in steps that can be looked at."""

    def states(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
        num_states: int = 8,
    ) -> Tensor:
        """Draw samples and return states on the way, ``(num_states, num_samples, *shape)``, from noise to samples."""
        ...


@runtime_checkable
class CountsEvaluations(Protocol):
    """A model that counts the evaluations of its network by solvers that choose their own steps."""

    tally: Tally


@runtime_checkable
class Pointwise(Protocol):
    """A model whose likelihood is a product over the values of an image."""

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the log-probability of every value in nats, ``(B, C, H, W)``; the sum is ``log_prob``."""
        ...


@runtime_checkable
class Diagnosable(Protocol):
    """A model that can compute figures about its latents."""

    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Compute figures over a set of examples: numbers, or tensors ``(D,)`` with one value per latent."""
        ...


@runtime_checkable
class ImportanceWeighted(Protocol):
    """A latent-variable model whose bound becomes tighter with more draws of the latents."""

    def importance_weighted(self, x: Tensor, y: Tensor | None = None, *, num_samples: int = 5000) -> Tensor:
        """Compute a bound on the log-likelihood in nats, ``(B,)``, from ``num_samples`` latents per image.

        The memory needed does not grow with ``num_samples``.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """A model of text that can continue a prompt.

    Attributes:
        start: token that precedes the first token of a text.
        num_dims: length of the longest context, in tokens.
    """

    start: int

    @property
    def num_dims(self) -> int: ...

    def generate(self, prompt: Tensor, u: Tensor, sampling: SamplingSettings | None = None) -> Iterator[Tensor]:
        """Generate ``num`` tokens after a prompt ``(B, T)``, one at a time.

        Args:
            prompt: tokens to continue, int64 ``(B, T)``.
            u: uniform numbers in [0, 1), ``(B, num)``, from which the tokens are drawn.
            sampling: sampling settings; None for the model's own.

        Yields:
            Next token of each text, int64 ``(B,)``.
        """
        ...


@runtime_checkable
class HasGraph(Protocol):
    """A model of which a part that draws samples is a function of tensors, which ``genlab export`` writes as ONNX."""

    def graph(self) -> Graph:
        """Give the function, with typical inputs; the weights are the model's."""
        ...
