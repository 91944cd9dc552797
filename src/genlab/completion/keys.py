"""Complete keys of the composed config, and show the value that a key has; compositions are kept in the cache."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

KEPT = 50  # compositions in the cache


def complete_key(word: str, values: Mapping[str, str | None]) -> list[str]:
    """Complete a key to its next dot or its equals sign; after the sign, give the value that it has.

    Args:
        word: beginning of the key, perhaps after ``+`` or ``~``, or a key with its equals sign.
        values: values by flat key, as text; None for a node.
    """
    sign = word[: len(word) - len(word.lstrip("+~"))]
    start = word[len(sign) :]
    key, equals, value = start.partition("=")
    if equals:
        now = values.get(key)
        among = ("false", "true") if now in ("false", "true") else (now,) if now else ()
        return [f"{sign}{key}={one} " for one in among if one.startswith(value) and not set(one) & set(" $'\"\\{}")]
    found = set()
    for name in values:
        if name.startswith(start) and not name.rpartition(".")[2].startswith("_"):
            here, dot, _ = name[len(start) :].partition(".")
            whole = start + here
            found.add(f"{whole}." if dot or values.get(whole, "") is None else f"{whole}=")
    return [sign + name for name in sorted(found)]


def composed_values(command: str, choices: Sequence[str], roots: Sequence[Path]) -> dict[str, str | None]:
    """Give the values of a command's config by flat key, as text; None for a node; nothing if it cannot be composed.

    Args:
        command: name of the command, such as ``train``.
        choices: options that were chosen from groups, such as ``model=gan/dcgan``.
        roots: folders of configs: ``conf/``, and those of the user's own.
    """
    stamps = [(str(path), path.stat().st_mtime_ns) for root in roots for path in sorted(root.rglob("*.yaml"))]
    asked = json.dumps([command, list(choices), stamps])
    place = Path(os.environ.get("GENLAB_CACHE", "~/.cache/genlab")).expanduser() / "completion"
    file = place / f"{hashlib.sha256(asked.encode()).hexdigest()[:20]}.json"
    with suppress(OSError, ValueError):
        return dict(json.loads(file.read_text(encoding="utf-8")))
    found = dict(_flat(_compose(command, choices, roots)))
    if found:
        with suppress(OSError):
            _keep(file, json.dumps(found))
    return found


def _compose(command: str, choices: Sequence[str], roots: Sequence[Path]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    searched = (
        [f"hydra.searchpath=[{','.join(f'file://{root.absolute()}' for root in roots[1:])}]"] if roots[1:] else []
    )
    with suppress(HydraException, OmegaConfBaseException), initialize_config_dir(str(roots[0]), version_base="1.3"):
        cfg = compose(command, [*searched, *choices], return_hydra_config=True)
        return OmegaConf.to_container(cfg, resolve=False)
    return {}


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, dict):
            yield key, None
            yield from _flat(value, key)
        else:
            yield key, json.dumps(value) if not isinstance(value, str) else value


def _keep(file: Path, text: str) -> None:
    from genlab.machine.files import write_atomically

    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text)
    kept = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEPT]:
        path.unlink(missing_ok=True)
