"""MaskGIT: Masked Generative Image Transformer (arXiv:2202.04200)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.drawing import check_known
from genlab.distributions.noise import Generators, uniform
from genlab.distributions.pixel import Categorical
from genlab.errors import InputError
from genlab.layers.raster import to_image, to_sequence
from genlab.machine.devices import finest
from genlab.models.adversarial import given
from genlab.models.base import Completes, ObjectiveModel
from genlab.models.graph import Graph, of_method
from genlab.models.sampling import SamplingSettings, usual
from genlab.networks.transformer import Options, Transformer, init_weights

Schedule = Literal["cosine", "linear", "square", "cubic", "square_root", "arccos"]

# gamma(r), the share of masked tokens at r in [0, 1], which falls from 1 to 0. Section 3.3.
SCHEDULES: dict[Schedule, Callable[[Tensor], Tensor]] = {
    "cosine": lambda r: torch.cos(math.pi / 2 * r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cubic": lambda r: 1 - r**3,
    "square_root": lambda r: 1 - r.sqrt(),
    "arccos": lambda r: 2 / math.pi * torch.arccos(r),
}


class MaskGIT(ObjectiveModel, Completes):
    """A bidirectional transformer that predicts all masked tokens of an image at once.

    A token is a value of the data: a code, or the level of one channel of a pixel. The sequence is the image in raster
    order, L = H W C tokens, preceded by a class token if there are classes. The model has no likelihood, because a
    sampling step draws its tokens independently, and which tokens are kept depends on their values.

    Args:
        shape: ``(C, H, W)``; time and memory of attention grow with the square of C H W.
        levels: number of values that a token can take.
        num_classes: number of classes; None for an unconditional model.
        num_layers: number of blocks of the :class:`~genlab.networks.transformer.Transformer`.
        num_heads: number of attention heads.
        width: number of features of each token.
        schedule: name of the schedule gamma: the share of masked tokens in training and after each sampling step.
        label_smoothing: amount of label smoothing in the cross entropy, in [0, 1); it moves the predicted
            probabilities, and so the samples, towards uniform.
        num_steps: default of :class:`MaskGIT.Sampling`'s number of sampling steps.
        choice_temperature: default of :class:`MaskGIT.Sampling`'s choice temperature.
        **transformer: further options of :class:`~genlab.networks.transformer.Transformer`.

    Raises:
        InputError: if the shape is not that of an image, an option is out of range, or an option is invalid for
            :class:`~genlab.networks.transformer.Transformer`.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "binary", "codes"})

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Settings of parallel decoding: each step draws all masked tokens and keeps the most confident. Section 3.2.

        Args:
            temperature: temperature of a token's distribution.
            num_steps: number of sampling steps, each with one pass through the network.
            choice_temperature: scale of the Gumbel noise added to the log-probabilities when the most confident tokens
                are chosen; it falls to 0 over the steps. With a large value the choice is random. If in addition each
                step keeps one token, every token is drawn from its conditional, in random order.

        Raises:
            InputError: if a setting is out of range.
        """

        num_steps: int = usual(12, 1, 64, 1)
        choice_temperature: float = usual(4.5, 0.0, 20.0, 0.5)

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.num_steps < 1:
                raise InputError(f"num_steps={self.num_steps}: sampling takes at least 1 step")
            if not 0 <= self.choice_temperature < math.inf:
                raise InputError(f"choice_temperature={self.choice_temperature}: expected a number from 0 on")

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        num_classes: int | None = None,
        num_layers: int = 4,
        num_heads: int = 4,
        width: PositiveInt = 128,
        schedule: Schedule = "cosine",
        label_smoothing: float = 0.1,
        num_steps: int = Sampling.num_steps,
        choice_temperature: float = Sampling.choice_temperature,
        **transformer: Unpack[Options],
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: MaskGIT models images, expected (C, H, W)")
        if schedule not in SCHEDULES:
            raise InputError(f"schedule={schedule}: there is {', '.join(SCHEDULES)}")
        if not 0 <= label_smoothing < 1:
            raise InputError(f"label_smoothing={label_smoothing}: expected a share in [0, 1)")
        self.distribution = Categorical(levels)
        self.schedule, self.gamma, self.label_smoothing = schedule, SCHEDULES[schedule], label_smoothing
        self.sampling = self.Sampling(num_steps=num_steps, choice_temperature=choice_temperature)
        self.mask = levels  # the mask token follows the tokens of the data
        self.tokens = nn.Embedding(levels + 1, width)
        self.class_token = None if num_classes is None else nn.Embedding(num_classes, width)
        length = self.num_dims + (num_classes is not None)
        self.transformer = Transformer(num_layers, num_heads, width, length, causal=False, **transformer)
        self.head = nn.Linear(width, levels)
        for module in (self.tokens, self.class_token, self.head):
            if module is not None:
                init_weights(module)

    def logits(self, tokens: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict logits of every token given the unmasked ones: int64 ``(B, L)`` to float32 ``(B, levels, L)``."""
        h = self.tokens(tokens)  # (B, L, width)
        if self.class_token is not None:
            h = torch.cat([self.class_token(given(y)).unsqueeze(1), h], dim=1)
        return self.head(self.transformer(h)[:, -self.num_dims :]).transpose(1, 2).float()

    def draw_mask(self, num: int) -> Tensor:
        """Draw masks of ``ceil(gamma(r) L)`` tokens per example, with r uniform in [0, 1); bool ``(num, L)``."""
        r = torch.rand(num, 1, device=self.device)
        masked = (self.gamma(r) * self.num_dims).ceil().clamp(1, self.num_dims)
        return torch.rand(num, self.num_dims, device=self.device).argsort(1) < masked

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the cross entropy of the masked tokens in nats per token.

        Returns:
            ``loss`` with label smoothing, ``cross_entropy`` without it, and ``accuracy``, the share of masked tokens
            whose most likely value is correct.
        """
        target = self.distribution.index(to_sequence(x))
        masked = self.draw_mask(len(x))
        logits = self.logits(target.masked_fill(masked, self.mask), y)
        smoothed, plain = (
            F.cross_entropy(logits, target, reduction="none", label_smoothing=s) for s in (self.label_smoothing, 0.0)
        )
        figures = {"loss": smoothed, "cross_entropy": plain.detach(), "accuracy": logits.argmax(1) == target}
        return {name: value[masked].float().mean() for name, value in figures.items()}

    @property
    def orders(self) -> Tensor:
        """Position of each value in the order of drawing, int64 ``(1, C, H, W)``: all 0, since no order is fixed."""
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
        """Draw samples ``(num_samples, C, H, W)``, or complete images.

        Args:
            num_samples: number of samples.
            y: int64 classes ``(num_samples,)`` for a conditional model; None draws them uniformly.
            generator: random generator, or one generator per sample.
            sampling: settings of the class :class:`MaskGIT.Sampling`; None for the model's own settings.
            known: images ``(num_samples, C, H, W)`` in [0, 1] with NaN at the values to draw; the drawn values depend
                on all known values. None draws all values.
        """
        chosen = self.settings(sampling)
        assert isinstance(chosen, MaskGIT.Sampling)
        num_steps = chosen.num_steps
        y = self.classes(num_samples, y, generator)
        noise = uniform((num_samples, num_steps, 2, self.num_dims), generator, self.device)
        masked = torch.ones(num_samples, self.num_dims, dtype=torch.bool, device=self.device)
        if known is not None:
            known = to_sequence(check_known(known, to_image(noise[:, 0, 0], self.shape)))
            masked = known.isnan()
        x = masked.float() if known is None else known.nan_to_num()
        left = self.left_masked(masked.sum(1), num_steps)
        for t in range(num_steps):
            if not masked.any():
                break
            params = self.logits(self.distribution.index(x).masked_fill(masked, self.mask), y)
            u, v = noise[:, t].unbind(1)
            x = torch.where(masked, self.distribution.sample(params, u, chosen.temperature), x)
            gumbel = -torch.log(-torch.log(v.clamp_min(1e-9)))
            annealed = chosen.choice_temperature * (1 - (t + 1) / num_steps)
            confidence = self.distribution.log_prob(params, x) + annealed * gumbel
            confidence = confidence.masked_fill(~masked, torch.inf)
            masked = confidence.argsort(dim=1, stable=True).argsort(dim=1) < left[:, t : t + 1]
        return to_image(x, self.shape)

    def graph(self) -> Graph:
        """Give one step: tokens, some of them masked, to the logits of every token."""
        tokens = (torch.arange(2 * self.num_dims) % (self.mask + 1)).view(2, -1)
        about = (
            f"tokens: int64 (B, {self.num_dims}), {self.mask} for a masked one; logits: of every token, "
            f"(B, {self.mask}, {self.num_dims})"
        )
        return of_method(self, "logits", {"tokens": tokens}, ["logits"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        chosen = self.settings(sampling)
        assert isinstance(chosen, MaskGIT.Sampling)
        return (
            f"parallel decoding in {chosen.num_steps} steps, {self.schedule} schedule, "
            f"choice temperature {chosen.choice_temperature:g}"
        )

    def left_masked(self, num: Tensor, num_steps: int) -> Tensor:
        """Compute the number of tokens still masked after each step, int64 ``(N, num_steps)``; 0 after the last step.

        The number is the share gamma of the initially masked tokens, rounded down, and at least one less than before.

        Args:
            num: number of initially masked tokens of each sample, int64 ``(N,)``.
            num_steps: number of sampling steps.
        """
        r = torch.arange(1, num_steps + 1, device=num.device, dtype=finest(num.device)) / num_steps
        share = self.gamma(r) * num.unsqueeze(1)
        left = (share + 1e-9).floor().long()  # the offset corrects rounding: (1 - 1/3) * 3 must give 2
        for t in range(num_steps):
            before = num if t == 0 else left[:, t - 1]
            left[:, t] = left[:, t].minimum(before - 1).clamp(min=0)
        left[:, -1] = 0
        return left
