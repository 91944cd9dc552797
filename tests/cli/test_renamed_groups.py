"""Groups that moved under their family: old names compose what the new ones do, and that is said in one line."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genlab.composition.command_line import as_groups
from genlab.composition.configs import composed
from genlab.composition.renamed_groups import RENAMED, with_new_names
from genlab.errors import InputError
from support.command import Genlab
from support.paths import CONF

# Where an option of each group stands in the composed config; a choice that has the group, and a key below it.
PLACES = {
    "augment": ("training.augment", "model=gan/dcgan"),
    "coupling": ("model.transform", "model=flow/glow"),
    "loss": ("training.loss", "model=gan/dcgan"),
    "networks": ("model.networks", "model=vae/vae"),
    "objective": ("model.objective", "model=vae/vae"),
    "posterior": ("model.posterior", "model=vae/vae"),
    "prior": ("model.prior", "model=vae/vae"),
    "regularizer": ("training.regularizers", "model=gan/dcgan"),
    "schedule": ("schedule", "model=vae/vae"),
    "tokenizer": ("tokenizer", "dataset=shakespeare"),
}
OPTIONS = [(old, path.stem) for old, new in RENAMED.items() for path in sorted((CONF / new).glob("*.yaml"))]
SMALL = ("model=gan/mlp", "dataset=ring2d", "model.width=8", "model.discriminator_width=8", "dataset.train_size=400")
FAST = (*SMALL, "trainer.max_epochs=1", "metrics.num_samples=50", "logger=csv", "callbacks=minimal")


def test_every_renamed_group_is_a_folder_and_its_old_name_is_none() -> None:
    assert set(PLACES) == set(RENAMED)
    assert all((CONF / new).is_dir() and not (CONF / old).exists() for old, new in RENAMED.items())


@pytest.mark.parametrize(("old", "option"), OPTIONS)
def test_an_old_name_composes_what_the_new_one_does(old: str, option: str) -> None:
    place, choice = PLACES[old]
    by_old, by_new = (composed("train", [choice, f"{name}={option}"]) for name in (old, RENAMED[old]))
    assert OmegaConf.to_container(by_old) == OmegaConf.to_container(by_new)
    # The keys of the composed config are those of before, so that saved configs compare and resume.
    target = OmegaConf.load(CONF / RENAMED[old] / f"{option}.yaml").get("_target_")
    if target is not None:
        found = [OmegaConf.select(by_old, place)]
        if old == "regularizer":
            found = [*by_old.training.regularizers.values(), *by_old.training.generator_regularizers.values()]
        assert [node._target_ for node in found] == [target]


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("loss=hinge", "gan/loss=hinge"),
        ("loss=hinge,minimax", "gan/loss=hinge,minimax"),
        ("regularizer=[r1,r2]", "gan/regularizer=[r1,r2]"),
        ("+tokenizer=bpe", "+text/tokenizer=bpe"),
        ("~schedule", "~lr_schedule"),
        ("loss@training.loss=hinge", "gan/loss@training.loss=hinge"),
        # Keys below a group are those of the composed config, paths are no overrides, and others are not old.
        ("schedule.warmup_steps=3", "schedule.warmup_steps=3"),
        ("model.prior=null", "model.prior=null"),
        ("loss", "loss"),
        ("gan/loss=hinge", "gan/loss=hinge"),
        ("prompt=loss=1", "prompt=loss=1"),
        ("--cfg", "--cfg"),
    ],
)
def test_overrides_are_spelled_anew(given: str, spelled: str) -> None:
    assert with_new_names([given]) == [spelled]


def test_one_line_names_all_that_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_groups(["model=gan/dcgan", "loss=hinge", "augment=ada"])[1:] == ["gan/loss=hinge", "gan/augment=ada"]
    assert capsys.readouterr().err == "genlab: loss=hinge is now gan/loss=hinge, augment=ada is now gan/augment=ada\n"
    as_groups(["model=gan/dcgan", "gan/loss=hinge"])
    assert capsys.readouterr().err == ""


def as_started_before(run: Path) -> None:
    """Give a run the overrides that an earlier version would have written."""
    status = json.loads((run / "status.json").read_text())
    status["overrides"] = [
        o.replace("gan/loss", "loss").replace("lr_schedule", "schedule") for o in status["overrides"]
    ]
    (run / "status.json").write_text(json.dumps(status))


def test_a_run_of_an_earlier_version_is_resumed_silently(genlab: Genlab) -> None:
    run = genlab("train", *FAST, "gan/loss=hinge", "lr_schedule=linear").run
    as_started_before(run)
    assert "loss=hinge" in json.loads((run / "status.json").read_text())["overrides"]
    resumed = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    assert " is now " not in resumed.err


def test_a_sweep_says_it_once_and_one_of_an_earlier_version_goes_on(genlab: Genlab) -> None:
    result = genlab("train", "-m", "loss=hinge,minimax", *FAST)
    assert result.code == 0, result.err
    assert result.err.count(" is now ") == 1
    assert "genlab: loss=hinge,minimax is now gan/loss=hinge,minimax\n" in result.err
    runs = sorted(path.parent for path in result.outputs.rglob("summary.json"))
    assert len(runs) == 2
    for run in runs:
        assert f"gan/loss={('hinge', 'minimax')[int(run.name)]}" in (run / "status.json").read_text()
        as_started_before(run)
    written = (runs[0] / "summary.json").stat().st_mtime_ns
    again = genlab("train", "-m", "loss=hinge,minimax", *FAST, f"sweep.resume={runs[0].parent}")
    assert again.code == 0, again.err
    assert (runs[0] / "summary.json").stat().st_mtime_ns == written
    assert "2 done" in again.err


def test_an_old_name_swept_by_the_file_of_a_user(genlab: Genlab, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/swept.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      loss: hinge,minimax\n"
    )
    result = genlab("train", "--config-dir", tmp_path / "mine", "experiment=swept", *FAST)
    assert result.code == 0, result.err
    assert result.err.count("loss=hinge,minimax is now gan/loss=hinge,minimax") == 1
    targets = sorted(OmegaConf.load(path).training.loss._target_ for path in result.outputs.rglob("config.yaml"))
    assert [target.rpartition(".")[2] for target in targets] == ["Hinge", "Minimax"]


def test_a_search_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    distributions = pytest.importorskip("optuna.distributions")
    from genlab.launching.search import Search

    search = Search(OmegaConf.create({"_target_": "optuna.samplers.RandomSampler"}), "min", n_trials=2, n_jobs=1)
    space = {"training.ema_decay": distributions.FloatDistribution(0.9, 0.99)}
    begun = search._study(tmp_path, space, ["gan/loss=hinge"])
    begun.ask(space)
    begun.set_user_attr("what", [what.replace("gan/loss", "loss") for what in begun.user_attrs["what"]])
    assert len(search._study(tmp_path, space, ["gan/loss=hinge"]).trials) == 1
    with pytest.raises(InputError, match="holds another search"):
        search._study(tmp_path, space, ["gan/loss=minimax"])


@pytest.mark.parametrize(
    ("folder", "line"), [("experiment", "override /loss: hinge"), ("model", "/training: adversarial\n  - /loss: hinge")]
)
def test_an_old_name_in_the_file_of_a_user_is_one_line(genlab: Genlab, tmp_path: Path, folder: str, line: str) -> None:
    (tmp_path / "mine" / folder).mkdir(parents=True)
    first = "override /model: gan/dcgan\n  - " if folder == "experiment" else ""
    (tmp_path / f"mine/{folder}/mine.yaml").write_text(f"# @package _global_\ndefaults:\n  - {first}{line}\n")
    result = genlab("train", "--config-dir", tmp_path / "mine", f"{folder}=mine")
    assert result.code == 2
    said = f"In '{folder}/mine': the group loss is now gan/loss, in a defaults list as on the command line\n"
    assert result.err == f"genlab: error: {said}"
