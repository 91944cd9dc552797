"""Old names of config groups, from before they moved under their family; accepted for one more release."""

import re
import sys
from collections.abc import Iterable

RENAMED = {
    "augment": "gan/augment",
    "coupling": "flow/coupling",
    "loss": "gan/loss",
    "networks": "vae/networks",
    "objective": "vae/objective",
    "posterior": "vae/posterior",
    "prior": "vae/prior",
    "regularizer": "gan/regularizer",
    "schedule": "lr_schedule",
    "tokenizer": "text/tokenizer",
}


def with_new_names(overrides: Iterable[str]) -> list[str]:
    """Replace a group's old name (``loss=hinge``, ``+loss=hinge``, ``~loss``) by its new one.

    Keys of values, such as ``schedule.warmup_steps=100``, did not change and stay as they are.
    """
    return [re.sub(r"^(?:[+~]*(\w+)(?=[=@])|~(\w+)$)", _new_name, override) for override in overrides]


def _new_name(found: re.Match[str]) -> str:
    name = found[1] or found[2]
    return found[0].removesuffix(name) + RENAMED.get(name, name)


def say_new_names(overrides: Iterable[str]) -> list[str]:
    """Replace old names as :func:`with_new_names` does, and say so in one line on stderr."""
    given = list(overrides)
    renamed = with_new_names(given)
    changes = [f"{old} is now {new}" for old, new in zip(given, renamed, strict=True) if old != new]
    if changes:
        print(f"genlab: {', '.join(changes)}", file=sys.stderr)
    return renamed


def renamed_in_file(group: str) -> str | None:
    """Give an error message for an old name in a config file, where it is not replaced; None if it was not renamed."""
    if group not in RENAMED:
        return None
    return f"the group {group} is now {RENAMED[group]}, in a defaults list as on the command line"
