"""Runs side by side: what is told apart, what is averaged, what is ranked, in whatever state the runs are."""

import csv
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from genlab.comparison.cells import Table
from genlab.comparison.figure_columns import number
from genlab.comparison.formats import as_json, comma_separated, descriptions, latex, markdown, on_terminal
from genlab.comparison.later_keys import with_later_keys
from genlab.comparison.report import report
from genlab.comparison.runs import read_run
from genlab.comparison.table import compared
from genlab.comparison.workspace import outline, plan, workspace
from genlab.composition.configs import composed
from genlab.errors import InputError
from genlab.runs.config import flat, read_yaml, within
from genlab.runs.folder import RunFolder, find_runs
from genlab.runs.lock import held
from genlab.runs.moved import current
from support.command import Genlab
from support.made_runs import SAMPLES, make_run, result
from support.paths import CONF, ROOT

COMMAND = "genlab compare here"
LIKELIHOOD = {"dataset": "digits", "likelihood": "exact", "split": "test", "num": 300, "levels": 17}


def table_of(root: Path, **options: Any) -> Table:
    return compared([read_run(folder) for folder in find_runs([root])], **options)


def texts(table: Table, key: str) -> dict[str, str]:
    return {row.label: row.cells[key].text if key in row.cells else "-" for row in table.rows}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two models at two learning rates, three seeds each."""
    i = 0
    for model, base in (("vae/vae", 2.0), ("gan/dcgan", 3.0)):
        for lr in (0.001, 0.01):
            for seed in range(3):
                value = base + 10 * lr + 0.1 * seed
                metrics = {"test/fid": result(10 * value, SAMPLES), "test/precision": result(value / 10, SAMPLES)}
                if model == "vae/vae":
                    metrics["test/bits_per_dim"] = result(value, LIKELIHOOD, likelihood="lower_bound")
                width = "model.networks.hidden" if model == "vae/vae" else "model.channels"
                make_run(
                    tmp_path / "sweep" / str(i),
                    model=model,
                    seed=seed,
                    overrides=(f"training.optimizer.lr={lr}",),
                    config={"training.optimizer.lr": lr, width: 4},
                    metrics=metrics,
                )
                i += 1
    return tmp_path / "sweep"


# -- rows and columns --------------------------------------------------------------------------------------------------


def test_only_what_differs_is_a_column_and_seeds_are_one_row(sweep: Path) -> None:
    table = table_of(sweep)
    # What came with a model (its target, its own options) is not told twice; where runs lie is not told at all.
    assert [c.key for c in table.columns if c.role == "config"] == ["model", "training.optimizer.lr"]
    assert table.shared == {"dataset": "digits"}
    assert len(table.rows) == 4
    assert [row.cells["seeds"].text for row in table.rows] == ["0-2"] * 4
    values = [2.0 + 10 * 0.001 + 0.1 * seed for seed in range(3)]
    cell = table.rows[0].cells["test/bits_per_dim"]
    assert cell.value == pytest.approx(np.mean(values))
    assert cell.std == pytest.approx(np.std(values, ddof=1))
    assert cell.text == f"≤ {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert texts(table, "test/bits_per_dim")["model=gan/dcgan training.optimizer.lr=0.001"] == "-"
    assert not table.notes
    of_the_mean = table_of(sweep, spread="sem")
    text = of_the_mean.rows[0].cells["test/bits_per_dim"].text
    assert text == f"≤ {np.mean(values):.3f} ± {np.std(values, ddof=1) / 3**0.5:.3f}"
    assert descriptions(table)[-1] == "±: the standard deviation of one run over seeds"
    assert descriptions(of_the_mean)[-1] == "±: the standard error of the mean over seeds"


def test_the_best_is_marked_in_the_figures_own_direction(sweep: Path) -> None:
    table = table_of(sweep)
    best = {
        key: [row.label for row in table.rows if key in row.cells and row.cells[key].best]
        for key in ("test/fid", "test/precision", "parameters")
    }
    assert best["test/fid"] == ["model=vae/vae training.optimizer.lr=0.001"]
    assert best["test/precision"] == ["model=gan/dcgan training.optimizer.lr=0.01"]
    assert best["parameters"] == []


def test_a_key_that_was_not_overridden_is_shown_where_nothing_else_explains_it(tmp_path: Path) -> None:
    make_run(tmp_path / "a", config={"model.depth": 2, "training.warmup": 10})
    make_run(tmp_path / "b", config={"model.depth": 3, "training.warmup": 20})
    make_run(tmp_path / "c", config={"model.depth": 3, "training.warmup": 10})
    table = table_of(tmp_path)
    assert [c.key for c in table.columns if c.role == "config"] == ["model.depth", "training.warmup"]
    # Of two keys that go together, one.
    make_run(tmp_path / "d" / "1", config={"model.depth": 2, "training.depth_again": 2})
    make_run(tmp_path / "d" / "2", config={"model.depth": 3, "training.depth_again": 3})
    assert [c.key for c in table_of(tmp_path / "d").columns if c.role == "config"] == ["model.depth"]


def test_a_group_that_was_overridden_is_a_column(tmp_path: Path) -> None:
    # By the name that the group had before, and by the one it has now.
    make_run(tmp_path / "a", overrides=("schedule=cosine",), config={"schedule._target_": "cosine", "schedule.end": 0})
    make_run(tmp_path / "b", config={"schedule._target_": "constant"})
    make_run(tmp_path / "c", overrides=("lr_schedule=linear",), config={"schedule._target_": "linear"})
    table = table_of(tmp_path)
    assert [c.key for c in table.columns if c.role == "config"] == ["lr_schedule"]
    chosen = [row.cells["lr_schedule"].text if "lr_schedule" in row.cells else None for row in table.rows]
    assert chosen == ["cosine", None, "linear"]


def test_one_seed_twice_is_not_two_measurements(tmp_path: Path) -> None:
    for i, (seed, value) in enumerate([(0, 1.0), (0, 2.0), (1, 4.0)]):
        make_run(tmp_path / str(i), seed=seed, metrics={"test/fid": result(value, SAMPLES)})
    make_run(tmp_path / "3", seed=1, status="failed", reason="broken")  # a failure does not replace what is done
    table = table_of(tmp_path)
    (row,) = table.rows
    assert row.cells["test/fid"].value == pytest.approx(statistics.fmean([2.0, 4.0]))
    assert row.cells["test/fid"].num == 2
    assert any("2 runs are left out" in note for note in table.notes)


def test_unlike_protocols_stand_apart_and_it_is_said(tmp_path: Path) -> None:
    for i in range(3):
        make_run(tmp_path / str(i), config={"model.width": i}, metrics={"test/fid": result(10.0 + i, SAMPLES)})
    make_run(tmp_path / "3", config={"model.width": 3}, metrics={"test/fid": result(1.0, SAMPLES, num_samples=7)})
    table = table_of(tmp_path)
    assert [c.key for c in table.columns if c.role == "figure"] == ["test/fid[1]", "test/fid[2]"]
    assert [row.cells["test/fid[1]"].best for row in table.rows[:3]] == [True, False, False]
    assert "test/fid[1]" not in table.rows[3].cells
    assert not table.rows[3].cells["test/fid[2]"].best
    assert table.notes == [
        "FID was measured under unlike protocols, which are not ranked together: [1] num_samples=1000; "
        "[2] num_samples=7"
    ]


def shown(table: Table) -> dict[str, set[str]]:
    """The columns of figures, each with the names of the runs that have a value in it."""
    return {
        c.key: {row.runs[0].path.name for row in table.rows if c.key in row.cells}
        for c in table.columns
        if c.role == "figure"
    }


def test_what_does_not_change_a_figures_meaning_does_not_set_it_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", metrics={"test/fid": result(1.0, SAMPLES, sampler="G(z)", seed=0, sizes={"test": 3})})
    make_run(tmp_path / "b", model="gan/dcgan", metrics={"test/fid": result(2.0, SAMPLES, sampler="x", seed=1)})
    assert shown(table_of(tmp_path)) == {"test/fid": {"a", "b"}}


def test_other_weights_and_another_checkpoint_stand_apart(tmp_path: Path) -> None:
    ema, raw = ({"checkpoint": "best", "weights": weights} for weights in ("ema", "raw"))
    for i, more in enumerate((ema, ema, raw, {**ema, "checkpoint": "last"}, {**ema, "checkpoint": "none"})):
        make_run(tmp_path / str(i), config={"model.width": i}, metrics={"test/fid": result(10.0 - i, SAMPLES, **more)})
    table = table_of(tmp_path)
    # What training ended with, where no best checkpoint was written, are the last one's weights.
    assert shown(table) == {"test/fid[1]": {"0", "1"}, "test/fid[2]": {"3", "4"}, "test/fid[3]": {"2"}}
    assert [row.cells["test/fid[1]"].best for row in table.rows[:2]] == [False, True]
    assert table.notes == [
        "FID was measured under unlike protocols, which are not ranked together: [1] checkpoint=best, weights=ema; "
        "[2] checkpoint=last, weights=ema; [3] checkpoint=best, weights=raw"
    ]


def test_records_that_do_not_say_their_weights_have_those_of_their_run(tmp_path: Path) -> None:
    averaged = {"training.ema_decay": 0.999}
    make_run(tmp_path / "a", config=averaged, metrics={"test/fid": result(1.0, SAMPLES)})
    said = result(2.0, SAMPLES, weights="ema", checkpoint="best")
    make_run(tmp_path / "b", config={**averaged, "model.width": 3}, metrics={"test/fid": said})
    make_run(tmp_path / "c", config={"model.width": 4}, metrics={"test/fid": result(3.0, SAMPLES)})
    make_run(tmp_path / "d", config={**averaged, "callbacks.best": None}, metrics={"test/fid": result(4.0, SAMPLES)})
    # c has no average: its weights are what it samples with, as those of a and b are.
    assert shown(table_of(tmp_path)) == {"test/fid[1]": {"a", "b", "c"}, "test/fid[2]": {"d"}}


def test_a_run_without_an_average_is_compared_with_averaged_weights_but_not_with_raw_ones_of_others(
    tmp_path: Path,
) -> None:
    def fid(value: float, weights: str) -> dict[str, Any]:
        return {"test/fid": result(value, SAMPLES, weights=weights, checkpoint="best")}

    averaged = {"training.ema_decay": 0.999}
    make_run(tmp_path / "averaged", config=averaged, metrics=fid(1.0, "ema"))
    make_run(tmp_path / "plain", metrics=fid(3.0, "raw"))
    make_run(tmp_path / "raw", config={**averaged, "model.width": 3}, metrics=fid(2.0, "raw"))
    table = table_of(tmp_path)
    assert shown(table) == {"test/fid[1]": {"averaged", "plain"}, "test/fid[2]": {"raw"}}
    assert table.columns[2].protocol is not None
    assert table.columns[2].protocol["weights"] == "ema, raw"
    assert "FID [1]: each run's own weights, averaged ones if it has these" in table.notes


def test_likelihoods_of_images_and_of_images_given_their_classes_stand_apart(tmp_path: Path) -> None:
    def nll(value: float, **more: Any) -> dict[str, Any]:
        return {"test/bits_per_dim": result(value, LIKELIHOOD, **more)}

    make_run(tmp_path / "a", config={"model.num_classes": None}, metrics=nll(2.0))
    make_run(tmp_path / "b", config={"model.num_classes": 10}, metrics=nll(1.0, given="classes"))
    # A record from before it was said.
    make_run(tmp_path / "c", config={"model.num_classes": 10, "model.width": 3}, metrics=nll(1.5))
    table = table_of(tmp_path)
    assert shown(table) == {"test/bits_per_dim[1]": {"b", "c"}, "test/bits_per_dim[2]": {"a"}}
    assert "[1] given=classes; [2] given=None" in table.notes[0]


def test_a_samplers_settings_must_agree(tmp_path: Path) -> None:
    def fid(value: float, **sampling: Any) -> dict[str, Any]:
        return {"test/fid": result(value, SAMPLES, sampler="parallel decoding", sampling=sampling)}

    run = make_run(tmp_path / "steps", model="transformer/maskgit", metrics=fid(3.0, num_steps=12, temperature=1.0))
    make_run(tmp_path / "few", model="transformer/maskgit", config={"x": 1}, metrics=fid(5.0, num_steps=4))
    plain = result(2.0, SAMPLES, sampler="G(z)", sampling={"temperature": 1.0})
    make_run(tmp_path / "gan", model="gan/dcgan", metrics={"test/fid": plain})
    # Another sampler has other settings, and nothing to disagree in; among those of one sampler they are the same.
    assert shown(table_of(tmp_path)) == {"test/fid[1]": {"few", "gan"}, "test/fid[2]": {"steps"}}
    # A run that is sampled otherwise than it was at its end stands with no other sampler.
    evaluations = [{"settings": {"sampling": s}, "metrics": fid(v, **s)} for v, s in ((4.0, {"num_steps": 8}),)]
    (run / "evaluation.json").write_text(json.dumps({"metrics": {}, "evaluations": evaluations}))
    table = table_of(tmp_path)
    assert {frozenset(runs) for runs in shown(table).values()} == {
        frozenset({"few", "gan"}), frozenset({"steps"})
    }  # fmt: skip
    protocols = [c.protocol for c in table.columns if c.role == "figure"]
    assert sorted(p["sampling.num_steps"] for p in protocols if p) == [4, 8, 12]


def test_a_setting_that_came_later_counts_as_what_was_done_before(tmp_path: Path) -> None:
    """StyleGAN2's noise: earlier results do not name it, and were measured with fixed noise."""

    def fid(value: float, **sampling: Any) -> dict[str, Any]:
        return {"test/fid": result(value, SAMPLES, sampler="truncation of w", sampling=sampling)}

    target = {"model._target_": "genlab.models.gan.stylegan2.StyleGAN2"}
    make_run(tmp_path / "earlier", model="gan/stylegan2", config=target, metrics=fid(3.0, truncation=1.0))
    for name, noise in (("fixed", "fixed"), ("random", "random")):
        config = {**target, "model.width": len(name)}
        make_run(tmp_path / name, model="gan/stylegan2", config=config, metrics=fid(4.0, truncation=1.0, noise=noise))
    assert set(map(frozenset, shown(table_of(tmp_path)).values())) == {
        frozenset({"earlier", "fixed"}), frozenset({"random"})
    }  # fmt: skip


