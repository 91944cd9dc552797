"""Measure whether trainer.tune chooses anything slower than the default, for eight models: to tuning.json.

    python benchmarks/tuning.py [MODEL...]

For each model, trainer.tune=auto with tune_precision=true measures for a run so long that no compilation counts. What
it chose is then timed again beside the run's own settings, each in a process of its own, in interleaved rounds. A
choice is at fault if its step takes more than 1.05 of the step of the run's own settings.
"""

import argparse
import json
import multiprocessing
import os
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from peers import configured

HERE = Path(__file__).parent
ALLOWED = 1.05  # of the time of a step of the run's own settings

MODELS = {
    "vae/vae": ("dataset=binarized_mnist", "dataset.batch_size=128"),
    "gan/dcgan": ("dataset=mnist", "dataset.batch_size=64"),
    "flow/real_nvp": ("dataset=mnist", "dataset.batch_size=64"),
    "flow/nsf": ("dataset=two_moons", "dataset.batch_size=256"),
    "autoregressive/pixel_cnn": ("dataset=binarized_mnist", "dataset.batch_size=64"),
    "transformer/image_gpt": ("dataset=digits", "dataset.batch_size=64"),
    "transformer/gpt": ("dataset=shakespeare", "dataset.batch_size=8"),
    "diffusion/flow_matching": ("dataset=mnist", "dataset.batch_size=64"),
}


def chosen(overrides: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Let ``trainer.tune`` measure, and give the content of ``tune.json``."""
    from genlab.training.parts import assemble
    from genlab.tuning.candidates import Tuning
    from genlab.tuning.tune import tuned

    with configured(overrides) as config:
        content = tuned(config, assemble(config), Tuning(True, True, seconds), overrides, endless=True)
    if content is None:
        raise RuntimeError(f"nothing was measured for {overrides}")
    return content


def serve(connection: Any, overrides: tuple[str, ...], settings: dict[str, Any]) -> None:
    """Train with some settings, and answer each number of steps with the seconds of one."""
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.speed.loops import GenlabLoop
    from genlab.speed.pair import run_callbacks
    from genlab.training.parts import assemble

    quiet_libraries()
    keep_freed_memory()
    with ExitStack() as stack:
        config = stack.enter_context(configured(overrides))
        config["trainer"] |= settings
        parts = assemble(config)
        callbacks, loggers = stack.enter_context(run_callbacks(config))
        loop = GenlabLoop(config["trainer"], parts.training, parts.data, callbacks(), loggers)
        while True:
            try:
                steps = connection.recv()
            except EOFError:  # the last round is over
                return
            connection.send(loop.seconds_per_step(steps))


def again(overrides: tuple[str, ...], sides: dict[str, dict[str, Any]], rounds: int, turn: float) -> dict[str, Any]:
    """Time settings beside each other, in seconds per step of each round."""
    from genlab.speed.rounds import interleaved

    spawn = multiprocessing.get_context("spawn")
    pipes = {}
    for who, settings in sides.items():
        pipes[who], theirs = spawn.Pipe()
        spawn.Process(target=serve, args=(theirs, overrides, settings), daemon=True).start()
        theirs.close()

    def ask(who: str, steps: int) -> float:
        pipes[who].send(steps)
        answer: float = pipes[who].recv()
        return answer

    for who in sides:
        ask(who, 5)  # compiles
    steps = max(3, round(turn / ask("own", 5)))
    timings = interleaved({who: partial(ask, who, steps) for who in sides}, rounds)
    for pipe in pipes.values():
        pipe.close()
    return {
        "steps_of_a_turn": steps,
        "milliseconds": {who: [round(1000 * second, 4) for second in one.seconds] for who, one in timings.items()},
        "ratio": round(timings["chosen"].times(timings["own"]), 4),
    }


def measured(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Let a model's run be tuned, and time the choice again unless it is the run's own."""
    overrides = (f"model={model}", *MODELS[model])
    began = time.perf_counter()
    content = chosen(overrides, options.seconds)
    own = next(row for row in content["candidates"] if row["own"])
    settings = {key: own[key] for key in content["chosen"]}
    found = {"overrides": overrides[1:], "own": settings, **content, "seconds": round(time.perf_counter() - began, 1)}
    if own["chosen"]:
        return {**found, "again": None, "ratio": 1.0}
    verified = again(overrides, {"own": settings, "chosen": content["chosen"]}, options.rounds, options.turn)
    return {**found, "again": verified, "ratio": verified["ratio"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=[[], *MODELS], default=[])
    parser.add_argument("--seconds", type=float, default=150.0, help="what trainer.tune_seconds is")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn of the run's own settings")
    parser.add_argument("--output", type=Path, default=HERE / "tuning.json")
    options = parser.parse_args()
    from genlab.machine.hardware import machine

    results: dict[str, Any] = {"machine": machine(), "allowed": ALLOWED, "models": {}}
    for model in options.models or MODELS:
        results["models"][model] = found = measured(model, options)
        print(model, json.dumps({key: found[key] for key in ("chosen", "because", "ratio")}), flush=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch is imported, here and in the contenders
    main()
