"""Published figures beside runs: of one run, of several seeds, and in everything that a user looks at."""

import csv
import io
import json
import math
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab.comparison.cells import Table
from genlab.comparison.formats import as_json, comma_separated, latex, markdown, on_terminal
from genlab.comparison.page import write_page
from genlab.comparison.report import report
from genlab.comparison.runs import read_run
from genlab.comparison.table import compared
from genlab.metrics.published import Published
from genlab.metrics.result import Result
from genlab.runs.checkpoints import write_checkpoint
from genlab.runs.folder import RunFolder, find_runs
from genlab.runs.verdicts import OTHER_DATA, Finished, ended, overridden, published_in, standings
from support.command import Genlab
from support.made_runs import BLOCK, PROTOCOL, write_run


def finished(
    value: float = 80.0, images_seen: int = 1000, ended: bool = True, figure: str = "nll", **changed: str
) -> Finished:
    block = {**BLOCK, "figures": {figure: 80.0}, "tolerance": {figure: BLOCK["tolerance"]["nll"]}}
    result = Result(value, PROTOCOL)
    keys = {key.replace("__", "."): text for key, text in changed.items()}
    return Finished(Published.from_config(block), {figure: result}, {figure: [result]}, images_seen, ended, keys)


def words(*runs: Finished) -> str:
    (standing,) = standings(runs[0].published, runs).values()
    return standing.words


def later(run: Finished, value: float, **protocol: Any) -> Finished:
    """The run after an evaluation under a protocol that differs in some fields."""
    result = Result(value, {**PROTOCOL, **protocol})
    return replace(run, results={name: [*before, result] for name, before in run.results.items()})


# -- one run and several seeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        ([finished(80.2)], "within, 1 of 3 seeds"),
        ([finished(80.2, images_seen=250)], "truncated 25 %"),
        ([finished(79.0, images_seen=250)], "better"),
        ([finished(80.6)], "failed"),
        ([finished(math.nan)], "failed"),
        ([finished(80.2, ended=False)], "truncated 100 %"),
        ([finished(80.2), finished(79.9), finished(80.0)], "reproduced"),
        ([finished(81.2), finished(79.0), finished(80.0)], "reproduced"),  # by their mean
        ([finished(80.0), finished(82.0)], "failed"),
        ([finished(80.0), finished(80.0), finished(80.0, images_seen=500)], "truncated 50 %"),  # the shortest counts
        ([finished(80.0), finished(80.0), finished(80.0, ended=False)], "truncated 100 %"),
    ],
)
def test_verdicts_of_groups_of_seeds(runs: list[Finished], verdict: str) -> None:
    assert words(*runs) == verdict


def test_a_group_has_the_mean_over_seeds_and_its_standard_error() -> None:
    values = [80.3, 79.9, 80.1, 80.4]
    (standing,) = standings(finished().published, [finished(value) for value in values]).values()
    assert standing.verdict.mean == pytest.approx(statistics.mean(values))
    assert standing.verdict.standard_error == pytest.approx(statistics.stdev(values) / 2)
    assert standing.verdict.seeds == 4
    assert standing.line == "NLL 80 ± 0.5, ours 80.175 ± 0.11: reproduced"


def test_of_no_finished_run_the_published_value_is_known_and_no_verdict() -> None:
    (standing,) = standings(finished().published, []).values()
    assert standing.words == "not measured"
    assert standing.line == "NLL 80 ± 0.5: not measured"


# -- other data, other protocols ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "unlike"),
    [
        ({"num": 50}, "num 50, not 300"),
        ({"weights": "ema"}, "weights ema, not raw"),
        ({"checkpoint": "last"}, "checkpoint last, not best"),
        ({"dataset": "mnist"}, "dataset mnist, not digits"),
    ],
)
def test_a_result_under_another_protocol_gets_no_verdict(protocol: dict[str, Any], unlike: str) -> None:
    only = replace(finished(), results={"nll": [Result(80.0, {**PROTOCOL, **protocol})]})
    assert words(only) == f"other protocol ({unlike})"
    # Beside one under the experiment's protocol, it does not count, though it is the later one.
    assert words(later(finished(79.9), 95.0, **protocol)) == "within, 1 of 3 seeds"


