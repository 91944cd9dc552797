"""The process of one candidate: trains a run's model, built anew from its config, and waits between its turns.

It is started as ``python -m genlab.tuning.trial FOLDER`` with the config in the folder, reads the number of steps of
a turn from standard input, a line for each turn, and answers with a line of JSON.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment

from genlab.composition.building import build
from genlab.composition.explaining import explain, first_line
from genlab.composition.failures import failure
from genlab.composition.trust import own_values
from genlab.machine.devices import check_for_gpus_quickly
from genlab.machine.process import alone, end_with_parent, keep_freed_memory, quiet_libraries
from genlab.runs.config import read_config
from genlab.runs.folder import RunFolder
from genlab.training.compilation import Compilation
from genlab.training.hooks import leave_out_empty_hooks
from genlab.training.parallel import strategy_for
from genlab.training.parts import assemble
from genlab.training.tf32 import TF32
from genlab.training.trainer_settings import trainer_options

# The first steps, in which a model is compiled, memory is allocated and CUDA graphs are captured.
FIRST = {False: 3, True: 4, "reduce-overhead": 12}
AFTER = 3  # steps after them, whose median says how many steps make a turn
# Of the trainer, what would end the training, look at other data or write files.
_LEFT_OUT = {
    "max_time": None, "min_epochs": None, "min_steps": None, "fast_dev_run": False, "limit_val_batches": 0,
    "val_check_interval": None, "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": None,
    "max_epochs": 1_000_000, "max_steps": -1,  # schedules need an end, and no measurement comes near this one
}  # fmt: skip


class Turns(pl.Callback):
    """Callback that lets the training stand still between two steps until a turn is asked for.

    A turn is measured from the start of a step to the start of another one, so that it has everything in between.

    Args:
        ask: function that waits for the number of steps of the next turn; it does not return after the last one.
        tell: function that is given the answer to the last turn.
        first: number of steps before the first turn.
    """

    def __init__(self, ask: Any, tell: Any, first: int) -> None:
        self.ask, self.tell, self.first = ask, tell, first
        self._seen, self._steps, self._asked, self._from = 0, 0, 0, 0.0
        self._after: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._from = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        seen, self._seen = self._seen, self._seen + 1
        if self._steps:
            self._steps -= 1
            if self._steps:
                return
            self.tell({"seconds": (self._now(module) - self._from) / self._asked})
        elif seen < self.first:
            return
        else:
            self._after.append(self._now(module))
            if len(self._after) <= AFTER:
                return
            steps = sorted(b - a for a, b in zip(self._after, self._after[1:], strict=False))
            self.tell({"first": self._after[0] - self._from, "steps": self.first, "step": steps[AFTER // 2]})
        self._steps = self._asked = self.ask()
        self._from = self._now(module)

    @staticmethod
    def _now(module: pl.LightningModule) -> float:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return time.perf_counter()


def run(folder: RunFolder, ask: Any, tell: Any) -> None:
    """Build the run of a folder and train it, turn by turn.

    Args:
        folder: folder with the config of the candidate.
        ask: see :class:`Turns`.
        tell: see :class:`Turns`.
    """
    config = read_config(folder)
    own_values(config)  # the process that started this one has checked it
    parts = assemble(config)
    how = config["trainer"].get("compile", False)
    options = trainer_options({"trainer": {**config["trainer"], "profiler": None}})
    before: list[pl.Callback] = [TF32()] if config["trainer"].get("tf32", False) else []
    parts.training.images = None
    with alone():
        trainer = build(
            {
                **options,
                **_LEFT_OUT,
                "callbacks": [*before, Turns(ask, tell, FIRST[how]), Compilation(how)],
                "plugins": [LightningEnvironment()],
                "strategy": strategy_for(parts.training, config["trainer"].get("strategy", "auto"), 1),
            },
            "trainer",
        )
        torch.manual_seed(config["seed"])
        check_for_gpus_quickly()
        leave_out_empty_hooks(trainer, parts.training)
        trainer.fit(parts.training, datamodule=parts.data)


def main() -> None:
    """Work as the process of a candidate; what the libraries print goes to standard error."""
    end_with_parent()
    channel: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    quiet_libraries()
    keep_freed_memory()

    def tell(answer: dict[str, Any]) -> None:
        channel.write(json.dumps(answer) + "\n")
        channel.flush()

    def ask() -> int:
        line = sys.stdin.readline()
        if not line.strip():
            os._exit(0)  # the other side is done
        return int(line)

    try:
        run(RunFolder(Path(sys.argv[1])), ask, tell)
    except BaseException as error:
        tell({"failed": explain(error) or failure(error) or f"{type(error).__name__}: {first_line(error)}"})
        raise


if __name__ == "__main__":
    main()
