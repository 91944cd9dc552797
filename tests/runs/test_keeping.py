"""Keeping house: the list of runs with their sizes, and removals that take what was asked for and nothing else."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pexpect
import pytest

from genlab.keeping import kept, removal
from genlab.keeping.asked import Asked
from genlab.keeping.disk import Room
from genlab.keeping.kept import kept_runs, leftovers
from genlab.keeping.removal import carry_out, planned
from genlab.machine.units import bytes_in_words, seconds_of, time_in_words
from genlab.runs.folder import REMOVED, find_runs
from genlab.runs.lock import held
from support.command import Genlab
from support.made_runs import make_run
from support.paths import ROOT

MB = bytes(2**20)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Three runs: done, failed long ago, and cut off; the first has two names of one checkpoint."""
    outputs = tmp_path / "outputs"
    now = time.time()
    made = {
        "vae-digits/1": ("vae/vae", "done", now - 3600),
        "vae-digits/2": ("vae/vae", "failed", now - 40 * 86400),
        "gan-digits/1": ("gan/dcgan", "running", now),
    }
    for name, (model, status, ended) in made.items():
        when = {} if status == "running" else {"ended": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(ended))}
        more = {"host": os.uname().nodename} if status == "running" else {}
        run = make_run(outputs / name, model=model, status=status, **when, **more)
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").write_bytes(MB)
        (run / "metrics.csv").write_text("images_seen,seconds\n500,1\n1000,2\n")
    first = outputs / "vae-digits" / "1" / "checkpoints"
    os.link(first / "last.ckpt", first / "best.ckpt")
    return outputs


def names(outputs: Path) -> list[str]:
    return [str(folder.path.relative_to(outputs)) for folder in find_runs([outputs])]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_runs_are_listed_with_what_they_are_and_the_room_that_they_take(genlab: Genlab, outputs: Path) -> None:
    rows = json.loads(genlab("runs", "--format", "json").out)
    assert [row["folder"] for row in rows] == [str(outputs / name) for name in names(outputs)]
    by = {Path(row["folder"]).parent.name + Path(row["folder"]).name: row for row in rows}
    assert {name: row["status"] for name, row in by.items()} == {
        "vae-digits1": "done",
        "vae-digits2": "failed",
        "gan-digits1": "cut off",
    }
    done = by["vae-digits1"]
    assert (done["model"], done["dataset"], done["images_seen"]) == ("vae/vae", "digits", 1000)
    assert 3600 <= done["age_seconds"] < 3700
    assert 2**20 <= done["bytes"] < 1.5 * 2**20  # of two names of one file
    told = json.loads(genlab("runs", outputs, outputs / "vae-digits", "sort=age", "--json").out.splitlines()[-1])
    assert told["bytes"] == sum(row["bytes"] for row in rows)  # each run once
    assert [row["status"] for row in told["runs"]] == ["cut off", "done", "failed"]


def test_the_list_on_the_page_is_what_the_command_prints(
    genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {  # status, images, days since its end, bytes
        "dcgan-mnist/20260101-120000-a1b2c3d4": ("done", 55_040, 3, 88_000_000),
        "vae-digits/20260102-093000-e5f6a7b8": ("failed", 6_400, 2, 9_300_000),
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLAB_OUTPUTS", "outputs")
    sizes = {}
    for name, (status, images, days, size) in made.items():
        model, data = ("gan/dcgan", "mnist") if "dcgan" in name else ("vae/vae", "digits")
        ended = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(time.time() - days * 86400 - 60))
        run = make_run(Path("outputs", name), model=model, status=status, ended=ended, config={"choices.dataset": data})
        (run / "metrics.csv").write_text(f"images_seen,seconds\n{images},1\n")
        sizes[run] = Room({(0, len(sizes)): (size, 1, 1)})
    monkeypatch.setattr(kept, "room_of", sizes.__getitem__)  # disks differ in the room that small files take
    page = (ROOT / "docs/keeping.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(┏.*?)^```", page, re.MULTILINE | re.DOTALL)
    printed = genlab("runs").out
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["status=failed,cut_off"], 2),
        (["status=failed", "older=30d"], 1),
        (["older=41d"], 0),
        (["model=gan/*"], 1),
        (["model=vae"], 0),
        (["dataset=digits", "model=vae/*,gan/*"], 3),
    ],
)
def test_runs_are_chosen_by_what_they_are(genlab: Genlab, outputs: Path, words: list[str], found: int) -> None:
    assert len(json.loads(genlab("runs", outputs, *words, "--format=json").out)) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune"], "say which runs"),
        (["prune", "yes=true"], "say which runs"),
        (["prune", "status=done,"], None),
        (["prune", "status=don"], "did you mean done"),
        (["prune", "status="], "a value is missing"),
        (["older=soon"], "such as 30d"),
        (["what=runs"], "for genlab runs prune"),
        (["prune", "status=done", "yes=ja"], "one of true, false"),
        (["sort=weight"], "one of folder, size"),
    ],
)
def test_a_wrong_word_removes_nothing(genlab: Genlab, outputs: Path, words: list[str], said: str | None) -> None:
    before = content(outputs)
    result = genlab("runs", *words)
    assert result.code == 2
    assert (said or "nothing was removed") in result.err
    assert result.err.count("\n") == 1
    assert content(outputs) == before


