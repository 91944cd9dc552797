"""Flow matching: a velocity field learned by regression, whose flow takes noise to data."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor

from genlab.distributions.pixel import Likelihood
from genlab.errors import InputError
from genlab.models.base import LikelihoodModel
from genlab.models.diffusion import solvers
from genlab.models.diffusion.couplings import Coupling, Independent
from genlab.models.diffusion.diffusion_model import DiffusionModel, NetworkFactory, Solver
from genlab.models.diffusion.paths import Linear, Prediction, SmoothPath, VarianceExploding, Velocity
from genlab.models.diffusion.times import Times, Uniform


class FlowMatching(DiffusionModel, LikelihoodModel):
    """Flow Matching for Generative Modeling (arXiv:2210.02747).

    The loss is the mean squared error of the prediction at a random time t, for a point ``x_t`` of the path between an
    example and its noise: ``E |u(x_t, t) - (alpha' x + sigma' e)|^2`` if velocities are predicted. Samples solve
    ``dx/dt = u(x, t)`` from noise at t = 0 to data at t = 1.

    The log-likelihood follows from the same equation backwards: ``log p(x) = log N(x_0) - integral of div u``. For
    points the divergence is exact; for images it is estimated by Hutchinson's probes, the same over a whole solution
    (FFJORD, arXiv:1810.01367), and grey levels are dequantized by uniform noise, so that the mean of ``log_prob`` is a
    lower bound. The equation is solved to a tolerance.

    Args:
        shape: shape of an example, ``(C, H, W)`` or ``(D,)``.
        networks: function that builds the network, such as ``genlab.networks.unet.UNet`` with its options set.
        path: path from noise to data; None for ``Linear``.
        prediction: what the network predicts; None for ``Velocity``.
        times: distribution of times in training; None for ``Uniform``.
        coupling: which noise belongs to which example; None for ``Independent``.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of images; None for points.
        label_dropout: share of training examples whose class is hidden, in [0, 1).
        num_steps: default of the sampling setting of this name.
        solver: default of the sampling setting of this name.
        num_probes: number of probes of the divergence for images.
        tolerance: largest error of a step when likelihoods are computed, absolute and relative.

    Raises:
        InputError: if an option is out of its range, or the network is not for the shape.
    """

    most_diagnosed: ClassVar[int | None] = 16  # each is solved forwards and backwards

    def __init__(
        self,
        shape: tuple[int, ...],
        networks: NetworkFactory,
        path: SmoothPath | None = None,
        prediction: Prediction | None = None,
        times: Times | None = None,
        coupling: Coupling | None = None,
        num_classes: int | None = None,
        levels: int | None = 256,
        label_dropout: float = 0.1,
        num_steps: int = 25,
        solver: Solver = "heun",
        num_probes: int = 1,
        tolerance: float = 1e-4,
    ) -> None:
        path = path or Linear()
        if isinstance(path, VarianceExploding):
            raise InputError(
                "path: this path ends in much noise, which the network must scale; use model=diffusion/edm"
            )
        self.path: SmoothPath
        super().__init__(shape, networks, path, num_classes, levels, label_dropout, dequantized=True)
        if num_probes < 1 or tolerance <= 0:
            raise InputError(f"num_probes={num_probes}, tolerance={tolerance}: expected at least 1, and above 0")
        self.prediction = prediction or Velocity()
        self.times = times or Uniform()
        self.coupling = coupling or Independent()
        self.num_probes, self.tolerance = num_probes, tolerance
        self.sampling = self.Sampling(num_steps=num_steps, solver=solver)

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error of the prediction, for one time and one noise of each example."""
        y = self.training_classes(y)
        h = self.to_inner(x)
        noise = torch.randn_like(h)
        noise = noise[self.coupling.order(h, noise)]
        t = self._inside(self.times.draw(len(h), h.device))
        target = self.prediction.target(self.path, h, noise, t)
        return {"loss": (self._output(self.path.at(h, noise, t), t, y) - target).square().mean()}

    def _inside(self, t: Tensor) -> Tensor:
        """Keep times from the ends where the prediction does not say what the velocity is."""
        margin = self.prediction.margin
        return t.clamp(margin, 1 - margin) if margin else t

    def _output(self, h: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.network(h, t.unsqueeze(1), y).to(h.dtype)

    # -- the field -----------------------------------------------------------------------------------------------------

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        t = self._inside(t)
        return self.prediction.data_and_noise(self.path, h, self._output(h, t, y), t)

    def velocity(self, h: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        if isinstance(self.prediction, Velocity):
            return self._output(h, t, y)
        t = self._inside(t)
        data, noise = self.denoise(h, t, y)
        return self.path.velocity(data, noise, t)

    # -- likelihood ----------------------------------------------------------------------------------------------------

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]  # a property that only reads replaces an attribute
        """Tell whether the log-likelihood is exact, up to the solver's tolerance, or one draw of a bound or itself."""
        if self.of_images:
            return "lower_bound"
        return "exact" if self.has_exact_trace else "estimate"

    @property
    def has_exact_trace(self) -> bool:
        """Tell whether divergences are computed dimension by dimension, which is for vectors, and not by probes."""
        return len(self.shape) == 1

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Tell whether the data is discrete: images are, points are not."""
        return self.of_images

    @property
    def most_scored(self) -> int | None:  # type: ignore[override]
        """Give the number of test images that take about as long as drawing some thousand samples."""
        return None if self.has_exact_trace else 500

    @property
    def likelihood_details(self) -> dict[str, object]:
        solved = {"solver": "dopri5", "tolerance": self.tolerance}
        return solved if self.has_exact_trace else {**solved, "probes": self.num_probes}

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the log-density of points, or one draw of a lower bound for grey levels, in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        y = self._classes(y)
        with _as_it_is(x.device):
            h = self.to_inner(x.clone())
            z, log_det, _ = self.flow(h, y, self.tolerance, divergence=True)
            log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
            # Grey levels in [0, 1] are spread over bins of the volume levels^-D, and stretched to [-1, 1].
            stretched = -self.std.expand(self.shape).log().sum()
            scale = math.log(2 / self.levels) * self.num_dims if self.of_images else stretched
            return log_prior + log_det + scale

    def flow(
        self, h: Tensor, y: Tensor | None, tolerance: float, *, backwards: bool = True, divergence: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Follow the field between data and noise.

        Args:
            h: data if ``backwards``, otherwise noise, ``(B, *S)``.
            y: classes, int64 ``(B,)``; None for an unconditional model.
            tolerance: largest error of a step, absolute and relative.
            backwards: whether to go from data to noise.
            divergence: whether to integrate the divergence of the field.

        Returns:
            The other end of the way, ``(B, *S)``; the log-determinant of its derivative in nats, ``(B,)``, 0 without
            ``divergence``; the number of evaluations of each example, ``(B,)``.
        """
        start, end = (1.0, 0.0) if backwards else (0.0, 1.0)
        size = math.prod(self.shape)
        probes = self._probes(h) if divergence else []

        def field(joint: Tensor, t: Tensor) -> Tensor:
            place = joint[:, :size].view_as(h)
            if not divergence:
                return torch.cat([self.velocity(place, t, y).flatten(1), torch.zeros_like(joint[:, size:])], 1)
            with torch.enable_grad():
                place = place.detach().requires_grad_()
                velocity = self.velocity(place, t, y)
                trace = torch.zeros(len(h), dtype=h.dtype, device=h.device)
                for i, probe in enumerate(probes):
                    last = i == len(probes) - 1
                    (gradient,) = torch.autograd.grad((velocity * probe).sum(), place, retain_graph=not last)
                    trace = trace + (gradient * probe).flatten(1).sum(1)
            if not self.has_exact_trace:
                trace = trace / len(probes)
            return torch.cat([velocity.detach().flatten(1), trace.unsqueeze(1)], 1)

        joint = torch.cat([h.flatten(1), torch.zeros_like(h.flatten(1)[:, :1])], 1)
        joint, evaluations = solvers.dopri5(field, joint, start, end, tolerance)
        return joint[:, :size].view_as(h), joint[:, size], evaluations

    def _probes(self, h: Tensor) -> list[Tensor]:
        """Give vectors ``e``, ``(B, *S)``, such that sums of ``e J e`` are the trace of J, exactly or on average."""
        if self.has_exact_trace:
            return [unit.expand_as(h) for unit in torch.eye(self.num_dims, dtype=h.dtype, device=h.device)]
        return [torch.randint(2, h.shape, device=h.device).to(h.dtype) * 2 - 1 for _ in range(self.num_probes)]

    # -- latents -------------------------------------------------------------------------------------------------------

    def _classes(self, y: Tensor | None) -> Tensor | None:
        if self.num_classes is not None and y is None:
            raise InputError("this model is class-conditional: give the classes y")
        return None if self.num_classes is None else y

    @torch.no_grad()
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode examples, in the middle of their bins, as the noise ``(B, D)`` that flows to them."""
        with _as_it_is(x.device):
            return self.flow(self.to_inner(x, 0.5), self._classes(y), self.tolerance)[0].flatten(1)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode noise ``(B, D)`` to examples ``(B, *S)``; images are in [0, 1] and not yet quantized."""
        with _as_it_is(z.device):
            noise = z.to(self.mean.dtype).view(-1, *self.shape)
            h = self.flow(noise, self._classes(y), self.tolerance, backwards=False)[0]
        return ((h + 1) / 2).clamp(0, 1) if self.of_images else h * self.std + self.mean

    @torch.no_grad()
    def trajectory(self, z: Tensor, y: Tensor | None = None, times: int = 16) -> list[Tensor]:
        """Decode noise ``(B, D)`` of points in equal steps of time and return all stages, ``(B, D)`` each."""
        with _as_it_is(z.device):
            ends = torch.linspace(0, 1, times + 1).tolist()
            stages, h = [z.to(self.mean.dtype)], z.to(self.mean.dtype)
            classes = self._classes(y)
            for start, end in itertools.pairwise(ends):
                h, _ = solvers.dopri5(lambda h, t: self.velocity(h, t, classes), h, start, end, self.tolerance)
                stages.append(h)
            return [h * self.std + self.mean for h in stages]

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure ``inverse_error``: the largest difference of any value from the same value encoded and decoded.

        It is in the units of what the network sees, where grey levels lie in [-1, 1] and points have variance 1.
        """
        with _as_it_is(x.device):
            classes, h = self._classes(y), self.to_inner(x, 0.5)
            back = self.flow(self.flow(h, classes, self.tolerance)[0], classes, self.tolerance, backwards=False)[0]
        return {"inverse_error": float((h - back).abs().max())}


@contextmanager
def _as_it_is(device: torch.device) -> Iterator[None]:
    """Turn off autocast, for the likelihood needs all digits, and inference mode, for it needs gradients."""
    with torch.autocast(device.type, enabled=False):
        if not torch.is_inference_mode_enabled():
            yield
            return
        with torch.inference_mode(False), torch.no_grad():
            yield
