"""The saved config names every path of data from the root, whatever takes it, so that a run opens from any folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from genlab.comparison.later_keys import with_later_keys
from genlab.composition.command_line import spelled
from genlab.composition.configs import composed
from genlab.composition.path_keys import is_path, paths_in
from genlab.launching.options import absolute_paths
from genlab.runs.moved import current
from genlab.runs.resuming import differences
from support.command import Genlab

SHORT = ["metrics.num_samples=20", "trainer.max_epochs=1", "callbacks=minimal"]


def made_absolute(*overrides: str) -> dict[str, object]:
    cfg = composed("train", spelled("train", overrides))
    absolute_paths(cfg)
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    return content


def test_paths_at_any_depth_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLAB_DATA", "data")
    monkeypatch.setenv("ELSEWHERE", "elsewhere")
    palette = ["dataset=palette", "dataset@dataset.of=image_folder", "dataset.of.source.path=photos"]
    content = made_absolute(*palette, "metrics/features=inception", "metrics.features.weights=w.pth")
    found = dict(paths_in(content))
    assert found["dataset.of.source.path"] == str(tmp_path / "photos")
    assert found["metrics.features.weights"] == str(tmp_path / "w.pth")
    assert made_absolute("dataset=mnist", "dataset.source.root=files")["dataset"]["source"]["root"] == str(
        tmp_path / "files"
    )  # type: ignore[index]
    assert made_absolute("dataset=mnist")["paths"]["data_dir"] == str(tmp_path / "data")  # type: ignore[index]
    assert made_absolute("dataset=mnist")["dataset"]["source"]["root"] == "${paths.data_dir}"  # type: ignore[index]
    text = made_absolute("dataset=text", "dataset.source.path=${oc.env:ELSEWHERE}/a.txt")
    assert text["dataset"]["source"]["path"] == str(tmp_path / "elsewhere/a.txt")  # type: ignore[index]
    home = made_absolute("dataset=text", "dataset.source.path=~/a.txt")
    assert home["dataset"]["source"]["path"] == str(Path.home() / "a.txt")  # type: ignore[index]
    # What a run writes lies in its own folder, which is not known yet.
    assert "${run_dir}" in str(content["callbacks"])
    assert found.keys() == {"dataset.of.source.path", "metrics.features.weights"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("dataset.source.path", "photos", True),
        ("dataset.of.source.root", "photos", True),
        ("metrics.features.run", "outputs/a", True),
        ("tokenizer.path", "gpt2", True),
        ("metrics.measures.mine.weights", "files/w.pt", True),
        ("training.loss.weights_file", "w.pt", True),
        ("dataset.source.data_dir", "files/a", True),
        ("metrics.features.weights", "digits", False),  # a name that genlab has
        ("metrics.modes.weights", "mnist", False),
        ("dataset.source.path", "https://example.org/a.csv", False),
        ("dataset.source.path", "s3://bucket/a.csv", False),
        ("dataset.source.path", None, False),
        ("dataset.name", "a/b", False),
        ("model.weights", [0.5, 0.5], False),
        ("logger.csv.path", "outputs/metrics.csv", False),
    ],
)
def test_what_is_a_path(key: str, value: object, expected: bool) -> None:
    assert is_path(key, value) is expected


def test_where_data_lie_is_not_compared_but_which_run_made_them_is() -> None:
    def changed(key: str, before: str, after: str) -> list[str]:
        one, two = (OmegaConf.create({}) for _ in range(2))
        for config, value in ((one, before), (two, after)):
            OmegaConf.update(config, key, value, force_add=True)
        return list(differences(OmegaConf.to_container(one), OmegaConf.to_container(two)))  # type: ignore[arg-type]

    for key in ("dataset.source.path", "dataset.of.source.path", "dataset.source.root", "tokenizer.path"):
        assert changed(key, "/a", "/b") == []
    assert changed("dataset.run", "/a", "/b") == ["dataset.run"]
    assert changed("dataset.name", "a", "b") == ["dataset.name"]


def test_a_run_on_a_relative_path_is_measured_and_resumed_from_elsewhere(
    genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rows = np.random.default_rng(0).random((60, 2))
    head = "0,1\n"
    (tmp_path / "here/a (1), b.csv").write_text(head + "\n".join(f"{a},{b}" for a, b in rows), encoding="utf-8")
    given = ["model=flow/nsf", "dataset=table", "dataset.shape=[2]", "dataset.batch_size=8", *SHORT]
    result = genlab("train", *given, "dataset.source.path=a (1), b.csv")
    assert result.code == 0, result.err
    assert "the first row, 0,1, is taken for a header" in result.err
    run = result.run
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["dataset"]["source"] | {"columns": None} == {
        "_target_": "genlab.data.table.Table",
        "path": str(tmp_path / "here/a (1), b.csv"),
        "columns": None,
        "header": "auto",
    }
    monkeypatch.chdir(tmp_path / "there")
    assert genlab("evaluate", run, "metrics.num_samples=20").code == 0
    again = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert again.code == 0, again.err
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["dataset"] == saved["dataset"]


@pytest.mark.slow
def test_a_table_of_an_earlier_version_keeps_its_rows(genlab: Genlab, tmp_path: Path) -> None:
    """A first row of numbers in order was data in earlier versions, whose configs say nothing of headers."""
    rows = np.random.default_rng(0).random((59, 2))
    (tmp_path / "a.csv").write_text("0,1\n" + "\n".join(f"{a},{b}" for a, b in rows), encoding="utf-8")
    given = ["model=flow/nsf", "dataset=table", "dataset.shape=[2]", "dataset.batch_size=8", *SHORT]
    result = genlab("train", *given, "dataset.source.header=text", f"dataset.source.path={tmp_path}/a.csv")
    run = result.run
    for name, old, new in (
        ("config.yaml", "    header: text\n", ""),
        ("status.json", '"dataset.source.header=text",', ""),
    ):
        content = (run / name).read_text(encoding="utf-8")
        assert old in content
        (run / name).write_text(content.replace(old, new), encoding="utf-8")
    copy = Path(shutil.copytree(run, run.with_name("copy")))
    assert genlab("evaluate", copy, "metrics.num_samples=20").code == 0
    assert '"header": "none"' in (copy / "evaluation.json").read_text(encoding="utf-8")
    again = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert again.code == 0, again.err
    assert "48 train, 6 val, 6 test" in again.err


def test_the_config_of_a_table_of_an_earlier_version_is_completed_with_its_rule() -> None:
    table = {"_target_": "genlab.data.table.Table", "path": "/a.csv", "columns": None}
    assert current({"source": table})["source"]["header"] == "text"
    assert with_later_keys({"source": table})["source"]["header"] == "text"
    assert current({"source": {**table, "header": "auto"}})["source"]["header"] == "auto"