def test_of_results_under_the_protocol_the_last_counts() -> None:
    run = later(finished(80.0), 90.0, seed=5)  # the seed of an evaluation is no part of what must agree
    assert words(run) == "failed"
    final = replace(finished(), trained={"nll": Result(80.0, {**PROTOCOL, "checkpoint": "none"})})
    assert words(replace(final, results={"nll": [Result(80.0, {**PROTOCOL, "checkpoint": "last"})]})) == (
        "within, 1 of 3 seeds"
    )


def test_results_on_other_data_get_no_verdict() -> None:
    doubted = Result(80.0, PROTOCOL).doubted(f"{OTHER_DATA}: the test split")
    assert words(replace(finished(), results={"nll": [doubted]})) == "other protocol (other data)"


def test_a_figure_that_training_did_not_measure_needs_the_draws_of_the_config() -> None:
    """The importance-weighted likelihood is often measured by ``genlab evaluate`` alone."""
    run = finished(figure="nll_iw")
    measured = {"nll_iw": [Result(80.0, {**PROTOCOL, "draws": 5000})]}
    alone = replace(run, trained={"nll": Result(81.0, PROTOCOL)}, results=measured, draws=5000)
    assert words(alone) == "within, 1 of 3 seeds"
    assert words(replace(alone, draws=200)) == "other protocol (draws 5,000, not 200)"
    assert words(replace(alone, draws=None)) == "other protocol (draws 5,000, not none)"
    fewer = {"nll_iw": [Result(80.0, {**PROTOCOL, "draws": 5000, "num": 100})]}
    assert words(replace(alone, results=fewer)) == "other protocol (num 100, not 300)"


def test_seeds_of_another_protocol_do_not_count_and_are_told() -> None:
    odd = replace(finished(), results={"nll": [Result(99.0, {**PROTOCOL, "num": 50})]})
    assert words(finished(80.0), odd) == "within, 1 of 3 seeds; without 1 of other protocol (num 50, not 300)"


@pytest.mark.parametrize(
    ("figure", "changed", "verdict"),
    [
        ("nll", {"metrics__num_test": "50"}, "other protocol (metrics.num_test=50)"),
        ("nll", {"dataset__train_size": "100"}, "other protocol (dataset.train_size=100)"),
        ("nll", {"callbacks__best": "null"}, "other protocol (callbacks.best=null)"),
        ("nll", {"debug": "fast_dev_run"}, "other protocol (debug=fast_dev_run)"),
        ("nll", {"metrics__num_samples": "9"}, "within, 1 of 3 seeds; changed: metrics.num_samples=9"),
        ("fid", {"metrics__num_samples": "9"}, "other protocol (metrics.num_samples=9)"),
        ("fid", {"metrics__num_test": "9"}, "within, 1 of 3 seeds; changed: metrics.num_test=9"),
        ("nll", {"dataset__batch_size": "9"}, "within, 1 of 3 seeds; changed: dataset.batch_size=9"),
        ("nll", {"callbacks__early_stopping": ""}, "within, 1 of 3 seeds; changed: no callbacks.early_stopping"),
    ],
)
def test_a_changed_experiment_is_said_and_a_changed_measurement_gets_no_verdict(
    figure: str, changed: dict[str, str], verdict: str
) -> None:
    assert words(finished(figure=figure, **changed)) == verdict


def test_what_a_run_changes_in_its_experiment_is_read_from_its_overrides(tmp_path: Path) -> None:
    config: dict[str, Any] = {"reference": BLOCK, "choices": {"experiment": "paper/tiny"}}
    given = ["experiment=paper/tiny", "seed=3", "trainer=gpu", "trainer.devices=2", "paths.data_dir=/d", "logger=csv"]
    summary = {"metrics": {"test/nll": Result(80.0, PROTOCOL).to_json()}, "images_seen": 1000}

    def run(*more: str, **status: Any) -> Finished:
        found = Finished.of(config, summary, {"overrides": [*given, *more], **status}, RunFolder(tmp_path))
        assert found is not None
        return found

    assert run().changed == {}
    assert words(run()) == "within, 1 of 3 seeds"
    assert run("+model.hidden=[8,8]", "~callbacks.last").changed == {"model.hidden": "[8,8]", "callbacks.last": ""}
    assert run(resumed=[{"changes": ["trainer.max_epochs=9", "force=true"]}]).changed == {"trainer.max_epochs": "9"}
    config["choices"] = {"experiment": None}  # the command line is the experiment
    assert run("model=vae/vae", "metrics.num_test=9").changed == {}
    config["reference"] = None
    assert Finished.of(config, summary, {}, RunFolder(tmp_path)) is None


