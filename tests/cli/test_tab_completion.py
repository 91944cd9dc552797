"""What TAB adds to a command line: asked of the program, and typed into real shells in a terminal."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from genlab import cli
from genlab.commands.runs import PRUNE_KEYS
from genlab.completion.answer import candidates
from genlab.completion.groups import Groups
from genlab.completion.line import FLAGS, KEYS, Line
from genlab.composition.configs import conf_dir, groups
from genlab.keeping.kept import STATES
from genlab.keeping.listed import ORDERS
from support.paths import CONF


def asked(line: str, point: int | None = None) -> list[str]:
    return candidates(
        Line.of({"COMP_LINE": line, "COMP_POINT": str(len(line) if point is None else point)}), cli.COMMANDS
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def a_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.yaml", "status.json"):
        (folder / name).write_text("{}")
    return folder


def test_groups_are_completed_level_by_level() -> None:
    assert {"model=gan/", "model=vae/"} < set(asked("genlab train model="))
    assert asked("genlab train model=gan/dc") == ["model=gan/dcgan "]
    assert asked("genlab train -m model=vae/vae,gan/dc") == ["model=vae/vae,gan/dcgan "]
    assert asked("genlab train experiment=paper/cifar10_dd") == ["experiment=paper/cifar10_ddpm "]
    assert asked("genlab train gan/lo") == ["gan/loss="]
    assert asked("genlab sample RUN mode=tru") == ["mode=truncation "]
    assert asked("genlab train hydra/launcher=co") == ["hydra/launcher=cores "]
    assert asked("genlab train metrics.features=in") == ["metrics/features=inception "]
    assert "mode=" not in asked("genlab train mod")
    assert "callbacks=averages/" not in asked("genlab train callbacks=")  # a group of its own
    assert asked("genlab reproduce cifar10_dd") == ["cifar10_ddpm "]
    assert asked("genlab reproduce mnist/dc") == ["mnist/dcgan "]


def test_groups_are_those_of_the_defaults_lists() -> None:
    of_commands = set().union(*(Groups(command, [Path(conf_dir())]).names for command in cli.COMMANDS))
    here = {name for name in groups() if (CONF / name).is_dir()}
    assert {name for name in of_commands if not name.startswith("hydra")} == here


def test_options_of_ones_own_configs(tmp_path: Path) -> None:
    (tmp_path / "model" / "vae").mkdir(parents=True)
    (tmp_path / "model" / "vae" / "striped.yaml").write_text("defaults: [vae]\n")
    assert asked(f"genlab train --config-dir {tmp_path} model=vae/str") == ["model=vae/striped "]


def test_keys_are_those_that_come_with_the_choices() -> None:
    assert asked("genlab train model.lat") == ["model.latent_dim="]
    assert asked("genlab train model=gan/dcgan model.latent_dim=x model.lat") == ["model.latent_dim="]
    assert asked("genlab train model=flow/glow model.lat") == []
    assert asked("genlab train trainer.max_epochs=") == ["trainer.max_epochs=20 "]
    assert asked("genlab train trainer.tf32=") == ["trainer.tf32=false ", "trainer.tf32=true "]
    assert asked("genlab train hydra/launcher=cores hydra.launcher.n_") == ["hydra.launcher.n_jobs="]
    assert {"model=", "model."} == set(asked("genlab train mode"))


def test_runs_are_found_and_other_folders_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = a_run(tmp_path / "outputs" / "vae-digits" / "20261130-1")
    (tmp_path / "sources").mkdir()
    (run / "checkpoints").mkdir()
    assert [word for word in asked("genlab compare ") if "=" not in word and not word.endswith(".")] == ["outputs/"]
    for command in ("sample", "export"):
        assert asked(f"genlab {command} outputs/vae-digits/2") == ["outputs/vae-digits/20261130-1 "]
    assert asked("genlab train resume=outputs/") == ["resume=outputs/vae-digits/"]
    assert asked("genlab train dataset.run=outputs/vae-digits/") == ["dataset.run=outputs/vae-digits/20261130-1 "]
    assert asked("genlab compare runs=[a,out") == ["runs=[a,outputs/"]
    assert asked(f"genlab evaluate {tmp_path}/out") == [f"{tmp_path}/outputs/"]
    a_run(tmp_path / "outputs" / "sweep" / "one" / "0")
    (tmp_path / "outputs" / "sweep" / "one" / "multirun.yaml").touch()
    assert asked("genlab train sweep.resume=outputs/sweep/") == ["sweep.resume=outputs/sweep/one "]
    assert asked("genlab train resume=outputs/sweep/") == ["resume=outputs/sweep/one/"]


def test_the_line_is_read_up_to_the_cursor() -> None:
    assert asked("genlab train model=gan/ trainer=", point=len("genlab train model=gan/dc") - 2) == asked(
        "genlab train model=gan/"
    )
    assert Line.of({"COMP_LINE": r"genlab sample my\ run/a 'b c' d"}) == Line(("sample", "my run/a", "b c"), "d", "d")
    assert Line.of({"COMP_LINE": "genlab sample 'b c"}).is_quoted
    assert asked("genlab sample 'b") == []
    assert asked("genlab nonsense mo") == []


def test_flags_are_those_of_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("genlab compare --fo") == ["--format "]
    assert asked("genlab compare --format m") == ["markdown "]
    assert asked("genlab compare --ba") == ["--baseline "]
    assert asked("genlab export --he") == ["--help "]
    assert FLAGS.keys() == {"", *cli.COMMANDS}
    for command in ("reproduce", "runs", "models", "datasets"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in FLAGS[command])


def test_commands_that_compose_nothing_have_keys_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "outputs" / "vae-digits" / "1")
    assert set(KEYS["runs"]) == set(PRUNE_KEYS)
    assert {state.replace("_", " ") for state in KEYS["runs"]["status"]} == set(STATES)
    assert set(KEYS["runs"]["sort"]) == set(ORDERS)
    assert asked("genlab runs pr") == ["prune "]
    assert asked("genlab runs prune status=failed,int") == ["status=failed,interrupted "]
    assert asked("genlab runs model=gan/dc") == ["model=gan/dcgan "]
    assert asked("genlab runs out") == ["outputs/"]
    assert asked("genlab models gan/dc") == ["gan/dcgan "]
    assert asked("genlab datasets static") == ["static_mnist "]
    assert "outputs/" in asked("genlab export out")


@pytest.mark.e2e
def test_an_answer_takes_less_than_half_a_second_and_no_torch() -> None:
    script = (
        "import sys, time; begun = time.process_time()\n"
        "from genlab.cli import main\n"
        "main(['-sc', 'query=bash'])\n"
        "assert not {'torch', 'wandb', 'pytorch_lightning'} & set(sys.modules)\n"
        "print(time.process_time() - begun)"
    )
    for line in ("genlab train model.lat", "genlab train model.lat", "genlab train model=gan/"):
        environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": ""}
        result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        taken = float(result.stdout.split()[-1])
    assert taken < 0.5
    assert "model=gan/dcgan " in result.stdout.splitlines()


# -- in a terminal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a run, and a program ``genlab`` on the path."""
    program = tmp_path / "bin" / "genlab"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m genlab "$@"\n')
    program.chmod(0o755)
    a_run(tmp_path / "outputs" / "my runs" / "20261130-1")
    return tmp_path