def test_evaluations_under_unlike_protocols_stand_beside_the_summary(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", metrics={"test/fid": result(1.0, SAMPLES), "test/recall": result(0.5, SAMPLES)})
    make_run(tmp_path / "b", config={"model.width": 3}, metrics={"test/fid": result(2.0, SAMPLES)})
    fids = [result(value, SAMPLES, num_samples=num) for value, num in ((8.0, 1000), (7.0, 50), (6.0, 50))]
    evaluations = [{"settings": {"seed": i}, "metrics": {"test/fid": fid}} for i, fid in enumerate(fids)]
    (run / "evaluation.json").write_text(json.dumps({"metrics": {"test/fid": fids[-1]}, "evaluations": evaluations}))
    table = table_of(tmp_path)
    first, second = table.rows
    # Of one protocol the last evaluation counts.
    assert (first.cells["test/fid[1]"].value, first.cells["test/fid[2]"].value) == (8.0, 6.0)
    assert (second.cells["test/fid[1]"].value, "test/fid[2]" in second.cells) == (2.0, False)
    assert first.cells["test/recall"].value == 0.5
    # The same as an earlier version kept them.
    labelled = {"label": {"test/fid": fids[0]}, "another": {"test/fid": fids[-1]}}
    (run / "evaluation.json").write_text(json.dumps({"metrics": {"test/fid": fids[-1]}, "evaluations": labelled}))
    again = table_of(tmp_path).rows[0]
    assert (again.cells["test/fid[1]"].value, again.cells["test/fid[2]"].value) == (8.0, 6.0)
    figures = report(table, COMMAND)["runs"][0]["figures"]
    assert {name: of["text"] for name, of in figures.items() if "fid" in name} == {
        "test/fid": "6.0000", "test/fid [2]": "1.0000", "test/fid [3]": "8.0000"
    }  # fmt: skip


def test_a_figure_that_is_not_genlabs_own_is_declared_in_the_run_folder(tmp_path: Path) -> None:
    about = {"label": "my figure", "better": "max", "protocol": ["dataset"], "column": 20, "of_a_later_version": 1}
    for i, value in enumerate((1.0, 2.0)):
        run = make_run(tmp_path / str(i), config={"model.width": i})
        metrics = {"test/mine": result(value, {"dataset": "digits", "num_samples": i})}
        (run / "summary.json").write_text(json.dumps({"metrics": metrics, "figures": {"mine": about}}))
    table = table_of(tmp_path)
    (column,) = [c for c in table.columns if c.role == "figure"]
    assert (column.title, column.better) == ("my figure", "max")
    assert [row.cells["test/mine"].best for row in table.rows] == [False, True]


def test_comparing_needs_no_pytorch(tmp_path: Path) -> None:
    make_run(tmp_path / "a", metrics={"test/fid": result(1.0, SAMPLES)})
    program = (
        "import sys\nfrom genlab.cli import main\n"
        f"main(['compare', {str(tmp_path)!r}, 'format=csv'])\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'torchmetrics') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_later_evaluation_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", metrics={"test/fid": result(1.0, SAMPLES), "test/recall": result(0.5, SAMPLES)})
    (run / "evaluation.json").write_text(json.dumps({"metrics": {"test/fid": result(9.0, SAMPLES)}}))
    (row,) = table_of(tmp_path).rows
    assert (row.cells["test/fid"].value, row.cells["test/recall"].value) == (9.0, 0.5)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("fid", ["b", "c", "a", "none"]),
        ("-test/fid", ["a", "c", "b", "none"]),
        ("precision", ["a", "b", "c", "none"]),
        ("model.width", ["none", "a", "b", "c"]),
    ],
)
def test_sorting_puts_the_best_first_and_the_unknown_last(tmp_path: Path, sort: str, order: list[str]) -> None:
    for i, (name, fid, precision) in enumerate([("a", 3.0, 0.9), ("b", 1.0, 0.5), ("c", 2.0, 0.1)]):
        metrics = {"test/fid": result(fid, SAMPLES), "test/precision": result(precision, SAMPLES)}
        make_run(tmp_path / name, config={"model.width": i + 1}, metrics=metrics)
    make_run(tmp_path / "none", config={"model.width": 0}, metrics={"test/fid": result(float("nan"), SAMPLES)})
    assert [row.runs[0].path.name for row in table_of(tmp_path, sort=sort).rows] == order


