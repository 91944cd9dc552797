"""The Python API: the examples of its docstrings, and what they do not show."""

import doctest
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.loggers.logger import Logger

import genlab as package
from genlab import api
from genlab.composition.from_python import composed_by
from genlab.composition.keywords import as_overrides
from genlab.errors import InputError
from support.command import FAST, Genlab, Trained
from support.made_runs import PROTOCOL, make_run, result

SMALL = ("model.networks.hidden=[16]", "callbacks=minimal", *FAST)
# The module in which a function lies says which one is meant: genlab.runs is a package, too.
PLACES = {
    name: api if hasattr(api, name) else sys.modules[getattr(package, name).__module__] for name in package.__all__
}
FOUND = {name: doctest.DocTestFinder(recurse=False).find(getattr(PLACES[name], name), name) for name in PLACES}
EXAMPLES = {name: test for name, (test,) in FOUND.items() if test.examples}
WITH_PANDAS = ("compare", "runs")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def test_every_public_function_has_an_example() -> None:
    assert EXAMPLES.keys() == set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__doc__, name


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_do_what_they_say(name: str, tmp_path: Path) -> None:
    if name in WITH_PANDAS:
        pytest.importorskip("pandas")
    said: list[str] = []
    with inside(tmp_path):
        doctest.DocTestRunner().run(EXAMPLES[name], out=said.append)
    assert not said, "".join(said)


@pytest.mark.e2e
def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    script = "import genlab, sys; assert not {'torch', 'hydra', 'pandas', 'pytorch_lightning'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=100, cwd=tmp_path).returncode == 0


def test_runs_is_a_package_and_a_function(tmp_path: Path) -> None:
    import genlab.runs.folder  # the import system sets genlab.runs to the package

    assert package.runs(tmp_path) == []
    assert genlab.runs.folder.CONFIG == "config.yaml"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"model__latent_dim": 8}, ["model.latent_dim=8"]),
        (
            {"trainer": {"max_epochs": 2, "precision": "32-true"}},
            ["trainer.max_epochs=2", "trainer.precision='32-true'"],
        ),
        ({"seed": None, "a": True, "b": 1e-4}, ["seed=null", "a=true", "b=0.0001"]),
        (
            {"model": "vae/vae", "name": "it's, odd", "tag": "true"},
            ["model=vae/vae", r"name='it\'s, odd'", "tag='true'"],
        ),
        ({"shape": [1, 2], "tags": ["a b"]}, ["shape=[1,2]", "tags=['a b']"]),
        ({"path": Path("/a b")}, ["path='/a b'"]),
    ],
)
def test_keywords_are_overrides(keys: dict[str, Any], expected: list[str]) -> None:
    assert as_overrides(keys) == expected


@pytest.mark.parametrize(
    ("keys", "regularizers"),
    [({"gan__regularizer": ["r1", "r2"]}, {"r1", "r2"}), ({"gan__regularizer": "dragan"}, {"dragan"})],
)
def test_a_group_of_a_family_takes_an_option_or_a_list_of_them(keys: dict[str, Any], regularizers: set[str]) -> None:
    config = composed_by("train", ["model=gan/dcgan", "gan/loss=hinge", *as_overrides(keys)])
    assert set(config.training.regularizers) == regularizers
    none = composed_by("train", ["model=gan/r3gan", *as_overrides({"gan__regularizer": []})])
    assert not none.training.get("regularizers")


def test_what_no_config_has_is_refused() -> None:
    with pytest.raises(InputError, match="model: a config has no set"):
        as_overrides({"model": {1, 2} })  # fmt: skip


class Counts(Callback):
    def __init__(self) -> None:
        self.batches, self.ended = 0, False

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.batches += 1

    def on_train_end(self, *_: Any) -> None:
        self.ended = True


class Keeps(Logger):
    name = version = "keeps"

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.config: Any = None

    def log_hyperparams(self, params: Any, *_: Any) -> None:
        self.config = params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(metrics)


