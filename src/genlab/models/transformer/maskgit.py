"""MaskGIT: Masked Generative Image Transformer (arXiv:2202.04200)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.drawing import check_known
from genlab.distributions.noise import Generators, uniform
from genlab.distributions.pixel import Categorical
from genlab.errors import InputError
from genlab.layers.raster import to_image, to_sequence
from genlab.models.base import Completes, ObjectiveModel, given
from genlab.models.sampling import SamplingSettings
from genlab.networks.transformer import Options, Transformer, init_weights

Schedule = Literal["cosine", "linear", "square", "cubic", "square_root", "arccos"]

# gamma(r), the share of tokens that are masked at r in [0, 1]: from 1 down to 0. Section 3.3.
SCHEDULES: dict[Schedule, Callable[[Tensor], Tensor]] = {
    "cosine": lambda r: torch.cos(math.pi / 2 * r),
    "linear": lambda r: 1 - r,
    "square": lambda r: 1 - r**2,
    "cubic": lambda r: 1 - r**3,
    "square_root": lambda r: 1 - r.sqrt(),
    "arccos": lambda r: 2 / math.pi * torch.arccos(r),
}


class MaskGIT(ObjectiveModel, Completes):
    """A transformer that sees all of an image and predicts its masked tokens, any number of them at once.

    A token is a value of the data: a code, or a level of one channel of a pixel. The sequence is the image in raster
    order, L = H W C tokens, after a token of the class if there are classes. There is no likelihood, because a step of
    sampling draws its tokens independently, and which of them are kept depends on what they are.

    Args:
        shape: ``(C, H, W)``; time and memory of attention grow with the square of C H W.
        levels: values that a token takes.
        num_classes: of a class-conditional model.
        num_layers, num_heads, width, **transformer: of :class:`~genlab.networks.transformer.Transformer`.
        schedule: gamma: of the share of tokens masked in training, and left masked by each step of sampling.
        label_smoothing: of the cross entropy; samples come nearer to uniform by it.
        num_steps, choice_temperature: settings of :class:`MaskGIT.Sampling` where sampling is given no others.

    Raises:
        InputError: for a shape that is not an image's, an option out of its range, or what
            :class:`~genlab.networks.transformer.Transformer` refuses.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "binary", "codes"})

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Parallel decoding: every step draws all masked tokens and keeps the surest of them. Section 3.2.

        Args:
            temperature: of a token's distribution.
            num_steps: number of steps, each a pass of the network.
            choice_temperature: scale of the Gumbel noise on a token's log-probability when the surest are chosen, which
                falls to 0 over the steps. High, the choice is at random; with a token a step, samples are then drawn
                each token from its conditional, in a random order.

        Raises:
            InputError: a setting is out of its range.
        """

        num_steps: int = 12
        choice_temperature: float = 4.5

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
        width: int = 128,
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
        self.mask = levels  # the token after those of the data
        self.tokens = nn.Embedding(levels + 1, width)
        self.class_token = None if num_classes is None else nn.Embedding(num_classes, width)
        length = self.num_dims + (num_classes is not None)
        self.transformer = Transformer(num_layers, num_heads, width, length, causal=False, **transformer)
        self.head = nn.Linear(width, levels)
        for module in (self.tokens, self.class_token, self.head):
            if module is not None:
                init_weights(module)

    def logits(self, tokens: Tensor, y: Tensor | None = None) -> Tensor:
        """Of every token given those that are not masked: int64 ``(B, L)`` to float32 ``(B, levels, L)``."""
        h = self.tokens(tokens)  # (B, L, width)
        if self.class_token is not None:
            h = torch.cat([self.class_token(given(y)).unsqueeze(1), h], dim=1)
        return self.head(self.transformer(h)[:, -self.num_dims :]).transpose(1, 2).float()

    def draw_mask(self, num: int) -> Tensor:
        """Of ``ceil(gamma(r) L)`` tokens of each example, r uniform in [0, 1); bool ``(num, L)``."""
        r = torch.rand(num, 1, device=self.device)
        masked = (self.gamma(r) * self.num_dims).ceil().clamp(1, self.num_dims)
        return torch.rand(num, self.num_dims, device=self.device).argsort(1) < masked

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Cross entropy of the masked tokens in nats per token: smoothed, ``loss``, and as it is, ``cross_entropy``.

        ``accuracy`` is the share of masked tokens whose likeliest value is right.
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
        """As of an autoregressive model: all of an image may come after all that is known, ``(1, C, H, W)``."""
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
        """Draw ``(num_samples, C, H, W)``, or complete images.

        Args:
            known: ``(num_samples, C, H, W)`` in [0, 1], NaN at the values to be drawn; all of these depend on all
                others.
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

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        chosen = self.settings(sampling)
        assert isinstance(chosen, MaskGIT.Sampling)
        return (
            f"parallel decoding in {chosen.num_steps} steps, {self.schedule} schedule, "
            f"choice temperature {chosen.choice_temperature:g}"
        )

    def left_masked(self, num: Tensor, num_steps: int) -> Tensor:
        """How many of ``num`` tokens each step leaves masked, int64 ``(N,)`` to ``(N, num_steps)``; at last none.

        It is gamma's share of them, rounded down, and at least one less than before.
        """
        r = torch.arange(1, num_steps + 1, device=num.device, dtype=torch.float64) / num_steps
        share = self.gamma(r) * num.unsqueeze(1)
        left = (share + 1e-9).floor().long()  # 1 - 1/3 of three tokens are two of them
        for t in range(num_steps):
            before = num if t == 0 else left[:, t - 1]
            left[:, t] = left[:, t].minimum(before - 1).clamp(min=0)
        left[:, -1] = 0
        return left
