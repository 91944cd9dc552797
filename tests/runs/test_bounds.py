"""What is a bound is called one: in protocols, in tables, in the terminal; also in records that called it exact."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genlab.comparison.cells import Table
from genlab.comparison.formats import descriptions, markdown, on_terminal
from genlab.comparison.runs import read_run
from genlab.comparison.table import compared
from genlab.metrics.display import remark
from genlab.metrics.result import Result
from genlab.runs.folder import find_runs
from genlab.runs.loading import load
from support.command import Genlab, Trained

FAST = ("trainer.max_epochs=1", "logger=csv",
        "metrics.num_samples=16", "metrics.num_test=20", "dataset.train_size=128")  # fmt: skip
OF_PIXELS = ("model=autoregressive/made", "model.hidden=[16]", "dataset=digits")
PROTOCOL = {"dataset": "digits", "split": "test", "num": 300, "levels": 17}


def folder(path: Path, distribution: str, **figures: Any) -> None:
    path.mkdir(parents=True)
    model = {"_target_": "genlab.models.autoregressive.fvsbn.FVSBN", "width": len(path.name)}
    model["distribution"] = {"_target_": f"genlab.distributions.pixel.{distribution}"}
    choices = {"model": path.name, "dataset": "digits"}
    (path / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "choices": choices, "model": model}))
    (path / "status.json").write_text(json.dumps({"status": "done", "overrides": [f"model={path.name}"]}))
    metrics = {f"test/{name}": {"value": 2.5, "protocol": {**PROTOCOL, **more}} for name, more in figures.items()}
    (path / "summary.json").write_text(json.dumps({"metrics": metrics, "images_per_second": 50.0}))


def table_of(root: Path) -> Table:
    return compared([read_run(folder) for folder in find_runs([root])], figures=["all"])


def test_every_bound_on_a_likelihood_has_its_sign_and_nothing_else_has(tmp_path: Path) -> None:
    figures = {
        "nll": {"likelihood": "lower_bound", "draws": 1},
        "nll_iw": {"likelihood": "importance-weighted bound", "draws": 5000},
        "bits_per_dim_iw": {"likelihood": "importance-weighted bound", "draws": 5000},
        "bits_per_dim": {"likelihood": "exact"},
        "rate": {},
    }
    folder(tmp_path / "one", "Bernoulli", **figures)
    table = table_of(tmp_path)
    (row,) = table.rows
    found = {name: row.cells[f"test/{name}"].text for name in figures}
    assert found == {
        "nll": "≤ 2.500", "nll_iw": "≤ 2.500", "bits_per_dim_iw": "≤ 2.500", "bits_per_dim": "2.500", "rate": "2.500",
    }  # fmt: skip
    assert "≤: an upper bound" in descriptions(table)
    assert "importance-weighted bound" not in markdown(table)  # it differs between models: the sign says it


def test_an_earlier_record_of_a_dequantized_density_is_the_bound_that_it_was(tmp_path: Path) -> None:
    folder(tmp_path / "dequantized", "DequantizedGaussian", nll={"likelihood": "exact"}, rate={})
    folder(tmp_path / "categorical", "Categorical", nll={"likelihood": "exact"}, rate={})
    (tmp_path / "dequantized" / "evaluation.json").write_text(
        json.dumps({"metrics": {"test/nll": {"value": 3.5, "protocol": {**PROTOCOL, "likelihood": "exact"}}}})
    )
    runs = {run.path.name: read_run(run) for run in find_runs([tmp_path])}
    assert runs["dequantized"].figures["test/nll"].protocol["likelihood"] == "lower_bound"
    assert runs["dequantized"].trained["test/nll"].protocol["draws"] == 1
    assert "likelihood" not in runs["dequantized"].figures["test/rate"].protocol
    assert runs["categorical"].figures["test/nll"].protocol["likelihood"] == "exact"
    table = table_of(tmp_path)
    assert {row.label: row.cells["test/nll"].text[:1] for row in table.rows} == {
        "model=dequantized": "≤",
        "model=categorical": "2",
    }


@pytest.mark.parametrize(
    ("distribution", "kind"), [("gaussian", "exact"), ("dequantized_gaussian", "lower_bound"), ("categorical", "exact")]
)
def test_a_run_says_of_its_likelihood_what_its_distribution_is(
    distribution: str, kind: str, genlab: Genlab, trained: Trained
) -> None:
    run = trained(*OF_PIXELS, f"distribution={distribution}", *FAST)
    protocol = json.loads((run / "summary.json").read_text())["metrics"]["test/nll"]["protocol"]
    assert protocol["likelihood"] == kind
    assert protocol.get("draws") == (1 if kind == "lower_bound" else None)
    model = load(run).model
    x = torch.randint(0, 17, (4, 1, 8, 8)) / 16
    with torch.no_grad():
        assert torch.equal(model.log_prob(x), model.log_prob(x)) == (kind == "exact")  # type: ignore[operator]
    shown = genlab("compare", run)
    assert shown.code == 0, shown.err
    assert ("≤" in shown.out) == (kind == "lower_bound")
    pictured = genlab("sample", f"run={run}", "mode=surprise", "n=2")
    assert pictured.code == 0, pictured.err
    assert ("one draw of a bound" in pictured.out) == (kind == "lower_bound")


def test_a_likelihood_given_classes_says_so_wherever_it_is_shown(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=vae/vae", "model.networks.hidden=[16]", "model.num_classes=10", "dataset=digits", *FAST)
    metrics = json.loads((run / "summary.json").read_text())["metrics"]
    for name in ("test/nll", "test/bits_per_dim", "test/rate", "test/active_units"):
        assert metrics[name]["protocol"]["given"] == "classes", name
    assert "lower bound, given their classes, 20 test images" in remark(Result.from_json(metrics["test/nll"]))
    weighted = genlab("evaluate", run, "metrics.importance_samples=3", "metrics.num_test=20", "metrics.num_samples=16")
    assert weighted.code == 0, weighted.err
    table = table_of(run)
    (row,) = table.rows
    assert row.cells["test/nll_iw"].text.startswith("≤ ")
    for column in table.columns:
        if column.key.startswith(("test/nll", "test/bits_per_dim", "test/rate")):
            assert column.protocol is not None
            assert column.protocol["given"] == "classes"


def test_images_per_second_are_said_to_be_of_training_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path / "one", "Bernoulli", nll={"likelihood": "exact"})
    table = table_of(tmp_path)
    line = "images/s: of training alone, without validation and pictures, which the wall time includes"
    assert line in descriptions(table)
    on_terminal(table)
    assert line in " ".join(capsys.readouterr().out.split())
