"""torch.compile where it works, and the plain model, with a word, where it does not."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.nn.utils.parametrize import is_parametrized

from genlab.training.module import Compilable, TrainingModule

# Compiling a RealNVP takes a minute on a CPU, and then saves 15 ms a step.
LONG_RUN = 5000


class Compilation(pl.Callback):
    """Compiles the model before the first step, once.

    Args:
        when: ``True`` for torch.compile as it is, ``"auto"`` for that in runs of at least ``LONG_RUN`` batches and
            those that only time ends, ``"reduce-overhead"`` for CUDA graphs besides, which launch a whole pass at once.
    """

    def __init__(self, when: Literal["auto", "reduce-overhead"] | bool) -> None:
        self.when = when
        self._graphs = self._done = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        batches = module.total_batches()
        short = self.when == "auto" and batches is not None and batches < LONG_RUN
        if self._done or not self.when or short:
            return
        self._graphs, self._done = self._has_graphs(module), True
        compile_functions(module.compilable(self._graphs), module.device, self._graphs)

    def _has_graphs(self, module: TrainingModule) -> bool:
        """Gradients that outlive a batch would be written over, and so would weights that are gathered for it."""
        if self.when != "reduce-overhead" or module.device.type != "cuda":
            return False
        once = not any(function.backward_twice for function in module.compilable(graphs=True))
        possible = module.trainer.world_size == 1 and module.accumulate == 1 and once
        if not possible:
            needed = "one GPU, accumulate=1" + ("" if once else " and adaptive_weight=false")
            print(f"genlab: compiled without CUDA graphs: they are for {needed}", file=sys.stderr)
        return possible

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the graphs gave in the last batch may go


def compile_functions(functions: Iterable[Compilable], device: torch.device, graphs: bool = False) -> None:
    """Replace functions by compiled ones, but for modules whose weights are normalized at every call."""
    for function in functions:
        plain = getattr(function.owner, function.attribute)
        is_player = function.attribute == "forward"
        if is_player and any(is_parametrized(module) for module in function.owner.modules()):
            # Spectral normalization moves its vectors in a call, and the compiled call before it needs them still.
            print(f"genlab: {function.name} is not compiled: its weights are normalized at every call", file=sys.stderr)
            continue
        if function.takes_gradients:
            torch._dynamo.config.trace_autograd_ops = True
        if function.backward_twice:
            torch._functorch.config.donated_buffer = False  # the first backward pass would free what the second needs
        call = with_fallback(plain, function.name, device, graphs)
        if graphs:
            call = _in_training(plain, call, function.owner) if is_player else _kept(call)
        setattr(function.owner, function.attribute, call)


def with_fallback(
    function: Callable[..., Any], name: str, device: torch.device, graphs: bool = False
) -> Callable[..., Any]:
    """A compiled function that says so and goes on uncompiled where compilation fails."""
    options: dict[str, Any] = {"triton.cudagraphs": True} if graphs else {}
    if device.type == "cpu":
        options["fallback_random"] = True  # the compiler's own random numbers take twelve times as long as PyTorch's
    compiled: Callable[..., Any] | None = torch.compile(function, options=options or None)

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal compiled
        if compiled is not None and not torch.compiler.is_compiling():
            try:
                return compiled(*arguments, **keywords)
            except Exception as error:
                # An error of the function itself comes again below, uncompiled.
                compiled = None
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"genlab: {name} could not be compiled, and goes on without ({reason})", file=sys.stderr)
        return function(*arguments, **keywords)

    return call


def _in_training(
    plain: Callable[..., Any], compiled: Callable[..., Any], player: torch.nn.Module
) -> Callable[..., Any]:
    """What is drawn between the steps is kept, by whoever draws, for longer than a graph keeps it."""
    return lambda *arguments: compiled(*arguments) if player.training else plain(*arguments)


def _kept(loss: Callable[..., dict[str, torch.Tensor]]) -> Callable[..., dict[str, torch.Tensor]]:
    """Figures that are logged after a graph has gone on to the next batch."""

    def call(*arguments: Any) -> dict[str, torch.Tensor]:
        if not torch.is_grad_enabled():
            torch.compiler.cudagraph_mark_step_begin()  # no batch of training, which is marked where it starts
        return {name: value.clone() for name, value in loss(*arguments).items()}

    return call
