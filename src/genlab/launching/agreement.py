"""Bring the nodes of a run together: they join, and check that all are to train the same."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genlab.composition.explaining import explain, first_line
from genlab.errors import InputError, Interrupted
from genlab.launching.joining import join
from genlab.launching.meeting import ENDPOINT, Meeting, meeting, patience
from genlab.launching.nodes import Nodes
from genlab.launching.processes import num_nodes, num_processes
from genlab.machine.environment import code, code_sha256
from genlab.machine.plain_text import on_one_line
from genlab.machine.process import as_launched
from genlab.runs.config import below, flat
from genlab.training.parts import Parts

# Keys that each launch sets for itself; of the others, those of node 0's config count on every node.
OF_THIS_LAUNCH = ("run_dir", "run_id", "run_name", "group", "resume", "sweep")
Found = tuple[Path, int] | None  # a checkpoint's file, and the number of images it has seen
SHOWN = 5  # differences that a message names


def check_meeting(trainer: Mapping[str, Any]) -> Meeting | None:
    """Find where the nodes of a run meet; None for a run on one machine.

    Args:
        trainer: config of the trainer.

    Raises:
        InputError: if there are several nodes, and nothing says where they meet.
    """
    if (num := num_nodes(trainer)) == 1:
        return None
    patience(as_launched())
    return meeting(num, as_launched())


@contextmanager
def together(config: dict[str, Any], parts: Parts, found: Found = None) -> Iterator[Nodes | None]:
    """Join the nodes of a run, and let them agree; None for a run on one machine.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.
        found: checkpoint that the run goes on from; None if it begins.

    Raises:
        InputError: if not all nodes come, or if they do not agree.
        RunFailed: if a node dies or fails meanwhile.
    """
    if (where := check_meeting(config["trainer"])) is None:
        if as_launched().get(ENDPOINT):
            print(f"genlab: {ENDPOINT} is set, and this run is on one machine: trainer.num_nodes=1", file=sys.stderr)
        yield None
        return
    store, rank, hosts = join(where, num_nodes(config["trainer"]), patience(as_launched()))
    nodes = Nodes(store, where, rank, hosts)
    try:
        agree(nodes, _facts(config, parts, found))
        yield nodes
    except BaseException as error:
        nodes.end(reason=_in_words(error))
        raise
    finally:
        nodes.close()


def _in_words(error: BaseException) -> str:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return on_one_line(explain(error) or f"{type(error).__name__}: {first_line(error)}")


def agree(nodes: Nodes, facts: Mapping[str, Any]) -> None:
    """Compare this node's facts with those of the others.

    Args:
        nodes: nodes of the run.
        facts: values by name that must be the same on all nodes.

    Raises:
        InputError: if they differ; the message names the nodes and what differs.
    """
    nodes.say(f"facts/{nodes.rank}", facts)
    found = [nodes.heard(f"facts/{i}") for i in range(nodes.num)]
    wrong: list[str] = []
    for i, other in enumerate(found):
        for key in sorted(found[0].keys() | other.keys()):
            first, value = found[0].get(key), other.get(key)
            if first != value:
                wrong.append(f"{key} is {first!r} on {nodes.name(0)} and {value!r} on {nodes.name(i)}")
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more differences" if len(wrong) > SHOWN else ""
        raise InputError(f"the nodes do not agree: {'; '.join(wrong[:SHOWN])}{more}")


def _facts(config: dict[str, Any], parts: Parts, found: Found) -> dict[str, Any]:
    """Collect what must be the same on all nodes: code, libraries, data, devices, checkpoint, and the whole config."""
    run_dir = str(config.get("run_dir") or "")

    def own(value: Any) -> Any:  # the folder that this node planned, which will be node 0's
        return value.replace(run_dir, "RUN") if run_dir and isinstance(value, str) else value

    facts = {key: own(value) for key, value in flat(config).items() if not below(key, OF_THIS_LAUNCH)}
    identity = parts.data.identity
    facts |= {f"the data's {key}": identity[key] for key in identity}
    facts |= {name: version(name) for name in ("torch", "pytorch-lightning", "numpy")}
    facts |= {f"genlab's {key}": value for key, value in code().items()} | {"genlab's files (sha256)": code_sha256()}
    facts["the number of devices"] = num_processes(config["trainer"])
    facts["the checkpoint"] = None if found is None else [found[0].name, found[1]]
    return facts
