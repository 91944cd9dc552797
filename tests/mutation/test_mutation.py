"""The tests of ten files notice what is changed in them: the record of a whole draw, and the draw tried again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mutation.score import RECORD, equivalents, summary
from support.paths import ROOT

LEAST = 0.9  # share of the mutants, but for equivalent ones, that has to be killed


def record(path: Path = RECORD) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_nine_of_ten_mutants_of_the_record_are_killed() -> None:
    content, argued = record(), equivalents()
    entries = content["entries"]
    assert content["mutants"] == len(entries) == len({entry["mutant"] for entry in entries}) == 300
    for name, value in summary(entries, argued).items():
        assert content[name] == value, "make mutants"
    assert content["share_killed"] >= LEAST
    assert len(content["files"]) == 10
    assert {name: part["mutants"] for name, part in content["files"].items()} == {
        name: sum(entry["file"] == name for entry in entries) for name in content["files"]
    }
    killed = {entry["mutant"] for entry in entries if entry["killed"]}
    assert not killed & set(argued), "what a test tells from the program is not equivalent to it"


def test_the_score_counts_every_survivor_that_nobody_argued_for() -> None:
    entries = [{"mutant": str(i), "killed": i >= 4} for i in range(10)]
    argued = {"0": "because", "9": "wrongly, as it was killed", "not drawn": "because"}
    assert summary(entries, argued) == {
        "mutants": 10, "killed": 6, "equivalent": 1, "survived": 3, "share_killed": 0.666,
    }  # fmt: skip


def test_arguments_are_sentences_for_single_mutants() -> None:
    entries = json.loads((ROOT / "tests/mutation/equivalents.json").read_text(encoding="utf-8"))
    assert len({entry["mutant"] for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.keys() == {"mutant", "file", "before", "after", "argument"}
        assert len(entry["argument"].split()) >= 8, entry
        assert entry["argument"].endswith("."), entry


# -- mutants -----------------------------------------------------------------------------------------------------------

SOURCE = '''"""A file."""


def f(x: int | None, *, n: int = 2) -> int:
    """A function."""
    y: int | float = x + 1
    y += n
    log(y)
    if y > 3 and x is not None:
        raise ValueError("too much")
    return y * 2
'''


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Any:
    import mutation.mutants as module

    monkeypatch.setattr(module, "source_of", lambda file: SOURCE.replace("2", "5") if file == "other.py" else SOURCE)
    return module


def test_mutants_change_one_place_and_no_annotation(mutants: Any) -> None:
    found = {mutant.difference()[1] for mutant in mutants.all_mutants("file.py") if mutant.source is not None}
    expected = {
        "y: int | float = x - 1", "y: int | float = x +  2", "y: int | float = x +  0", "pass",
        "if y > 3 or x is not None:", "if y >= 3 and x is not None:", "if y > 3 and x is None:",
        "if not y > 3 and x is not None:", "return y / 2", "return y *  3",
        "def f(x: int | None, *, n: int =  1) -> int:",
    }  # fmt: skip
    assert {line.replace("  ", " ") for line in expected} <= {line.replace("  ", " ") for line in found}
    assert not [line for line in found if "None" in line and "int |" not in line and line.startswith("def")]
    assert not [line for line in found if line.startswith("y: int") and "int | float" not in line]
    assert not [line for line in found if "<<" in line or " ^ " in line or " is 3" in line]  # killed by any test
    removed = [m.line for m in mutants.all_mutants("file.py") if m.operator == "RemoveStatement"]
    assert removed == ["y += n", "log(y)", 'raise ValueError("too much")']


def test_a_draw_is_a_function_of_seed_and_sources(mutants: Any) -> None:
    files = ("file.py", "other.py")
    names = [mutant.name for mutant in mutants.drawn(8, 1, files, least=2)]
    assert names == [mutant.name for mutant in mutants.drawn(8, 1, files, least=2)]
    assert names != [mutant.name for mutant in mutants.drawn(8, 2, files, least=2)]
    everything = mutants.drawn(10**6, 1, files)
    assert len({mutant.place for mutant in everything}) == len(everything) > 10
    assert {mutant.file for mutant in mutants.drawn(4, 1, files, least=2)} == set(files)
    assert {mutant.name for mutant in mutants.drawn(4, 1, files, least=2)} <= {mutant.name for mutant in everything}


def test_a_name_outlasts_lines_that_come_before(mutants: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {mutant.name for mutant in mutants.all_mutants("file.py")}
    monkeypatch.setattr(mutants, "source_of", lambda _: SOURCE.replace("    log(y)\n", "    log(y)\n    log(y - 1)\n"))
    after = mutants.all_mutants("file.py")
    assert before <= {mutant.name for mutant in after}
    assert len(before) < len(after)


# -- trials ------------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "mutation.run", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tests_kill_nine_of_ten_mutants_of_the_sources_as_they_are(tmp_path: Path) -> None:
    """All of the draw, from nothing: about five minutes on a quiet core."""
    path = tmp_path / "record.json"
    done = run("--record", str(path))
    assert done.returncode == 0, done.stderr
    content = record(path)
    assert content["mutants"] == 300
    assert content["share_killed"] >= LEAST, done.stdout
    names = [entry["mutant"] for entry in content["entries"]]
    assert names == [entry["mutant"] for entry in record()["entries"]], "the record is of other sources: make mutants"


@pytest.mark.slow
def test_a_test_that_notices_nothing_kills_nothing(tmp_path: Path) -> None:
    """The trial itself: one mutant is killed by the tests of its file and survives those of another."""
    program = f"""
from pathlib import Path
from mutation.mutants import source_of
from mutation.trial import run_tests, warm_up

warm_up()
file, folder = "training/processes.py", Path({str(tmp_path)!r})
source = source_of(file).replace("flat /= dist.get_world_size()", "pass")
assert source != source_of(file)
ours, others = ["tests/training/test_exchange.py"], ["tests/data/test_batches.py"]
print([run_tests(file, s, t, folder).killed for s in (source, None) for t in (ours, others)])
endless = source_of(file).replace("    num = torch", "    while True: pass\\n    num = torch")
print(run_tests(file, endless, ours, folder, limit=20))
print(run_tests(file, "import nothing_of_that_name", ours, folder).by)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes, endless, unimported = done.stdout.splitlines()
    assert outcomes == "[True, False, False, False]"
    assert "killed=True, by='no end'" in endless
    assert unimported == "import"
