"""Show what a training step costs, and how it would scale, as tables for people and as plain numbers."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from genlab.machine.console import console
from genlab.machine.rate import rate
from genlab.machine.units import bytes_in_words
from genlab.speed.cost import Cost, Line
from genlab.speed.scaling import NUM_DEVICES, Speeds, images_per_second


def print_cost(cost: Cost, flops: bool, memory: bool, speeds: Speeds | None, seconds: float | None) -> None:
    """Print what is asked for of a step's cost.

    Args:
        cost: cost of a step.
        flops: whether to print its operations; they are printed with an estimate, too.
        memory: whether to print its memory.
        speeds: stated speeds for the estimate of images a second; None for no estimate.
        seconds: seconds that a step was measured to take; None if it was not.
    """
    if flops or speeds is not None:
        print_flops(cost, seconds)
    if memory:
        print_memory(cost)
    if speeds is not None:
        print_scaling(cost, speeds)


def print_flops(cost: Cost, seconds: float | None) -> None:
    """Print the operations of a step, by their kind and by module, and the bytes that they move.

    Args:
        cost: cost of a step.
        seconds: seconds that a step was measured to take; None if it was not.
    """
    size, total = cost.batch_size, cost.total_flops(cost.batch_size)
    moved = cost.bytes_moved.at(size)
    out = console()
    out.print(
        f"{cost.model} on {cost.dataset}: a step with a batch of {size} takes {total / 1e9:,.3g} GFLOP "
        f"({_shares(cost.flops, size)}) and moves {bytes_in_words(moved)}, {total / max(1.0, moved):.1f} FLOP a byte",
        highlight=False,
    )
    out.print(f"by module: {_shares(cost.modules, size)}", highlight=False)
    out.print(
        f"counted on {cost.batches} {'batches' if cost.batches > 1 else 'batch'} of {cost.counted[0]} and of "
        f"{cost.counted[1]}: convolutions, matrix products and attention only; bytes as if each operation read and "
        "wrote all of its tensors",
        highlight=False,
    )
    if seconds is not None:
        out.print(f"genlab's step reaches {total / seconds / 1e9:,.3g} GFLOP/s here", highlight=False)


def print_memory(cost: Cost) -> None:
    """Print what a step keeps in memory, for the configured batch and for others."""
    table = Table(title=f"memory of a step, {cost.precision}, batch {cost.batch_size}: predicted, not measured")
    table.add_column("")
    table.add_column("memory", justify="right")
    for name, size in (
        ("weights and buffers", cost.weights),
        ("averaged weights", cost.averaged),
        ("gradients", cost.gradients),
        ("state of the optimizers", cost.optimizer),
        ("training data", cost.data),
        ("kept for the backward pass", cost.saved.at(cost.batch_size)),
        ("else within a step", cost.added(cost.batch_size) - cost.saved.at(cost.batch_size)),
        ("together", cost.memory(cost.batch_size)),
    ):
        table.add_row(name, bytes_in_words(size))
    out = console()
    out.print(table)
    out.print(f"each further example takes {bytes_in_words(cost.saved.each)}", highlight=False)


def print_scaling(cost: Cost, speeds: Speeds) -> None:
    """Print the estimated images a second on several devices."""
    one_only = speeds.link_gb is None
    table = Table(title=f"{cost.unit}: an estimate from the stated speeds, not measured")
    for title in ("devices", f"a batch of {cost.batch_size} on each", f"a batch of {cost.batch_size} shared"):
        table.add_column(title, justify="right")
    for devices in NUM_DEVICES[:1] if one_only else NUM_DEVICES:
        rates = [images_per_second(cost, speeds, devices, each) for each in (True, False)]
        table.add_row(str(devices), *("" if one is None else rate(cost.per_example * one) for one in rates))
    console().print(table)


def cost_numbers(cost: Cost) -> dict[str, Any]:
    """Convert a cost to plain values for a JSON file: figures are of a step with the configured batch."""
    size = cost.batch_size
    return {
        "model": cost.model,
        "dataset": cost.dataset,
        "precision": cost.precision,
        "batch_size": size,
        "counted": list(cost.counted),
        "batches": cost.batches,
        "flops": {kind: line.at(size) for kind, line in cost.flops.items()},
        "modules": {name: line.at(size) for name, line in cost.modules.items()},
        "bytes_moved": cost.bytes_moved.at(size),
        "memory": {
            "weights": cost.weights,
            "averaged": cost.averaged,
            "gradients": cost.gradients,
            "optimizer": cost.optimizer,
            "data": cost.data,
            "saved": cost.saved.at(size),
            "else": cost.added(size) - cost.saved.at(size),
            "saved_each": cost.saved.each,
            "predicted": cost.memory(size),
        },
    }


def _shares(lines: Mapping[str, Line], size: int) -> str:
    amounts = {name: line.at(size) for name, line in lines.items()}
    total = sum(amounts.values()) or 1.0
    return ", ".join(f"{name} {amount / total:.1%}" for name, amount in amounts.items())
