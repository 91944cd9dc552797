"""GPT, a causal transformer over text: Language Models are Unsupervised Multitask Learners (Radford et al., 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.noise import Generators, uniform
from genlab.errors import InputError
from genlab.machine.devices import precise
from genlab.models.base import LikelihoodModel
from genlab.models.graph import Graph, of_method
from genlab.models.sampling import SamplingSettings, usual
from genlab.networks.transformer import Options, Transformer, init_weights


class GPT(LikelihoodModel):
    """A causal transformer over tokens with exact likelihood, p(x_1 ... x_L | x_0) = prod_i p(x_i | x_0 ... x_i-1).

    A window consists of L tokens and the preceding token x_0. Adjacent windows therefore score every token of a text
    once, each with a context of 1 to L tokens.

    Args:
        shape: ``(L,)``, number of tokens in a window, which is also the longest context.
        vocab_size: number of tokens in the vocabulary.
        num_layers: number of blocks of the :class:`~genlab.networks.transformer.Transformer`.
        num_heads: number of attention heads.
        width: number of features of each token.
        tie_weights: whether the embedding and the output layer share their weights (arXiv:1608.05859).
        start: token that precedes the first token of a sampled text.
        **transformer: further options of :class:`~genlab.networks.transformer.Transformer`.

    Raises:
        InputError: if the shape is not that of text, or an option is invalid for
            :class:`~genlab.networks.transformer.Transformer`.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"tokens"})

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Settings for drawing the next token.

        Args:
            temperature: divisor of the logits; as it approaches 0, the most likely token is always chosen.
            top_k: number of most likely tokens to draw from; None for all tokens.
            top_p: total probability of the most likely tokens to draw from, nucleus sampling (arXiv:1904.09751); None
                for all tokens.

        Raises:
            InputError: if a setting is out of range.
        """

        top_k: int | None = usual(None, 1, 1000, 1)
        top_p: float | None = usual(None, 0.01, 1.0, 0.01)

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
        width: PositiveInt = 128,
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
        """Number of floating-point operations of a training step on one window."""
        return self.transformer.flops(self.context) + 6 * self.head.weight.numel() * self.context

    def logits(self, tokens: Tensor) -> Tensor:
        """Compute the logits ``(B, T, vocab_size)`` of the token after each of ``(B, T)`` tokens, T <= ``context``."""
        return self.head(self.transformer(self.tokens(tokens)))

    def graph(self) -> Graph:
        """Give one step: tokens of any number to the logits of the token after each of them."""
        length = max(1, self.context // 2)
        tokens = (torch.arange(2 * length) % self.vocab_size).view(2, -1)
        about = (
            f"tokens: int64 (B, T), T from 1 to {self.context}, the first one {self.start} where a text begins; "
            f"logits: of the token after each, (B, T, {self.vocab_size})"
        )
        return of_method(self, "logits", {"tokens": tokens}, ["logits"], about, None, {"tokens": "length"})

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the log-likelihood in nats of L tokens given the preceding token, ``(B,)``.

        Args:
            x: tokens, int64 ``(B, 1 + L)``.
            y: ignored, because texts have no classes.
        """
        logits, tokens = self.logits(x[:, :-1]).float(), x[:, 1:]
        return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the negative log-likelihood: ``nll`` in nats per window, and ``loss`` in nats per token."""
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
        """Draw texts ``(num_samples, L)``, each preceded by the token ``start``."""
        before = torch.full((num_samples, 1), self.start, device=self.device)
        u = uniform((num_samples, self.context), generator, self.device)
        return torch.stack(list(self.generate(before, u, sampling)), dim=1)

    @torch.no_grad()
    def generate(
        self, prompt: Tensor, u: Tensor, sampling: SamplingSettings | None = None, use_cache: bool = True
    ) -> Iterator[Tensor]:
        """Generate ``num`` tokens after a prompt, one at a time.

        The model sees at most ``context`` tokens. When the context is full, its older half is dropped and its newer
        half is encoded again from position 0, because learned positions cannot be shifted. This costs one extra pass
        every ``context / 2`` tokens.

        Args:
            prompt: tokens to continue, int64 ``(B, T)``, T at least 1.
            u: uniform numbers in [0, 1), ``(B, num)``; each token is drawn by inverting its cumulative distribution.
            sampling: settings of the class :class:`GPT.Sampling`; None for the model's own settings.
            use_cache: whether to cache keys and values; without the cache, the same tokens are generated more slowly.

        Yields:
            Next token of each text, int64 ``(B,)``.
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
    """Draw tokens, int64 ``(B,)``, by inverting the cumulative distribution of logits ``(B, vocab_size)`` at ``u``.

    Args:
        logits: unnormalized log-probabilities, ``(B, vocab_size)``.
        u: uniform numbers in [0, 1), ``(B,)``.
        temperature: divisor of the logits.
        top_k: number of most likely tokens to draw from; None for all tokens.
        top_p: total probability of the most likely tokens to draw from; None for all tokens.
    """
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None and top_p < 1:
        descending, order = logits.sort(dim=1, descending=True)
        p = descending.softmax(1)
        left_out = p.cumsum(1) - p >= top_p  # the more likely tokens already reach top_p without this one
        logits = logits.masked_fill(left_out.gather(1, order.argsort(1)), -torch.inf)
    p = precise(logits).softmax(1)
    token = torch.searchsorted(p.cumsum(1), precise(u).unsqueeze(1), right=True).squeeze(1)
    # If rounding makes the cumulative sum end below u, the result must still not be a token that was left out.
    last = p.shape[1] - 1 - (p > 0).flip(1).int().argmax(1)
    return token.minimum(last)
