"""Runs whose files hold what nobody expects: each is marked, shown as it is, and none hides the others."""

import copy
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genlab.comparison.cells import Table
from genlab.comparison.formats import FORMATS, on_terminal
from genlab.comparison.page import write_page
from genlab.comparison.picture import picture
from genlab.comparison.report import report
from genlab.comparison.runs import Run, read_run
from genlab.comparison.table import compared
from genlab.launching.sweeps import print_table
from genlab.runs.folder import RunFolder, find_runs
from support.command import Genlab

SAMPLES = {"dataset": "digits", "features": "digits", "num_samples": 10, "num_real": 20, "reference": "train"}
CONFIG = {
    "seed": 0,
    "run_dir": "here",
    "run_id": "1234",
    "choices": {"experiment": None, "model": "vae/vae", "dataset": "digits"},
    "model": {"_target_": "genlab.models.vae.vae.VAE", "latent_dim": 8},
    "paths": {"data_dir": "data"},
    "logger": {"csv": {"path": "metrics.csv"}},
    "monitor": {"metric": "val/nll", "mode": "min"},
}
STATUS = {"status": "done", "overrides": ["model=vae/vae", "seed=0"], "command": "genlab train", "reason": None}
FID = {
    "value": 3.5,
    "protocol": {**SAMPLES, "sampling": {"temperature": 1.0, "num_steps": 8}},
    "std": 0.1,
    "warning": "few images",
    "expected": 3.0,
}
SUMMARY = {
    "metrics": {
        "test/fid": FID,
        "test/bits_per_dim": {
            "value": 1.5,
            "unit": "bits/dim",
            "standard_error": 0.1,
            "protocol": {"likelihood": "lower_bound", "draws": 5, "num": 100, "levels": 17},
        },
        "test/modes": {"value": 9, "protocol": {"num_samples": 10}, "out_of": 10, "sampling_floor": 0.1},
        "test/mine": {"value": 0.5, "protocol": {"split": "test", "num": 7}},
    },
    "figures": {"mine": {"label": "mine", "better": "max", "protocol": ["split"], "unit": "%", "column": 3}},
    "monitor": {"metric": "val/nll", "mode": "min", "best": 1.0},
    "parameters": 100,
    "images_seen": 10_000,
    "epochs": 3,
    "images_per_second": 50.0,
    "wall_seconds": 3.0,
    "peak_memory_mb": 100.0,
    "environment": {"device": "cpu", "devices": 1, "versions": {"torch": "2.0"}},
}
EVALUATION = {
    "metrics": {"test/fid": {**FID, "value": 3.4}},
    "evaluations": [
        {"settings": {"sampling": {"num_steps": steps}}, "metrics": {"test/fid": {**FID, "value": float(steps)}}}
        for steps in (2, 4)
    ],
}
METRICS = "images_seen,seconds,train/loss\n64,0.5,3.0\n128,1.0,2.0\n"


