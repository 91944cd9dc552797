"""Normalizing flows of points and tables: any flow of the library zuko as a model of genlab."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from zuko.distributions import DiagNormal
from zuko.flows import Flow
from zuko.transforms import ComposedTransform, FreeFormJacobianTransform

from genlab.distributions.noise import Generators, normal
from genlab.distributions.pixel import Likelihood
from genlab.errors import InputError
from genlab.models.adversarial import given
from genlab.models.base import LikelihoodModel
from genlab.models.flow.fast_spline import with_fast_splines
from genlab.models.graph import Graph, of_method, typical
from genlab.models.sampling import SamplingSettings


class ZukoFlow(LikelihoodModel):
    """A flow of points from https://zuko.readthedocs.io.

    Source: Normalizing Flows for Probabilistic Modeling and Inference (arXiv:1912.02762).

    Points are standardised by the data's mean and standard deviation, and an invertible network maps them to
    z ~ N(0, I). ``log_prob`` is a log-density in nats and includes the change of variables and the standardisation. A
    log-density grows without bound as the data's distribution narrows, so it is not given in bits/dim.

    For flows whose inverse or integral is numerical (NAF, CNF), ``log_prob`` and ``decode`` are exact up to the
    solver's tolerance; ``diagnose`` measures how well ``decode`` inverts ``encode``.

    Args:
        shape: shape of a point, ``(D,)``.
        flow: function ``(features=D, context=K) -> zuko.flows.Flow`` that builds a flow with a standard normal base,
            such as ``zuko.flows.NSF`` with its options set. K is the number of classes, 0 if there are none.
        num_classes: number of classes, which the networks see as one-hot vectors; None for an unconditional model.
        inverted: whether the network runs from noise to data. An autoregressive flow draws in D passes and scores in
            one; inverted, it draws in one pass and scores in D.
        double: whether to compute in float64, for densities so narrow that their width is near float32's resolution,
            1e-7 of the data's range.

    Raises:
        InputError: if the shape is not that of points, or the flow's base is not standard normal.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"points", "latents"})
    likelihood: Likelihood = "exact"
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
                f"flow {type(self.flow).__name__}: give a flow whose base is a standard normal, such as zuko.flows.NSF"
            )
        with_fast_splines(self.flow)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        if double:
            self.double()

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the mean and standard deviation for standardisation to those of ``x``."""
        self.mean.copy_(x.double().mean(0))
        # A dimension that does not vary is not scaled.
        std = x.double().std(0) if len(x) > 1 else torch.ones(self.shape, dtype=torch.float64)
        self.std.copy_(torch.where(std > 0, std, 1.0))

    def transform(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map points ``(B, D)`` to latents ``(B, D)`` and ``log|det dz/dx|`` in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        with _as_it_is(x.device):
            z, log_det = self._network(y).call_and_ladj((x.to(self.mean.dtype) - self.mean) / self.std)
            return z, log_det - self.std.log().sum()

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map latents ``z`` back to points ``(B, D)``: the inverse of ``transform``."""
        with _as_it_is(z.device):
            return self._network(y).inv(z.to(self.mean.dtype)) * self.std + self.mean

    def _network(self, y: Tensor | None) -> Any:
        """Return the map from standardised points to latents, a ``torch.distributions.Transform`` of zuko."""
        one_hot = None
        if self.num_classes is not None:
            one_hot = F.one_hot(given(y), self.num_classes).to(self.mean.dtype)
        network = self.flow.transform(one_hot)
        return network.inv if self.inverted else network

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the log-density of points in nats, ``(B,)``."""
        z, log_det = self.transform(x, y)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the mean negative log-density in nats, as ``loss`` and ``nll``."""
        nll = -self.log_prob(x, y).mean()
        return {"loss": nll, "nll": nll}

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode points as latents ``(B, D)``, which are standard normal if the flow has learned the data."""
        return self.transform(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents to points ``(B, D)``."""
        return self.inverse(z, y)

    @torch.no_grad()
    def trajectory(self, z: Tensor, y: Tensor | None = None, times: int = 16) -> list[Tensor]:
        """Decode latents ``(B, D)`` step by step and return all stages, ``(B, D)`` each, from latents to points.

        All stages are in the units of the data, so the latents' prior has the data's mean and standard deviations.

        Args:
            z: latents, ``(B, D)``.
            y: classes, int64 ``(B,)``, of a conditional model.
            times: number of equal time steps, and so of stages, of a continuous transform; any other transform gives
                one stage.
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

    def graph(self) -> Graph:
        """Give the inverse flow: latents to points."""
        about = f"z: latents from N(0, I), (B, {self.num_dims}); x: points, (B, {self.num_dims})"
        return of_method(self, "decode", {"z": typical(2, self.num_dims)}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "inverse flow"

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure ``inverse_error``: the largest distance between a value and the same value encoded and decoded.

        It is in standard deviations of the data.
        """
        moved = self.decode(self.encode(x, y), y) - x
        return {"inverse_error": float((moved / self.std).abs().max())}


def _is_normal(flow: Flow) -> bool:
    base = flow.base(None)
    return isinstance(base, DiagNormal) and bool((base.mean == 0).all() and (base.stddev == 1).all())


def _steps(network: Any, times: int) -> list[Any]:
    """List the transforms that a network is composed of; a continuous one is cut into ``times`` pieces."""
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
    """Turn off autocast and inference mode.

    Under autocast the density would be computed from numbers rounded to 8 bits of precision. Some flows compute
    gradients for their log-determinant, which inference mode forbids.
    """
    with torch.autocast(device.type, enabled=False):
        if not torch.is_inference_mode_enabled():
            yield
            return
        with torch.inference_mode(False), torch.no_grad():
            yield
