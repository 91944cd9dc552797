"""Text that a run's model writes: as it comes, and as files."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from genlab.distributions.noise import generators, uniform
from genlab.errors import InputError
from genlab.metrics.measure import evaluating
from genlab.models.base import Writes
from genlab.runs.loading import Run


@dataclass(frozen=True, kw_only=True)
class Write:
    """Continue a prompt ``n`` times; text i depends on the seed and i alone.

    Args:
        prompt: the text's beginning; None begins after the model's own start, which is not shown.
        n: number of texts.
        length: number of tokens to come; None for as many as the model's context.
        seed: random seed of the tokens.

    Raises:
        InputError: for an option that makes no sense.
    """

    prompt: str | None = None
    n: int = 1
    length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or (self.length is not None and self.length < 1):
            raise InputError(f"n={self.n}, length={self.length}: give at least one text of at least one token")
        if self.prompt == "":
            raise InputError("prompt is empty: give some text, or prompt=null")

    @property
    def name(self) -> str:
        """The name of the texts' file, without suffix."""
        return f"text-seed{self.seed}-n{self.n}"

    def texts(self, run: Run, tell: Callable[[str], None] = lambda text: None) -> list[str]:
        """Write the texts, each with the prompt before it.

        Args:
            run: the run whose model writes.
            tell: called with the first text piece by piece, as it comes.

        Raises:
            InputError: if the model writes no text, or the tokenizer does not know the prompt's characters.
        """
        model, tokenizer, n, prompt = run.model, run.tokenizer, self.n, self.prompt
        if not isinstance(model, Writes):
            raise InputError("prompt: this run's model writes no text")
        length = model.num_dims if self.length is None else self.length
        before = [model.start] if prompt is None else [int(token) for token in tokenizer.encode(prompt)]
        hidden = len(before) if prompt is None else 0
        tokens = torch.tensor(before).expand(n, -1)
        u = uniform((n, length), generators(self.seed, range(n)), model.device)
        written = [tokens]
        said = so_far = ""
        with evaluating(model):
            for token in model.generate(tokens.to(model.device), u):
                written.append(token.cpu().unsqueeze(1))
                so_far = tokenizer.decode(torch.cat([part[0] for part in written]).tolist()[hidden:])
                whole = so_far.rstrip("\ufffd")  # half a character waits for its other half
                tell(whole[len(said) :])
                said = whole
        tell(so_far[len(said) :])
        return [tokenizer.decode(row[hidden:]) for row in torch.cat(written, dim=1).tolist()]
