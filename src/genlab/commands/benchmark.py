"""``genlab benchmark``: how fast a model trains and samples on this machine, against a minimal loop."""

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import switches_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors
from genlab.launching.options import TYPES, overrides

BENCHMARK = {
    "benchmark__rounds": int,
    "benchmark__steps": int | None,
    "benchmark__seconds": float,
    "benchmark__num_samples": int,
    "benchmark__flops": bool,
    "benchmark__memory": bool,
    "benchmark__device_tflops": float | None,
    "benchmark__device_gb": float | None,
    "benchmark__link_gb": float | None,
    "benchmark__output": str | None,
}


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="benchmark")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    benchmark(cfg)


def main() -> None:
    """Run the command on this process's command line."""
    switches_as("benchmark", "flops", "memory")
    _main()


def benchmark(cfg: DictConfig) -> None:
    """Measure training and sampling, print the table and write the numbers to ``benchmark.output`` if it is given.

    With ``benchmark.flops`` or ``benchmark.memory``, what a step costs is counted, too. With
    ``benchmark.device_tflops``, the images a second on several such devices are estimated.

    Args:
        cfg: composed config of ``genlab benchmark``.

    Raises:
        InputError: if the config is wrong, or asks for more than one device.
    """
    import json
    import os
    from pathlib import Path

    from genlab.errors import InputError
    from genlab.machine.files import write_atomically
    from genlab.machine.hardware import machine
    from genlab.machine.outcome import tell
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.machine.progress import with_progress
    from genlab.speed.cost import count_cost
    from genlab.speed.cost_tables import cost_numbers, print_cost
    from genlab.speed.pair import OWN, measure_pair
    from genlab.speed.scaling import stated_speeds
    from genlab.speed.tables import as_numbers, print_pair
    from genlab.speed.throwaway import throwaway

    quiet_libraries()
    keep_freed_memory()
    os.environ.setdefault("WANDB_MODE", "offline")  # a measurement is not a run worth uploading
    with throwaway(cfg, **TYPES, **BENCHMARK) as config:
        about = config.pop("benchmark")
        flops, memory, output = (about.pop(key) for key in ("flops", "memory", "output"))
        speeds = stated_speeds(*(about.pop(key) for key in ("device_tflops", "device_gb", "link_gb")))
        counted = flops or memory or speeds is not None
        if about["rounds"] < (0 if counted else 1) or about["num_samples"] < 0:
            raise InputError(
                f"benchmark.rounds={about['rounds']}, num_samples={about['num_samples']}: at least 1 and 0"
            )
        pair = None
        if about["rounds"]:
            turns = 3 * about["rounds"] + (2 * min(about["rounds"], 3) if about["num_samples"] else 0)
            with with_progress("benchmark", turns) as advance:
                pair = measure_pair(config, **about, advance=advance, overrides=overrides())
        cost = count_cost(config) if counted else None
    if pair is not None:
        print_pair(pair)
    if cost is not None:
        print_cost(cost, flops, memory, speeds, None if pair is None else pair.steps[OWN].median)
    pairs, costs = ([] if pair is None else [as_numbers(pair)]), ([] if cost is None else [cost_numbers(cost)])
    numbers = {"machine": machine(), "pairs": pairs, "costs": costs}
    tell(**numbers)
    if output:
        write_atomically(Path(output), json.dumps(numbers, indent=2) + "\n")
        print(f"\nwritten: {output}")


if __name__ == "__main__":
    main()
