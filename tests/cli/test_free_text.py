"""Free text and paths on the command line: what the user wrote arrives, whatever Hydra's grammar makes of it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from genlab.composition.building import build, plain
from genlab.composition.command_line import flags_first, spelled
from genlab.composition.configs import composed, conf_dir
from genlab.composition.free_text import with_quotes
from genlab.errors import InputError
from support.command import Genlab

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
TEXTS = [
    "it's",
    "To be, or not",
    "Où",
    "1.50",
    "true",
    "Null",
    "nan",
    "-1",
    "",
    "a (1)",
    "To be\nor not",
    "back\\slash\\",
    "\\'",
    "${HOME}",
    "\\${HOME}",
    "${",
    "x = y",
    "{a: 1}",
    "[a, b]",
    "  blanks  ",
    "choice(a,b)",
    '"a" and "b"',
    "#!%&*|;<>",
    "\U0001f600",
]
PATHS = [text for text in TEXTS if text and "${" not in text]


def value(command: str, argument: str, *others: str) -> object:
    """The value of an argument, as Hydra and OmegaConf read it."""
    (word,) = with_quotes(command, [*others, argument])[len(others) :]
    given = OverridesParser.create().parse_override(word)
    assert not given.is_sweep_override(), word
    read = given.value()
    cfg = OmegaConf.create({"key": None, "view": {"key": "${key}"}})
    cfg.key = [str(item) for item in read] if isinstance(read, list) else None if read is None else str(read)
    return plain(cfg)["view"]["key"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_arrives_as_it_is(text: str) -> None:
    assert value("sample", f"prompt={text}") == text
    (word,) = spelled("sample", [f"prompt={text}"])
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = plain(compose("sample", ["run=x", word]))
    assert config["text"]["prompt"] == text
    if text:
        given = {key: item for key, item in config["text"].items() if item is not None}
        assert build(given, "").prompt == text


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("sample", "run"),
        ("sample", "checkpoint"),
        ("sample", "output"),
        ("evaluate", "real"),
        ("evaluate", "fake"),
        ("evaluate", "images"),
        ("evaluate", "+dataset.source.root"),
        ("evaluate", "metrics.features.weights"),
        ("compare", "html"),
        ("compare", "output"),
        ("dashboard", "entity"),
        ("benchmark", "benchmark.output"),
        ("train", "resume"),
        ("train", "sweep.resume"),
        ("train", "dataset.source.path"),
        ("train", "dataset.of.source.path"),
        ("train", "dataset.run"),
        ("train", "tokenizer.path"),
        ("train", "paths.data_dir"),
        ("train", "++name"),
        ("train", "group"),
        ("train", "logger.wandb.project"),
    ],
)
def test_paths_and_names_arrive_as_they_are(command: str, key: str) -> None:
    for path in PATHS:
        assert value(command, f"{key}={path}") == path


def test_what_is_quoted_or_null_stays_as_it_is() -> None:
    for word in ("prompt='it\\'s'", 'prompt="a, b"', "prompt=null", "real='photos (1)'", "seed=1,2", "images=[3,17]"):
        assert with_quotes("sample", [word]) == [word]
    # Overrides that Hydra reads as they are stay so: those of earlier runs and sweeps are compared with them.
    for word in ("dataset.source.path=photos/a-1.csv", "resume=outputs/a/2026", "name=one", "gan/loss=hinge"):
        assert with_quotes("train", [word, "-m"])[0] == word
    assert value("evaluate", "real='photos (1)'") == "photos (1)"
    assert value("sample", "prompt='${x}'".replace("${x}", "a")) == "a"


def test_lists_of_paths_stay_lists() -> None:
    assert value("evaluate", "run=[a (1), b's, 'c, d',1.50]") == ["a (1)", "b's", "c, d", "1.50"]
    assert value("compare", "runs=[]") == []
    assert value("sample", "against=[noise,photos (1)]") == ["noise", "photos (1)"]
    assert value("sample", "against=photos (1)") == "photos (1)"
    assert value("train", "tags=[a b,2024]") == ["a b", "2024"]


def test_a_path_may_look_like_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a, b]").mkdir()
    assert value("evaluate", "run=[a, b]") == "[a, b]"


def swept(*words: str) -> list[str]:
    """The values that the last word is swept over."""
    word = with_quotes("train", words)[-1]
    given = OverridesParser.create().parse_override(word)
    assert given.is_sweep_override(), word
    return [OverridesParser.create().parse_override(f"key={text}").value() for text in given.sweep_string_iterator()]


def test_paths_are_swept_where_there_is_a_sweep() -> None:
    for sweep in ("-m", "--multirun", "hydra.mode=MULTIRUN", "experiment=quickstart"):
        assert list(map(str, swept(sweep, "dataset.source.path=a,b (1)"))) == ["a", "b (1)"]
    assert list(map(str, swept("-m", "dataset.source.path='a,b',it's, c"))) == ["a,b", "it's", "c"]
    assert list(map(str, swept("-m", "dataset.source.path=choice(a,b)"))) == ["a", "b"]
    assert list(map(str, swept("-m", "name=1,2"))) == ["1", "2"]
    assert value("train", "dataset.source.path=a,b", "seed=1") == "a,b"
    assert value("train", "sweep.resume=a,b", "-m") == "a,b"
    assert value("train", "dataset.source.path=a,b", "experiment=toy/nsf_two_moons") == "a,b"
    assert value("sample", "prompt=To be, or", "-m") == "To be, or"


def test_interpolations_of_paths_stay() -> None:
    cfg = composed("train", spelled("train", ["dataset=text", "dataset.source.path=${paths.data_dir}/a (1),b.txt"]))
    assert cfg.dataset.source.path == f"{cfg.paths.data_dir}/a (1),b.txt"


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(InputError, match="real= is empty: give a path"):
        with_quotes("evaluate", ["real="])
    with pytest.raises(InputError, match="is not in UTF-8"):
        with_quotes("evaluate", ["real=\udcff"])


LETTERS = st.text(st.sampled_from("ab \\'\"${}[],()=~:.1\n\t%é-/#!@&*?") | st.characters(codec="utf-8"), max_size=15)


def _arrives(text: str) -> None:
    assume("\0" not in text and not QUOTED.fullmatch(text) and text != "null")
    assert value("sample", f"prompt={text}") == text
    if text and "${" not in text:
        assert value("train", f"dataset.source.path={text}") == text
    assert build({"_target_": "genlab.data.table.Table", "path": "a", "columns": [text]}, "").columns == [text]


@given(LETTERS)
@example("${HOME}")
def test_any_text_arrives(text: str) -> None:
    _arrives(text)


@pytest.mark.slow
@settings(max_examples=500)
@given(LETTERS)
def test_many_texts_arrive(text: str) -> None:
    _arrives(text)


KEYS = [
    "seed",
    "model",
    "model.latent_dim",
    "name",
    "tags",
    "resume",
    "dataset.source.path",
    "gan/loss",
    "+a.b",
    "~seed",
]


@pytest.mark.slow
@settings(max_examples=500)
@given(
    st.tuples(
        st.sampled_from([*KEYS, "", "lr", "objective.beta", "-m"]), st.sampled_from(["=", "", "==", "@"]), LETTERS
    )
    | st.tuples(LETTERS, st.just(""), st.just(""))
)
def test_any_override_is_taken_or_refused_in_a_line(parts: tuple[str, str, str]) -> None:
    from genlab.composition.explaining import explain

    word = "".join(parts)
    assume("\0" not in word and not word.startswith("-"))
    line = None
    try:
        composed("train", spelled("train", [word]))
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
    if line is not None:
        assert line.strip(), word
        assert line.isprintable(), line


# -- flags and bare paths ----------------------------------------------------------------------------------------------


def test_flags_may_stand_anywhere() -> None:
    given = ["seed=1", "-m", "a=b", "--config-dir", "conf", "--info", "defaults", "--html", "x.html"]
    expected = ["-m", "--config-dir", "conf", "seed=1", "a=b", "--html", "x.html", "--info", "defaults"]
    assert flags_first(given) == expected
    assert flags_first(["--info", "a=b"]) == ["a=b", "--info"]


def test_overrides_on_both_sides_of_a_flag(genlab: Genlab) -> None:
    result = genlab("train", "seed=-1", "-m", "debug=fast_dev_run")
    assert "seed=-1: input should be greater than or equal to 0" in result.err


def test_sample_takes_the_run_as_a_bare_path(genlab: Genlab, trained: Callable[..., Path]) -> None:
    run = trained("model=vae/vae", "trainer.max_epochs=1", "metrics.num_samples=20", "model.latent_dim=2")
    target = run.parent / "a (1), it's = b.png"
    assert genlab("sample", run, "n=4", f"output={target}").code == 0
    assert target.is_file()
    odd = run.rename(run.parent / "lr=0.1, it's (1)")
    assert genlab("sample", odd, "n=4", f"output={target}").code == 0
    assert genlab("sample", run.parent, "n=4", f"output={target}").code == 0  # the only run in it
    both = genlab("sample", odd, odd)
    assert (both.code, "give one run" in both.err) == (2, True)
    assert "there is no run folder" in genlab("sample", run.parent / "none").err
    # What does not fit in memory is not begun.
    for wrong in ("n=1000000000", "mode=interpolate n=100000000", "mode=manifold steps=1000000"):
        result = genlab("sample", odd, *wrong.split())
        assert (result.code, "GB of memory" in result.err) == (2, True)
    for wrong in ("nan", "inf", "0", "-1"):
        result = genlab("sample", odd, f"temperature={wrong}")
        assert (result.code, "give a number above 0" in result.err) == (2, True)


def test_evaluate_takes_a_folder_of_runs(genlab: Genlab, trained: Callable[..., Path]) -> None:
    given = ("model=vae/vae", "trainer.max_epochs=1", "metrics.num_samples=20", "model.latent_dim=2")
    run = trained(*given)
    runs = [run, Path(shutil.copytree(run, run.with_name("second")))]
    for place in (runs[0].parent, f"{runs[0].parent}/*"):
        for run in runs:
            (run / "evaluation.json").unlink(missing_ok=True)
        result = genlab("evaluate", place, "metrics.num_samples=20", "metrics.importance_samples=null")
        assert result.code == 0, result.err
        assert all((run / "evaluation.json").is_file() for run in runs)
