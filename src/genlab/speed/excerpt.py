"""Tables of a page that are made of the measurements of speed in ``benchmarks/``."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.machine.environment import described
from genlab.tuning.candidates import Candidate

FOLDER = Path("benchmarks")
OWN_FILES = {
    "peers": "peers.json",
    "stubs": "sweep_of_stubs.json",
    "stubs_slurm": "sweep_of_stubs_slurm.json",
    "changes": "before_and_after.json",
    "changes_bf16": "before_and_after_bf16.json",
    "tuning": "tuning.json",
}


def speed_table(part: str, root: Path) -> str:
    """Make the content of a block of speed.

    Args:
        part: ``machine`` for a sentence about where and at which commit was measured, or a part of the measurements.
        root: folder of the checkout.

    Raises:
        InputError: if the part is unknown, or the file is missing or damaged.
    """
    if part not in _PARTS:
        raise InputError(f"speed: there is no part {part}; there are {', '.join(_PARTS)}")
    path = root / FOLDER / OWN_FILES.get(part, "results.json")
    try:
        return _PARTS[part](json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"speed: there is no {path}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"speed: {path} is damaged ({error!r})") from error


def _table(titles: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *("---:" for _ in titles[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (titles, marks, *rows))


def _machine(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    bfloat16 = "with" if machine["bfloat16"] else "without"
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    sentence = described(machine["commit"])
    return (
        f"{sentence[0].upper()}{sentence[1:]}, on {machine['cores']} cores of an {machine['processor']} {bfloat16} "
        f"bfloat16, {gpus}, with PyTorch {machine['versions']['torch']}.\n"
    )


def _pairs(results: Mapping[str, Any]) -> str:
    titles = ["pair", "model", "data", "batch", "plain loop, ms a step", "genlab at float32, times the plain step"]
    titles.append("genlab's defaults, times the plain images/s")
    rows = [
        [
            name,
            f"`{pair['model']}`",
            f"`{pair['dataset']}`",
            str(pair["batch_size"]),
            f"{1000 * pair['seconds_per_step']['plain']['median']:.3g}",
            f"{pair['overhead']:.3f}",
            f"{pair['speedup']:.2f}",
        ]
        for name, pair in results["pairs"].items()
    ]
    return _table(titles, rows)


def _costs(results: Mapping[str, Any]) -> str:
    titles = ["model", "data", "batch", "GFLOP a step", "GFLOP an image", "GB moved a step", "FLOP a byte"]
    titles += ["gradients, MB", "predicted memory, MB", "of which each image, MB"]
    rows = []
    for cost in results["costs"].values():
        flops, moved, memory = sum(cost["flops"].values()), cost["bytes_moved"], cost["memory"]
        size = cost["batch_size"]
        figures = [flops / 1e9, flops / 1e9 / size, moved / 1e9, flops / moved]
        figures += [memory[key] / 1e6 for key in ("gradients", "predicted", "saved_each")]
        rows.append([f"`{cost['model']}`", f"`{cost['dataset']}`", str(size), *(f"{figure:.3g}" for figure in figures)])
    return _table(titles, rows)


def _sampling(results: Mapping[str, Any]) -> str:
    rows = [
        [f"{found['num_samples']} samples of `{model}`", _seconds(found, "cached"), f"{found['times']:.0f}"]
        for model, found in results["sampling"].items()
    ]
    writing = results["writing"]
    text = f"text of `transformer/gpt`, {writing['tokens_per_second']:.0f} tokens/s"
    rows.append([text, _seconds(writing, "cached"), f"{writing['times']:.0f}"])
    return _table(["task", "seconds", "times as fast as a forward pass for every value"], rows)


def _start(results: Mapping[str, Any]) -> str:
    start = results["start"]
    rows = [
        ["`genlab --help`", _seconds(start, "help")],
        ["importing PyTorch and Lightning", _seconds(start, "imports")],
        ["from the command to the end of the first step", _seconds(start, "first step")],
    ]
    return _table(["task", "seconds"], rows)


def _jobs(results: Mapping[str, Any]) -> str:
    jobs = results["jobs"]
    rows = [
        ["one after the other", _seconds(jobs, "sequential"), "1"],
        ["`hydra/launcher=cores`", _seconds(jobs, "cores"), f"{jobs['cores by sequential']:.2f}"],
    ]
    return _table(["a sweep of eight jobs", "seconds", "times as long"], rows)


def _figures(results: Mapping[str, Any]) -> str:
    found = results["figures"]
    rows = [["features", f"{found['features']:.1f}"], ["features and figures", f"{found['features and figures']:.1f}"]]
    return _table([f"of {found['num_samples']:,} samples", "seconds"], rows)


def _peers(results: Mapping[str, Any]) -> str:
    titles = ["model", "library", "training at equal precision", "training, genlab's defaults", "drawing 64 samples"]
    rows = [
        [
            name,
            f"{pair['peer']} {pair['version']}",
            f"{pair['train']['times as fast']['same precision']:.2f}",
            f"{pair['train']['times as fast']['defaults']:.2f}",
            f"{pair['sample']['times as fast']['defaults']:.2f}",
        ]
        for name, pair in results["pairs"].items()
    ]
    return _table(titles, rows)


def _stubs(results: Mapping[str, Any]) -> str:
    killed = results["killed"]
    first = statistics.median(results["seconds_to_first_job"])
    rows = [
        ["jobs", f"{results['jobs']:,}"],
        ["killed: the sweep's own process", f"{killed.get('parent', 0)}"],
        ["killed: workers", f"{killed.get('worker', 0)}"],
        ["starts of the sweep", f"{results['starts']}"],
        ["jobs lost", f"{results['lost']}"],
        ["seconds in all", f"{results['seconds']:,.0f}"],
        ["seconds from a start to its first finished job, in the median", f"{first:.0f}"],
        ["peak memory of the sweep's own process, MB", f"{results['peak_mb_of_the_sweeps_own_process']:,}"],
    ]
    return _table([f"`hydra/launcher={results['launcher']}`", ""], rows)


def _changes(results: Mapping[str, Any]) -> str:
    rows = []
    for task in results["tasks"].values():
        before, after = (statistics.median(task[who]) for who in ("before", "after"))
        is_rate = task["unit"].endswith("/s")
        times = after / before if is_rate else before / after
        words = [f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in (before, after)]
        rows.append([task["about"], *(f"{word} {task['unit']}" for word in words), f"{times:.2f}"])
    titles = [f"`{commit}`" for commit in results["commits"].values()]
    return _table(["task", *titles, "times as fast, or as little"], rows)


def _tuning(results: Mapping[str, Any]) -> str:
    def words(found: Mapping[str, Any], which: str) -> str:
        row = next(row for row in found["candidates"] if row[which])
        return str(Candidate(row["precision"], row["tf32"], row["compile"]))

    rows = [
        [f"`{model}`", words(found, "own"), words(found, "chosen"), found["because"], f"{found['ratio']:.2f}"]
        for model, found in results["models"].items()
    ]
    slower = sum(found["ratio"] > results["allowed"] for found in results["models"].values())
    allowed = f"{results['allowed'] - 1:.0%}"
    verdict = f"{slower} of {len(rows)} choices are slower than the run's own settings by more than {allowed}."
    titles = ["model", "the run's own", "chosen", "why", "step, times the own"]
    return f"{_table(titles, rows)}\n{verdict}\n"


def _seconds(found: Mapping[str, Any], name: str) -> str:
    return f"{found[name]['median']:.2g}" if found[name]["median"] < 10 else f"{found[name]['median']:.0f}"


_PARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "machine": _machine,
    "pairs": _pairs,
    "costs": _costs,
    "sampling": _sampling,
    "start": _start,
    "jobs": _jobs,
    "figures": _figures,
    "peers": _peers,
    "stubs": _stubs,
    "stubs_slurm": _stubs,
    "changes": _changes,
    "changes_bf16": _changes,
    "tuning": _tuning,
}
