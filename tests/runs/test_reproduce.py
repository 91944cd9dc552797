"""Reproducing published figures: verdicts, recipes, records and tables."""

import itertools
import json
import re
import time
from pathlib import Path

import pytest
import torch

from genlab.commands.reproduce import main
from genlab.errors import InputError
from genlab.metrics.published import Published, Verdict, fingerprint, verdict
from genlab.reproduction import checking, jobs
from genlab.reproduction.jobs import Job, compared, evaluate_further
from genlab.reproduction.listing import print_list
from genlab.reproduction.pages import pages
from genlab.reproduction.recipes import Recipe, named, recipes
from genlab.reproduction.records import Record, judged, records_of
from genlab.reproduction.tables import results_table
from genlab.reproduction.writing import POINTS, _curve, portable, write_record
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.config import read_config, with_data_of_this_machine
from genlab.runs.folder import RunFolder, find_runs
from genlab.runs.rows import images_logged
from support.command import Genlab
from support.paths import CONF

BLOCK = {
    "paper": "A paper",
    "figures": {"nll": 80.0},
    "read": "table 1",
    "protocol": "exact",
    "tolerance": {"nll": {"value": 0.5, "why": "the spread of two reproductions"}},
    "images": 1000,
}


def published(**changes: object) -> Published:
    return Published.from_config({**BLOCK, **changes})


@pytest.mark.parametrize(
    ("values", "trained", "word"),
    [
        ([], None, "unrun"),
        ([80.2, 79.9, 80.1], 1.0, "reproduced"),
        ([80.6, 80.4, 80.5], 1.0, "reproduced"),  # on the edge
        ([80.2, 80.0], 1.0, "within, 2 of 3 seeds"),
        ([80.9, 81.1, 81.0], 1.0, "failed"),
        ([79.0, 79.1, 79.2], 1.0, "better"),
        ([79.0], 0.4, "better"),  # however short the training was
        ([80.0, 80.0, 80.0], 0.757, "truncated 75 %"),
        ([85.0, 85.0, 85.0], 0.9985, "truncated 99 %"),
        ([80.0, 80.0, 80.0], 0.9995, "reproduced"),  # all but a batch
    ],
)
def test_verdicts(values: list[float], trained: float | None, word: str) -> None:
    assert str(verdict(published(), "nll", values, trained, ended=True)) == word


def test_verdicts_on_figures_that_are_better_high_and_on_trainings_cut_short() -> None:
    fid = {"figures": {"precision": 0.8}, "tolerance": {"precision": {"value": 0.1, "why": "w"}}}
    assert verdict(published(**fid), "precision", [0.95], 1.0, True).word == "better"
    assert verdict(published(**fid), "precision", [0.65], 1.0, True).word == "failed"
    assert str(verdict(published(images=None), "nll", [80.0] * 3, None, ended=False)) == "truncated"
    assert verdict(published(images=None), "nll", [80.0] * 3, None, ended=True).word == "reproduced"
    smaller = published(reduced="half the channels")
    assert verdict(smaller, "nll", [80.0] * 3, 1.0, True).word == "reduced"
    one_sided = published(tolerance={"nll": {"value": 0.5, "why": "w", "side": "worse"}})
    assert verdict(one_sided, "nll", [70.0] * 3, 1.0, True).word == "reproduced"
    assert verdict(one_sided, "nll", [81.0] * 3, 1.0, True).word == "failed"


