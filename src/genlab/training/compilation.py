"""Compilation with torch.compile; if it fails, a message is printed and the uncompiled model is used."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.nn.utils.parametrize import is_parametrized

from genlab.training.module import Compilable, TrainingModule

# Number of batches from which compilation pays: a RealNVP takes a minute to compile on a CPU and saves 15 ms per step.
LONG_RUN = 5000


class Compilation(pl.Callback):
    """Callback that compiles the model once, before the first training step.

    Args:
        when: True to compile, False not to; ``"auto"`` to compile only runs of at least ``LONG_RUN`` batches and runs
            limited by time alone; ``"reduce-overhead"`` to compile with CUDA graphs, which launch a whole pass at once.
    """

    def __init__(self, when: Literal["auto", "reduce-overhead"] | bool) -> None:
        self.when = when
        self._graphs = self._done = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self._done or not self.when or (self.when == "auto" and not pays(module.total_batches())):
            return
        self._graphs, self._done = self._has_graphs(module), True
        module.overwrites_outputs = self._graphs
        compile_functions(module.compilable(self._graphs), module.device, self._graphs)

    def _has_graphs(self, module: TrainingModule) -> bool:
        """Tell whether CUDA graphs can be used: they overwrite gradients and gathered weights that outlive a batch."""
        if self.when != "reduce-overhead" or module.device.type != "cuda":
            return False
        if module.trainer.world_size == 1 and graphs_are_possible(module):
            return True
        needed = "one GPU, accumulate=1 and adaptive_weight=false"
        print(f"genlab: compiled without CUDA graphs: they are for {needed}", file=sys.stderr)
        return False

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()  # outputs of the last batch may be overwritten from here on


def pays(batches: int | None) -> bool:
    """Tell whether ``"auto"`` compiles a run.

    Args:
        batches: number of batches of the run; None if only time limits it.
    """
    return batches is None or batches >= LONG_RUN


def graphs_are_possible(module: TrainingModule) -> bool:
    """Tell whether nothing of a training outlives a batch, or passes backward twice, as CUDA graphs need."""
    return module.accumulate == 1 and not any(function.backward_twice for function in module.compilable(graphs=True))


def compile_functions(functions: Iterable[Compilable], device: torch.device, graphs: bool = False) -> None:
    """Replace functions by compiled ones, except for modules whose weights are normalized at every call.

    Args:
        functions: functions to replace in their owners.
        device: device that the functions run on.
        graphs: whether to use CUDA graphs.
    """
    for function in functions:
        plain = getattr(function.owner, function.attribute)
        is_player = function.attribute == "forward"
        if is_player and any(is_parametrized(module) for module in function.owner.modules()):
            # Each call of spectral normalization updates its vectors in place, but the backward pass of the previous
            # compiled call still needs their old values.
            print(f"genlab: {function.name} is not compiled: its weights are normalized at every call", file=sys.stderr)
            continue
        if function.takes_gradients:
            torch._dynamo.config.trace_autograd_ops = True
        if function.backward_twice:
            torch._functorch.config.donated_buffer = False  # the first backward pass would free buffers of the second
        call = with_fallback(plain, function.name, device, graphs)
        if graphs:
            call = _in_training(plain, call, function.owner) if is_player else _kept(call)
        setattr(function.owner, function.attribute, call)


def with_fallback(
    function: Callable[..., Any], name: str, device: torch.device, graphs: bool = False
) -> Callable[..., Any]:
    """Compile a function; if compilation fails, print a message and call the uncompiled function from then on.

    Args:
        function: function to compile.
        name: name of the function in the message.
        device: device that the function runs on.
        graphs: whether to use CUDA graphs.
    """
    options: dict[str, Any] = {"triton.cudagraphs": True} if graphs else {}
    if device.type == "cpu":
        options["fallback_random"] = True  # the compiler's own random numbers are twelve times slower than PyTorch's
    compiled: Callable[..., Any] | None = torch.compile(function, options=options or None)

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal compiled
        if compiled is not None and not torch.compiler.is_compiling():
            try:
                return compiled(*arguments, **keywords)
            except Exception as error:
                # If the function itself is at fault, the uncompiled call below raises its error again.
                compiled = None
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                print(f"genlab: {name} could not be compiled and runs uncompiled ({reason})", file=sys.stderr)
        return function(*arguments, **keywords)

    return call


def _in_training(
    plain: Callable[..., Any], compiled: Callable[..., Any], player: torch.nn.Module
) -> Callable[..., Any]:
    """Use the compiled function in training mode only.

    Otherwise, the output is kept longer than the CUDA graph keeps its buffers, as samples are.
    """
    return lambda *arguments: compiled(*arguments) if player.training else plain(*arguments)


def _kept(loss: Callable[..., dict[str, torch.Tensor]]) -> Callable[..., dict[str, torch.Tensor]]:
    """Copy the figures of a compiled loss, because they may be logged after its CUDA graph has overwritten them."""

    def call(*arguments: Any) -> dict[str, torch.Tensor]:
        if not torch.is_grad_enabled():
            torch.compiler.cudagraph_mark_step_begin()  # validation; training marks its batches at their start
        return {name: value.clone() for name, value in loss(*arguments).items()}

    return call