def test_figures_can_be_chosen(sweep: Path) -> None:
    def shown(**options: Any) -> list[str]:
        return [c.key for c in table_of(sweep, **options).columns if c.role == "figure"]

    assert shown() == ["test/bits_per_dim", "test/fid", "test/precision"]
    assert shown(figures=["precision", "test/fid"]) == ["test/precision", "test/fid"]
    assert shown(figures=["all"]) == ["test/bits_per_dim", "test/fid", "test/precision"]  # the usual ones first
    with pytest.raises(InputError, match="no run has the figure fidd; did you mean fid"):
        shown(figures=["fidd"])
    with pytest.raises(InputError, match="there is no such column; did you mean"):
        shown(sort="precisio")


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "2"), (2.41234, "2.412"), (118.449, "118.4"), (0.05, "0.0500"), (12345.6, "12,346"), (float("nan"), "nan")],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


# -- runs in every state -----------------------------------------------------------------------------------------------


def test_runs_that_are_not_done_are_shown_as_what_they_are(tmp_path: Path) -> None:
    make_run(tmp_path / "0-done", metrics={"test/fid": result(1.0, SAMPLES)}, config={"model.width": 0})
    here = {"host": socket.gethostname()}
    make_run(tmp_path / "1-running", status="running", pid=os.getpid(), config={"model.width": 1}, **here)
    # A row that is being written at this moment.
    (tmp_path / "1-running" / "metrics.csv").write_text("images_seen,train/loss\n640,2.5\n1280,1.5\n19")
    make_run(tmp_path / "2-gone", status="running", pid=2**22 + 1, config={"model.width": 2}, **here)
    make_run(tmp_path / "3-elsewhere", status="running", pid=1, host="another", config={"model.width": 3})
    make_run(tmp_path / "4-failed", status="failed", reason="Diverged: nan", config={"model.width": 4})
    make_run(tmp_path / "5-begun", status=None, config={"model.width": 5})
    damaged = make_run(tmp_path / "6-damaged", metrics={}, config={"model.width": 6})
    (damaged / "summary.json").write_text('{"metrics": {"test/fid": ')
    broken = make_run(tmp_path / "7-broken", config={"model.width": 7})
    (broken / "config.yaml").write_text("model: [")
    odd = make_run(tmp_path / "8-odd", config={"model.width": 8})
    (odd / "summary.json").write_text('{"metrics": {"test/fid": "high", "test/kid": {"value": null}}}')
    with held(tmp_path / "1-running"):
        table = table_of(tmp_path)
    status = {row.runs[0].path.name: row.cells["status"].text for row in table.rows}
    assert status["0-done"] == "done"
    assert status["1-running"] in ("running: 1,280 images", "running: 19 images")
    assert status["2-gone"] == "cut off"
    assert status["3-elsewhere"] == "running"
    assert status["4-failed"] == "failed: Diverged: nan"
    assert status["5-begun"] == "unknown"
    assert status["6-damaged"].startswith("damaged: summary.json is damaged (")
    assert status["7-broken"].startswith("damaged: config.yaml is damaged (")
    assert status["8-odd"].startswith("damaged: summary.json is damaged (metrics.test/fid='high': ")
    assert [row.runs[0].path.name for row in table.rows if "test/fid" in row.cells] == ["0-done"]
    for form in (markdown, comma_separated, as_json, latex):
        assert "7-broken" in form(table)
    assert len(report(table, COMMAND)["runs"]) == 9


