"""torch.compile where it works, and the plain model, with a word, where it does not."""

import sys
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.nn.utils.parametrize import is_parametrized

from genlab.models.base import AdversarialModel, GenerativeModel, ObjectiveModel
from genlab.training.module import TrainingModule

# Compiling a RealNVP takes a minute on a CPU, and then saves 15 ms a step.
LONG_RUN = 5000


class Compilation(pl.Callback):
    """Compiles the model before the first step.

    Args:
        when: ``True``, or ``"auto"`` for runs of at least ``LONG_RUN`` batches, and those that only time ends.
    """

    def __init__(self, when: Literal["auto"] | bool) -> None:
        self.when = when

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        batches = module.total_batches()
        if self.when is True or (self.when == "auto" and (batches is None or batches >= LONG_RUN)):
            compile_model(module.model)


def compile_model(model: GenerativeModel) -> None:
    """Compile what training calls: the loss of a model that has one, both players of a game."""
    if isinstance(model, AdversarialModel):
        for name in ("generator", "discriminator"):
            player = getattr(model, name)
            if any(is_parametrized(module) for module in player.modules()):
                # Spectral normalization moves its vectors in a call, and the compiled call before it needs them still.
                print(f"genlab: {name} is not compiled: its weights are normalized at every call", file=sys.stderr)
            else:
                player.forward = with_fallback(player.forward, name, model.device)
    elif isinstance(model, ObjectiveModel):
        model.loss = with_fallback(model.loss, "loss", model.device)  # type: ignore[method-assign]


def with_fallback(function: Callable[..., Any], name: str, device: torch.device) -> Callable[..., Any]:
    """A compiled function that says so and goes on uncompiled where compilation fails."""
    # On a CPU the compiler's own random numbers take twelve times as long as PyTorch's.
    options: dict[str, Any] | None = {"fallback_random": True} if device.type == "cpu" else None
    compiled: Callable[..., Any] | None = torch.compile(function, options=options)

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal compiled
        if compiled is not None:
            try:
                return compiled(*arguments, **options)
            except Exception as error:
                # An error of the function itself comes again below, uncompiled.
                compiled = None
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"genlab: {name} could not be compiled, and goes on without ({reason})", file=sys.stderr)
        return function(*arguments, **options)

    return call
