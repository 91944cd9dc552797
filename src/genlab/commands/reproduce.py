"""``genlab reproduce``: run the experiments that reproduce published figures, and say what came of them."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.arguments import Parser


def main() -> None:
    """Run the command on this process's command line."""
    parser = Parser("genlab reproduce", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes, and overrides such as trainer=gpu")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list all recipes with published figures and verdicts")
    what.add_argument("--check", action="store_true", help="measure committed weights again, or train again if none")
    what.add_argument("--table", action="store_true", help="rewrite the tables of README.md and docs/ from the records")
    parser.add_argument("--retrain", action="store_true", help="with --check: train again even if there are weights")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="run the seeds 0 to N-1 (default: 3)")
    parser.add_argument("--again", action="store_true", help="also run seeds that have a record, and replace it")
    parser.add_argument("--budget", default=None, metavar="90m", help="time for everything, such as 45s, 90m or 8h")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the CPU (default: 1)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="folder of the records")
    parser.add_argument("--outputs", type=Path, default=None, metavar="DIR", help="folder of the runs")
    reproduce(parser.parse_args())


def reproduce(options: argparse.Namespace) -> None:
    """List recipes, check records, write tables, or run recipes and write their records.

    Args:
        options: parsed command line.

    Raises:
        InputError: if a recipe or an option is wrong, or a check failed.
    """
    from genlab.machine import outcome
    from genlab.reproduction.recipes import named, recipes
    from genlab.reproduction.records import records_of

    names = [word for word in options.names if "=" not in word]
    if options.list:
        from genlab.reproduction.listing import print_list

        print_list(named(names) if names else recipes().values(), options.results)
    elif options.table:
        from genlab.reproduction.pages import write_blocks

        changed = write_blocks(Path(), generators(Path(), options.results))
        changed += _draw_pictures(Path())
        print("\n".join(map(str, changed)) or "nothing has changed")
    elif options.check:
        from genlab.reproduction.checking import cheapest, check, tell

        chosen = named(names) if names else [cheapest(list(recipes().values()), options.results)]
        tell([one for recipe in chosen for one in check(recipe, options.results, options.retrain)])
    elif names:
        _run(names, options)
        found = {recipe.name: records_of(recipe.name, options.results) for recipe in named(names)}
        outcome.tell(records={name: [str(record.path) for record in records] for name, records in found.items()})
    else:
        raise InputError("give recipes to run, or --list, --check or --table; genlab reproduce --help says more")


def generators(root: Path, results: Path) -> dict[str, Callable[[str], str]]:
    """Give the functions that make the blocks of pages, by kind of block, from the files of a checkout."""
    from genlab.comparison.excerpt import runs_table
    from genlab.comparison.quality import quality_table
    from genlab.reproduction.reactions import reactions_table
    from genlab.reproduction.recipes import recipes
    from genlab.reproduction.tables import results_table
    from genlab.speed.excerpt import speed_table

    of_root = {"runs": runs_table, "speed": speed_table, "reactions": reactions_table, "quality": quality_table}
    made = {kind: partial(make, root=root) for kind, make in of_root.items()}
    return {"results": partial(results_table, recipes=recipes(), results=results), **made}


def _draw_pictures(root: Path) -> list[Path]:
    """Draw the pictures of blocks of quality anew, and return those that changed."""
    from genlab.comparison.quality import of_block, quality_picture
    from genlab.pictures.files import save_png
    from genlab.reproduction.pages import blocks, pages

    changed = []
    for page in pages(root):
        for kind, arguments in blocks(page.read_text(encoding="utf-8")):
            if kind == "quality":
                name, rows = of_block(arguments, root)
                path = page.parent / name
                before = path.read_bytes() if path.exists() else b""
                if (picture := quality_picture(rows)) is not None:
                    save_png(picture, path)
                    changed += [path] if path.read_bytes() != before else []
    return changed


def _run(names: list[str], options: argparse.Namespace) -> None:
    from genlab.reproduction.jobs import (
        Job,
        check_clean,
        check_overrides,
        cut_off,
        deadline_of,
        evaluate_further,
        outputs_folder,
        run,
    )
    from genlab.reproduction.listing import print_list
    from genlab.reproduction.recipes import named
    from genlab.reproduction.records import path_of
    from genlab.reproduction.writing import write_record

    overrides = tuple(word for word in options.names if "=" in word)
    check_overrides(overrides)
    chosen = named(names)
    deadline = deadline_of(options.budget)
    check_clean()
    for seed in range(options.seeds):
        for recipe in chosen:
            job = Job(recipe, seed, overrides, options.threads)
            if path_of(recipe.name, seed, options.results).exists() and not options.again:
                print(f"genlab: {job} has a record; --again replaces it by that of a new run", file=sys.stderr)
                continue
            if (done := run(job, outputs_folder(options.outputs), deadline)) is None:
                print(f"genlab: {cut_off(job, outputs_folder(options.outputs))}", file=sys.stderr)
                return print_list(chosen, options.results)
            evaluate_further(done, options.threads)
            write_record(recipe.name, done, options.results)
    print_list(chosen, options.results)


if __name__ == "__main__":
    main()
