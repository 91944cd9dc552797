"""Counters of what a training step costs: floating-point operations, bytes that are read and written, and memory."""

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, shape_wrapper

from genlab.speed.calls import Calls

# Names of the operations that PyTorch has formulas for; it counts no others, such as sums and exponentials.
_KINDS = {"conv": "convolutions", "attention": "attention"}
_OTHER = "matrix products"


@dataclass
class Count:
    """What some batches of training cost, each figure a sum over them, except for the memory.

    Attributes:
        batches: number of batches.
        flops: floating-point operations by the kind of operation; a multiplication and an addition are two.
        modules: floating-point operations by the class of the innermost module that does them.
        bytes_moved: bytes of all tensors that operations read and write, each operation by itself.
        saved: largest number of bytes that were kept for backward passes at a time, weights apart.
        grown: largest number of bytes that a step held at a time beyond what was there when it began.
        weights: bytes of weights and buffers that are trained, or used in training.
        averaged: bytes of averaged weights.
        gradients: bytes of the gradients.
        optimizer: bytes of the state of the optimizers.
    """

    batches: int = 0
    flops: Counter[str] = field(default_factory=Counter)
    modules: Counter[str] = field(default_factory=Counter)
    bytes_moved: int = 0
    saved: int = 0
    grown: int = 0
    weights: int = 0
    averaged: int = 0
    gradients: int = 0
    optimizer: int = 0


class StepCounter(pl.Callback):
    """Callback that counts what batches of training cost, after some that it leaves out.

    The first batch is unlike the others: optimizers have no state, and weights no gradients from before.

    Args:
        warmup: number of batches that are left out.
    """

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.count = Count()
        self._stack = ExitStack()

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx < self.warmup:
            return
        self._saved = _Saved(module)
        self._stack.enter_context(self._saved)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        self._held = _Held(gradients)  # which a step frees before it makes others
        self._stack.enter_context(_Operations(self.count, self._stack.enter_context(Calls()), self._held))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx < self.warmup:
            return
        self._stack.close()
        count = self.count
        count.batches += 1
        count.grown = max(count.grown, self._held.most)
        count.saved = max(count.saved, self._saved.most)
        averaged = [] if module.ema is None else _tensors(module.ema)
        trained = _tensors(module.model)
        count.weights = _size(trained)
        count.averaged = _size(averaged) - _size(averaged, only=trained)
        # A gradient is of the size of its weight; which of them have one just now depends on the procedure.
        count.gradients = _size([p for p in module.model.parameters() if p.requires_grad])
        states = [optimizer.state for optimizer in trainer.optimizers]
        count.optimizer = _size(leaf for leaf in tree_leaves([*map(dict, states)]) if isinstance(leaf, Tensor))


class _Operations(TorchDispatchMode):
    """Adds what every operation costs to a count.

    Args:
        count: count to add to.
        calls: what knows the module of an operation.
        held: what is told of the results.
    """

    def __init__(self, count: Count, calls: Calls, held: "_Held") -> None:
        super().__init__()
        self.count, self.calls, self.held = count, calls, held

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operation = func._overloadpacket
        if (formula := _FORMULAS.get(operation)) is not None:
            flops = formula(*args, **kwargs, out_val=out)
            self.count.flops[_kind(str(operation))] += flops
            self.count.modules[self.calls.current()] += flops
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.count.bytes_moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
            self.held.add(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and _storage(leaf) not in given)
        return out


class _Held:
    """Bytes of the results of operations that are still there, and the most that were there at a time.

    Args:
        before: tensors that were there before, and that take away from the sum when they go.
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        self._there: dict[int, weakref.ref[Any]] = {}
        self._bytes = self.most = 0
        self.add(before)
        self._bytes = self.most = 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Add tensors whose memory is new."""
        for tensor in tensors:
            memory = tensor.untyped_storage()
            if (storage := memory._cdata) not in self._there:
                size = memory.nbytes()
                self._bytes += size
                gone = partial(self._forget, storage, size)
                self._there[storage] = weakref.ref(memory, gone)
        self.most = max(self.most, self._bytes)

    def _forget(self, storage: int, size: int, _: Any) -> None:
        self._bytes -= size
        del self._there[storage]


class _Saved(saved_tensors_hooks):
    """Bytes that are kept for backward passes, and the most that were kept at a time; weights are left out."""

    def __init__(self, module: nn.Module) -> None:
        self._weights = {_storage(tensor) for tensor in _tensors(module)}
        self._uses: Counter[int] = Counter()
        self._bytes = 0
        self.most = 0
        super().__init__(self._keep, lambda kept: kept.tensor)

    def _keep(self, tensor: Tensor) -> "_Kept":
        kept = _Kept(tensor.detach())
        if (storage := _storage(tensor)) not in self._weights:
            size = tensor.untyped_storage().nbytes()
            if not self._uses[storage]:
                self._bytes += size
                self.most = max(self.most, self._bytes)
            self._uses[storage] += 1
            weakref.finalize(kept, self._forget, storage, size)
        return kept

    def _forget(self, storage: int, size: int) -> None:
        self._uses[storage] -= 1
        if not self._uses[storage]:
            self._bytes -= size


class _Kept:
    """A tensor that a backward pass needs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _size(tensors: Iterable[Tensor], only: Iterable[Tensor] | None = None) -> int:
    """Add up the bytes of tensors, of each storage once; of those that share one with ``only``, if it is given."""
    among = None if only is None else {_storage(tensor) for tensor in only}
    sizes = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(size for storage, size in sizes.items() if among is None or storage in among)


def _kind(operation: str) -> str:
    return next((kind for part, kind in _KINDS.items() if part in operation), _OTHER)


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Count the two matrix products of attention; a causal mask saves none of them here."""
    *batch, length, width = query
    return 2 * _product(batch) * length * key[-2] * (width + value[-1])


def _attention_backward(
    gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Count the five matrix products of the gradients of attention, one of which computes its weights again."""
    *batch, length, width = query
    return 2 * _product(batch) * length * key[-2] * (3 * width + 2 * value[-1])


def _product(sizes: Iterable[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _convolution_backward(
    gradient: Sequence[int], images: Sequence[int], weight: Sequence[int], *more: Any, out_shape: Any = None
) -> int:
    """Count the two convolutions of the gradients of a convolution, each of which costs what the forward pass does."""
    transposed, (of_images, of_weight, *_) = more[-4], more[-1]
    places = images if transposed else gradient
    return (of_images + of_weight) * 2 * places[0] * _product(places[2:]) * _product(weight)


# PyTorch has formulas for its kernels of attention on GPUs, and none for that on CPUs. That of the gradients of
# convolutions takes those of convolutions in groups for many times as many as they are.
_FORMULAS = {
    **flop_registry,
    torch.ops.aten.convolution_backward: shape_wrapper(_convolution_backward),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: shape_wrapper(_attention),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: shape_wrapper(_attention_backward),
}