def test_callbacks_and_loggers_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    counts, keeps = Counts(), Keeps()
    run = package.train(*SMALL, callbacks=[counts], loggers=[keeps], trainer__max_epochs=1)
    assert counts.batches == 4
    assert counts.ended
    assert keeps.config["model"]["latent_dim"] == 32
    assert {"test/fid", "train/loss"} <= {name for row in keeps.rows for name in row}
    assert run.folder.read_json("status.json")["objects"] == [f"{__name__}.Counts", f"{__name__}.Keeps"]
    assert capsys.readouterr().out == ""
    # A resumed run has those that it is given now.
    more = Counts()
    package.train(f"resume={run.folder.path}", "trainer.max_epochs=2", callbacks=[more])
    assert more.batches == 4
    with pytest.raises(InputError, match="callbacks: Keeps is not a Callback of pytorch_lightning"):
        package.train(*SMALL, callbacks=[keeps])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"callbacks are objects here; give .* as a text: 'callbacks=minimal'"):
        package.train(callbacks="minimal")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"loggers are objects here; give .* as a text: 'logger=csv'"):
        package.train(loggers="csv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"runs of one process: set trainer\.devices=1"):
        package.train(*SMALL, callbacks=[counts], trainer="ddp_cpu", trainer__devices=2)


def test_a_failed_job_of_a_sweep_is_an_error_and_the_others_are_there(genlab: Genlab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="latent_dim=0: at least 1"):
        package.sweep("model.latent_dim=0,4", *SMALL, paths__output_dir=str(tmp_path / "swept"))
    found = {run.config["model"]["latent_dim"]: run.status for run in package.runs(tmp_path / "swept")}
    assert found[4] == "done"
    with pytest.raises(InputError, match="there is no folder nowhere"):
        package.runs("nowhere")


def test_a_comparison_is_a_frame(trained: Trained) -> None:
    pandas = pytest.importorskip("pandas")
    one, two = trained(*SMALL), trained(*SMALL, "model.latent_dim=4")
    table = package.compare(one, two, figures=["fid"], sort="fid")
    assert isinstance(table, pandas.DataFrame)
    assert list(table["model.latent_dim"]) in ([32.0, 4.0], [4.0, 32.0], ["32", "4"], ["4", "32"])
    assert table["test/fid"].is_monotonic_increasing
    assert table.attrs["protocols"]["test/fid"]["num_samples"] == 80
    assert [folders for (folders,) in table["folders"]] in ([str(one), str(two)], [str(two), str(one)])
    metrics = package.load(one).metrics
    assert metrics["images_seen"].max() == 512
    assert metrics["train/loss"].notna().any()


def test_a_comparison_with_a_baseline_says_what_the_seeds_tell(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    values = {4: [2.0, 2.1, 1.9], 32: [1.0, 1.2, 0.8]}
    folders = {
        (width, seed): make_run(
            tmp_path / f"{width}-{seed}", seed=seed, overrides=(f"model.width={width}",),
            config={"model.width": width}, metrics={"test/bits_per_dim": result(value, PROTOCOL)},
        )
        for width, of_width in values.items()
        for seed, value in enumerate(of_width)
    }  # fmt: skip
    alone = package.compare(tmp_path, figures=["bits_per_dim"])
    assert not [name for name in alone if name.startswith("difference/")]
    assert ["width=32 is better than width=4" in one["sentence"] for one in alone.attrs["decisions"]] == [True]
    for baseline in ("model.width=32", folders[32, 1]):
        table = package.compare(tmp_path, figures=["bits_per_dim"], baseline=baseline)
        assert list(table["model.width"].astype(float)) == [32.0, 4.0]
        assert table["difference/test/bits_per_dim"].isna().tolist() == [True, False]
        assert table["difference/test/bits_per_dim"][1] == pytest.approx(1.0)
        assert 0 < table["difference/test/bits_per_dim ±"][1] < 1
        (decision,) = table.attrs["decisions"]
        assert (decision["better"], decision["separable"], decision["num"]) == (False, True, 3)
        assert "width=4 is worse than width=32" in decision["sentence"]


def test_without_pandas_a_frame_is_one_line(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(*SMALL)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        InputError, match=r"a table needs pandas, which is not installed: pip install 'genlab\[pandas\]'"
    ):
        package.compare(run)


def test_the_name_of_the_runs_is_that_of_their_package() -> None:
    """A path such as genlab.runs.latents.LatentsDataModule is looked up attribute by attribute."""
    code = "import genlab; assert genlab.runs.__path__ and callable(genlab.runs)"
    subprocess.run([sys.executable, "-c", code], check=True)
