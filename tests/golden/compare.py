"""Compare two recordings of ``record.py``: ``python tests/golden/compare.py BEFORE.json AFTER.json``.

Every difference is printed, and the exit code is 1 where there is one. What CHANGES.md says is changed on purpose is
printed as well, with the number of its item, and is no difference:

- item 2: averaged weights of a discriminator are no longer in the checkpoint,
- item 6: a protocol says more than before, and an evaluation has another label,
- item 8: the pictures and texts of points and of text that are made during training.

Whatever else is not the same is a difference: a figure, a sample, a weight, the state of a random generator, a file
that is missing or new.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# The runs whose data are points or texts.
NOT_IMAGES = ("gan-mlp", "flow-nsf", "transformer-gpt")
AVERAGED_DISCRIMINATOR = r"checkpoint/state_dict/ema\.model\.discriminator\..*"
PROTOCOL = r"(summary/metrics|evaluation/metrics|evaluation/evaluations/\d+)/test/[^/]+/protocol/.*"
DURING_TRAINING = r"samples/samples/(\d+\.(png|txt)|film\.gif)"


class Difference(NamedTuple):
    """A difference between two recordings.

    Attributes:
        run: name of the run.
        path: keys down to the value, with slashes between them.
        before, after: the values; ``None`` where there is none.
        item: number in CHANGES.md of what explains the difference; ``None`` where nothing does.
    """

    run: str
    path: str
    before: Any
    after: Any
    item: int | None

    def __str__(self) -> str:
        shown = [json.dumps(value) for value in (self.before, self.after)]
        before, after = (text if len(text) <= 100 else f"{text[:97]}..." for text in shown)
        allowed = "" if self.item is None else f"allowed by item {self.item}: "
        return f"{allowed}{self.run}: {self.path}: {before} -> {after}"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value within nested dicts and lists, with its path; the names of evaluations are left out of it."""
    if isinstance(value, dict) and value:
        for number, (key, item) in enumerate(value.items()):
            name = str(number) if path == "evaluation/evaluations/" else str(key)
            yield from leaves(item, f"{path}{name}/")
    elif isinstance(value, list) and value and path == "evaluation/evaluations/":
        # Beside each other, with their settings, since item 6; before that by a label.
        for number, item in enumerate(value):
            yield from leaves(item["metrics"], f"{path}{number}/")
    elif isinstance(value, list) and value and path != "files/":
        yield f"{path}length", len(value)
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}{number}/")
    elif path == "files/":
        yield from ((f"{path}{name}", "there") for name in value)
    else:
        yield path.removesuffix("/"), value


def item_of(run: str, path: str, before: Any, after: Any) -> int | None:
    """The number in CHANGES.md of what explains a difference."""
    if re.fullmatch(AVERAGED_DISCRIMINATOR, path) and after is None:
        return 2
    if re.fullmatch(PROTOCOL, path) and before is None:
        return 6
    if run in NOT_IMAGES and re.fullmatch(DURING_TRAINING, path) and None not in (before, after):
        return 8
    return None


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """All differences between the runs of two recordings, those that are allowed too."""
    found: list[Difference] = []
    runs = [before["runs"], after["runs"]]
    for run in sorted(runs[0].keys() | runs[1].keys()):
        there = ["recorded" if run in recorded else None for recorded in runs]
        if None in there:
            found.append(Difference(run, "the run", *there, None))
            continue
        old, new = (dict(leaves(recorded[run])) for recorded in runs)
        found += [
            Difference(run, path, old.get(path), new.get(path), item_of(run, path, old.get(path), new.get(path)))
            for path in sorted(old.keys() | new.keys())
            if old.get(path) != new.get(path) or (path in old) != (path in new)
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (arguments.before, arguments.after))
    if before["machine"] != after["machine"]:
        print(f"other machines: {before['machine']}, {after['machine']}: figures may differ by rounding")
    found = differences(before, after)
    print(*sorted(found, key=lambda difference: difference.item is None), sep="\n")
    wrong = [difference for difference in found if difference.item is None]
    values = sum(1 for _ in leaves(before["runs"]))
    print(f"{len(before['runs'])} runs, {values} values: {len(wrong)} differ, {len(found) - len(wrong)} as allowed")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