def test_nothing_goes_without_a_yes(genlab: Genlab, outputs: Path) -> None:
    before = content(outputs)
    result = genlab("runs", "prune", "status=failed")
    assert result.code == 2
    assert str(outputs / "vae-digits" / "2") in result.out
    assert "yes=true" in result.err
    told = json.loads(genlab("runs", "prune", "status=failed", "--json").out.splitlines()[-1])
    assert (len(told["runs"]), told["removed"], told["error"]["kind"]) == (1, [], "input")
    assert content(outputs) == before


def test_what_was_asked_for_goes_and_nothing_else(genlab: Genlab, outputs: Path, tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "elsewhere" / "run", status="failed")
    (outputs / "link").symlink_to(elsewhere)
    (outputs / "folder_of_links").symlink_to(elsewhere.parent)
    (outputs / "vae-digits" / "2" / "data").symlink_to(tmp_path / "elsewhere")
    other = outputs / "project"
    other.mkdir()
    for name, text in {"config.yaml": "a: 1\n", "status.json": '{"status": "failed"}', "thesis.tex": "text"}.items():
        (other / name).write_text(text)
    before = {name: content(outputs / name) for name in ("project", "vae-digits/1", "gan-digits/1")}
    result = genlab("runs", "prune", outputs, "status=failed", "yes=true", "--json")
    told = json.loads(result.out.splitlines()[-1])
    assert result.code == 0
    assert told["removed"] == [str(outputs / "vae-digits" / "2")]
    assert 2**20 <= told["bytes"] < 1.5 * 2**20
    assert [Path(one["folder"]).name for one in told["stays"]] == ["project"]
    assert names(outputs) == ["gan-digits/1", "project", "vae-digits/1"]
    assert {name: content(outputs / name) for name in before} == before
    assert (elsewhere / "config.yaml").is_file()
    assert not list(outputs.rglob(f"{REMOVED}*"))


