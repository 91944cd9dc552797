"""The base of models in continuous time: formats of data, guidance by classes, and sampling by a choice of solvers."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genlab.distributions.dequantization import dequantize, quantize
from genlab.distributions.drawing import check_known
from genlab.distributions.noise import Generators, normal, uniform
from genlab.errors import InputError
from genlab.models.adversarial import given
from genlab.models.base import Completes, ObjectiveModel
from genlab.models.diffusion import solvers
from genlab.models.diffusion.paths import Path, SmoothPath, VarianceExploding, scaled
from genlab.models.graph import Graph, of_method, typical
from genlab.models.sampling import SamplingSettings, Tally, usual

Solver = Literal["euler", "midpoint", "heun", "dopri5", "ddim", "ddpm", "dpm_solver_pp"]

# A network, such as genlab.networks.unet.UNet with its options set, which a model builds for the shape of its data. It
# maps noisy examples (B, *S), times (B, num_times) and classes (B,) to (B, *S).
NetworkFactory = Callable[..., nn.Module]


class DiffusionModel(ObjectiveModel, Completes):
    """A model whose network sees noisy examples, and which draws samples by going from noise to data in steps.

    Inside, grey levels lie in [-1, 1], and real numbers (points, latents) have mean 0 and variance 1. With
    ``dequantized``, each grey level is spread over its bin by uniform noise in training, and samples are read off as
    the bin they fall into.

    The network of a class-conditional model sees no class in a share ``label_dropout`` of training examples. Sampling
    can then be guided by classes: Classifier-Free Diffusion Guidance (arXiv:2207.12598).

    Attributes:
        available: solvers that the model can be sampled by.
        large_variance: whether the noise of the solver ``ddpm`` has the variance of a step, not of its posterior.
        tally: evaluations that the last samples took by the solver ``dopri5``.

    Args:
        shape: shape of an example, ``(C, H, W)`` or ``(D,)``.
        networks: function that builds the network from ``shape``, ``num_times``, ``num_classes`` and ``time_scale``.
        path: path from noise to data.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of images; None for real numbers, such as points or latents.
        label_dropout: share of training examples whose class is hidden, in [0, 1).
        dequantized: whether grey levels are spread over their bins.
        num_times: number of times that the network sees.
        time_scale: factor of the times in the network's embedding.

    Raises:
        InputError: if an option is out of its range, or the network is not for the shape.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "binary", "points", "latents"})
    available: ClassVar[tuple[Solver, ...]] = ("euler", "midpoint", "heun", "dopri5", "ddim", "ddpm", "dpm_solver_pp")

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Settings of the way from noise to data.

        Args:
            temperature: standard deviation of all noise, as a multiple of the model's own.
            num_steps: number of steps; the solver ``dopri5`` chooses its own.
            solver: method of solving the equation.
            guidance: weight w of the class: predictions are ``u + w (c - u)``, where u sees no class and c does. 1 is
                the model itself, 0 ignores the class, above 1 exaggerates it.
            guidance_from: time from which on there is guidance; before, the weight is 1.
            guidance_to: time up to which there is guidance: Applying Guidance in a Limited Interval
                (arXiv:2404.07724).
            churn: amount of noise that is added and removed on the way, ``S_churn`` of EDM (arXiv:2206.00364).
            tolerance: largest error of a step of ``dopri5``, absolute and relative.

        Raises:
            InputError: if a setting is out of range.
        """

        num_steps: int = usual(50, 1, 250, 1)
        solver: Solver = "euler"
        guidance: float = usual(1.0, 0.0, 10.0, 0.1)
        guidance_from: float = usual(0.0, 0.0, 1.0, 0.05)
        guidance_to: float = usual(1.0, 0.0, 1.0, 0.05)
        churn: float = usual(0.0, 0.0, 80.0, 1.0)
        tolerance: float = 1e-5

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.num_steps < 1:
                raise InputError(f"num_steps={self.num_steps}: sampling takes at least 1 step")
            if not math.isfinite(self.guidance):
                raise InputError(f"guidance={self.guidance}: expected a number")
            if not 0 <= self.guidance_from <= self.guidance_to <= 1:
                raise InputError(
                    f"guidance_from={self.guidance_from}, guidance_to={self.guidance_to}: expected times in [0, 1], "
                    "the first at most the second"
                )
            if self.churn < 0 or self.tolerance <= 0:
                raise InputError(f"churn={self.churn}, tolerance={self.tolerance}: expected from 0 on, and above 0")
            if self.churn > 0 and self.solver not in ("euler", "heun"):
                raise InputError(f"churn={self.churn}: only solver=euler and solver=heun add noise so")

    large_variance = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        networks: NetworkFactory,
        path: Path,
        num_classes: int | None = None,
        levels: int | None = 256,
        label_dropout: float = 0.1,
        dequantized: bool = False,
        num_times: int = 1,
        time_scale: float = 1000.0,
    ) -> None:
        super().__init__(shape, num_classes)
        if not 0 <= label_dropout < 1:
            raise InputError(f"label_dropout={label_dropout}: expected a share in [0, 1)")
        if len(shape) not in (1, 3):
            raise InputError(f"shape {tuple(shape)}: expected images (C, H, W) or points (D,)")
        self.of_images = len(shape) == 3 and levels is not None
        if levels is not None and self.of_images and levels < 2:
            raise InputError(f"levels={levels}: a pixel takes at least 2 values")
        self.path, self.levels, self.num_times = path, levels or 1, num_times
        self.label_dropout = 0.0 if num_classes is None else label_dropout
        self.dequantized = dequantized
        self.tally = Tally()
        seen = None if num_classes is None else num_classes + (self.label_dropout > 0)
        self.network = networks(shape=tuple(shape), num_times=num_times, num_classes=seen, time_scale=time_scale)
        # Numbers of a grid are scaled channel by channel, for a place of an image is as good as any other.
        scaled = () if self.of_images else tuple(shape) if len(shape) == 1 else (shape[0], 1, 1)
        self.register_buffer("mean", torch.zeros(scaled))
        self.register_buffer("std", torch.ones(scaled))

    # -- what a subclass implements ------------------------------------------------------------------------------------

    @abstractmethod
    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict the data and the noise in noisy examples.

        Args:
            h: noisy examples at points of the path, ``(B, *S)``.
            t: times, ``(B,)``.
            y: classes as the network sees them, int64 ``(B,)``; None for an unconditional model.
        """

    def predicted(self, h: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict the data and the noise as :meth:`denoise` does; ``num_classes`` stands for a hidden class."""
        return self.denoise(h, t, y)

    def velocity(self, h: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """Predict the velocity of noisy examples, ``(B, *S)``; see :meth:`denoise`."""
        assert isinstance(self.path, SmoothPath)  # which the solvers that need a velocity are for
        return self.path.velocity(*self.denoise(h, t, y), t)

    # -- between examples and what the network sees --------------------------------------------------------------------

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the mean and standard deviation of points, or of each channel of a grid, to those of ``x``."""
        if self.of_images:
            return
        over = (0, *range(2, x.ndim))
        self.mean.copy_(x.double().mean(over).view_as(self.mean))
        many = len(x) * self.num_dims > self.mean.numel()
        std = (x.double().std(over) if many else torch.ones(len(self.mean))).view_as(self.std)
        self.std.copy_(torch.where(std > 0, std, 1.0))  # a dimension that does not vary is not scaled

    def to_inner(self, x: Tensor, u: Tensor | float | None = None) -> Tensor:
        """Map examples to what the network is trained on, ``(B, *S)``.

        Args:
            x: examples, ``(B, *S)``.
            u: places within the bins of grey levels, in [0, 1), which only ``dequantized`` has; None draws them.
        """
        if not self.of_images:
            return (x - self.mean) / self.std
        if not self.dequantized:
            return 2 * x.to(torch.promote_types(x.dtype, torch.float32)) - 1
        return 2 * dequantize(x, uniform(x.shape, None, x.device) if u is None else u, self.levels)[0] - 1

    def to_examples(self, h: Tensor) -> Tensor:
        """Map what the network is trained on to examples, float32 ``(B, *S)``; images get their nearest grey levels."""
        if not self.of_images:
            return (h * self.std + self.mean).float()
        x = (h.float() + 1) / 2
        if self.dequantized:
            return quantize(x, self.levels)
        return (x * (self.levels - 1)).round().clamp(0, self.levels - 1) / (self.levels - 1)

    def training_classes(self, y: Tensor | None) -> Tensor | None:
        """Give the classes that the network sees for a batch, some of them hidden while the model is trained.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        if self.num_classes is None:
            return None
        y = given(y)
        if self.training and self.label_dropout > 0:
            y = torch.where(torch.rand(len(y), device=y.device) < self.label_dropout, self.num_classes, y)
        return y

    # -- sampling ------------------------------------------------------------------------------------------------------

    @property
    def sampling_choices(self) -> Mapping[str, Sequence[str]]:
        is_guided = self.num_classes is not None and self.label_dropout > 0
        useless = [] if is_guided else ["guidance", "guidance_from", "guidance_to"]
        useless += [] if isinstance(self.path, VarianceExploding) else ["churn"]
        useless += [] if "dopri5" in self.available else ["tolerance"]
        return {"solver": self.available, **dict.fromkeys(useless, ())}

    def settings(self, sampling: SamplingSettings | None) -> "DiffusionModel.Sampling":
        """Return the sampling settings to use, checked against what the model can do.

        Raises:
            InputError: if the model has no such solver, or guidance needs what it has not.
        """
        chosen = super().settings(sampling)
        assert isinstance(chosen, DiffusionModel.Sampling)
        name = type(self).__name__
        if chosen.solver not in self.available:
            raise InputError(f"solver={chosen.solver}: {name} is solved by {', '.join(self.available)}")
        if chosen.guidance != 1 and self.num_classes is None:
            raise InputError(f"guidance={chosen.guidance:g}: this {name} has no classes; train with model.num_classes")
        if chosen.guidance != 1 and self.label_dropout == 0:
            raise InputError(f"guidance={chosen.guidance:g}: this {name} was trained with label_dropout=0")
        if chosen.churn > 0 and not isinstance(self.path, VarianceExploding):
            raise InputError(f"churn={chosen.churn:g}: noise is added so on EDM's path alone")
        return chosen

    def evaluations(self, sampling: SamplingSettings | None = None) -> int | None:
        """Count the evaluations of the network for one sample; guidance takes two at a time. None if it varies."""
        chosen = self.settings(sampling)
        if chosen.solver == "dopri5":
            return None
        times = self.path.times(chosen.num_steps).tolist()
        count = 0
        for i, t in enumerate(times[:-1]):
            at = [t]
            if chosen.solver == "midpoint":
                at.append((t + times[i + 1]) / 2)
            elif chosen.solver == "heun" and i < len(times) - 2:
                at.append(times[i + 1])
            count += len(at) + int(self._is_guided(chosen, torch.tensor(at)).sum())
        return count

    def _is_guided(self, chosen: "DiffusionModel.Sampling", t: Tensor) -> Tensor:
        """Tell at which times ``(B,)`` there is guidance."""
        return (t >= chosen.guidance_from) & (t <= chosen.guidance_to) & (chosen.guidance != 1)

    def _guided(
        self, predict: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, ...]], y: Tensor | None, chosen: Sampling
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
        """Give predictions under guidance, as a function of noisy examples and times."""

        def guided(h: Tensor, t: Tensor) -> tuple[Tensor, ...]:
            inside = self._is_guided(chosen, t)
            if not inside.any():
                return predict(h, t, y)
            assert y is not None
            hidden = torch.full_like(y, self.num_classes or 0)
            both = predict(torch.cat([h, h]), torch.cat([t, t]), torch.cat([y, hidden]))
            weight = torch.where(inside, chosen.guidance, 1.0)
            pairs = (values.chunk(2) for values in both)
            return tuple(
                # Outside of the guidance to the bit what it is without: other examples of a batch may be inside.
                solvers.chosen(inside, without + scaled(weight, of_class - without), of_class)
                for of_class, without in pairs
            )

        return guided

    def solve(
        self,
        h: Tensor,
        y: Tensor | None,
        sampling: SamplingSettings | None = None,
        noise: Callable[[], Tensor] | None = None,
        constrain: solvers.Constrain = solvers._same,
        start: float = 0.0,
    ) -> Tensor:
        """Go from noise at time 0, or from a point of the path, to data at time 1.

        Args:
            h: points of the path at time ``start``, ``(B, *S)``; at time 0 noise with the path's standard deviation.
            y: classes, int64 ``(B,)``; None for an unconditional model.
            sampling: settings; None for the model's own.
            noise: function that draws further standard normal noise, ``(B, *S)``; None for PyTorch's.
            constrain: function applied after each step.
            start: first time, from 0 to below 1; the steps before it are left out.
        """
        chosen = self.settings(sampling)
        noise = noise or (lambda: torch.randn_like(h))
        times, name = self._times(chosen.num_steps, start), chosen.solver
        predict = self._guided(self.denoise, y, chosen)

        def both(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            data, e = predict(h, t)
            return data, e

        if name == "ddim":
            return solvers.ddim(both, self.path, h, times, None, constrain)
        if name == "ddpm":
            return solvers.ddim(both, self.path, h, times, noise, constrain, self.large_variance)
        if name == "dpm_solver_pp":
            return solvers.dpm_solver_pp(both, self.path, h, times, constrain)
        guided = self._guided(lambda h, t, y: (self.velocity(h, t, y),), y, chosen)

        def field(h: Tensor, t: Tensor) -> Tensor:
            (velocity,) = guided(h, t)
            return velocity

        if name == "dopri5":
            h, evaluations = solvers.dopri5(
                field, h, start, 1.0, chosen.tolerance, cost=lambda t: 1 + self._is_guided(chosen, t).long()
            )
            self.tally.add(evaluations)
            return h
        if name == "midpoint":
            return solvers.midpoint(field, h, times, constrain)
        churn = self._churn(chosen, noise) if chosen.churn > 0 else None
        if name == "heun":
            return solvers.heun(field, h, times, constrain, churn)
        return solvers.euler(field, h, times, constrain, churn)

    def _times(self, num_steps: int, start: float) -> Tensor:
        """Give the ends of the steps from a time on."""
        times = self.path.times(num_steps)
        return torch.cat([times.new_tensor([start]), times[times > start + 1e-9]]) if start > 0 else times

    def _begin(
        self, num: int, y: Tensor | None, generator: Generators, temperature: float
    ) -> tuple[Tensor | None, Tensor, Callable[[], Tensor]]:
        """Draw classes ``(num,)`` and the first noise ``(num, *S)``, and give a function that draws further noise."""

        def noise() -> Tensor:
            return temperature * normal((num, *self.shape), generator, self.device).to(self.mean.dtype)

        y = self.classes(num, y, generator)
        return y, noise(), noise

    @torch.no_grad()
    def vary(
        self,
        x: Tensor,
        strength: float,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw variations of examples: add noise to them, and take the noise away again.

        SDEdit (arXiv:2108.01073): the way from noise to data begins where the share ``strength`` of it is left, at the
        place of the example on its path.

        Args:
            x: examples, ``(B, *S)``.
            strength: share of the way, in (0, 1]; 1 draws new samples, small values change little.
            y: classes, int64 ``(B,)``, of a conditional model; None draws them uniformly.
            generator: random generator, or one generator per example.
            sampling: settings of the class :class:`DiffusionModel.Sampling`; None for the model's own settings.

        Raises:
            InputError: if the strength is out of its range.
        """
        if not 0 < strength <= 1:
            raise InputError(f"strength={strength}: expected above 0 and at most 1")
        chosen = self.settings(sampling)
        y, e, noise = self._begin(len(x), y, generator, chosen.temperature)
        start = self.path.start(strength)
        t = torch.full((len(x),), start, dtype=e.dtype, device=self.device)
        h = self.path.at(self.to_inner(x.to(e), 0.5), e, t) if strength < 1 else scaled(self.path.sigma(t), e)
        return self.to_examples(self.solve(h, y, chosen, noise, start=start))

    @torch.no_grad()
    def states(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
        num_states: int = 8,
    ) -> Tensor:
        """Draw samples and return states on the way, ``(num_states, num_samples, *S)``, from noise to the samples.

        States are spread evenly over the steps and have the scale of examples: noise, too, mostly lies in [0, 1] for
        images. The solver ``dopri5``, whose samples do not take steps together, is replaced by ``heun``.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample.
            sampling: settings of the class :class:`DiffusionModel.Sampling`; None for the model's own settings.
            num_states: number of states, at least 2; fewer if there are not as many steps.
        """
        chosen = self.settings(sampling)
        if chosen.solver == "dopri5":
            chosen = replace(chosen, solver="heun")
        y, e, noise = self._begin(num_samples, y, generator, chosen.temperature)
        start = scaled(self.path.sigma(torch.zeros(num_samples, dtype=e.dtype, device=self.device)), e)
        kept = [(0.0, start)]

        def keep(h: Tensor, t: float) -> Tensor:
            kept.append((t, h))
            return h

        self.solve(start, y, chosen, noise, keep)
        index = torch.linspace(0, len(kept) - 1, min(num_states, len(kept))).round().long().tolist()
        states = []
        for t, h in (kept[i] for i in index):
            at = torch.full((1,), t, dtype=torch.float64)
            spread = (self.path.alpha(at) ** 2 + self.path.sigma(at) ** 2).sqrt().clamp_min(1.0)
            h = h / float(spread)
            states.append(((h + 1) / 2).clamp(0, 1) if self.of_images else h * self.std + self.mean)
        return torch.stack(states).float()

    def _churn(self, chosen: Sampling, noise: Callable[[], Tensor]) -> Callable[[Tensor, float], tuple[Tensor, float]]:
        """Give the function that adds noise before a step: EDM (arXiv:2206.00364), algorithm 2."""
        path = self.path
        assert isinstance(path, VarianceExploding)
        more = min(chosen.churn / chosen.num_steps, math.sqrt(2) - 1)

        def churn(h: Tensor, t: float) -> tuple[Tensor, float]:
            sigma = path.sigma_max * (1 - t)
            raised = (1 + more) * sigma
            return h + math.sqrt(raised**2 - sigma**2) * noise(), 1 - raised / path.sigma_max

        return churn

    @property
    def orders(self) -> Tensor:
        """Position of each value in the order of drawing, int64 ``(1, *S)``: all 0, since all are drawn together."""
        return torch.zeros(1, *self.shape, dtype=torch.long, device=self.device)

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
        """Draw samples ``(num_samples, *S)``, or complete images.

        For completion, the known values are set to their place on the path after each step, with the noise that they
        began with. What is drawn approximately follows the model given what is known: the replacement method of
        Score-Based Generative Modeling through Stochastic Differential Equations (arXiv:2011.13456), appendix I.2.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample.
            sampling: settings of the class :class:`DiffusionModel.Sampling`; None for the model's own settings.
            known: images ``(num_samples, C, H, W)`` in [0, 1] with NaN at the values to draw. None draws all values.

        Raises:
            InputError: if images are to be completed by a solver that chooses its own steps.
        """
        chosen = self.settings(sampling)
        y, e, noise = self._begin(num_samples, y, generator, chosen.temperature)
        zero = torch.zeros(num_samples, dtype=e.dtype, device=self.device)
        constrain: solvers.Constrain = solvers._same
        start = scaled(self.path.sigma(zero), e)
        if known is not None:
            if chosen.solver == "dopri5":
                raise InputError("solver=dopri5 cannot complete images, because it chooses its own steps")
            known = check_known(known, start)
            inner, drawn = self.to_inner(known.nan_to_num(), 0.5), known.isnan()

            def constrain(h: Tensor, t: float) -> Tensor:
                return torch.where(drawn, h, self.path.at(inner, e, torch.full_like(zero, t)))

            start = constrain(start, 0.0)
        x = self.to_examples(self.solve(start, y, chosen, noise, constrain))
        return x if known is None else torch.where(known.isnan(), x, known)

    def graph(self) -> Graph:
        """Give one evaluation of the network: noisy examples at their times to the data and the noise in them."""
        inputs = {"h": typical(2, *self.shape), "t": torch.tensor([0.3, 0.6])}
        about = (
            f"h: points of the path, (B, {', '.join(map(str, self.shape))}), of images in [-1, 1]; t: times, (B,), "
            "from 0 for noise to 1 for data; data and noise: what the network predicts to be in h"
        )
        return of_method(self, "predicted", inputs, ["data", "noise"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        chosen = self.settings(sampling)
        count = self.evaluations(chosen)
        how = f"{chosen.solver}, "
        if count is None:
            how += f"tolerance {chosen.tolerance:g}"
        else:
            evaluations = f"{count} network evaluation{'s' if count > 1 else ''}"
            how += f"{chosen.num_steps} step{'s' if chosen.num_steps > 1 else ''}, {evaluations}"
        if chosen.guidance != 1:
            how += f", guidance {chosen.guidance:g}"
            if (chosen.guidance_from, chosen.guidance_to) != (0, 1):
                how += f" at times from {chosen.guidance_from:g} to {chosen.guidance_to:g}"
        if chosen.churn > 0:
            how += f", churn {chosen.churn:g}"
        return how
