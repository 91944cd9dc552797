"""Hooks of Lightning that do nothing are not called, because their calls are a good part of a small network's step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler

# The hooks that Lightning calls several times in every step.
OF_A_STEP = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)


class Unprofiled(PassThroughProfiler):
    """A profiler that measures nothing, whose contexts cost nothing either; Lightning's own makes a generator each."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self._nothing


def leave_out_empty_hooks(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Set the hooks of a step that a callback or the module inherits unchanged to None, which Lightning passes over.

    Args:
        trainer: trainer with its callbacks.
        module: module to train.
    """
    for base, objects in ((pl.Callback, trainer.callbacks), (pl.LightningModule, [module])):  # type: ignore[attr-defined]
        for one in objects:
            for hook in OF_A_STEP:
                if hook not in vars(one) and getattr(type(one), hook) is getattr(base, hook):
                    setattr(one, hook, None)
