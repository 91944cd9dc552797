"""``genlab runs``: list runs with the room that they take, or remove those that are asked for.

genlab runs [FOLDER...] [status=failed] [model=vae/*] [dataset=mnist] [older=30d] [sort=size]
genlab runs prune [FOLDER...] status=failed [older=30d ...] [what=runs|checkpoints] [yes=true]
"""

import argparse
import os
import sys
from typing import Literal

from genlab.errors import InputError
from genlab.machine.arguments import Parser
from genlab.machine.listing import NAMES

LIST_KEYS = ("status", "model", "dataset", "older", "sort")
PRUNE_KEYS = (*LIST_KEYS, "what", "yes")


def main() -> None:
    """Run the command on this process's command line."""
    parser = Parser("genlab runs", __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="*", metavar="WORD", help="prune; folders (default: outputs); and key=value")
    parser.add_argument("--format", choices=NAMES, default="table", help="format of the list (default: table)")
    options = parser.parse_args()
    words = list(options.words)
    action = words.pop(0) if words[:1] == ["prune"] else "list"
    folders = [word for word in words if "=" not in word or os.path.isdir(word)]
    keys = dict(_pair(word, action) for word in words if word not in folders)
    folders = folders or [os.environ.get("GENLAB_OUTPUTS", "outputs")]
    if action == "prune":
        prune(folders, keys, options.format)
    else:
        list_runs(folders, keys, options.format)


def _pair(word: str, action: str) -> tuple[str, str]:
    """Split a word into its key and value, of which the key is known."""
    from genlab.composition.explaining import did_you_mean
    from genlab.keeping.listed import ORDERS

    key, _, value = word.partition("=")
    keys = PRUNE_KEYS if action == "prune" else LIST_KEYS
    if key not in keys:
        only = f"; {key}= is for genlab runs prune" if key in PRUNE_KEYS else did_you_mean(key, keys)
        raise InputError(f"{word}: there is no such key{only}")
    known = {"sort": tuple(ORDERS), "what": ("runs", "checkpoints"), "yes": ("true", "false")}
    if key in known and value not in known[key]:
        raise InputError(f"{word}: one of {', '.join(known[key])}")
    return key, value


def list_runs(folders: list[str], keys: dict[str, str], form: str) -> None:
    """Print the runs that are asked for, and the room that they take together.

    Args:
        folders: folders of runs, or that contain runs.
        keys: what is asked of the runs, and the order.
        form: format of the list.

    Raises:
        InputError: if a folder is not there, or a value is wrong.
    """
    from genlab.keeping.asked import Asked
    from genlab.keeping.disk import room_of, together
    from genlab.keeping.kept import kept_runs, leftovers
    from genlab.keeping.listed import listed
    from genlab.machine.listing import show
    from genlab.machine.outcome import tell
    from genlab.machine.units import bytes_in_words, counted

    asked = Asked.of(keys)
    found = [run for run in kept_runs(folders) if asked.fits(run)]
    size = together(run.room for run in found).size
    rows = [run.as_row() for run in found]
    notes = [f"{counted(len(found), 'run', 'runs')}, {bytes_in_words(size)}"]
    notes += [
        f"left by a removal that was cut off: {path}, {bytes_in_words(room_of(path).size)}; genlab runs prune "
        "removes it, too"
        for path in leftovers(folders)
    ]
    table = listed(rows, keys.get("sort", "folder"), notes)
    tell(runs=list(table.rows), bytes=size)
    show(table, form)


def prune(folders: list[str], keys: dict[str, str], form: str) -> None:
    """Show what would be removed, ask, and remove it.

    Args:
        folders: folders of runs, or that contain runs.
        keys: what is asked of the runs, what of them goes, and whether the question is answered.
        form: format of the list of what goes.

    Raises:
        InputError: if nothing is asked of the runs, if nobody can be asked, or if something could not be removed.
    """
    from genlab.keeping.asked import FILTERS, Asked
    from genlab.keeping.kept import kept_runs, leftovers
    from genlab.keeping.listed import listed
    from genlab.keeping.removal import carry_out, planned, rows, spared_lines
    from genlab.machine.listing import show
    from genlab.machine.outcome import tell
    from genlab.machine.units import bytes_in_words, counted

    if not set(FILTERS) & keys.keys():
        raise InputError("say which runs: status=failed, older=30d, dataset=mnist, model=vae/vae, or model=* for all")
    what: Literal["runs", "checkpoints"] = "checkpoints" if keys.get("what") == "checkpoints" else "runs"
    plan = planned(list(kept_runs(folders)), Asked.of(keys), what, leftovers(folders))
    names = ("run", "runs") if what == "runs" else ("folder of checkpoints", "folders of checkpoints")
    going = f"{counted(len(plan.runs), *names)}, {bytes_in_words(plan.freed)}"
    notes = [f"to be removed: {going}", *spared_lines(plan.spared)]
    notes += [f"to be removed, as an earlier removal was cut off: {path}" for path in plan.left]
    stays = [{"folder": str(run.path), "reason": reason} for run, reason in plan.spared]
    tell(runs=rows(plan), stays=stays, removed=[], bytes=0)
    show(listed(rows(plan), keys.get("sort", "folder"), notes), form)
    if not (plan.runs or plan.left):
        return
    words = sys.stdout if form == "table" else sys.stderr
    if not _agreed(going, keys.get("yes") == "true"):
        print("nothing was removed", file=words)
        return
    done = carry_out(plan)
    tell(removed=[str(path) for path in done.removed], bytes=done.freed)
    if done.failed:
        raise InputError(f"{len(done.failed):,} could not be removed: " + "; ".join(done.failed))
    print(f"removed: {counted(len(done.removed), 'folder', 'folders')}, {bytes_in_words(done.freed)}", file=words)


def _agreed(what: str, yes: bool) -> bool:
    """Ask whether something may be removed, unless that is said.

    Raises:
        InputError: if nobody can be asked.
    """
    from genlab.machine.outcome import is_for_program

    if yes:
        return True
    if is_for_program() or not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(f"nothing was removed: {what} would go; yes=true removes without a question")
    try:
        return input(f"remove {what} for good? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


if __name__ == "__main__":
    main()
