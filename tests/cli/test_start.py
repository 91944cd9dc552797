"""Imports of a command before it answers, on which a short command spends most of its time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"rich", "torch", "pytorch_lightning", "torchmetrics", "wandb", "pydantic", "sklearn", "pandas", "matplotlib"}


def imported(*arguments: str, cwd: Path) -> set[str]:
    """Run a command in a process of its own, without variables of W&B, and give the packages that it imported."""
    script = (
        "import sys\n"
        "from genlab.cli import main\n"
        f"sys.argv = ['genlab', *{list(arguments)}]\n"
        "try:\n    main()\n"
        "finally:\n    print('imported', *sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    result = subprocess.run([sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split()[1:])


@pytest.mark.e2e
@pytest.mark.parametrize("show", ["--help", "--cfg=job"])
def test_help_and_the_config_take_no_heavy_import(tmp_path: Path, show: str) -> None:
    assert not HEAVY & imported("train", *show.split("="), cwd=tmp_path)


@pytest.mark.e2e
def test_a_trial_imports_neither_a_logger_nor_what_ships_the_digits(tmp_path: Path) -> None:
    found = imported("train", "debug=fast_dev_run", f"paths.output_dir={tmp_path}", cwd=tmp_path)
    assert "torch" in found
    assert not {"wandb", "sklearn", "pandas"} & found
