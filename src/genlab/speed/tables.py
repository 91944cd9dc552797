"""Show measurements of speed as a table for people and as plain numbers."""

from typing import Any

from rich.table import Table

from genlab.machine.console import console
from genlab.machine.rate import rate
from genlab.speed.pair import Pair
from genlab.speed.rounds import Timing


def print_pair(pair: Pair) -> None:
    """Print a table of the contenders, where the time of a step goes, and the speed of sampling."""
    table = Table(
        title=f"{pair.model} on {pair.dataset}, {pair.parameters:,} parameters, batch {pair.batch_size}, {pair.device}"
    )
    for title, justify in (
        ("", "left"),
        ("ms a step", "right"),
        ("range", "right"),
        (pair.unit, "right"),
        ("x plain", "right"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for name, timing in pair.steps.items():
        low, high = timing.spread
        table.add_row(
            _described(name, pair),
            f"{1000 * timing.median:.2f}",
            f"{1000 * low:.2f} - {1000 * high:.2f}",
            pair.rate(name),
            f"{pair.steps['plain'].times(timing):.2f}",
        )
    out = console()
    out.print(table)
    spent = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in pair.shares.items())
    out.print(f"a float32 step: {spent}", highlight=False)
    out.print(
        f"genlab's step takes {pair.overhead():.3f} times the plain loop's at the same precision, and trains "
        f"{pair.speedup():.2f} times as many {pair.unit} with its own defaults for this device",
        highlight=False,
    )
    if pair.sampling is not None:
        speed = rate(pair.per_example * pair.num_samples / pair.sampling.median, pair.unit)
        out.print(f"sampling: {pair.num_samples} in {pair.sampling.median:.2f} s, {speed}", highlight=False)
        if pair.evaluations is not None:
            times = pair.sampling.times(pair.evaluations)
            out.print(f"sampling takes {times:.3f} times its network evaluations alone", highlight=False)


def _described(name: str, pair: Pair) -> str:
    if name == "plain":
        return "plain loop, float32"
    if name != "genlab":
        return "genlab, float32"
    words = [pair.precision] + ["TF32"] * pair.tf32 + ["channels_last"] * pair.channels_last
    if pair.compiled:
        words.append("CUDA graphs" if pair.compiled == "reduce-overhead" else "compiled")
    return f"genlab, {', '.join(words)}"


def as_numbers(pair: Pair) -> dict[str, Any]:
    """Convert measurements to plain values for a JSON file; times are in seconds."""

    def numbers(timing: Timing) -> dict[str, Any]:
        return {"median": timing.median, "rounds": list(timing.seconds)}

    return {
        "model": pair.model,
        "dataset": pair.dataset,
        "device": pair.device,
        "parameters": pair.parameters,
        "batch_size": pair.batch_size,
        "precision": pair.precision,
        "channels_last": pair.channels_last,
        "compiled": bool(pair.compiled),
        "compile": pair.compiled,
        "tf32": pair.tf32,
        "tuned": pair.tuned,
        "seconds_per_step": {name: numbers(timing) for name, timing in pair.steps.items()},
        "overhead": pair.overhead(),
        "speedup": pair.speedup(),
        "shares": pair.shares,
        "sampling": pair.sampling and {"num_samples": pair.num_samples, "seconds": numbers(pair.sampling)},
        "evaluations": pair.evaluations and numbers(pair.evaluations),
    }
