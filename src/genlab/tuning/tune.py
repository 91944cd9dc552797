"""Choose a run's precision and compilation before it begins, by the measured step."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from genlab.machine.console import console
from genlab.machine.rate import rate
from genlab.training.parts import Parts
from genlab.tuning.candidates import CHOSEN, Tuning, candidates, decided
from genlab.tuning.choosing import Measured, choose
from genlab.tuning.length import LEAST, SHARE, batches_of, run_seconds, seconds_of, seconds_of_a_step
from genlab.tuning.measuring import measure
from genlab.tuning.processes import started
from genlab.tuning.sweep import kind_of, shared

FILE = "tune.json"  # in a run's folder


def tuned(
    config: Mapping[str, Any],
    parts: Parts,
    tuning: Tuning,
    overrides: Iterable[str],
    *,
    sweep: Path | None = None,
    endless: bool = False,
) -> dict[str, Any] | None:
    """Measure the candidates for a run that has not begun, and print the table.

    Nothing of the run is changed: the candidates train copies of the model in processes of their own.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.
        tuning: settings of the measurement.
        overrides: overrides of the run, as the user wrote them.
        sweep: folder of the sweep that the run is a job of; None for a single run.
        endless: whether to choose for a run so long that no preparation counts, whatever the config says.

    Returns:
        The content of ``tune.json``, whose ``chosen`` has the trainer's keys to set, or None if nothing was chosen.
    """
    if not tuning.on:
        return None
    trainer = config["trainer"]
    if trainer.get("fast_dev_run"):
        _say("not measured: a run of fast_dev_run is over before anything is measured")
        return None
    fixed = decided(overrides, config)
    free = [key for key in CHOSEN if key not in fixed and (tuning.precision or key == "compile")]
    if not free:
        _say(f"not measured: nothing is left to choose: {'; '.join(dict.fromkeys(fixed.values()))}")
        return None
    for reason in dict.fromkeys(fixed[key] for key in fixed if tuning.precision or key == "compile"):
        _say(f"{_keys(fixed, reason)} stays as it is: {reason}")
    device = _device(trainer)

    def made() -> dict[str, Any] | None:
        batches, max_time = (None, None) if endless else (batches_of(config, parts), trainer.get("max_time"))
        return _measured(config, parts, tuning, free, device, batches, seconds_of(max_time))

    if sweep is None:
        return made()
    # A job that began at the same time waits for the one that measures, and no longer than that can take.
    found, of_another = shared(sweep, kind_of(config, parts, device, free), tuning.seconds + LEAST, made)
    if of_another and found is not None:
        _say(f"{_words(found['chosen'])}, as measured for this sweep")
    return found


def _measured(
    config: Mapping[str, Any],
    parts: Parts,
    tuning: Tuning,
    free: Iterable[str],
    device: torch.device,
    batches: int | None,
    max_time: float | None,
) -> dict[str, Any] | None:
    trainer, began = config["trainer"], time.monotonic()
    number = float("inf") if batches is None else float(batches)
    estimate = seconds_of_a_step(parts, str(trainer.get("precision", "32-true")), device)

    def allowed(step: float | None) -> float:
        return min(tuning.seconds, SHARE * run_seconds(number, step or estimate, max_time))

    if (seconds := allowed(None)) < LEAST:
        of_run = f"{SHARE:.0%} of this run's time are {seconds:.2g} s"
        _say(f"not measured: {of_run}, and a measurement takes {LEAST:.0f} s or more")
        return None
    among = candidates(trainer, parts.training, device, batches, free)
    if len(among) == 1:
        _say(f"not measured: {among[0]} is the only candidate")
        return None
    try:
        with started(config) as start:
            found = measure(among, start, allowed)
    except OSError as error:  # such as no space for the processes' files; the run does without a measurement
        _say(f"not measured: {error}")
        return None
    if max_time is not None and (step := found[0].seconds_per_step) is not None:
        number = min(number, max_time / step)
    index, why = choose(found, number)
    content = {
        "chosen": among[index].settings() if index else {key: trainer[key] for key in CHOSEN if key in trainer},
        "because": why,
        "seconds": round(time.monotonic() - began, 1),
        "batches": None if number == float("inf") else int(number),
        "batch_size": parts.data.batch_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "candidates": [
            {**one.to_json(parts.data.batch_size), "own": one is found[0], "chosen": one is found[index]}
            for one in found
        ],
    }
    _print(found, index, content, parts)
    return content


def _print(found: list[Measured], index: int, content: Mapping[str, Any], parts: Parts) -> None:
    from rich.table import Table

    modality, table = parts.data.modality, Table()
    each = modality.counted_in(parts.model.shape)
    for title in ("candidate", "ms a step", modality.unit_of_speed, "s to prepare", ""):
        table.add_column(title, overflow="fold", justify="left" if title in ("candidate", "") else "right")
    for number, (one, row) in enumerate(zip(found, content["candidates"], strict=True)):
        step, speed, prepare = (row[key] for key in ("ms_per_step", "images_per_second", "seconds_to_prepare"))
        table.add_row(
            str(one.candidate) + (" (the run's own)" if number == 0 else ""),
            "-" if step is None else f"{step:.3g}",
            rate(None if speed is None else each * speed),
            "-" if prepare is None else f"{prepare:.1f}",
            f"chosen: {content['because']}" if number == index else one.fault or "",
        )
    out = console(stderr=True)
    out.print(f"trainer.tune=auto: measured for {content['seconds']:.0f} s")
    out.print(table)


def _keys(fixed: Mapping[str, str], reason: str) -> str:
    return " and ".join(f"trainer.{key}" for key in fixed if fixed[key] == reason)


def _words(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"trainer.{key}={str(value).lower()}" for key, value in chosen.items())


def _say(line: str) -> None:
    print(f"genlab: trainer.tune=auto: {line}", file=sys.stderr)


def _device(trainer: Mapping[str, Any]) -> torch.device:
    on_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    devices = trainer.get("devices", 1)
    return torch.device("cuda", devices[0] if isinstance(devices, list) else 0) if on_gpu else torch.device("cpu")