class Terminal:
    """A shell in a terminal, into which keys are typed."""

    def __init__(self, shell: str, arguments: list[str], place: Path, set_up: list[str]) -> None:
        path = f"{place / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TERM": "dumb", "PS1": "READY> ", "HOME": str(place)}
        self.process = pexpect.spawn(
            shell, arguments, env=environment, cwd=str(place), dimensions=(24, 200), encoding="utf-8", timeout=30
        )
        for command in set_up:
            self.process.sendline(command)
        self.process.sendline("echo BEG''UN")
        self.process.expect("BEGUN\r\n")

    def completed(self, typed: str) -> str:
        """Type a line and TAB; gives the line that stands there then."""
        self.process.send(typed + "\t")
        self.process.send("\x01echo '[[\x05]]'\r")  # at both ends of the line
        self.process.expect(r"\n\[\[(.*)\]\]\r")
        return str(self.process.match.group(1))

    def listed(self, typed: str, *names: str) -> None:
        """Type a line and TAB twice; waits until the names are on the screen, and takes the line away."""
        self.process.send(typed + "\t\t")
        for name in names:
            self.process.expect_exact(name)
        self.process.send("\x03")


@pytest.fixture
def bash(place: Path) -> Iterator[Terminal]:
    terminal = Terminal("bash", ["--norc", "--noprofile"], place, ['eval "$(genlab -sc install=bash)"'])
    yield terminal
    terminal.process.close(force=True)


@pytest.mark.e2e
def test_tab_in_bash(bash: Terminal) -> None:
    for typed, completed in (
        ("genlab tr", "genlab train "),
        ("genlab train model=ga", "genlab train model=gan/"),
        ("genlab train model=gan/dc", "genlab train model=gan/dcgan "),
        ("genlab train model.lat", "genlab train model.latent_dim="),
        ("genlab train resume=out", r"genlab train resume=outputs/"),
        ("genlab sample outputs/my", r"genlab sample outputs/my\ runs/"),
        (r"genlab sample outputs/my\ runs/", r"genlab sample outputs/my\ runs/20261130-1 "),
    ):
        assert bash.completed(typed) == completed
    bash.process.sendline("COMP_WORDBREAKS=${COMP_WORDBREAKS//=}")  # as other programs' scripts set it
    assert bash.completed("genlab train model=gan/dc") == "genlab train model=gan/dcgan "
    bash.listed("genlab train model=gan/", "gan/biggan", "gan/dcgan", "gan/stylegan2")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_tab_in_other_shells(shell: str, place: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    start, set_up = {
        "zsh": (["-f"], ['eval "$(genlab -sc install=zsh)"', "bindkey -e"]),
        "fish": (["--no-config"], ["genlab -sc install=fish | source"]),
    }[shell]
    terminal = Terminal(shell, start, place, set_up)
    for typed, completed in (
        ("genlab tr", "genlab train"),  # and a space, which zsh takes back when it is not needed
        ("genlab train model=ga", "genlab train model=gan/"),
        ("genlab train model=gan/dc", "genlab train model=gan/dcgan"),
        ("genlab train model.lat", "genlab train model.latent_dim="),
        ("genlab sample outputs/my", r"genlab sample outputs/my\ runs/"),
    ):
        assert terminal.completed(typed).rstrip() == completed
    terminal.process.close(force=True)
