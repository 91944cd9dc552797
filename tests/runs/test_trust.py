"""A run folder runs no code that the user did not name: whatever its config says, and however it is opened."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab import load
from genlab.composition import trained, trust
from genlab.composition.saved_overrides import checked_overrides
from genlab.errors import InputError
from genlab.machine import files
from genlab.runs.checkpoints import write_checkpoint
from support.command import FAST, Genlab
from support.harm import WORD, harmful, watched

VQ_VAE = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move" / "vae-vq_vae"
# Where a config has nodes, and where one fits in.
KEYS = (
    "model",
    "dataset",
    "dataset.source",
    "metrics.features",
    "model.distribution._args_",
    "callbacks.x",
    "trainer.x",
)
NEW_RUN = ("model=transformer/maskgit", "dataset=latent_codes", "trainer.max_epochs=1", "logger=csv")


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who has trusted nothing yet, nor trained with anything."""
    monkeypatch.setattr(trust, "declared", trust.Declared())
    monkeypatch.setattr(trained, "texts", set())
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{WORD}_module.py").write_text("class Net: pass")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of a finished run, which may be resumed."""
    copy = Path(shutil.copytree(VQ_VAE, tmp_path / "a_run"))
    config = (copy / "config.yaml").read_text().replace("~/.cache/genlab", os.environ["GENLAB_CACHE"])
    (copy / "config.yaml").write_text(config.replace(f"{VQ_VAE.parent.name}/{VQ_VAE.name}", str(copy)))
    return copy


def put(run: Path, key: str, value: Any) -> None:
    """Set a key of a saved config, such as ``model.x``."""
    path = run / "config.yaml"
    config = yaml.load(path.read_text(), yaml.CSafeLoader)
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node[parent] = node.get(parent) or {}
        node = node[parent]
    node[last] = [value] if last == "_args_" else value
    path.write_text(yaml.dump(config, Dumper=yaml.CSafeDumper))


def opened_by_load(run: Path, genlab: Genlab) -> tuple[int, str]:
    try:
        opened = load(run, device="cpu")
        opened.model, opened.data  # noqa: B018
    except InputError as error:
        return 2, f"genlab: error: {error}\n"
    return 0, ""


def opened_by(*command: str) -> Callable[[Path, Genlab], tuple[int, str]]:
    def call(run: Path, genlab: Genlab) -> tuple[int, str]:
        result = genlab(*(word.format(run) for word in command))
        return result.code, result.err

    return call


WAYS = {
    "load": opened_by_load,
    "evaluate": opened_by("evaluate", "{}", "metrics.num_samples=32", "metrics.importance_samples=null"),
    "sample": opened_by("sample", "run={}", "n=2"),
    "resume": opened_by("train", "resume={}", "trainer.max_epochs=2"),
    "dataset.run": opened_by("train", *NEW_RUN, "dataset.run={}"),
}


def assert_refused(code: int, err: str, *words: str) -> None:
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("genlab: error: ")
    for word in words:
        assert word in err


def attempt(run: Path, key: str, node: dict[str, Any], way: str, genlab: Genlab) -> None:
    put(run, key, node)
    with watched() as events:
        code, err = WAYS[way](run, genlab)
    assert not events, (key, node)
    assert_refused(code, err, key.removesuffix("._args_"), f"config.yaml: {key}", "trust=")


def test_the_list_is_long_and_its_watch_sees_what_is_done(tmp_path: Path, run: Path) -> None:
    """Otherwise the other tests could not fail: what they see is done as soon as it is trusted."""
    nodes = harmful(_made(tmp_path / WORD))
    assert len({node["_target_"] for node in nodes.values()}) >= 100
    seen = {}
    for name in ("shutil.copy", "numpy.load", "torch.load", "torch.hub.load", "sqlite3.connect", "logging.FileHandler",
                 "importlib.import_module", "runpy.run_path", "joblib.load", "urllib.request.urlopen", "tarfile.open",
                 "numpy.savetxt", "genlab.machine.files.write_atomically", f"{WORD}_module.Net"):  # fmt: skip
        (node,) = [node for node in nodes.values() if node["_target_"] == name]
        shutil.rmtree(tmp_path / WORD)
        harmful(_made(tmp_path / WORD))
        put(run, "model", node)
        with watched() as events:
            try:
                load(run, device="cpu", trust=[name.rpartition(".")[0], "numpy", "_sqlite3", "pathlib"]).model  # noqa: B018
            except Exception as error:
                seen[name] = str(error)
        if events:
            seen.pop(name, None)
        else:
            seen.setdefault(name, "nothing was done")
    hydras = ("runpy", "importlib", "builtins", "subprocess", "os")  # has a list of its own, which trust= does not lift
    assert not {name: why for name, why in seen.items() if name.partition(".")[0] not in hydras}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_no_harm_is_done_by_loading(tmp_path: Path, run: Path, genlab: Genlab) -> None:
    for number, node in enumerate(harmful(_made(tmp_path / WORD)).values()):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, KEYS[number % len(KEYS)], node, "load", genlab)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "load"])
