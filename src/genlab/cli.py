"""The ``genlab`` command: ``genlab <command> overrides...``.

Nothing heavy is imported here: a command's module imports Hydra, and torch only inside its task.
"""

import logging
import os
import sys
import traceback
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from genlab.machine.outcome import as_line, forget, tell, told

COMMANDS = {
    "train": "train a model on a dataset (-m for a sweep), then measure it",
    "evaluate": "measure runs: genlab evaluate FOLDER...; or images: genlab evaluate real=DIR fake=DIR",
    "sample": "draw samples from a run: genlab sample FOLDER n=64",
    "export": "hand a run over as a folder that opens by itself, with a model card: genlab export FOLDER form=onnx",
    "play": "a page on this machine to play with a trained model: genlab play FOLDER",
    "compare": "runs side by side, as a table, a picture and a page: genlab compare FOLDER... [--html report.html]",
    "runs": "the runs that there are, and how much room they take: genlab runs [FOLDER...]; genlab runs prune ...",
    "models": "the models that there are, with their papers and the data that they take",
    "datasets": "the data sets that there are, with their sizes and where they come from",
    "reproduce": "run a paper's baseline and judge it: genlab reproduce NAME, or --list, --check, --table",
    "benchmark": "how fast a model trains and samples here: genlab benchmark model=... dataset=...",
    "dashboard": "a W&B workspace for the runs of a sweep: genlab dashboard FOLDER [--dry-run]",
}

USAGE = """genlab: a laboratory for generative models

usage: genlab COMMAND [overrides...]

{commands}

examples:
  genlab train model=vae/vae dataset=mnist
  genlab train model=gan/dcgan dataset=cifar10 trainer=gpu training.optimizer.lr=1e-4
  genlab train -m model=vae/vae,flow/real_nvp seed=1,2,3
  genlab train experiment=quickstart

genlab COMMAND --help        its options in words, then the config groups and every key
genlab COMMAND --cfg job     the composed config, nothing run
genlab COMMAND ... --json    a last line of JSON for programs: exit code, folder, figures
eval "$(genlab -sc install=bash)"   tab completion (also zsh, fish)

A wrong input, or a run that failed, gives one line and exit code 2; GENLAB_DEBUG=1 shows the traceback."""


def usage() -> str:
    """Give the text that ``genlab --help`` prints."""
    return USAGE.format(commands="\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items()))


def _refuse(line: str) -> NoReturn:
    print(f"genlab: error: {line}", file=sys.stderr)
    tell(error={"kind": "input", "message": line})
    sys.exit(2)


def main(argv: list[str] | None = None) -> None:
    """Run a command.

    The exit code is 0 on success, 2 if one line says what was wrong (an input, the disk, a training that diverged), 130
    for Ctrl-C, 141 if nobody reads what the command prints (as in ``genlab --help | head``), and 1 for a bug. With
    ``--json``, the last line on standard output says what came of it.

    Args:
        argv: arguments after the program's name; None for those of this process.
    """
    from genlab.errors import OutputLost

    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if "--json" in arguments:
            _run_for_a_program([word for word in arguments if word != "--json"])
        forget()
        _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, OutputLost) as error:
        from genlab.machine.lost_output import forget_lost_output, is_lost

        if isinstance(error, BrokenPipeError) and not (is_lost(sys.stdout) or is_lost(sys.stderr)):
            raise
        forget_lost_output()
        sys.exit(128 + 13)  # what a shell says of a program that SIGPIPE ended


def _complete(arguments: list[str]) -> None:
    """Answer a shell; see :mod:`genlab.completion`."""
    from genlab.completion.ask import answer
    from genlab.errors import InputError

    try:
        answer(arguments, COMMANDS)
    except InputError as error:
        print(f"genlab: error: {error}", file=sys.stderr)
        sys.exit(2)


def _describe(command: str) -> None:
    """Print what a command does and its own options, before what Hydra says of every group and key."""
    from genlab.completion.line import own_flags
    from genlab.composition.own_options import own_help

    if words := own_help(command, own_flags(command)):
        print(words, end="\n\n\n")


def _run_for_a_program(arguments: list[str]) -> NoReturn:
    """Run a command, and say in a last line of JSON what came of it."""
    from genlab.errors import OutputLost

    forget(for_program=True)
    code: object = 0
    try:
        _run(arguments)
    except SystemExit as stop:
        code = stop.code or 0
    except (BrokenPipeError, OutputLost):
        raise
    except Exception as error:
        traceback.print_exc()
        tell(error={"kind": "bug", "message": f"{type(error).__name__}: {error}"})
        code = 1
    print(as_line({"command": " ".join(arguments[:1]), "ok": code == 0, "exit_code": code, **told()}), flush=True)
    sys.exit(code if isinstance(code, int) else 1)


def _run(arguments: list[str]) -> None:
    """Find the command and run it; see :func:`main`."""
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments[1:])
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    elif arguments[0] == "--version":
        import genlab

        print(genlab.__version__)
        return
    elif arguments[0] in COMMANDS:
        command, arguments = arguments[0], arguments[1:]
    else:
        from difflib import get_close_matches

        near = get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}"
        _refuse(f"unknown command '{arguments[0]}'; {hint}")
    try:
        os.getcwd()
    except OSError:
        _refuse("the current folder is gone: change to one that exists")
    from genlab.machine.process import forget_ranks, quiet_torch

    forget_ranks()
    quiet_torch()
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no ≤ shows ? in its place
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    logging.raiseExceptions = bool(os.environ.get("GENLAB_DEBUG"))  # no traceback of Hydra's logger if no one reads it
    # Makes Hydra raise its errors instead of printing them, so that we can print them as one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    module = import_module(f"genlab.commands.{command}")
    try:
        from genlab.composition.command_line import spelled

        if {"-h", "--help"} & set(arguments):
            _describe(command)
        # Lightning's DDP starts argv[0] again, so it must be a file.
        sys.argv = [str(module.__file__), *spelled(command, arguments)]
        module.main()
    except KeyboardInterrupt:
        print("genlab: interrupted", file=sys.stderr)
        tell(error={"kind": "interrupted", "message": "Ctrl-C"})
        sys.exit(130)
    except Exception as error:
        from genlab.composition.explaining import explain, refused
        from genlab.machine.lost_output import is_lost

        if isinstance(error, BrokenPipeError) and (is_lost(sys.stdout) or is_lost(sys.stderr)):
            raise
        line = explain(error)
        if line is None or os.environ.get("GENLAB_DEBUG"):
            raise
        sys.exit(refused(error, line))


if __name__ == "__main__":
    main()
