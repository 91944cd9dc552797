"""The score of a record of mutants: what was killed, and the survivors that someone has argued are equivalent."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORD, EQUIVALENTS = HERE / "record.json", HERE / "equivalents.json"


def equivalents() -> dict[str, str]:
    """Arguments by the name of the mutant, each that no test could tell it from the program."""
    entries = json.loads(EQUIVALENTS.read_text(encoding="utf-8"))
    return {entry["mutant"]: entry["argument"] for entry in entries}


def summary(entries: Sequence[dict[str, Any]], argued: dict[str, str]) -> dict[str, Any]:
    """Count the mutants of a record, and give the share of those killed among all but the equivalent ones."""
    killed = sum(entry["killed"] for entry in entries)
    equivalent = sum(not entry["killed"] and entry["mutant"] in argued for entry in entries)
    share = killed / max(1, len(entries) - equivalent)
    return {
        "mutants": len(entries),
        "killed": killed,
        "equivalent": equivalent,
        "survived": len(entries) - killed - equivalent,
        "share_killed": math.floor(1000 * share) / 1000,
    }