def test_no_harm_is_done_in_any_way_of_opening(way: str, tmp_path: Path, run: Path, genlab: Genlab) -> None:
    nodes = list(harmful(_made(tmp_path / WORD)).values())
    for key, node in zip(KEYS[:2], nodes[len(way) :: 17], strict=False):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, key, node, way, genlab)


def test_a_logger_is_built_as_a_logger_only(run: Path, genlab: Genlab) -> None:
    # The user's own command names it, too: at its place.
    attempt(run, "dataset", {"_target_": "genlab.loggers.wandb.wandb_logger", "save_dir": WORD}, "resume", genlab)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_harm_is_done_by_any_of_them_in_any_way(way: str, tmp_path: Path, run: Path, genlab: Genlab) -> None:
    for number, node in enumerate(harmful(_made(tmp_path / WORD)).values()):
        shutil.copy(VQ_VAE / "config.yaml", run)
        attempt(run, KEYS[number % len(KEYS)], node, way, genlab)


# -- values ------------------------------------------------------------------------------------------------------------

SECRET = "${oc.env:GENLAB_TESTS_SECRET}"


@pytest.mark.parametrize(("way", "key"), [*((way, "dataset.name") for way in WAYS), ("load", "tags")])
def test_a_saved_config_reads_no_environment(
    way: str, key: str, run: Path, genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENLAB_TESTS_SECRET", "xyzzy")
    put(run, key, f"x{SECRET}" if key != "tags" else [{"a": "${oc.decode:1}"}])
    code, err = WAYS[way](run, genlab)
    assert_refused(code, err, f"config.yaml: {key}", "is resolved")
    assert "xyzzy" not in err
    assert not [path for path in run.rglob("*") if path.is_file() and b"xyzzy" in path.read_bytes()]


NOT_COMPOSED = {
    f"tags=[{SECRET}]": "are resolved",
    r"tags=[$\{oc.env\:GENLAB_TESTS_SECRET\}]": "are resolved",
    r"+dataset.x=\${oc.env:GENLAB_TESTS_SECRET}": "are resolved",
    "name='${oc.env:GENLAB_TESTS_SECRET}'": "are resolved",
    "model=${oc.env:HOME}": "are resolved",
    "+hydra.searchpath=[file:///tmp]": "no settings of Hydra",
    "hydra/launcher=cores": "no settings of Hydra",
    "~hydra.callbacks": "no settings of Hydra",
    "++hydra.callbacks.x._target_=os.system": "no settings of Hydra",
    "+trainer@hydra.callbacks=default": "no settings of Hydra",
    "+trainer@_global_.hydra=default": "no settings of Hydra",
    "model=../../../../tmp/x": "chosen from conf/",
    "+vae/networks=/tmp/x": "chosen from conf/",
    "seed=1,2": "a sweep",
    "seed=range(3)": "a sweep",
    "a={": "no override",
    "": "no override",
}


@pytest.mark.parametrize("override", NOT_COMPOSED)
def test_what_a_run_was_started_with_is_no_more_than_choices_and_values(override: str) -> None:
    with pytest.raises(InputError, match=r"^RUN/status\.json: ") as refused:
        checked_overrides(["model=vae/vae", override], "RUN/status.json")
    assert NOT_COMPOSED[override] in str(refused.value)
    kept = ["model=vae/vae", "~model.x", "+dataset.source.path=../a b", "name=/x", "training.optimizer.lr=1e-3"]
    assert checked_overrides([*kept, "trust=os", "resume=x"], "RUN/status.json") == kept


@pytest.mark.parametrize("overrides", [None, {}, "seed=1", [1], [None]])
def test_damaged_overrides_are_said(overrides: Any) -> None:
    with pytest.raises(InputError, match="RUN is damaged"):
        checked_overrides(overrides, "RUN")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"tags=[{SECRET}]", "are resolved"),
        ("+callbacks.x={_target_: os.system, command: ls}", "callbacks.x._target_=os.system"),
        ("model._target_=genlab.machine.files.write_atomically", "model._target_=genlab.machine.files"),
        ("metrics.features._target_=genlab.loggers.wandb.wandb_logger", "metrics.features._target_=genlab.loggers"),
        ("+tags={a: '$', b: '{oc.env:GENLAB_TESTS_SECRET}', c: '${.a}${.b}'}", "tags"),
    ],
)
def test_what_a_run_was_started_with_is_checked_like_its_config(
    override: str, words: str, run: Path, genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENLAB_TESTS_SECRET", "xyzzy")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status = json.loads((run / "status.json").read_text())
    status["overrides"] += ["trust=os", override]
    (run / "status.json").write_text(json.dumps(status))
    code, err = WAYS["resume"](run, genlab)
    assert_refused(code, err, words)
    assert "xyzzy" not in err
    changed = [path for path in run.rglob("*") if path.is_file() and path.read_bytes() != before.get(path)]
    assert changed == [run / "status.json"]


def test_a_tokenizer_is_not_built_while_a_config_is_composed(tmp_path: Path, run: Path, genlab: Genlab) -> None:
    folder = _made(tmp_path / WORD)
    status = json.loads((run / "status.json").read_text())
    harm = f"{{_target_: shutil.copytree, src: {folder}, dst: {folder / 'new'}}}"
    status["overrides"] = ["dataset=python_docs", f"tokenizer={harm}"]
    (run / "status.json").write_text(json.dumps(status))
    with watched() as events:
        code, err = WAYS["resume"](run, genlab)
    assert_refused(code, err, "shutil.copytree")
    assert not events


DAMAGED = {
    "binary": b"\x00\xff\xfe\x80" * 50,
    "latin-1": "model: {name: caf\xe9}\ndataset: {}\n".encode("latin-1"),
    "empty": b"",
    "list": b"- model\n- dataset\n",
    "text": b"hello",
    "tab": b"model:\n\t_target_: x\n",
    "half": b"model: {_target_: genlab.models.vae.vae.VAE, shape: [1, 8",
    "object": b"model: !!python/object/apply:os.system [ls]\ndataset: {}\n",
    "set": b"model: !!set {a, b}\ndataset: {}\n",
    "bytes": b"model: {a: !!binary aGVsbG8=}\ndataset: {}\n",
    "keys": b"model: {? [a, b] : c}\ndataset: {}\n",
    "null key": b"model: {null: c}\ndataset: {}\n",
    "endless": b"model: &a {x: *a}\ndataset: {}\n",
    "deep": b"model: " + b"[" * 5000 + b"]" * 5000 + b"\ndataset: {}\n",
    "laughing": b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (c, c, *[c - 1] * 9) for c in range(98, 110)
    )
    + b"model: *m\ndataset: {}\n",
    "huge number": b"model: {x: " + b"9" * 5000 + b"}\ndataset: {}\n",
    "no model": b"dataset: {_target_: genlab.data.digits.Digits}\n",
    "model is a text": b"model: genlab.models.vae.vae.VAE\ndataset: {}\n",
    "model names nothing": b"model: {x: 1}\ndataset: {y: 1}\n",
    "metrics is a list": b"model: {}\ndataset: {}\nmetrics: [1]\n",
    "target is a list": b"model: {_target_: [os, system]}\ndataset: {}\n",
    "target is empty": b"model: {_target_: ''}\ndataset: {}\n",
    "target is relative": b"model: {_target_: ..os.system}\ndataset: {}\n",
    "target has lines": b'model: {_target_: "os\\nsystem", "a\\nb": {_target_: "os.system"}}\ndataset: {}\n',
    "key has lines": b'model: {"a\\n\\e[31mb": {_target_: os.system}}\ndataset: {}\n',
    "lines are not resolved": b'model: {a: "x\\n${b}"}\ndataset: {}\n',
    "partial": b"model: {_target_: genlab.models.vae.vae.VAE, _partial_: maybe}\ndataset: {}\n",
    "number key": b"model: {_target_: genlab.models.vae.vae.VAE, 1: 2}\ndataset: {}\n",
    "another class": b"model: {_target_: genlab.data.digits.Digits}\ndataset: {_target_: genlab.data.digits.Digits}\n",
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_config_is_said_in_one_line(how: str, run: Path, genlab: Genlab) -> None:
    (run / "config.yaml").write_bytes(DAMAGED[how])
    for way in WAYS if how == "binary" else ["load"]:
        assert_refused(*WAYS[way](run, genlab))


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_config_is_said_in_one_line_in_every_way(how: str, run: Path, genlab: Genlab) -> None:
    (run / "config.yaml").write_bytes(DAMAGED[how])
    for way in WAYS.values():
        assert_refused(*way(run, genlab))


# -- trust -------------------------------------------------------------------------------------------------------------

MINE = """
from pathlib import Path
from genlab.data.digits import Digits
Path(__file__).with_name("imported").touch()

class Source(Digits):
    def __init__(self, word: str = "a") -> None:
        self.word = word

from os import system, path
import shutil
"""
SMALL = (
    "model=vae/vae", "model.networks.hidden=[4]", "callbacks=minimal", "metrics.features=pixels", *FAST,
    "trainer.max_epochs=1", "metrics.num_test=8", "metrics.num_samples=20", "metrics.memorization=false",
)  # fmt: skip
QUICKLY = (
    "metrics.num_samples=20",
    "metrics.num_test=8",
    "metrics.importance_samples=null",
    "metrics.memorization=false",
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A module of the user's own, ``mine``, which leaves a file when it is imported, and a folder of configs."""
    sys.modules.pop("mine", None)
    code = tmp_path / "code"
    (code / "mine.py").write_text(MINE)
    (code / "conf" / "dataset").mkdir(parents=True)
    digits = (Path(trust.conf_dir()) / "dataset" / "digits.yaml").read_text()
    changed = digits.replace("genlab.data.digits.Digits", "mine.Source")
    assert changed != digits
    (code / "conf" / "dataset" / "mine.yaml").write_text(changed)
    return code


def other_user(monkeypatch: pytest.MonkeyPatch, folder: Path, code: Path) -> None:
    """Forget everything, as on another machine."""
    monkeypatch.setattr(trust, "declared", trust.Declared())
    monkeypatch.setattr(trained, "texts", set())
    monkeypatch.setenv("GENLAB_CACHE", str(folder / "cache_of_another"))
    sys.modules.pop("mine", None)
    (code / "imported").unlink(missing_ok=True)


def test_own_code_is_trusted_and_a_strangers_is_not(
    mine: Path, tmp_path: Path, genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = ("--config-dir", str(mine / "conf"))
    override = "+dataset.source.word=${oc.env:GENLAB_TESTS_WORD}"
    monkeypatch.setenv("GENLAB_TESTS_WORD", "hello")
    result = genlab("train", *conf, *SMALL, "dataset=mine", override)
    assert result.code == 0, result.err
    run = result.run
    assert yaml.safe_load((run / "config.yaml").read_text()).get("trust") is None

    # The same user, later and elsewhere on this machine: no word is needed.
    monkeypatch.setattr(trust, "declared", trust.Declared())
    monkeypatch.setattr(trained, "texts", set())
    run = run.rename(tmp_path / "moved")
    assert genlab("evaluate", run, *QUICKLY).code == 0
    assert genlab("sample", f"run={run}", "n=2").code == 0
    assert load(run).data.source.word == "hello"
    resumed = genlab("train", f"resume={run}", "trainer.max_epochs=2", *conf)
    assert resumed.code == 0, resumed.err
    # But for that very node only.
    put(run, "dataset.source.word", "other")
    with pytest.raises(InputError, match=r"trust=mine$"):
        load(run)
    put(run, "dataset.source.word", "hello")
    # In a cache that others may write to, only one's own word counts.
    with monkeypatch.context() as patched:
        patched.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(InputError, match=r"trust=mine$"):
            load(run)

    # A stranger.
    for way in ("load", "evaluate", "sample", "resume"):
        other_user(monkeypatch, tmp_path, mine)
        code, err = WAYS[way](run, genlab)
        assert_refused(code, err, "dataset.source._target_=mine.Source", "trust=mine\n")
        assert not (mine / "imported").exists()
    evaluated = genlab("evaluate", "trust=mine", run, *QUICKLY)
    assert evaluated.code == 0, evaluated.err
    assert (mine / "imported").exists()
    other_user(monkeypatch, tmp_path, mine)
    assert genlab("sample", f"run={run}", "n=2", "trust=other,mine").code == 0
    other_user(monkeypatch, tmp_path, mine)
    assert genlab("sample", f"run={run}", "n=2", *conf).code == 0
    other_user(monkeypatch, tmp_path, mine)
    with pytest.raises(InputError):  # what was trusted is not remembered
        load(run)
    assert load(run, trust="mine").data.source.word == "hello"
    other_user(monkeypatch, tmp_path, mine)
    resumed = genlab("train", f"resume={run}", "trainer.max_epochs=3", "trust=[mine]", *conf)
    assert resumed.code == 0, resumed.err
    monkeypatch.setattr(trust, "declared", trust.Declared())
    assert load(run).data.source.word == "hello"  # trained with here


def _of(result: Any) -> tuple[int, str]:
    return result.code, result.err


@pytest.mark.parametrize(
    ("target", "defined"),
    [
        ("mine.system", "posix"),
        ("mine.shutil.rmtree", "shutil"),
        ("mine.path.os.system", "posix"),
        ("mine.Source.__init__.__globals__", None),
        ("mine.Digits", ""),
        ("mine.Source.load", "genlab.data.digits.Digits"),
    ],
)
def test_a_trusted_module_is_trusted_with_what_it_defines(
    target: str, defined: str | None, mine: Path, run: Path
) -> None:
    put(run, "model", {"_target_": target, "_args_": ["ls"]})
    with pytest.raises(InputError) as refused:
        load(run, trust="mine").model  # noqa: B018
    line = str(refused.value)
    if defined:
        assert f"if you trust it, add trust={defined}" in line
    elif defined is None:
        assert "this is builtins.dict" in line
    else:  # a class of genlab, by another name
        assert "trust" not in line


@pytest.mark.parametrize("word", ["trust=1", "trust=''", "trust=[a,[b]]"])
def test_trust_names_modules(word: str, run: Path, genlab: Genlab) -> None:
    assert_refused(*_of(genlab("sample", f"run={run}", word)), "trust=")
    for other in ("a-b", "*", ".a", "a..b", "a/b", "a b", 3, None, {"a": 1}):
        with pytest.raises(InputError, match="give the import path"):
            trust.trust_modules([other])  # type: ignore[list-item]
    trust.trust_modules(None)
    assert not trust.declared.modules


def test_runs_are_compared_whoever_made_them(run: Path, genlab: Genlab, tmp_path: Path) -> None:
    put(run, "model._target_", "os.system")
    put(run, "tags", [SECRET])
    result = genlab("compare", run, f"output={tmp_path / 'x.png'}", "--format", "json")
    assert result.code == 0, result.err


def test_a_run_that_could_not_be_opened_again_is_not_started(genlab: Genlab) -> None:
    result = genlab("train", *SMALL, r"tags=['a\${b}']")
    assert_refused(result.code, result.err, "tags[0]", "resolved")
    assert not list(result.outputs.rglob("config.yaml"))


def test_features_of_another_run_are_a_strangers_too(tmp_path: Path, run: Path, genlab: Genlab) -> None:
    other = Path(shutil.copytree(run, tmp_path / "b_run"))
    put(other, "metrics.features", {"_target_": "shutil.rmtree", "path": str(_made(tmp_path / WORD))})
    put(run, "metrics.features", {"_target_": "genlab.runs.latent_codes.features_of", "run": str(other)})
    with watched() as events:
        code, err = WAYS["evaluate"](run, genlab)
    assert_refused(code, err, f"{other}/config.yaml: metrics.features._target_=shutil.rmtree")
    assert not events


# -- files -------------------------------------------------------------------------------------------------------------


def test_all_files_of_a_run_have_the_usual_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_umask", 0o027)
    for _ in range(2):
        write_checkpoint({"state_dict": {}}, tmp_path / "a" / "last.ckpt")
    files.write_atomically(tmp_path / "a" / "x.json", "{}")
    made = list((tmp_path / "a").iterdir())
    assert {path.name for path in made} == {"last.ckpt", "previous.ckpt", "x.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o640}