def test_a_group_of_seeds_says_which_of_them_failed(tmp_path: Path) -> None:
    make_run(tmp_path / "0", seed=0, metrics={"test/fid": result(1.0, SAMPLES)})
    make_run(tmp_path / "1", seed=1, metrics={"test/fid": result(2.0, SAMPLES)})
    make_run(tmp_path / "2", seed=2, status="failed", reason="Diverged")
    (row,) = table_of(tmp_path).rows
    assert row.cells["status"].text == "2 done, 1 failed: Diverged"
    assert row.cells["test/fid"].num == 2


# -- formats -----------------------------------------------------------------------------------------------------------


def test_csv_and_json_hold_the_numbers(sweep: Path) -> None:
    table = table_of(sweep)
    rows = list(csv.DictReader(io.StringIO(comma_separated(table))))
    content = json.loads(as_json(table))
    assert len(rows) == len(content["rows"]) == 4
    for row, entry, of in zip(rows, content["rows"], table.rows, strict=True):
        cell = of.cells["test/fid"]
        assert float(row["test/fid"]) == entry["cells"]["test/fid"]["value"] == cell.value
        assert float(row["test/fid std"]) == entry["cells"]["test/fid"]["std"] == cell.std
        assert row["test/fid n"] == "3"
        assert row["folders"].split() == [str(run.path) for run in of.runs]
        assert [run["figures"]["test/fid"] for run in entry["runs"]] == [r.figures["test/fid"].value for r in of.runs]
    assert next(c for c in content["columns"] if c["key"] == "test/fid")["protocol"]["num_samples"] == 1000


