"""Commands whose output nobody reads any more end without a word: ``genlab --help | head -1``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import FAST

pytestmark = pytest.mark.e2e
SMALL = (*FAST, "callbacks=minimal", "model.networks.hidden=[8]", "metrics.memorization=false")


def unread(*arguments: str, errors_too: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command with a reader that goes away at once."""
    both = "2>&1 " if errors_too else ""
    command = f'"$@" {both}| true; exit ${{PIPESTATUS[0]}}'
    words = [sys.executable, "-m", "genlab", *arguments]
    return subprocess.run(["bash", "-c", command, "bash", *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("line", "errors_too"),
    [("--help", False), ("--help", True), ("train --cfg job", False), ("reproduce --list", True)],
)
def test_a_command_whose_reader_goes_away_says_nothing(line: str, errors_too: bool) -> None:
    result = unread(*line.split(), errors_too=errors_too)
    assert result.stderr == ""
    assert result.returncode == 141


def test_an_error_is_still_said_where_somebody_reads_it() -> None:
    result = unread("evaluate", "nowhere")
    assert result.returncode == 2
    assert result.stderr == "genlab: error: there is no run folder nowhere\n"


def test_a_run_that_nobody_reads_is_not_said_to_have_failed(tmp_path: Path) -> None:
    for errors_too, words in ((False, ("done", None)), (True, ("interrupted", "nobody read its output any more"))):
        outputs = tmp_path / str(errors_too)
        result = unread("train", *SMALL, f"paths.output_dir={outputs}", errors_too=errors_too)
        (path,) = outputs.rglob("status.json")
        status = json.loads(path.read_text())
        assert (status["status"], status.get("reason")) == words
        assert "Traceback" not in result.stderr
