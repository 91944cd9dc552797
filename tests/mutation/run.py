"""Try mutants of ten files on the tests, and keep what came of each: ``make mutants``.

The record holds every mutant of the committed draw with its outcome. What has been tried already is taken from it: a
killed mutant as long as the file and the test that killed it are the same, another as long as all tests of its file
are. Mutants that do what the program does are argued for one by one in equivalents.json, and not counted.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutation.chosen import CHOSEN
from mutation.mutants import FILES, SEED, Mutant, all_mutants, drawn, source_of
from mutation.score import RECORD, equivalents, summary
from mutation.trial import run_tests, warm_up
from support.paths import ROOT

NUM = 300


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def tests_key(mutant: Mutant, killed_by: str) -> str:
    """What an outcome depends on: the mutated file and the tests."""
    names = CHOSEN[mutant.file]
    if killed_by.startswith("tests/"):
        names = (killed_by,)
    paths = sorted({name.partition("::")[0] for name in names})
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in paths if (ROOT / path).is_file()]
    return digest(mutant.source or "", *names, *texts)


class Trials:
    """Trials of mutants, with those of the record as a memory."""

    def __init__(self, known: Sequence[dict[str, Any]], folder: Path) -> None:
        self.known = {entry["mutant"]: entry for entry in known}
        self.folder = folder
        self.warm = False
        self.limits: dict[str, float] = {}  # seconds by file, after which its tests are taken to have no end

    def outcome(self, mutant: Mutant) -> dict[str, Any]:
        """Give the record's entry of a mutant, which is tried if its outcome is not known."""
        old = self.known.get(mutant.name)
        if old is not None and old["key"] == tests_key(mutant, old["by"]):
            return old
        self._prepare(mutant.file)
        found = run_tests(mutant.file, mutant.source, CHOSEN[mutant.file], self.folder, self.limits[mutant.file])
        before, after = mutant.difference()
        return {
            "mutant": mutant.name,
            "file": mutant.file,
            "where": mutant.where,
            "operator": mutant.operator,
            "before": before,
            "after": after,
            "killed": found.killed,
            "by": found.by,
            "seconds": found.seconds,
            "key": tests_key(mutant, found.by),
        }

    def _prepare(self, file: str) -> None:
        """Import the libraries, once, and see that the tests pass on the file as it is."""
        if not self.warm:
            warm_up()
            self.warm = True
        if file not in self.limits:
            plain = run_tests(file, source_of(file), CHOSEN[file], self.folder)
            if plain.killed:
                raise RuntimeError(f"{plain.by} fails without any change of {file}: see {self.folder}/log.txt")
            print(f"{file}: its tests take {plain.seconds} s", flush=True)
            self.limits[file] = 30 + 10 * plain.seconds


def write_record(path: Path, seed: int, entries: Sequence[dict[str, Any]]) -> None:
    argued = equivalents()
    files = {file: [entry for entry in entries if entry["file"] == file] for file in FILES}
    content = {
        "seed": seed,
        **summary(entries, argued),
        "files": {file: summary(part, argued) for file, part in files.items() if part},
        "entries": list(entries),
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Try the mutants, write the record, and list the survivors that nobody argued for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=NUM, help="number of mutants to draw from all files")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the draw")
    parser.add_argument("--files", nargs="*", default=FILES, help="files to draw from, below src/genlab")
    parser.add_argument("--every", action="store_true", help="try every mutant of the files instead of a draw")
    parser.add_argument("--record", type=Path, default=RECORD, help="where to keep the outcomes")
    parser.add_argument("--afresh", action="store_true", help="forget the outcomes of the record")
    options = parser.parse_args(arguments)
    if options.every:
        mutants = [m for file in options.files for m in all_mutants(file) if m.source is not None]
    else:
        mutants = drawn(options.num, options.seed, options.files)
    known: list[dict[str, Any]] = []
    if options.record.is_file() and not options.afresh:
        known = json.loads(options.record.read_text(encoding="utf-8"))["entries"]
    argued, entries = equivalents(), []
    with tempfile.TemporaryDirectory(prefix="genlab-mutants-") as folder:
        trials = Trials(known, Path(folder))
        for i, mutant in enumerate(mutants):
            entry = trials.outcome(mutant)
            entries.append(entry)
            rest = [old for old in known if old["mutant"] not in {e["mutant"] for e in entries}]
            write_record(options.record, options.seed, [*entries, *rest])  # so that it can be ended and goes on
            if not entry["killed"] and mutant.name not in argued:
                print(f"{i + 1}/{len(mutants)} survived: {mutant.name} {mutant.file}:{mutant.row} {mutant.operator}")
                print(f"  - {entry['before']}", f"  + {entry['after']}", sep="\n", flush=True)
    write_record(options.record, options.seed, entries)
    print(json.dumps(summary(entries, argued)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
