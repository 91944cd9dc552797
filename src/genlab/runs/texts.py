"""Text that a run's model writes: as it comes, and as files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from genlab.distributions.noise import generators, uniform
from genlab.errors import InputError
from genlab.files import write_atomically
from genlab.metrics.measure import evaluating
from genlab.models.base import Writes
from genlab.runs.loading import Run

RULE = "\n" + 80 * "-" + "\n"


def save_texts(texts: Sequence[str], path: Path) -> None:
    """One after the other in a file, with a rule between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, RULE.join(texts) + "\n")


def continued(
    run: Run,
    prompt: str | None,
    n: int,
    length: int | None,
    seed: int,
    tell: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """``n`` continuations of a prompt, with it; text i depends on the seed and i alone.

    Args:
        prompt: ``None`` begins after the model's own start, of which nothing is shown.
        length: tokens to come; ``None`` for as many as the model's context.
        tell: is given the first text piece by piece, as it comes.

    Raises:
        InputError: the prompt is empty or has characters that the tokenizer does not know, or an option makes no sense.
    """
    model, tokenizer = run.model, run.tokenizer
    if not isinstance(model, Writes):
        raise InputError("prompt: this run's model writes no text")
    length = model.num_dims if length is None else length
    if n < 1 or length < 1:
        raise InputError(f"n={n}, length={length}: give at least one text of at least one token")
    if prompt == "":
        raise InputError("prompt is empty: give some text, or prompt=null")
    before = [model.start] if prompt is None else [int(token) for token in tokenizer.encode(prompt)]
    hidden = len(before) if prompt is None else 0
    tokens = torch.tensor(before).expand(n, -1)
    u = uniform((n, length), generators(seed, range(n)), model.device)
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
