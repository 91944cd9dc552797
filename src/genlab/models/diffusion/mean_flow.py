"""MeanFlow: a network of average velocities, which goes from noise to data in a single step."""

import itertools
from typing import ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.autograd import forward_ad

from genlab.errors import InputError
from genlab.models.diffusion.diffusion_model import DiffusionModel, NetworkFactory, Solver
from genlab.models.diffusion.paths import Linear, scaled
from genlab.models.diffusion.solvers import Constrain, _same
from genlab.models.diffusion.times import LogitNormal, Times
from genlab.models.sampling import SamplingSettings


class MeanFlow(DiffusionModel):
    """Mean Flows for One-step Generative Modeling (arXiv:2505.13447).

    ``u(x_t, t, s)`` is the mean of the velocity on the way from time t to a later time s, so that ``x_s = x_t + (s - t)
    u``. Its definition, differentiated by t, gives ``u = v + (s - t) du/dt``, in the paper's equation 6 with the times
    the other way round. The loss is the squared error against the right hand side, through which no gradient flows;
    ``du/dt`` is the derivative of the network along ``(v, 1, 0)``, by forward-mode differentiation, with the velocity
    ``v = x - e`` of the straight line. Errors are weighted by ``1 / (|error|^2 + 1e-3)^power``, equation 22.

    Args:
        shape: shape of an example, ``(C, H, W)`` or ``(D,)``.
        networks: function that builds the network, such as ``genlab.networks.unet.UNet`` with its options set.
        times: distribution of the two times in training; None for ``LogitNormal(0.4)``, the paper's with time 0 at the
            noise.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of images; None for points.
        apart: share of training examples whose two times differ, in (0, 1]; the others learn the velocity itself.
        power: power of the weights; 0 for none, 1 makes the gradient of every error as large.
        num_steps: default of the sampling setting of this name.
        time_scale: factor of the times in the network's embedding. The target contains the derivative by the time,
            which grows with this factor: with the 1000 of other models, errors feed on themselves and the training
            diverges.

    Raises:
        InputError: if an option is out of its range, or the network is not for the shape.
    """

    available: ClassVar[tuple[Solver, ...]] = ("euler",)

    def __init__(
        self,
        shape: tuple[int, ...],
        networks: NetworkFactory,
        times: Times | None = None,
        num_classes: int | None = None,
        levels: int | None = 256,
        apart: float = 0.75,
        power: float = 0.75,
        num_steps: int = 1,
        time_scale: PositiveFloat = 1.0,
    ) -> None:
        if not 0 < apart <= 1 or power < 0:
            raise InputError(f"apart={apart}, power={power}: expected a share in (0, 1], and a power from 0 on")
        self.path: Linear
        super().__init__(
            shape, networks, Linear(), num_classes, levels, label_dropout=0.0, num_times=2, time_scale=time_scale
        )
        self.times = times or LogitNormal(0.4)
        self.apart, self.power = apart, power
        self.sampling = self.Sampling(num_steps=num_steps, solver="euler")

    def average(self, h: Tensor, t: Tensor, s: Tensor, y: Tensor | None) -> Tensor:
        """Compute the average velocity from times t to s, ``(B, *S)``; the network sees t and how far s is."""
        return self.network(h, torch.stack([t, s - t], 1), y).to(h.dtype)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the weighted error of the average velocity as ``loss``, and the error itself as ``mse``."""
        y = self.training_classes(y)
        h = self.to_inner(x)
        noise = torch.randn_like(h)
        first, second = (self.times.draw(len(h), h.device).to(h.dtype) for _ in range(2))
        t, s = torch.minimum(first, second), torch.maximum(first, second)
        s = torch.where(torch.rand_like(t) < self.apart, s, t)
        point, v = self.path.at(h, noise, t), self.path.velocity(h, noise, t)
        # Without autocast, which does not cast tangents; rounded to bfloat16, the derivative would be worth little.
        with torch.autocast(h.device.type, enabled=False), forward_ad.dual_level():
            dual = forward_ad.make_dual(point, v), forward_ad.make_dual(t, torch.ones_like(t))
            u, slope = forward_ad.unpack_dual(self.average(*dual, s, y))
        assert slope is not None
        target = v + scaled(s - t, slope.detach())
        squares = (u - target).square().flatten(1).sum(1)
        weight = (squares.detach() + 1e-3) ** -self.power
        return {"loss": (weight * squares).mean(), "mse": squares.mean() / self.num_dims}

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        data = h + scaled(1 - t, self.average(h, t, torch.ones_like(t), y))
        return data, data - self.average(h, t, t, y)

    def solve(
        self,
        h: Tensor,
        y: Tensor | None,
        sampling: SamplingSettings | None = None,
        noise: object = None,
        constrain: Constrain = _same,
        start: float = 0.0,
    ) -> Tensor:
        """Go from noise to data in steps of average velocities; see :meth:`DiffusionModel.solve`."""
        ends = self._times(self.settings(sampling).num_steps, start).to(h.dtype)
        for t, s in itertools.pairwise(ends):
            h = h + (s - t) * self.average(h, t.expand(len(h)).to(h), s.expand(len(h)).to(h), y)
            h = constrain(h, float(s))
        return h
