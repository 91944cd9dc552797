"""Generate text with a run's model."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from genlab.distributions.noise import generators, uniform
from genlab.errors import InputError
from genlab.machine.memory import check_fits
from genlab.metrics.drawing import evaluating
from genlab.modalities.text import RULE, save_texts
from genlab.models.abilities import Writes
from genlab.runs.loading import Run


@dataclass(frozen=True, kw_only=True)
class Write:
    """Options for writing ``n`` continuations of a prompt; text i depends only on the seed and on i.

    Args:
        prompt: beginning of the texts; None begins after the model's start token, which is not shown.
        n: number of texts.
        length: number of tokens to generate; None for as many as the model's context has.
        seed: random seed of the tokens.

    Raises:
        InputError: if ``n`` or ``length`` is less than 1, or the prompt is empty.
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
        """Name of the file of texts, without suffix."""
        return f"text-seed{self.seed}-n{self.n}"

    def texts(self, run: Run, tell: Callable[[str], None] = lambda text: None) -> list[str]:
        """Generate the texts, each beginning with the prompt.

        Args:
            run: run whose model writes.
            tell: callback that is given the first text piece by piece, as it is generated.

        Raises:
            InputError: if the model writes no text, or the tokenizer does not know a character of the prompt.
        """
        model, tokenizer, n, prompt = run.model, run.tokenizer, self.n, self.prompt
        if not isinstance(model, Writes):
            raise InputError("prompt: this run's model writes no text")
        length = model.num_dims if self.length is None else self.length
        before = [model.start] if prompt is None else [int(token) for token in tokenizer.encode(prompt)]
        # A token is an int64, its draw a float32, and each text has a generator of 5 kB.
        check_fits(n * (length * 24 + 5000), f"n={n:,}, length={length:,}: too many tokens; write fewer texts")
        hidden = len(before) if prompt is None else 0
        tokens = torch.tensor(before).expand(n, -1)
        u = uniform((n, length), generators(self.seed, range(n)), model.device)
        written = [tokens]
        said = so_far = ""
        with evaluating(model):
            for token in model.generate(tokens.to(model.device), u):
                written.append(token.cpu().unsqueeze(1))
                so_far = tokenizer.decode(torch.cat([part[0] for part in written]).tolist()[hidden:])
                whole = so_far.rstrip("\ufffd")  # an incomplete UTF-8 character waits for its other bytes
                tell(whole[len(said) :])
                said = whole
        tell(so_far[len(said) :])
        return [tokenizer.decode(row[hidden:]) for row in torch.cat(written, dim=1).tolist()]

    def to_terminal(self, run: Run, target: Path) -> None:
        """Print the texts, the first one token by token as it is generated, and save all of them.

        Args:
            run: run whose model writes.
            target: file of the texts, ``.txt``.

        Raises:
            InputError: if the file's name has another ending, or the texts cannot be written.
        """
        if target.suffix != ".txt":
            raise InputError(f"output={target}: give the name of a .txt file")

        def tell(piece: str) -> None:
            sys.stdout.write(piece)
            sys.stdout.flush()

        texts = self.texts(run, tell)
        tell("".join(RULE + text for text in texts[1:]) + "\n")
        save_texts(texts, target)
        print(target, file=sys.stderr)