def test_overrides_become_keys_and_values() -> None:
    assert overridden(["a=1", "+b.c=x=y", "~d", "e@f.g=h", "++i="]) == {
        "a": "1",
        "b.c": "x=y",
        "d": "",
        "e": "h",
        "i": "",
    }


def test_a_block_that_cannot_be_read_is_none() -> None:
    assert published_in({"reference": {**BLOCK, "verified": True}}) is None
    assert published_in({"reference": [1]}) is None
    assert published_in({"reference": {**BLOCK, "images": 0}}) is None
    assert published_in({"reference": {**BLOCK, "figures": 3}}) is None
    assert published_in({}) is None
    assert published_in({"reference": BLOCK}) == Published.from_config(BLOCK)


def test_a_run_with_early_stopping_must_have_been_stopped_by_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    stopping = {"callbacks": {"stop": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}, "last": None}}
    assert ended({"callbacks": {"last": None}}, {}, folder)
    assert ended(stopping, {"ended": True}, folder)
    assert not ended(stopping, {"ended": False}, folder)
    assert not ended(stopping, {}, folder)  # neither the summary nor a checkpoint says so
    for epoch, stopped in ((0, False), (7, True)):  # summaries of earlier versions do not say it
        state = {"state_dict": {}, "callbacks": {"EarlyStopping{...}": {"stopped_epoch": epoch}}}
        write_checkpoint(state, folder.checkpoints / "last.ckpt")
        assert ended(stopping, {}, folder) is stopped


# -- comparisons -------------------------------------------------------------------------------------------------------


def table_of(root: Path, **options: Any) -> Table:
    return compared([read_run(folder) for folder in find_runs([root])], **options)


def cells(table: Table, key: str) -> list[str | None]:
    return [row.cells[key].text if key in row.cells else None for row in table.rows]


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """Three seeds of one experiment, two of another, of which one failed, and a run of none."""
    for seed, value in enumerate((80.1, 79.9, 80.3)):
        write_run(tmp_path / "runs" / f"a{seed}", value, seed)
    other = {**BLOCK, "paper": "Another paper", "figures": {"nll": 70.0}}
    write_run(tmp_path / "runs/b0", 80.0, 0, experiment="paper/other", reference=other, images_seen=250)
    write_run(tmp_path / "runs/b1", None, 1, experiment="paper/other", reference=other)
    write_run(tmp_path / "runs/c0", 80.0, 0, experiment="mine", reference=None)
    return tmp_path / "runs"


def test_a_comparison_has_published_values_and_the_verdicts_of_groups(recipes: Path) -> None:
    table = table_of(recipes)
    assert [column.title for column in table.columns][:5] == ["experiment", "seeds", "NLL", "published", "verdict"]
    assert cells(table, "nll_published") == ["80 ± 0.5", "70 ± 0.5", None]
    assert cells(table, "nll_verdict") == ["reproduced", "truncated 25 %", None]
    text = markdown(table)
    assert "| paper/tiny | 0-2 | 80.10 ± 0.20 | 80 ± 0.5 | reproduced |" in text
    assert "- published: the published value ± the tolerance" in text
    rows = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert [(row["nll_published"], row["nll_verdict"]) for row in rows] == [
        ("80.0", "reproduced"),
        ("70.0", "truncated 25 %"),
        ("", ""),
    ]
    content = json.loads(as_json(table))["rows"][0]["cells"]
    assert content["nll_published"]["value"] == 80.0
    assert content["nll_verdict"]["text"] == "reproduced"
    assert "& reproduced &" in latex(table)
    # A published value is no value of the figure to sort by.
    assert table_of(recipes, sort="-nll").rows[0].label == table.rows[0].label