def test_a_link_that_is_given_stays_a_link_to_a_run(genlab: Genlab, outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(outputs / "vae-digits" / "2")
    result = genlab("runs", "prune", tmp_path / "link", "status=failed", "yes=true")
    assert "a link" in result.out
    assert (tmp_path / "link" / "config.yaml").is_file()


def test_a_run_that_a_process_works_in_stays(genlab: Genlab, outputs: Path) -> None:
    run = outputs / "vae-digits" / "2"
    with held(run):
        result = genlab("runs", "prune", "status=failed", "yes=true")
    assert result.code == 0
    assert "a process works in it" in result.out
    with held(run.parent):  # as that of a sweep
        assert "its sweep is running" in genlab("runs", "prune", "status=failed", "yes=true").out
    plan = planned(list(kept_runs([outputs])), Asked(("failed",)), "runs")
    with held(run):  # begun between the question and the answer
        assert "is being trained" in carry_out(plan).failed[0]
    (run / "status.json").write_text('{"status": "done"}')  # done between the question and the answer
    assert "it has changed" in carry_out(plan).failed[0]
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_a_run_whose_codes_another_one_learns_stays(outputs: Path) -> None:
    codes, prior = outputs / "vae-digits" / "1", outputs / "prior"
    make_run(prior, model="transformer/maskgit", config={"dataset.run": str(codes)})
    found = list(kept_runs([outputs]))
    plan = planned(found, Asked(model=("vae/*",)), "runs")
    assert [run.path for run in plan.runs] == [outputs / "vae-digits" / "2"]
    assert str(prior) in plan.spared[0][1]
    assert len(planned(found, Asked(), "runs").runs) == 4  # all of them
    with held(prior):  # stays, and with it what it needs
        plan = planned(list(kept_runs([outputs])), Asked(), "runs")
    assert {run.path for run, _ in plan.spared} == {prior, codes}


def test_a_job_that_was_refused_has_its_choices(genlab: Genlab) -> None:
    result = genlab("train", "-m", "model.latent_dim=0", "trainer.max_epochs=1", "logger=csv")
    assert result.code == 2
    (row,) = json.loads(genlab("runs", "--format=json").out)
    assert (row["status"], row["model"], row["dataset"]) == ("failed", "vae/vae", "digits")
    assert genlab("runs", "prune", "status=failed", "yes=true").code == 0
    assert not names(result.outputs)


def test_a_run_with_another_one_in_it_stays(outputs: Path) -> None:
    make_run(outputs / "vae-digits" / "2" / "mine" / "run")
    plan = planned(list(kept_runs([outputs])), Asked(("failed",)), "runs")
    assert not plan.runs
    assert "another run in it" in plan.spared[0][1]


def test_checkpoints_alone(genlab: Genlab, outputs: Path) -> None:
    result = genlab("runs", "prune", "model=vae/*", "what=checkpoints", "yes=true", "--json")
    told = json.loads(result.out.splitlines()[-1])
    assert len(told["removed"]) == 2
    assert 2 * 2**20 <= told["bytes"] < 2.1 * 2**20
    assert len(names(outputs)) == 3
    run = outputs / "vae-digits" / "1"
    assert not list((run / "checkpoints").iterdir())
    assert (run / "metrics.csv").is_file()
    again = genlab("runs", "prune", "model=vae/*", "what=checkpoints", "yes=true")
    assert "0 folders of checkpoints" in again.out


def test_a_removal_that_is_cut_off_leaves_no_half_run(
    genlab: Genlab, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", killed)
        assert genlab("runs", "prune", "status=failed", "yes=true").code == 130
        assert genlab("runs", "prune", "status=done", "what=checkpoints", "yes=true").code == 130
    assert names(outputs) == ["gan-digits/1", "vae-digits/1"]
    assert len(leftovers([outputs])) == 2
    assert REMOVED in genlab("runs").out
    result = genlab("runs", "prune", "status=damaged", "yes=true")
    assert result.code == 0
    assert not leftovers([outputs])
    assert not list((outputs / "vae-digits" / "1" / "checkpoints").iterdir())


def test_room_that_other_names_keep_is_not_free(outputs: Path, tmp_path: Path) -> None:
    checkpoint = outputs / "vae-digits" / "2" / "checkpoints" / "last.ckpt"
    os.link(checkpoint, tmp_path / "copy.ckpt")
    plan = planned(list(kept_runs([outputs])), Asked(("failed",)), "runs")
    assert plan.freed < 2**20 <= plan.runs[0].room.size


def test_amounts_are_in_the_unit_that_suits_them() -> None:
    assert [bytes_in_words(size) for size in (12, 999.7, 84_100_000, 3e12)] == ["12 B", "1 kB", "84.1 MB", "3 TB"]
    assert [time_in_words(seconds) for seconds in (40, 3599, 7300, 90000)] == ["40 s", "59 min", "2 h", "1 d"]
    assert (seconds_of("30d"), seconds_of("1.5h"), seconds_of("soon")) == (2592000, 5400, None)


@pytest.mark.e2e
@pytest.mark.parametrize(("answer", "remaining"), [("n", 3), ("y", 2)])
def test_on_a_terminal_the_question_is_asked(outputs: Path, answer: str, remaining: int) -> None:
    environment = {**os.environ, "TERM": "dumb"}
    words = ["-m", "genlab", "runs", "prune", str(outputs), "status=failed"]
    process = pexpect.spawn(sys.executable, words, env=environment, encoding="utf-8", timeout=30, dimensions=(40, 200))
    process.expect(r"remove 1 run, 1\.0\d MB for good\? \[y/N\] ")
    process.sendline(answer)
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0
    assert len(names(outputs)) == remaining
    shutil.rmtree(outputs)