def test_the_standard_error_of_a_verdict_is_that_of_the_mean_over_seeds() -> None:
    values = torch.tensor([80.1, 80.4, 79.7, 80.0])
    found = verdict(published(), "nll", values.tolist(), 1.0, True)
    assert found.mean == pytest.approx(values.mean().item())
    assert found.standard_error == pytest.approx(values.std().item() / 2)
    assert verdict(published(), "nll", [80.0], 1.0, True).standard_error is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"verified": True}, "there is no key verified"),
        ({"tolerance": {}}, "nll needs a figure and a tolerance"),
        ({"tolerance": {"nll": 0.5}}, "cannot be read"),
        ({"tolerance": {"nll": {"value": 0.5}}}, "cannot be read"),  # no reason for the size
        ({"differences": "none"}, "cannot be read"),
    ],
)
def test_blocks_that_are_refused(changes: dict[str, object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        published(**changes)
    with pytest.raises(InputError, match="no value for paper"):
        Published.from_config({key: value for key, value in BLOCK.items() if key != "paper"})


def test_a_fingerprint_depends_on_values_and_not_on_the_order_of_keys() -> None:
    turned = dict(reversed(BLOCK.items()))
    assert fingerprint(turned) == fingerprint(BLOCK)
    looser = {**BLOCK, "tolerance": {"nll": {"value": 0.6, "why": "the spread of two reproductions"}}}
    assert fingerprint(looser) != fingerprint(BLOCK)


def test_every_experiment_of_a_paper_is_a_recipe_whose_block_is_the_composed_one() -> None:
    from omegaconf import OmegaConf

    from genlab.composition.configs import composed

    found = recipes()
    assert set(found) == {path.stem for path in (CONF / "experiment/paper").glob("*.yaml")}
    for recipe in found.values():
        assert recipe.published.figures
        assert recipe.family in ("autoregressive", "diffusion", "flow", "gan", "transformer", "vae")
    for name in ("mnist_iwae5", "exact_ring2d"):  # which inherit
        composed_block = OmegaConf.to_container(composed("train", [f"experiment=paper/{name}"]).reference)
        assert fingerprint(found[name].block) == fingerprint(composed_block)  # type: ignore[arg-type]


def test_recipes_that_need_no_file_are_known() -> None:
    assert not recipes()["exact_ring2d"].needs_files
    assert recipes()["mnist_made"].needs_files
    with pytest.raises(InputError, match=r"mnist_mode: no such recipe; did you mean mnist_made"):
        named(["mnist_mode"])


def test_any_experiment_can_be_recorded() -> None:
    dcgan, made = named(["mnist/dcgan", "paper/mnist_made"])
    assert (dcgan.experiment, dcgan.family, dcgan.dataset) == ("mnist/dcgan", "gan", "mnist")
    assert not dcgan.published.figures
    assert made.experiment == "paper/mnist_made"
    with pytest.raises(InputError, match=r"mnist/dcgam: no such recipe"):
        named(["mnist/dcgam"])


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(genlab: Genlab, tmp_path: Path) -> tuple[Recipe, RunFolder]:
    """A recipe of a few steps on digits, and its finished run."""
    path = tmp_path / "conf/experiment/paper/tiny.yaml"
    path.parent.mkdir(parents=True)
    reference = {**BLOCK, "figures": {"nll": 60.0}, "images": 128}
    path.write_text(
        "# @package _global_\ndefaults:\n  - override /model: autoregressive/fvsbn\n  - override /callbacks: minimal\n"
        f"reference: {json.dumps(reference)}\ntrainer:\n  max_epochs: 1\nbudget:\n  images: 128\n"
        "dataset:\n  batch_size: 64\nmetrics:\n  num_samples: 50\n"
    )
    result = genlab("train", "--config-dir", tmp_path / "conf", "experiment=paper/tiny", "logger=csv")
    assert result.code == 0, result.err
    return Recipe("tiny", "autoregressive/fvsbn", "digits", reference), RunFolder(result.run)


def test_a_record_has_what_a_stranger_needs(
    tiny: tuple[Recipe, RunFolder], genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tiny
    results = tmp_path / "results"
    write_record("tiny", folder, results)
    (record,) = records_of("tiny", results)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert record.sha256 == recipe.sha256
    assert record.figures["nll"].value == summary["metrics"]["test/nll"]["value"]
    assert record.trained(recipe.published) == 1.0
    content = record.content
    assert content["data"]["sizes"] == {"train": 1347, "val": 150, "test": 300}
    assert len(content["data"]["test_as_seen_sha256"]) == 64
    assert str(tmp_path) not in record.path.read_text()  # no path of the machine
    assert content["training"]["ended"] is True
    assert content["commits"] == json.loads((folder.path / "status.json").read_text())["commits"]
    # The weights are small, so they are kept, and open as a run.
    assert record.weights is not None
    sampled = genlab("sample", f"run={record.weights}", "n=4", f"output={tmp_path}/four.png")
    assert sampled.code == 0, sampled.err
    assert str(tmp_path) not in (record.weights / "config.yaml").read_text()

    # Measured again, they give the recorded figure; others do not.
    def evaluated(command: list[str], **_: object) -> object:
        return type("Done", (), {"returncode": genlab(*command[3:]).code})

    monkeypatch.setattr(checking.subprocess, "run", evaluated)
    (check,) = checking.check(recipe, results)
    assert check.passed, check.what
    path = record.weights / "checkpoints/best.ckpt"
    state = read_checkpoint(path)["state_dict"]
    write_checkpoint({"state_dict": {name: 2 * value for name, value in state.items()}}, path)
    (check,) = checking.check(recipe, results)
    assert not check.passed, check.what


def test_a_record_holds_the_further_evaluations_of_its_experiment(
    tiny: tuple[Recipe, RunFolder], genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluated(command: list[str], **_: object) -> object:
        return type("Done", (), {"returncode": genlab(*command[3:]).code})

    monkeypatch.setattr("genlab.reproduction.jobs.subprocess.run", evaluated)
    _, folder = tiny
    config = read_config(folder)
    wanted = [["sampling.temperature=0.5,0.9", "metrics.num_samples=60"], ["sampling.temperature=1", "metrics.seed=3"]]
    (folder.path / "config.yaml").write_text(json.dumps({**config, "evaluations": wanted}))
    evaluate_further(folder, 1)
    record = write_record("tiny", folder, tmp_path / "results")
    found = [
        (one["settings"]["sampling"]["temperature"], one["settings"]["seed"]) for one in record.content["evaluations"]
    ]
    assert found == [(0.5, 0), (0.9, 0), (1, 3)]
    assert record.content["evaluations"][0]["metrics"]["fid"]["protocol"]["num_samples"] == 60
    assert record.weights is not None
    kept = RunFolder(record.weights).read_json("evaluation.json")["evaluations"]
    assert len(kept) == 3
    assert str(tmp_path) not in json.dumps(kept)

    (folder.path / "config.yaml").write_text(json.dumps({**config, "evaluations": [["sampling.steps=1"]]}))
    with pytest.raises(InputError, match=r"the evaluation with sampling.steps=1 failed"):
        evaluate_further(folder, 1)


def test_of_large_weights_only_the_figures_are_kept(
    tiny: tuple[Recipe, RunFolder],
    genlab: Genlab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe, folder = tiny
    monkeypatch.setattr("genlab.reproduction.writing.WEIGHTS_LIMIT", 1000)
    record = write_record("some/tiny", folder, tmp_path / "results")
    assert record.weights is None
    assert record.content["weights"]["kept"] is False
    compared = genlab("compare", tmp_path / "results/some/tiny", f"output={tmp_path}/compared")
    assert compared.code == 0, compared.err
    assert f"{record.figures['bits_per_dim'].value:.4g}" in compared.out

    # Without published figures the monitored one is listed, without a verdict.
    capsys.readouterr()
    print_list([Recipe("some/tiny", recipe.model, recipe.dataset, {})], tmp_path / "results")
    assert "no published figure" in capsys.readouterr().out


def test_the_folder_beside_a_record_says_whether_the_training_ended(
    tiny: tuple[Recipe, RunFolder], tmp_path: Path
) -> None:
    """The newest checkpoint, which says so for runs of earlier versions, is not kept."""
    _, folder = tiny
    summary = folder.read_json("summary.json")
    del summary["ended"]
    folder.write_json("summary.json", summary)
    stopping = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "val/nll"}
    config = read_config(folder)
    config["callbacks"]["stop"] = stopping
    (folder.path / "config.yaml").write_text(json.dumps(config))
    last = folder.checkpoints / "last.ckpt"
    for epoch in (3, 0):
        state = read_checkpoint(last)
        write_checkpoint({**state, "callbacks": {"EarlyStopping{}": {"stopped_epoch": epoch}}}, last)
        record = write_record("tiny", folder, tmp_path / "results")
        assert record.weights is not None
        assert RunFolder(record.weights).read_json("summary.json")["ended"] is record.ended is (epoch > 0)


def test_only_a_finished_run_gives_a_record(tiny: tuple[Recipe, RunFolder], tmp_path: Path) -> None:
    _, folder = tiny
    folder.set_status("interrupted")
    with pytest.raises(InputError, match="only a finished run gives a record"):
        write_record("tiny", folder, tmp_path / "results")


def test_a_curve_keeps_its_first_and_last_point(tmp_path: Path) -> None:
    rows = [f"{i * 100},{i},{100 - i}" if i % 2 == 0 else f"{i * 100},{i}," for i in range(301)]
    (tmp_path / "metrics.csv").write_text("images_seen,seconds,val/nll\n" + "\n".join(rows) + "\n")
    curve = _curve(tmp_path / "metrics.csv", "val/nll")
    assert len(curve) == POINTS
    assert curve[0] == [0, 100.0]
    assert curve[-1] == [30000, -200.0]
    assert all(b[0] > a[0] for a, b in itertools.pairwise(curve))


def test_paths_of_a_machine_become_relative(tmp_path: Path) -> None:
    config = {
        "run_dir": "/a/out/x/1",
        "paths": {"data_dir": "/a/data", "output_dir": "/a/out", "cache_dir": "/c"},
        "list": ["/a/data/MNIST", "/a/database", 3],
        "best": "/a/out/x/1/checkpoints/best.ckpt",
    }
    assert portable(config, RunFolder(tmp_path)) == {
        "run_dir": ".",
        "paths": {"data_dir": "data", "output_dir": "outputs", "cache_dir": "~/.cache/genlab"},
        "list": ["data/MNIST", "/a/database", 3],
        "best": "./checkpoints/best.ckpt",
    }


def record_of(seed: int, value: float, *, sha256: str = fingerprint(BLOCK), images: int = 1000) -> Record:
    training = {"images_seen": images, "ended": True, "wall_seconds": 90.0}
    figures = {"nll": {"value": value, "protocol": {}}}
    return Record(seed, {"figures": figures, "training": training, "reference_sha256": sha256}, Path("r.json"))


def write_records(results: Path, *records: Record) -> None:
    (results / "one").mkdir(parents=True, exist_ok=True)
    for record in records:
        (results / "one" / f"{record.seed}.json").write_text(json.dumps({**record.content, "seed": record.seed}))


def test_kept_runs_find_the_data_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {
        "paths": {"data_dir": "data"},
        "dataset": {"source": {"root": "data", "files": ["data/a", "database"]}, "name": "dna"},
        "model": {"path": "data"},
    }
    monkeypatch.delenv("GENLAB_DATA", raising=False)
    assert with_data_of_this_machine(kept) == kept
    monkeypatch.setenv("GENLAB_DATA", "/here")
    found = with_data_of_this_machine(kept)
    assert found["dataset"] == {"source": {"root": "/here", "files": ["/here/a", "database"]}, "name": "dna"}
    assert found["model"] == kept["model"]
    ordinary = {**kept, "paths": {"data_dir": "/there/data"}}
    assert with_data_of_this_machine(ordinary) == ordinary


def test_the_shortest_training_counts() -> None:
    records = [record_of(0, 80.0), record_of(1, 80.1), record_of(2, 80.2, images=500)]
    assert str(judged(published(), records)["nll"]) == "truncated 50 %"
    assert judged(published(), records[:2])["nll"] == Verdict(
        "few seeds", pytest.approx(80.05), pytest.approx(0.05), 2, 1.0
    )


def test_a_table_is_made_of_records_and_says_if_the_tolerance_changed(tmp_path: Path) -> None:
    recipe = Recipe("one", "vae/vae", "digits", BLOCK)
    write_records(tmp_path, record_of(0, 80.0), record_of(1, 80.1), record_of(2, 79.9))
    made = results_table("on*", {"one": recipe}, tmp_path)
    assert "| `paper/one` | NLL | 80 ± 0.5 | 80 ± 0.058 | 3 | 100 % | 90 s | reproduced |" in made
    assert results_table("one on*", {"one": recipe}, tmp_path) == made  # each recipe once
    looser = Recipe("one", "vae/vae", "digits", {**BLOCK, "images": 900})
    assert "reproduced; reference changed after the result" in results_table("one", {"one": looser}, tmp_path)
    with pytest.raises(InputError, match="two is the name of no recipe"):
        results_table("two", {"one": recipe}, tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/0.json").write_text("{")
    with pytest.raises(InputError, match=r"0.json is damaged"):
        records_of("one", tmp_path)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_only_where_a_recipe_runs_may_be_changed() -> None:
    jobs.check_overrides(["trainer=gpu", "trainer.devices=2", "paths.data_dir=/d", "logger=csv"])
    for override in ("training.optimizer.lr=1", "trainer.max_epochs=1", "seed=3", "budget.images=10"):
        with pytest.raises(InputError, match="a recipe is run as it stands"):
            jobs.check_overrides([override])


def test_a_run_under_another_tolerance_is_another_run(tiny: tuple[Recipe, RunFolder]) -> None:
    recipe, folder = tiny
    outputs = folder.path.parents[1]
    found = jobs.find(Job(recipe, 0), outputs)
    assert found is not None
    assert found.path == folder.path
    assert jobs.find(Job(recipe, 1), outputs) is None
    looser = {**recipe.block, "tolerance": {"nll": {"value": 9.0, "why": "w"}}}
    assert jobs.find(Job(Recipe("tiny", recipe.model, recipe.dataset, looser), 0), outputs) is None


def test_how_far_a_job_is_stands_beside_the_published_training(tiny: tuple[Recipe, RunFolder]) -> None:
    recipe, folder = tiny
    longer = Recipe("tiny", recipe.model, recipe.dataset, {**recipe.block, "images": 512})
    config = json.loads(json.dumps(read_config(folder)))
    (folder.path / "config.yaml").write_text(json.dumps({**config, "reference": longer.block}))
    words = jobs.cut_off(Job(longer, 0), folder.path.parents[1])
    assert words.startswith("the time is over in tiny, seed 0 after 128 images, 25 % of the published training; ")


@pytest.mark.slow
def test_a_job_whose_time_is_over_goes_on_where_it_was(tmp_path: Path) -> None:
    # Its own 1.2 million points take less than a minute on a fast machine.
    job = Job(named(["toy/nsf"])[0], 0, ("logger=csv", "budget.images=100000000", "trainer.max_epochs=10000"))
    assert jobs.run(job, tmp_path, time.monotonic() + 45) is None
    folder = jobs.find(job, tmp_path)
    assert folder is not None
    assert folder.read_json("status.json")["status"] == "interrupted"
    before = images_logged(folder)
    assert before > 0
    assert jobs.run(job, tmp_path, time.monotonic() + 45) is None
    (only,) = find_runs([tmp_path])
    assert images_logged(only) > before


def test_a_point_of_a_published_curve_is_compared() -> None:
    assert compared("val/nll", 90.0, 91.0, 1000) == "on track at 1,000 images: val/nll 90, published 91"
    assert compared("val/nll", 92.5, 91.0, 1000).startswith("behind by 1.5 at 1,000 images")
    assert compared("val/precision", 0.5, 0.4, 10).startswith("on track")


def test_the_command_lists_refuses_and_explains(genlab: Genlab, tmp_path: Path) -> None:
    listed = genlab("reproduce", "--list", "--results", tmp_path)
    assert listed.code == 0, listed.err
    assert "mnist_made" in listed.out
    assert "unrun" in listed.out
    for arguments, line in (
        ([], "give recipes to run"),
        (["mnist_mode"], "no such recipe"),
        (["mnist_made", "--budget", "soon"], "give a number with s, m, h or d"),
        (["mnist_made", "training.optimizer.lr=3"], "a recipe is run as it stands"),
        (["--check", "mnist_made", "--results", str(tmp_path)], "mnist_made has no record"),
    ):
        refused = genlab("reproduce", *arguments)
        assert refused.code == 2, refused.out
        assert line in refused.err


def test_a_seed_with_a_record_is_not_run_again(
    tiny: tuple[Recipe, RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = tiny
    results = tmp_path / "results"
    write_record("tiny", folder, results)
    written = (results / "tiny/0.json").read_bytes()
    ran = []
    monkeypatch.setattr("genlab.reproduction.recipes.named", lambda names: [recipe])
    monkeypatch.setattr(jobs, "check_clean", lambda: None)
    monkeypatch.setattr(jobs, "run", lambda job, outputs, deadline: ran.append(job.seed) or folder)
    monkeypatch.setattr("genlab.reproduction.writing.write_record", lambda *arguments: None)
    for again, expected in ((False, [1]), (True, [1, 0, 1])):
        more = ["--again"] if again else []
        monkeypatch.setattr("sys.argv", ["genlab reproduce", "tiny", "--seeds=2", f"--results={results}", *more])
        main()
        assert ran == expected
    assert "tiny, seed 0 has a record; --again replaces it" in capsys.readouterr().err
    assert (results / "tiny/0.json").read_bytes() == written


def test_every_record_has_a_figure_that_stands_for_it() -> None:
    root = CONF.parent / "results"
    names = {path.parent.relative_to(root).as_posix() for path in root.rglob("*.json")}
    records = [record for name in names if not re.search(r"/\d+$", name) for record in records_of(name, root)]
    assert all(record.main_figure in record.figures for record in records)
    # Not measured on the test set, so that the first figure stands for the record.
    (record,) = (one for one in records if "mean_flow" in str(one.path))
    assert record.content["training"]["selection"]["metric"] == "val/mse"
    assert record.main_figure == "fid"


def test_every_record_is_shown_on_a_page() -> None:
    root = CONF.parent
    shown = "\n".join(path.read_text(encoding="utf-8") for path in pages(root))
    recorded = {path.parent.relative_to(root / "results").as_posix() for path in (root / "results").rglob("*.json")}
    recorded = {name for name in recorded if not re.search(r"/\d+$", name)}  # run folders beside records
    for recipe in named(sorted(recorded)):
        assert f"`{recipe.experiment}`" in shown
