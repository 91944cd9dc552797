"""GPT, a causal transformer over text: Language Models are Unsupervised Multitask Learners (Radford et al., 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import Generators, uniform
from genlab.errors import InputError
from genlab.models.base import LikelihoodModel
from genlab.models.sampling import SamplingSettings
from genlab.networks.transformer import Options, Transformer, init_weights


class GPT(LikelihoodModel):
    """A causal transformer over tokens, p(x_1 ... x_L | x_0) = prod_i p(x_i | x_0 ... x_i-1), exact.

    A window is its L tokens and the token before them, x_0, so that windows side by side score every token of a text
    once, each with a context of 1 to L tokens.

    Args:
        shape: ``(L,)``, tokens of a window; the longest context.
        vocab_size: of the tokens.
        num_layers, num_heads, width, **transformer: of :class:`~genlab.networks.transformer.Transformer`.
        tie_weights: a token's embedding is also the weight of its logit (arXiv:1608.05859).
        start: token that a sampled text begins after.

    Raises:
        InputError: for a shape that is not a text's, or what :class:`~genlab.networks.transformer.Transformer` refuses.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"tokens"})

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """How a token is drawn of its distribution.

        Args:
            temperature: of the distribution; towards 0 the likeliest token is taken.
            top_k: number of the likeliest tokens that are drawn from; ``None`` for all.
            top_p: probability that the likeliest tokens, which are drawn from, have together (arXiv:1904.09751);
                ``None`` for all tokens.

        Raises:
            InputError: a setting is out of its range.
        """

        top_k: int | None = None
        top_p: float | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            if (self.top_k is not None and self.top_k < 1) or (self.top_p is not None and not 0 < self.top_p <= 1):
                raise InputError(
                    f"top_k={self.top_k}, top_p={self.top_p}: top_k is 1 or more, top_p above 0 and at most 1"
                )

    def __init__(
        self,
        shape: tuple[int],
        vocab_size: int,
        num_layers: int = 4,
        num_heads: int = 4,
        width: int = 128,
        tie_weights: bool = True,
        start: int = 0,
        **transformer: Unpack[Options],
    ) -> None:
        super().__init__(shape)
        if len(shape) != 1:
            raise InputError(f"shape {tuple(shape)}: GPT models text, expected (L,)")
        if not 0 <= start < vocab_size:
            raise InputError(f"start={start}: expected a token in 0..{vocab_size - 1}")
        (self.context,) = self.shape
        self.vocab_size, self.start = vocab_size, start
        self.tokens = nn.Embedding(vocab_size, width)
        self.transformer = Transformer(num_layers, num_heads, width, self.context, **transformer)
        self.head = nn.Linear(width, vocab_size, bias=False)
        init_weights(self.tokens)
        init_weights(self.head)
        if tie_weights:
            self.head.weight = self.tokens.weight

    @property
    def flops(self) -> int:
        """Of a training step on one window."""
        return self.transformer.flops(self.context) + 6 * self.head.weight.numel() * self.context

    def logits(self, tokens: Tensor) -> Tensor:
        """Of the token after each, ``(B, T)`` to ``(B, T, vocab_size)``; T is at most ``context``."""
        return self.head(self.transformer(self.tokens(tokens)))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood in nats of L tokens given the token before them, ``(B,)``.

        Args:
            x: int64 ``(B, 1 + L)``.
            y: ignored; a text has no classes.
        """
        logits, tokens = self.logits(x[:, :-1]).float(), x[:, 1:]
        return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Negative log-likelihood; what is minimised, and named ``loss``, is in nats per token."""
        nll = -self.log_prob(x, y).mean()
        return {"loss": nll / self.num_dims, "nll": nll}

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw texts ``(num_samples, L)``, each after the token ``start``."""
        before = torch.full((num_samples, 1), self.start, device=self.device)
        u = uniform((num_samples, self.context), generator, self.device)
        return torch.stack(list(self.generate(before, u, sampling)), dim=1)

    @torch.no_grad()
    def generate(
        self, prompt: Tensor, u: Tensor, sampling: SamplingSettings | None = None, use_cache: bool = True
    ) -> Iterator[Tensor]:
        """Continue a text, token by token.

        The model sees at most ``context`` tokens. When they are full, the older half is forgotten and the newer half
        read again, as its first tokens: learned positions cannot move, and that costs one pass in ``context / 2``.

        Args:
            prompt: int64 ``(B, T)``, T at least 1.
            u: one number in [0, 1) for every token to come, ``(B, num)``; each token is the inverse of its
                distribution's cumulative probability.
            sampling: settings of the class :class:`GPT.Sampling`; the model's own where left out.
            use_cache: keep keys and values; without, the same tokens come slowly.

        Yields:
            int64 ``(B,)``, ``num`` times.
        """
        chosen = self.settings(sampling)
        assert isinstance(chosen, GPT.Sampling)
        seen = prompt[:, -self.context :]
        caches = self.transformer.caches() if use_cache else None
        new = seen
        for i in range(u.shape[1]):
            h = self.transformer(self.tokens(new if use_cache else seen), caches)
            logits = self.head(h[:, -1]).float()
            token = sample_token(logits, u[:, i], chosen.temperature, chosen.top_k, chosen.top_p)
            yield token
            new = token.unsqueeze(1)
            seen = torch.cat([seen, new], dim=1)
            if seen.shape[1] > self.context:
                new = seen = seen[:, -max(1, self.context // 2) :]
                caches = self.transformer.caches() if use_cache else None


def sample_token(
    logits: Tensor, u: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Invert the cumulative distribution of ``(B, vocab_size)`` logits at ``u``, ``(B,)``; gives int64 ``(B,)``."""
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        descending, order = logits.sort(dim=1, descending=True)
        p = descending.softmax(1)
        left_out = p.cumsum(1) - p >= top_p  # what is before a token is enough without it
        logits = logits.masked_fill(left_out.gather(1, order.argsort(1)), -torch.inf)
    p = logits.double().softmax(1)
    token = torch.searchsorted(p.cumsum(1), u.double().unsqueeze(1), right=True).squeeze(1)
    # A cumulative sum that ends below u by rounding must not give a token that was left out.
    last = p.shape[1] - 1 - (p > 0).flip(1).int().argmax(1)
    return token.minimum(last)