def test_without_published_figures_nothing_is_added(recipes: Path) -> None:
    for name in ("a0", "a1", "a2", "b0", "b1"):
        path = recipes / name / "config.yaml"
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**config, "reference": None}))
    table = table_of(recipes)
    assert {column.role for column in table.columns} == {"config", "seeds", "figure", "fact", "status"}
    assert "published" not in markdown(table)
    content = report(table, "genlab compare")
    assert all(row["published"] == {} for row in content["rows"])
    assert "published" not in json.dumps(content["notes"])


def test_figures_that_were_chosen_are_the_ones_judged(recipes: Path) -> None:
    for folder in find_runs([recipes]):
        if summary := folder.read_json("summary.json"):
            summary["metrics"]["test/fid"] = Result(20.0, {"num_samples": 50}).to_json()
            folder.write_json("summary.json", summary)
    shown = {column.key for column in table_of(recipes, figures=["fid"]).columns}
    assert "test/fid" in shown
    assert "nll_published" not in shown


def test_a_narrow_terminal_keeps_the_figure_that_is_judged(
    recipes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in find_runs([recipes]):
        if summary := folder.read_json("summary.json"):
            others = {name: Result(0.5, {"num_samples": 50}) for name in ("fid", "precision", "recall")}
            block = {**BLOCK, "figures": {"recall": 0.5}, "tolerance": {"recall": {"value": 0.1, "why": "w"}}}
            summary["metrics"] |= {f"test/{name}": result.to_json() for name, result in others.items()}
            folder.write_json("summary.json", summary)
            config = yaml.safe_load((folder.path / "config.yaml").read_text())
            (folder.path / "config.yaml").write_text(yaml.safe_dump({**config, "reference": block}))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "95")
    on_terminal(table_of(recipes))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "left out, because the terminal is too narrow: FID, precision, images seen" in shown


def test_an_evaluation_on_fewer_examples_does_not_move_a_verdict(recipes: Path) -> None:
    few = {"test/nll": Result(60.0, {**PROTOCOL, "num": 10}).to_json()}
    content = {"metrics": few, "evaluations": [{"settings": {}, "metrics": few}]}
    (recipes / "a0/evaluation.json").write_text(json.dumps(content))
    assert cells(table_of(recipes), "nll_verdict")[0] == "reproduced"
    again = {"test/nll": Result(90.0, PROTOCOL).to_json()}
    content = {"metrics": again, "evaluations": [{"settings": {}, "metrics": again}]}
    (recipes / "a0/evaluation.json").write_text(json.dumps(content))
    assert cells(table_of(recipes), "nll_verdict")[0] == "failed"  # (90 + 79.9 + 80.3) / 3