def test_json_is_json_even_of_what_is_no_number(tmp_path: Path) -> None:
    make_run(tmp_path / "a", metrics={"test/fid": result(float("nan"), SAMPLES)})
    assert json.loads(as_json(table_of(tmp_path)))["rows"][0]["cells"]["test/fid"]["value"] == "nan"


def test_markdown_and_latex_mark_the_best(tmp_path: Path) -> None:
    make_run(tmp_path / "a", overrides=("name_of=x|y_z",), config={"name_of": "x|y_z"})
    make_run(tmp_path / "b", overrides=("name_of=50%",), config={"name_of": "50%"})
    for name, value in (("a", 2.5), ("b", 1.5)):
        summary = {"metrics": {"test/fid": result(value, SAMPLES)}}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    table = table_of(tmp_path)
    head, rule, *rows = markdown(table).splitlines()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == len(table.columns) + 1 for line in (head, rule, *rows[:2]))
    assert "x\\|y_z" in rows[0]
    assert "**1.500**" in rows[1]
    assert "**" not in rows[0]
    text = latex(table)
    assert r"FID $\downarrow$" in text
    assert r"50\% & \textbf{1.500} \\" in text
    assert r"x|y\_z & 2.500 \\" in text


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_takes_flags_keys_and_globs(genlab: Genlab, sweep: Path) -> None:
    shown = genlab("compare", sweep)
    assert shown.code == 0, shown.err
    for word in ("all: dataset=digits", "vae/vae", "0-2", "3 done", "lower is better", "≤: an upper bound"):
        assert word in shown.out
    assert genlab("compare", f"{sweep}/*", "--sort", "fid").out.index("vae") < shown.out.index("dcgan")
    flag, key = genlab("compare", sweep, "--format", "csv"), genlab("compare", sweep, "format=csv", "figures=[fid]")
    assert len(flag.out.splitlines()) == len(key.out.splitlines()) == 5
    assert "test/precision" in flag.out
    assert "test/precision" not in key.out
    assert "no such format; did you mean csv?" in genlab("compare", sweep, "--format=cvs").err
    assert "--format needs a value" in genlab("compare", sweep, "--format").err
    assert "there is no" in genlab("compare", f"{sweep}/x*").err


def test_a_narrow_terminal_shows_less_and_says_so(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "95")
    on_terminal(table_of(sweep))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "left out, because the terminal is too narrow: precision, parameters, images/s, wall time" in shown
    for whole in ("vae/vae", "≤ 2.110 ± 0.100", "21.10 ± 1.00", "3 done"):
        assert whole in shown
    assert max(map(len, shown.splitlines())) <= 95


def test_a_long_name_of_a_key_is_broken_behind_its_dots_if_the_table_is_still_too_wide(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(sweep)
    columns = [replace(c, title="training.optimizer.weight_decay") if c.key == "model" else c for c in table.columns]
    monkeypatch.setenv("FORCE_COLOR", "1")
    for width, whole in (("99", "weight_decay"), ("140", "training.optimizer.weight_decay")):
        monkeypatch.setenv("COLUMNS", width)
        on_terminal(replace(table, columns=columns))
        head = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).partition("┡")[0]
        assert f"┃ {whole} " in head


