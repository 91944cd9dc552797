"""Measures as classes: results that keep their JSON, what is declared, and adding one as the docs say."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from genlab.errors import InputError
from genlab.metrics.evaluation import Evaluation, first_measures
from genlab.metrics.figure import Figure
from genlab.metrics.measures.base import Measure
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.kid import KID
from genlab.metrics.result import Result
from genlab.metrics.running import Share
from genlab.metrics.subject import Subject
from support.command import Genlab
from support.paths import CONF, ROOT

SMALL = (
    "trainer.max_epochs=1",
    "dataset.train_size=128",
    "model.networks.hidden=[16]",
    "metrics.num_samples=40",
    "logger=csv",
)

# -- results -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        {"value": 1.0, "protocol": {"a": 1}},
        {"value": 1.0, "unit": "nats", "protocol": {}, "standard_error": 0.5},
        {"value": 1.0, "std": 0.5, "protocol": {}, "warning": "few"},
        {"value": 1.0, "protocol": {}, "unit": "nats", "sampling_floor": 0.1},
        {"value": 0.0, "expected": 0.01, "z": -1.0, "protocol": {}},
        {"value": 7.0, "protocol": {}, "out_of": 10, "warning": "few"},
    ],
)
def test_json_of_a_result_comes_back_as_it_was(content: dict) -> None:  # type: ignore[type-arg]
    assert json.dumps(Result.from_json(content).to_json()) == json.dumps(content)


def test_a_result_states_more_of_its_protocol_in_the_order_it_is_added() -> None:
    result = Result(1.0, {"a": 1, "b": 2}, unit="nats").under({"b": 3, "c": 4})
    assert result == Result(1.0, {"a": 1, "b": 3, "c": 4}, unit="nats")
    assert list(result.protocol) == ["a", "b", "c"]


# -- the list ----------------------------------------------------------------------------------------------------------


def test_conf_lists_what_runs_from_before_it_could_be_listed_were_measured_by_and_more() -> None:
    listed = yaml.safe_load((CONF / "metrics" / "measures" / "default.yaml").read_text())
    before = {name: f"{type(one).__module__}.{type(one).__qualname__}" for name, one in first_measures().items()}
    assert list(before.items()) == [(n, node["_target_"]) for n, node in listed.items() if n in before]


def test_figures_of_all_measures_are_known_without_pytorch() -> None:
    program = (
        "import sys\nfrom genlab.metrics.catalogue import catalogue\n"
        "assert {'fid', 'nll_iw', 'rate', 'modes', 'too_near_to_train'} <= catalogue().keys()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


class Another(Measure):
    figures = {"fid": Figure("another FID", "min"), "own": Figure("own", "max")}

    def __call__(self, subject: Subject) -> dict[str, Result]:
        return {"own": Result(float(subject.samples.sum()), {"num_samples": len(subject.samples)})}


def test_what_is_no_measure_or_measured_twice_is_one_line() -> None:
    with pytest.raises(InputError, match=r"fid and mine both measure fid; leave one out \(~metrics.measures.fid\)"):
        Evaluation(measures={"fid": FID(), "mine": Another()})
    with pytest.raises(InputError, match=r"metrics\.measures\.mine: Linear is not a genlab measure"):
        Evaluation(measures={"mine": torch.nn.Linear(1, 1)})  # type: ignore[dict-item]
    evaluation = Evaluation(measures={"fid": None, "kid": KID(), "mine": Another()})
    assert list(evaluation.measures) == ["kid", "mine"]
    # What the catalogue knows needs no declaration in the run folder, what it knows otherwise does.
    assert evaluation.declared == Another.figures


def test_every_process_measures_the_samples_of_all_in_training() -> None:
    share = Share(
        torch.ones(2, 3),
        4,
        extractor=None,
        real=None,
        device=torch.device("cpu"),
        gather=lambda rows: torch.cat([rows, 2 * rows]),
        world_size=2,
    )
    assert Another().applies(share)
    assert not FID().applies(share)
    assert Another().running(share) == {"own": 18.0}


# -- adding one, as docs/adding.md says --------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The blocks of the section on a metric by language, its Python in ``my_measure.py``, its YAML in ``my_conf``."""
    text = (ROOT / "docs" / "adding.md").read_text()
    (section,) = re.findall(r"^## A metric$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    blocks: dict[str, list[str]] = {}
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE):
        blocks.setdefault(language, []).append(block)
    (tmp_path / "my_measure.py").write_text("".join(blocks["python"]))
    (tmp_path / "my_conf" / "metrics" / "measures").mkdir(parents=True)
    (tmp_path / "my_conf" / "metrics" / "measures" / "mine.yaml").write_text("".join(blocks["yaml"]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_measure", raising=False)
    return blocks


def test_a_measure_is_added_by_one_class_and_one_entry(genlab: Genlab, page: dict[str, list[str]]) -> None:
    for seed, block in enumerate(page[""]):
        command = shlex.split(block.replace("\\\n", " "))
        assert command[0] == "genlab"
        result = genlab(*command[1:], *SMALL, f"seed={seed}", f"model.latent_dim={seed + 2}")
        assert result.code == 0, result.err
        assert "brightness gap" in result.out
    runs = sorted(path.parent for path in result.outputs.rglob("summary.json"))
    for run in runs:
        summary = json.loads((run / "summary.json").read_text())
        measured = summary["metrics"]["test/brightness_gap"]
        assert 0 <= measured["value"] < 1
        assert measured["protocol"]["num_samples"] == 40
        assert measured["protocol"]["num_real"] == 128
        assert measured["protocol"]["weights"] == "raw"
        assert "test/fid" in summary["metrics"]  # beside the others
        assert summary["figures"]["brightness_gap"]["better"] == "min"
    assert "val/brightness_gap" in (runs[-1] / "metrics.csv").read_text().splitlines()[0].split(",")
    # Compared without the module.
    Path("my_measure.py").unlink()
    shown = genlab("compare", result.outputs, "format=json")
    assert shown.code == 0, shown.err
    content = json.loads(shown.out)
    (column,) = (c for c in content["columns"] if c["key"] == "test/brightness_gap")
    assert (column["title"], column["better"]) == ("brightness gap", "min")
    cells = [row["cells"]["test/brightness_gap"] for row in content["rows"]]
    assert [cell["best"] for cell in cells] == [cell["value"] == min(c["value"] for c in cells) for cell in cells]


def test_a_run_whose_config_names_no_measures_is_measured_by_the_first_ones(genlab: Genlab) -> None:
    """As the configs of runs that an earlier version made."""
    result = genlab(
        "train", *SMALL, "~metrics.measures", "~callbacks.sample_metrics.measures",
        "callbacks.sample_metrics.num_samples=30",
    )  # fmt: skip
    assert result.code == 0, result.err
    config = yaml.safe_load((result.run / "config.yaml").read_text())
    assert "measures" not in config["metrics"]
    metrics = json.loads((result.run / "summary.json").read_text())["metrics"]
    assert {
        "test/nll",
        "test/rate",
        "test/fid",
        "test/coverage",
        "test/modes",
        "test/too_near_to_train",
    } <= metrics.keys()
    header = (result.run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"val/fid", "val/kid", "val/inception_score", "val/modes"} <= set(header)