def test_unfinished_runs_show_what_was_published(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/a", None, 0)
    table = table_of(tmp_path / "runs")
    assert cells(table, "nll_published") == ["80 ± 0.5"]
    assert cells(table, "nll_verdict") == [None]


def test_the_page_has_published_values_verdicts_and_their_sources(recipes: Path, tmp_path: Path) -> None:
    write_page(report(table_of(recipes), "genlab compare"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = re.search(r'id="report">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content = json.loads(found[1])
    kinds = {column["key"]: column for column in content["columns"]}
    assert kinds["nll_published"]["kind"] == "published"
    assert kinds["nll_published"]["description"] == "A paper, 2020; Another paper"
    assert kinds["nll_verdict"]["kind"] == "verdict"
    first, second, third = content["rows"]
    assert first["cells"]["nll_published"]["text"] == "80 ± 0.5"
    assert first["cells"]["nll_verdict"]["text"] == "reproduced"
    assert (first["published"], second["published"], third["published"]) == ({"nll": 80.0}, {"nll": 70.0}, {})
    assert "val/nll" in content["metrics"]
    assert content["runs"][0]["facts"]["published NLL"] == "80 ± 0.5: within, 1 of 3 seeds"  # of this run alone
    assert "published NLL 80 ± 0.5: A paper, 2020 (read: table 1; protocol: exact)" in content["notes"]
    assert any(note.startswith("published: the published value") for note in content["notes"])


# -- a run, from its training to its evaluation ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of configs with a small experiment that reproduces two figures, one well and one badly."""
    folder = tmp_path_factory.mktemp("conf")
    reference = {
        **BLOCK,
        "figures": {"nll": 60.0, "fid": 45.0},
        "tolerance": {"nll": {"value": 0.5, "why": "w"}, "fid": {"value": 40.0, "why": "w", "side": "worse"}},
        "images": 128,
    }
    path = folder / "experiment/paper/tiny.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "# @package _global_\ndefaults:\n  - override /model: autoregressive/fvsbn\n  - override /callbacks: minimal\n"
        f"reference: {json.dumps(reference)}\ntrainer:\n  max_epochs: 1\nbudget:\n  images: 128\n"
        "dataset:\n  batch_size: 64\nmetrics:\n  num_samples: 50\n"
    )
    return folder


def published_lines(out: str) -> list[str]:
    """The lines about published figures, without the indentation."""
    lines = out.splitlines()
    (first,) = [i for i, line in enumerate(lines) if line.startswith("  published ")]
    found = [lines[first].removeprefix("  published").strip()]
    for line in lines[first + 1 :]:
        if not line.startswith(" " * 16):
            break
        found.append(line.strip())
    return found


def test_the_end_of_a_training_and_its_evaluations_say_how_it_stands(genlab: Genlab, conf: Path) -> None:
    trained = genlab("train", "--config-dir", conf, "experiment=paper/tiny", "logger=csv")
    assert trained.code == 0, trained.err
    summary = json.loads((trained.run / "summary.json").read_text())
    assert summary["ended"] is True
    nll, fid = (summary["metrics"][f"test/{name}"]["value"] for name in ("nll", "fid"))
    lines = [
        f"NLL 60 ± 0.5, ours {nll:.5g}: failed",
        f"FID 45 ± 40 (worse side), ours {fid:.5g}: within, 1 of 3 seeds",
    ]
    assert published_lines(trained.out) == lines
    again = genlab("evaluate", trained.run, "metrics.num_samples=50", "metrics.importance_samples=null")
    assert again.code == 0, again.err
    assert published_lines(again.out) == lines
    other = genlab("evaluate", trained.run, "metrics.num_samples=60", "metrics.num_test=20")
    assert published_lines(other.out) == [
        "NLL 60 ± 0.5: other protocol (num 20, not 300)",
        "FID 45 ± 40 (worse side): other protocol (num_samples 60, not 50)",
    ]
    first, second = json.loads((trained.run / "evaluation.json").read_text())["evaluations"]
    assert first["published"]["fid"] == {"value": 45.0, "tolerance": 40.0, "verdict": "within, 1 of 3 seeds"}
    assert second["published"]["nll"]["verdict"] == "other protocol (num 20, not 300)"
    table = genlab("compare", trained.run, "format=csv")
    (row,) = csv.DictReader(io.StringIO(table.out))
    assert (row["nll_verdict"], row["fid_verdict"]) == ("failed", "within, 1 of 3 seeds")
    # A run that has not ended has weights to measure, and no verdict.
    RunFolder(trained.run).set_status("interrupted")
    unfinished = genlab("evaluate", trained.run, "metrics.num_samples=50", "metrics.importance_samples=null")
    assert published_lines(unfinished.out)[0] == "NLL 60 ± 0.5: no verdict, because the run is interrupted"


def test_a_changed_run_is_not_judged_as_its_experiment(genlab: Genlab, conf: Path) -> None:
    shorter = ("budget.images=64", "metrics.num_test=20")
    trained = genlab("train", "--config-dir", conf, "experiment=paper/tiny", "logger=csv", *shorter)
    assert trained.code == 0, trained.err
    nll, fid = published_lines(trained.out)
    assert nll == "NLL 60 ± 0.5: other protocol (metrics.num_test=20)"
    assert fid.endswith(": truncated 50 %; changed: budget.images=64, metrics.num_test=20")


def test_a_block_that_cannot_be_read_is_refused_before_a_run_begins(genlab: Genlab) -> None:
    for block, line in (("{paper: A}", "reference: no value for figures"), ("yes", "reference=yes: expected paper")):
        refused = genlab("train", f"reference={block}")
        assert refused.code == 2
        assert line in refused.err
        assert not refused.outputs.exists()


def test_the_list_of_recipes_needs_no_pytorch(tmp_path: Path) -> None:
    code = (
        "import sys; from genlab.cli import main; sys.argv = ['genlab']\n"
        f"main(['reproduce', '--list', '--results', {str(tmp_path)!r}])\n"
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unrun" in done.stdout