def test_a_page_is_written_beside_any_format(genlab: Genlab, sweep: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = genlab("compare", sweep, "--format", "json", "--html", page, "--title", "A title, and more")
    assert result.code == 0, result.err
    json.loads(result.out)
    assert "<title>A title, and more" in page.read_text()


def test_many_runs_are_compared(genlab: Genlab, sweep: Path, tmp_path: Path) -> None:
    for i in range(120):
        make_run(
            tmp_path / "many" / str(i),
            seed=i % 4,
            config={"model.width": i // 4},
            metrics={"test/fid": result(i, SAMPLES)},
        )
    content = json.loads(genlab("compare", tmp_path / "many", "--format", "json").out)
    assert len(content["rows"]) == 30
    assert all(row["cells"]["test/fid"]["n"] == 4 for row in content["rows"])


# -- what a page shows -------------------------------------------------------------------------------------------------


def test_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", metrics={})
    lines = ["images_seen,seconds,epoch,train/loss,val/fid,test/fid"]
    lines += [f"{i},{i / 10},0,{1000 - i},," for i in range(1000)] + ["1000,100,1,,5.0,", "1001,,1,,4.0,7.0", "10"]
    (run / "metrics.csv").write_text("\n".join(lines))
    content = report(table_of(tmp_path), COMMAND)
    (shown,) = content["runs"]
    curves = shown["curves"]
    assert curves.keys() == {"train/loss", "val/fid"}
    assert content["metrics"][0] == "val/fid"
    assert len(curves["train/loss"]["values"]) == 200
    places = shown["at"][curves["train/loss"]["at"]]
    assert (places["images"][0], places["images"][-1]) == (0, 999)
    assert curves["train/loss"]["values"][-1] == 1.0
    assert curves["val/fid"]["values"] == [5.0, 4.0]
    assert shown["at"][curves["val/fid"]["at"]] == {"images": [1000, 1001], "seconds": [100, None], "epochs": [1, 1]}
    json.dumps(content, allow_nan=False)


def test_pictures_of_training_and_of_the_end(tmp_path: Path) -> None:
    from genlab.comparison.picture import as_picture
    from genlab.pictures.files import save_png

    run = make_run(tmp_path / "a", metrics={})
    rng = np.random.default_rng(0)
    for i in range(30):
        save_png(as_picture(rng.integers(0, 256, (1, 20, 20), dtype=np.uint8)), run / "samples" / f"{i * 100:010d}.png")
    save_png(
        as_picture(rng.integers(0, 256, (1, 20, 20), dtype=np.uint8)),
        run / "samples" / "reconstructions-0000000100.png",
    )
    (run / "samples" / "0000009999.png").write_bytes(b"half")
    np.save(run / "samples" / "final.npy", rng.integers(0, 256, (9, 3, 8, 8), dtype=np.uint8))
    np.save(run / "samples" / "real.npy", rng.integers(0, 256, (9, 2, 8, 8), dtype=np.uint8))
    (shown,) = report(table_of(tmp_path), COMMAND)["runs"]
    seen = [picture["images_seen"] for picture in shown["pictures"]["samples"]]
    assert seen[-1] is None  # the trained model's come last
    assert seen[:-1] == sorted(seen[:-1])
    assert seen[0] == 0
    assert 9999 not in seen
    assert 8 <= len(seen) <= 13
    assert shown["pictures"]["samples"][-1]["src"].startswith("data:image/webp;base64,")
    assert [one["images_seen"] for one in shown["pictures"]["reconstructions"]] == [100]
    assert [real["dataset"] for real in report(table_of(tmp_path), COMMAND)["real"]] == ["digits"]


def test_whatever_a_run_shows_is_on_its_page_as_far_as_there_is_room(tmp_path: Path) -> None:
    from genlab.comparison.gallery import Gallery
    from genlab.pictures.files import film, save_png

    run = make_run(tmp_path / "a", metrics={})
    sheets = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in range(0, 250, 50)]
    for name in ("neighbours", "likelihood_histogram", "interpolate-seed0-n8", "final", "seed0-n64"):
        save_png(sheets[0], run / "samples" / f"{name}.png")
    np.save(run / "samples" / "final.npy", np.zeros((5, 2), np.float32))  # points: their picture is shown
    film(sheets, run / "samples" / "film.gif")
    film(sheets, run / "samples" / "noise_to_data.gif")
    (run / "samples" / "notes.txt").write_text("read me <b>")
    (run / "samples" / ".final.png.half").write_bytes(b"")
    (shown,) = report(table_of(tmp_path), COMMAND)["runs"]
    pictures = shown["pictures"]
    assert next(iter(pictures)) == "samples"
    assert pictures.keys() == {
        "samples", "neighbours", "likelihood histogram", "interpolate-seed0-n8", "samples seed0-n64", "film",
        "noise to data (film)", "notes",
    }  # fmt: skip
    assert pictures["film"][0]["src"].startswith("data:image/gif;base64,")
    assert pictures["notes"] == [{"images_seen": None, "text": "read me <b>"}]
    content = report(table_of(tmp_path), COMMAND, gallery=Gallery(budget=200))
    assert next(iter(content["runs"][0]["pictures"])) == "samples"
    assert "film" not in content["runs"][0]["pictures"]
    assert re.match(r"\d pictures and films are not on the page", content["notes"][-1])


def test_a_film_that_takes_much_room_is_made_smaller(tmp_path: Path) -> None:
    from genlab.comparison.gallery import MAX_FILM, Gallery
    from genlab.pictures.files import film

    rng = np.random.default_rng(0)
    film([Image.fromarray(rng.integers(0, 256, (300, 300), dtype=np.uint8)) for _ in range(50)], tmp_path / "film.gif")
    assert (tmp_path / "film.gif").stat().st_size > MAX_FILM
    kept: list[bytes] = []
    assert Gallery(lambda content, kind: kept.append(content) or kind, 10**9).film(tmp_path / "film.gif", 100) == "webp"
    with Image.open(io.BytesIO(kept[0])) as smaller:
        assert (smaller.size, smaller.n_frames) == ((100, 100), 40)


def test_a_page_has_the_columns_of_the_text_table_first_and_knows_constant_ones(sweep: Path) -> None:
    text = [column.key for column in table_of(sweep).columns]
    columns = {column["key"]: column for column in report(table_of(sweep, figures=["all"]), COMMAND)["columns"]}
    assert [key for key in columns if key in text] == text
    assert [*columns][: text.index("test/fid") + 1] == text[: text.index("test/fid") + 1]
    constant = {key for key, column in columns.items() if column["constant"]}
    assert constant == {"seeds", "parameters", "images_per_second", "wall_seconds", "status"}


def test_whole_configs_are_told_once_where_they_agree(tmp_path: Path) -> None:
    for i, width in enumerate((8, 8, 16)):
        make_run(tmp_path / str(i), seed=i, config={"model.width": width}, metrics={})
    content = report(table_of(tmp_path), COMMAND)
    assert content["config"]["model.width"] == 8
    for run in content["runs"]:
        of_page = {key: value for key, value in content["config"].items() if key not in run["config"]["lacks"]}
        assert of_page | run["config"]["other"] == within(flat(read_yaml(Path(run["path"]) / "config.yaml")))
    assert "model.width" in content["runs"][-1]["config"]["other"]
    assert "training.optimizer.lr" not in content["runs"][-1]["config"]["other"]


@pytest.mark.slow
def test_a_page_of_two_hundred_long_runs_stays_small(tmp_path: Path) -> None:
    from genlab.comparison.page import write_page
    from genlab.pictures.files import film, save_png

    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (280, 280, 3), dtype=np.uint8)) for _ in range(4)]
    for i in range(200):
        metrics = {f"test/figure_{j}": result(i + j, SAMPLES, seed=0, **LIKELIHOOD) for j in range(25)}
        run = make_run(tmp_path / "runs" / str(i), seed=i % 2, config={"model.width": i // 2}, metrics=metrics)
        names = ",".join(f"val/figure_{j}" for j in range(40))
        rows = [f"{k * 1000},{k * 1.37:.2f},{k}," + ",".join(map(str, rng.random(40))) for k in range(400)]
        (run / "metrics.csv").write_text("\n".join([f"images_seen,seconds,epoch,{names}", *rows]))
        for k, picture in enumerate(noise):
            save_png(picture, run / "samples" / f"{k:010d}.png")
        if i < 4:
            film(noise, run / "samples" / "film.gif")
    write_page(report(table_of(tmp_path / "runs"), COMMAND), tmp_path / "page.html")
    assert 5e6 < (tmp_path / "page.html").stat().st_size < 15e6


# -- a W&B workspace ---------------------------------------------------------------------------------------------------


def test_a_workspace_shows_what_the_sweep_varies(sweep: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    for folder in find_runs([sweep]):
        (folder.path / "metrics.csv").write_text("images_seen,train/loss,val/bits_per_dim\n")
    runs = [read_run(folder) for folder in find_runs([sweep])]
    planned = plan(runs, [read_yaml(run.path / "config.yaml") for run in runs], "name")
    assert planned.swept == ["choices.model", "training.optimizer.lr"]
    assert planned.group == "sweep/one"
    built = workspace(planned, "someone")._to_model().model_dump(by_alias=True, exclude_none=True)
    section = built["spec"]["section"]
    (run_set,) = section["runSets"]
    assert run_set["filters"]["filters"][0] == {
        "key": {"section": "run", "name": "group"}, "op": "=", "value": "sweep/one", "disabled": False
    }  # fmt: skip
    assert [key["name"] for key in run_set["grouping"]] == ["choices.value.model", "training.value.optimizer.lr"]
    panels = {
        panel["viewType"]: panel["config"]
        for part in section["panelBankConfig"]["sections"]
        for panel in part["panels"]
    }
    assert panels.keys() == {
        "Run History Line Plot", "Media Browser", "Parallel Coordinates Plot", "Parameter Importance", "Bar Chart",
        "Run Comparer",
    }  # fmt: skip
    assert [c["accessor"] for c in panels["Parallel Coordinates Plot"]["columns"]] == [
        "config:choices.value.model", "config:training.value.optimizer.lr", "summary:best/val/bits_per_dim"
    ]  # fmt: skip
    assert panels["Parameter Importance"]["targetKey"] == "best/val/bits_per_dim"
    assert panels["Run History Line Plot"]["xAxis"] == "images_seen"
    assert panels["Run Comparer"] == {"diffOnly": "split"}
    pinned = run_set["runFeed"]["columnPinned"]
    assert pinned["summary:best/val/bits_per_dim"]
    assert pinned["config:choices.value.model"]
    assert pinned["config:training.value.optimizer.lr"]
    assert "parallel coordinates: choices.model, training.optimizer.lr, best/val/bits_per_dim" in outline(planned, None)


def test_a_workspace_shows_the_figures_that_most_runs_have(tmp_path: Path) -> None:
    rare, common = result(1.0, SAMPLES), {"test/fid": result(3.0, SAMPLES)}
    for i in range(5):
        only_first = {"test/precision": rare} if i == 0 else {}
        run = make_run(
            tmp_path / str(i),
            seed=i,
            config={"monitor.metric": "val/kid" if i == 0 else "val/bits_per_dim", "schedule": {"warmup": i}},
            metrics={**only_first, **(common if i else {})},
        )
        named = "val/kid" if i == 0 else "val/nll"
        (run / "metrics.csv").write_text(f"images_seen,train/loss,val/fid,{named}{',val/bits_per_dim' * (i > 1)}\n")
        for name in ("0000000100", *(["reconstructions-0000000100"] if i == 0 else [])):
            (run / "samples" / f"{name}.png").touch()
    configs = [read_yaml(tmp_path / str(i) / "config.yaml") for i in range(5)]
    planned = plan([read_run(RunFolder(tmp_path / str(i))) for i in range(5)], configs, "name")
    assert planned.curves == ["val/fid", "val/nll", "val/bits_per_dim", "train/loss"]
    assert planned.best == ["best/val/fid", "best/val/nll", "best/val/bits_per_dim", "test/fid"]
    assert planned.pictures == ["samples"]
    text = outline(planned, None)
    assert "    val/fid: mean and standard deviation over seeds\n" in text
    assert "    val/bits_per_dim: mean and standard deviation over seeds (3 of 5 runs)\n" in text
    assert "    test/fid: bars, and a column of the table of runs (4 of 5 runs)\n" in text
    assert "val/kid" not in text
    assert "precision" not in text


def test_dashboard_without_a_key_only_tells(genlab: Genlab, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(sweep.parent))
    dry = genlab("dashboard", sweep, "--dry-run")
    assert dry.code == 0, dry.err
    assert 'workspace "sweep/one" in your default entity/genlab' in dry.out
    for config in sweep.rglob("config.yaml"):
        config.write_text(config.read_text().replace("wandb:", "csv:"))
    assert "none of these runs was logged to W&B" in genlab("dashboard", sweep, "--dry-run").err
    assert "there are no runs" in genlab("dashboard", sweep.parent / "nothing", "--dry-run").err


def test_read_run_of_an_empty_folder(tmp_path: Path) -> None:
    run = read_run(RunFolder(tmp_path))
    assert run.status == "damaged"


def test_a_run_from_before_a_key_is_of_one_setting_with_a_run_that_has_its_value_in_conf(tmp_path: Path) -> None:
    game = {"training._target_": "genlab.training.adversarial.AdversarialTraining"}
    make_run(tmp_path / "earlier", model="gan/mlp", config=game)
    make_run(tmp_path / "later", model="gan/mlp", seed=1, config={**game, "training.generator_batch": 1})
    assert [row.cells["seeds"].text for row in table_of(tmp_path).rows] == ["0,1"]
    make_run(tmp_path / "other", model="gan/mlp", config={**game, "training.generator_batch": 2})
    table = table_of(tmp_path)
    assert {row.cells["training.generator_batch"].text: len(row.runs) for row in table.rows} == {"1": 2, "2": 1}
    # Of what a run was told to leave out nothing is assumed.
    make_run(tmp_path / "without", model="gan/mlp", seed=2, config=game, overrides=("~training.generator_batch",))
    assert [len(row.runs) for row in table_of(tmp_path).rows] == [2, 1, 1]


@pytest.mark.parametrize("model", ["gan/stylegan2", "vae/vq_vae", "flow/glow_spline", "transformer/gpt"])
def test_a_run_of_this_version_lacks_no_key(model: str) -> None:
    config = OmegaConf.to_container(composed("train", [f"model={model}", "lr_schedule=cosine"]))
    assert isinstance(config, dict)
    assert with_later_keys(config) == config
    for section, key in [("schedule", "until"), ("training", "fused")]:
        earlier = {**config, section: {k: v for k, v in config[section].items() if k != key}}
        assert earlier != config
        assert with_later_keys(earlier) == config


def objects(node: Any) -> list[dict[str, Any]]:
    """Every object of a config, at any depth, that is built of a class."""
    found = [one for value in node.values() if isinstance(value, dict) for one in objects(value)]
    return [*found, node] if isinstance(node.get("_target_"), str) else found


def plain_values(of: dict[str, Any]) -> dict[str, Any]:
    """What an object states itself, without what is another object's or another key's."""
    return {k: v for k, v in of.items() if not isinstance(v, dict | list) and "${" not in str(v) and v != "???"}


def test_every_key_that_runs_of_before_lack_is_known() -> None:
    """A key that comes into ``conf/`` needs its line among the later keys, or older runs are other settings."""
    stated: dict[str, dict[str, Any]] = {}
    for path in CONF.rglob("*.yaml"):
        for one in objects(read_yaml(path)):
            values = plain_values(one)
            before = stated.setdefault(one["_target_"], values)
            stated[one["_target_"]] = {k: v for k, v in before.items() if k in values and values[k] == v}
    saved = [*(ROOT / "benchmarks").rglob("config.yaml"), *(ROOT / "tests" / "fixtures").rglob("config.yaml")]
    assert len(saved) > 60
    lacking = set()
    for path in saved:
        for one in objects(with_later_keys(current(read_yaml(path)))):
            lacking |= {(one["_target_"], key) for key in stated.get(one["_target_"], {}) if key not in one}
    assert not lacking