def make_run(folder: Path, **files: Any) -> Path:
    """Write a run folder whose files are the ones above, but for those given."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    content = {"config": CONFIG, "status": STATUS, "summary": SUMMARY, "evaluation": EVALUATION, **files}
    (folder / "config.yaml").write_text(yaml.safe_dump(content["config"]))
    for name in ("status", "summary", "evaluation"):
        (folder / f"{name}.json").write_text(json.dumps(content[name]))
    (folder / "metrics.csv").write_text(files.get("metrics", METRICS))
    return folder


def table_of(root: Path) -> Table:
    return compared([read_run(folder) for folder in find_runs([root])], ["all"])


def assert_comparable(root: Path, page: Path) -> Table:
    """Everything that ``genlab compare`` and the end of a sweep make of runs is made."""
    table = table_of(root)
    on_terminal(table)
    for form in FORMATS.values():
        form(table)
    picture(table.rows, 4)
    write_page(report(table, "genlab compare"), page)
    print_table(root)
    return table


def status_of(table: Table, folder: Path) -> Run:
    (run,) = [run for row in table.rows for run in row.runs if run.path == folder]
    return run


# -- odd files ---------------------------------------------------------------------------------------------------------


def without(content: Any, *path: str) -> Any:
    changed = copy.deepcopy(content)
    node = changed
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return changed


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"summary": without(SUMMARY, "metrics", "test/fid", "protocol", "reference")},
            "summary.json is damaged (the protocol of test/fid has no reference)",
        ),
        (
            {"evaluation": without(EVALUATION, "metrics", "test/fid", "protocol", "num_real")},
            "test/fid has no num_real",
        ),
        ({"summary": {**SUMMARY, "wall_seconds": "3 s"}}, "wall_seconds='3 s': input should be a valid number"),
        ({"summary": {**SUMMARY, "images_per_second": float("inf")}}, "images_per_second=inf"),
        ({"summary": {**SUMMARY, "environment": [1]}}, "environment=[1]"),
        ({"summary": {"metrics": {"test/fid": {"value": "low", "protocol": {}}}}}, "metrics.test/fid.value='low'"),
        ({"summary": {"figures": {"mine": {"label": "mine", "better": "more"}}}}, "figures.mine.better='more'"),
        ({"status": {**STATUS, "overrides": {"seed": 1}}}, "status.json is damaged (overrides={'seed': 1}"),
        ({"status": {**STATUS, "reason": ["why"]}}, "status.json is damaged (reason=['why']"),
        ({"evaluation": {"metrics": [1, 2]}}, "evaluation.json is damaged (metrics=[1, 2]"),
        ({"config": {**CONFIG, "choices": "vae/vae"}}, "config.yaml is damaged (choices='vae/vae'"),
        ({"config": {**CONFIG, "seed": "one"}}, "config.yaml is damaged (seed='one'"),
        ({"metrics": "no table"}, "metrics.csv is damaged (it has no column images_seen)"),
        ({"metrics": "images_seen,\0\n"}, "metrics.csv is damaged (it has bytes that are 0)"),
    ],
)
def test_an_odd_file_marks_its_run(
    genlab: Genlab, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, Any], said: str
) -> None:
    make_run(tmp_path / "runs" / "good", config={**CONFIG, "seed": 1})
    odd = make_run(tmp_path / "runs" / "odd", **files)
    table = assert_comparable(tmp_path / "runs", tmp_path / "page.html")
    run = status_of(table, odd)
    assert run.status == "damaged"
    assert said in str(run.reason)
    assert said in json.loads((tmp_path / "page.html").read_text().split("application/json", 1)[1].split(">", 1)[1]
                              .split("</script>", 1)[0]).__str__()  # fmt: skip
    result = genlab("compare", tmp_path / "runs", "--html", tmp_path / "page.html")
    assert result.code == 0, result.err
    assert "damaged" in result.out


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2]", b"[" * 100_000, b"", b"9" * 10_000])
@pytest.mark.parametrize("name", ["status.json", "summary.json", "evaluation.json", "config.yaml", "metrics.csv"])
def test_bytes_that_are_no_record(tmp_path: Path, name: str, content: bytes) -> None:
    make_run(tmp_path / "runs" / "good", config={**CONFIG, "seed": 1})
    odd = make_run(tmp_path / "runs" / "odd")
    (odd / name).write_bytes(content)
    run = status_of(assert_comparable(tmp_path / "runs", tmp_path / "page.html"), odd)
    if name == "metrics.csv" and not content:
        assert run.status == "done"  # a run that was killed before its first row
        return
    assert run.status == "damaged"
    assert name in str(run.reason)


def test_arrays_and_pictures_that_are_none(tmp_path: Path) -> None:
    huge = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (3000000000000, 1, 8, 8), }"
    arrays = {
        "flat": np.zeros(5, np.uint8),
        "scalar": np.array(5, np.uint8),
        "empty": np.zeros((2, 1, 0, 4), np.uint8),
        "thin": np.zeros((2, 1, 1, 500), np.uint8),
        "floats": np.zeros((2, 1, 8, 8)),
    }
    for name, array in arrays.items():
        run = make_run(tmp_path / "runs" / name, config={**CONFIG, "seed": len(name)})
        for file in ("final", "real"):
            np.save(run / "samples" / f"{file}.npy", array)
        (run / "samples" / "0000000064.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00" * 30)
        (run / "samples" / "²³.png").write_bytes(b"")
    for name, content in (("huge", huge + b" " * 30 + b"\n"), ("zip", b"PK\x03\x04"), ("pickle", b"\x80\x04N.")):
        run = make_run(tmp_path / "runs" / name, config={**CONFIG, "seed": 10 + len(name)})
        (run / "samples" / "final.npy").write_bytes(content)
    assert_comparable(tmp_path / "runs", tmp_path / "page.html")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_subnormal=False),  # which genlab flushes to zero in this process
    st.text(max_size=5),
    st.sampled_from(["=1+1", "[/b]", "\x1b[2J", "$(x)", "²"]),
    st.just(10**400),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inside for place in places(value, (*path, key)))]


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(node)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


FILES = {"config": CONFIG, "status": STATUS, "summary": SUMMARY, "evaluation": EVALUATION}
PLACES = [(name, place) for name, content in FILES.items() for place in places(content)]


def _any_value_anywhere(tmp_path: Path, changes: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
    files = dict(FILES)
    for (name, place), value in changes:
        try:
            files[name] = put(files[name], place, value)
        except (KeyError, TypeError, IndexError):  # an earlier change removed the place
            continue
    make_run(tmp_path / "runs" / "good", config={**CONFIG, "seed": 1})
    odd = make_run(tmp_path / "runs" / "odd", **files)
    table = assert_comparable(tmp_path / "runs", tmp_path / "page.html")
    assert status_of(table, odd)
    assert status_of(table, tmp_path / "runs" / "good").status == "done"


APART = [HealthCheck.function_scoped_fixture]
CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3)


@settings(max_examples=20, suppress_health_check=APART)
@given(changes=CHANGES)
def test_any_value_anywhere(tmp_path: Path, changes: Any) -> None:
    _any_value_anywhere(tmp_path, changes)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=APART)
@given(changes=CHANGES)
def test_any_value_anywhere_many_times(tmp_path: Path, changes: Any) -> None:
    _any_value_anywhere(tmp_path, changes)


# -- texts that mean something to what shows them ----------------------------------------------------------------------

TEXTS = ["dig[/b]its", "[bold]x", "a:smile:b", "{task}", "=1+1", "\x1b]0;title\x07", "<img src=x>", "[x](http://y)"]


def texts_everywhere(folder: Path, text: str) -> Path:
    config = {**CONFIG, "choices": {"experiment": text, "model": text, "dataset": text}, "tag": text}
    status = {**STATUS, "status": "failed", "reason": text, "overrides": [f"tag={text}", text], "command": text}
    summary = put(SUMMARY, ("metrics", "test/fid", "warning"), text)
    return make_run(folder, config=config, status=status, summary=summary)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shared", [True, False])
def test_a_text_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, shared: bool) -> None:
    for i in range(2):
        texts_everywhere(tmp_path / "runs" / str(i), text if shared or i else "plain")
    assert_comparable(tmp_path / "runs", tmp_path / "page.html")
    captured = capsys.readouterr()
    for said in (captured.out, captured.err):
        assert "\x1b" not in said
        assert "\x07" not in said
    assert text.replace("\x1b", "\\x1b").replace("\x07", "\\x07") in captured.out
    assert text.replace("\x1b", "\\x1b").replace("\x07", "\\x07") in captured.err


def test_a_spreadsheet_computes_nothing(tmp_path: Path) -> None:
    for i, text in enumerate(["=1+1", "+1+1", "@SUM(A1)", "-2+3", "-0.5", "\t=1", "plain"]):
        make_run(tmp_path / "runs" / str(i), config={**CONFIG, "tag": text}, status={**STATUS, "overrides": []})
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](table_of(tmp_path / "runs")))))
    assert {row["tag"] for row in rows} == {"'=1+1", "'+1+1", "'@SUM(A1)", "'-2+3", "-0.5", "'\t=1", "plain"}


def test_markdown_and_latex_escape_what_they_would_read(tmp_path: Path) -> None:
    for i, text in enumerate(["<img src=x>", "[x](http://y)", "`c` *b* _e_ a_b", "\\input{x}", "two\nlines"]):
        make_run(tmp_path / "runs" / str(i), config={**CONFIG, "tag": text}, status={**STATUS, "overrides": []})
    table = table_of(tmp_path / "runs")
    markdown, latex = FORMATS["markdown"](table), FORMATS["latex"](table)
    for shown in ("&lt;img src=x&gt;", "[x]\\(http://y)", "\\`c\\` \\*b\\* \\_e\\_ a_b", "\\\\input{x}", "two lines"):
        assert shown in markdown
    for shown in (r"\textless{}img src=x\textgreater{}", r"\textbackslash{}input\{x\}", "two lines"):
        assert shown in latex


def test_a_folders_name_that_is_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    folder = os.fsdecode(os.fsencode(tmp_path / "runs") + b"/odd-\xff")
    make_run(Path(folder), config=[])
    make_run(tmp_path / "runs" / "good")
    on_terminal(table_of(tmp_path / "runs"))
    assert "odd-\\udcff" in capsys.readouterr().out
    assert read_run(RunFolder(folder)).status == "damaged"
