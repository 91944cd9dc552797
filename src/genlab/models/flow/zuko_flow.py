"""Normalizing flows of points and tables: whichever the library zuko has, behind the contract."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from zuko.distributions import DiagNormal
from zuko.flows import Flow
from zuko.transforms import ComposedTransform, FreeFormJacobianTransform

from genlab.distributions.noise import Generators, normal
from genlab.errors import InputError
from genlab.models.base import LikelihoodModel, given
from genlab.models.sampling import SamplingSettings


class ZukoFlow(LikelihoodModel):
    """Normalizing Flows for Probabilistic Modeling and Inference (arXiv:1912.02762), by https://zuko.readthedocs.io.

    Points are standardised by the data's mean and standard deviation, and an invertible network takes them to
    z ~ N(0, I). ``log_prob`` is the logarithm of a density, in nats: the change of variables, standardisation included,
    is counted. It grows without bound as the data narrows, so it has no bits/dim.

    Of flows whose inverse or integral is numerical (NAF, CNF), ``log_prob`` and ``decode`` are exact up to
    the solver's tolerance; ``diagnose`` says how far ``decode`` is from undoing ``encode``.

    Args:
        shape: ``(D,)``.
        flow: ``(features=D, context=K) -> zuko.flows.Flow`` with a standard normal base, such as ``zuko.flows.NSF``
            with its options set. K is the number of classes, 0 where there are none.
        num_classes: of a class-conditional flow, whose networks see one-hot classes.
        inverted: run the network from noise to data: it then draws in one pass and scores in D, where an
            autoregressive flow draws in D passes and scores in one.
        double: compute in float64, for densities whose width is near float32's 1e-7 of the data's range.

    Raises:
        InputError: the shape is not that of points, or the flow's base is not standard normal.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"points"})
    likelihood: ClassVar[Literal["exact", "lower_bound"]] = "exact"
    discrete: ClassVar[bool] = False

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        flow: Callable[..., Flow],
        num_classes: int | None = None,
        inverted: bool = False,
        double: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 1:
            raise InputError(f"shape {tuple(shape)}: this flow models points (D,)")
        self.inverted = inverted
        self.flow = flow(features=shape[0], context=num_classes or 0)
        if not isinstance(getattr(self.flow, "transform", None), torch.nn.Module) or not _is_normal(self.flow):
            raise InputError(
                f"flow {type(self.flow).__name__}: give a flow to a standard normal, such as zuko.flows.NSF"
            )
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        if double:
            self.double()

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Standardise by what ``x`` is like."""
        self.mean.copy_(x.double().mean(0))
        # What does not vary is left as it is.
        std = x.double().std(0) if len(x) > 1 else torch.ones(self.shape, dtype=torch.float64)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def transform(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Points ``(B, D)`` to latents ``(B, D)`` and ``log|det dz/dx|`` in nats, ``(B,)``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
        """
        with _as_it_is(x.device):
            z, log_det = self._network(y).call_and_ladj((x.to(self.mean.dtype) - self.mean) / self.std)
            return z, log_det - self.std.log().sum()

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The points ``(B, D)`` that ``transform`` takes to ``z``."""
        with _as_it_is(z.device):
            return self._network(y).inv(z.to(self.mean.dtype)) * self.std + self.mean

    def _network(self, y: Tensor | None) -> Any:
        """From standardised points to latents: a ``torch.distributions.Transform``, with zuko's ``call_and_ladj``."""
        one_hot = None
        if self.num_classes is not None:
            one_hot = F.one_hot(given(y), self.num_classes).to(self.mean.dtype)
        network = self.flow.transform(one_hot)
        return network.inv if self.inverted else network

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-density of points in nats, ``(B,)``."""
        z, log_det = self.transform(x, y)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Negative log-likelihood in nats."""
        nll = -self.log_prob(x, y).mean()
        return {"loss": nll, "nll": nll}

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents ``(B, D)``, standard normal where the flow has learned its data."""
        return self.transform(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Points ``(B, D)`` of latents."""
        return self.inverse(z, y)

    @torch.no_grad()
    def path(self, z: Tensor, y: Tensor | None = None, times: int = 16) -> list[Tensor]:
        """``decode`` of latents ``(B, D)`` step by step: ``(B, D)`` before and after each transform, the points last.

        All of them in the units of points, in which the latents' prior has the data's mean and standard deviations. A
        continuous transform is stopped at ``times`` times, evenly.
        """
        with _as_it_is(z.device):
            stages = [z.to(self.mean.dtype)]
            for step in _steps(self._network(y).inv, times):
                stages.append(step(stages[-1]))
            return [h * self.std + self.mean for h in stages]

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw points; the temperature is the standard deviation of the latents z."""
        y = self.classes(num_samples, y, generator)
        z = self.settings(sampling).temperature * normal((num_samples, self.num_dims), generator, self.device)
        return self.decode(z, y).float()

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "inverse flow"

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """``inverse_error``: how far decoding moves an encoded point at most, in standard deviations of the data."""
        moved = self.decode(self.encode(x, y), y) - x
        return {"inverse_error": float((moved / self.std).abs().max())}


def _is_normal(flow: Flow) -> bool:
    base = flow.base(None)
    return isinstance(base, DiagNormal) and bool((base.mean == 0).all() and (base.stddev == 1).all())


def _steps(network: Any, times: int) -> list[Any]:
    """What a network is composed of, one after the other; what is continuous in ``times`` pieces."""
    steps: list[Any] = []
    for part in network.transforms if isinstance(network, ComposedTransform) else [network]:
        if not isinstance(part, FreeFormJacobianTransform):
            steps.append(part)
            continue
        ends = [part.t0 + (part.t1 - part.t0) * i / times for i in range(times + 1)]
        for t0, t1 in itertools.pairwise(ends):
            steps.append(FreeFormJacobianTransform(part.f, t0, t1, part.phi, part.atol, part.rtol, part.exact))
    return steps


@contextmanager
def _as_it_is(device: torch.device) -> Iterator[None]:
    """In the weights' own precision, and outside of inference mode.

    Under autocast a density would be that of numbers rounded to 8 bits; and some flows differentiate inside, for their
    log-determinant, which inference mode forbids.
    """
    with torch.autocast(device.type, enabled=False):
        if not torch.is_inference_mode_enabled():
            yield
            return
        with torch.inference_mode(False), torch.no_grad():
            yield
