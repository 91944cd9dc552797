"""The place where the machines of a run meet, read from what a user or a launcher of commands has set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from genlab.errors import InputError

ENDPOINT, PATIENCE = "GENLAB_RDZV", "GENLAB_RDZV_TIMEOUT"
NODE = "GENLAB_NODE"  # number of a node; without it, nodes are numbered as they come
PORT = 29400  # where no port is given


@dataclass(frozen=True)
class Meeting:
    """An address at which the nodes of a run find each other.

    Attributes:
        host: name or address of the machine of node 0.
        port: port on that machine.
        rank: number of this node; None if the nodes are numbered as they come.
        source: variables that say so, for messages.
    """

    host: str
    port: int
    rank: int | None
    source: str

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def meeting(num_nodes: int, environment: Mapping[str, str]) -> Meeting:
    """Find where the nodes meet; the first of these that is set counts.

    ``GENLAB_RDZV``, the variables of ``srun``, those of torchrun's options (``PET_*``, set by Kubeflow), those of Open
    MPI, and ``RANK`` with ``MASTER_ADDR``. Docs: docs/machines.md.

    Args:
        num_nodes: number of nodes that the run's config asks for.
        environment: environment that the command was started with.

    Raises:
        InputError: if nothing says where they meet, or what does is of another number of nodes.
    """
    for find in (_of_genlab, _of_slurm, _of_torchrun_options, _of_open_mpi, _of_ranks):
        if (found := find(num_nodes, environment)) is not None:
            if found.rank is not None and not 0 <= found.rank < num_nodes:
                raise InputError(
                    f"{found.source} number this node {found.rank}, and trainer.num_nodes={num_nodes}: start the "
                    "command once on each node, and not once for each device"
                )
            return found
    raise InputError(
        f"trainer.num_nodes={num_nodes}: nothing says where the nodes meet; start the same command on each of them "
        f"with {ENDPOINT}=HOST:PORT, by srun with one task per node, or as docs/machines.md says for Kubernetes and MPI"
    )


def patience(environment: Mapping[str, str]) -> float:
    """Read how many seconds a node waits for the others.

    Raises:
        InputError: if ``GENLAB_RDZV_TIMEOUT`` is no positive number.
    """
    given = environment.get(PATIENCE) or "300"
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{PATIENCE}={given}: expected a number of seconds")
    return seconds


def first_host(nodes: str) -> str:
    """Give the first name of a list of nodes as SLURM writes it, such as ``gpu[003-007,012],cpu1``."""
    first = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def _of_genlab(num_nodes: int, environment: Mapping[str, str]) -> Meeting | None:
    if not (given := environment.get(ENDPOINT)):
        return None
    rank = _number(environment, NODE) if environment.get(NODE) else None
    return Meeting(*_endpoint(given, ENDPOINT), rank, ENDPOINT if rank is None else f"{ENDPOINT} and {NODE}")


def _of_slurm(num_nodes: int, environment: Mapping[str, str]) -> Meeting | None:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    if "SLURM_JOB_ID" not in environment or not nodes:
        return None
    if "SLURM_STEP_NUM_TASKS" not in environment or "SLURM_NODEID" not in environment:
        if environment.get("SLURM_NNODES", "1") == "1":
            return None  # a job on one node that does not concern this run
        raise InputError(
            f"trainer.num_nodes={num_nodes}: this command runs once in a SLURM job of {environment['SLURM_NNODES']} "
            f"nodes; start it on each of them: srun --nodes={num_nodes} --ntasks-per-node=1 genlab train ..."
        )
    there, tasks = environment.get("SLURM_STEP_NUM_NODES", "1"), environment["SLURM_STEP_NUM_TASKS"]
    if (there, tasks) != (str(num_nodes), str(num_nodes)):
        raise InputError(
            f"trainer.num_nodes={num_nodes}, and srun started {tasks} tasks on {there} nodes: one task on each of "
            f"{num_nodes} nodes is needed (srun --nodes={num_nodes} --ntasks-per-node=1, or hydra.launcher.nodes="
            f"{num_nodes})"
        )
    # Steps of one job may run side by side, and jobs may share a node.
    number = int(environment["SLURM_JOB_ID"]) * 31 + int(environment.get("SLURM_STEP_ID", "0"))
    return Meeting(first_host(nodes), 20000 + number % 10000, int(environment["SLURM_NODEID"]), "SLURM's variables")


def _of_torchrun_options(num_nodes: int, environment: Mapping[str, str]) -> Meeting | None:
    endpoint, host = environment.get("PET_RDZV_ENDPOINT"), environment.get("PET_MASTER_ADDR")
    if not endpoint and not host:
        return None
    _same_number(num_nodes, environment.get("PET_NNODES", str(num_nodes)).rpartition(":")[2], "PET_NNODES")
    if endpoint:
        return Meeting(*_endpoint(endpoint, "PET_RDZV_ENDPOINT"), None, "PET_RDZV_ENDPOINT")
    rank = _number(environment, "PET_NODE_RANK")
    return Meeting(str(host), _port(environment, "PET_MASTER_PORT"), rank, "PET_MASTER_ADDR and PET_NODE_RANK")


def _of_open_mpi(num_nodes: int, environment: Mapping[str, str]) -> Meeting | None:
    if "OMPI_COMM_WORLD_RANK" not in environment or not (host := environment.get("MASTER_ADDR")):
        return None
    _same_number(num_nodes, environment.get("OMPI_COMM_WORLD_SIZE", ""), "OMPI_COMM_WORLD_SIZE")
    rank = _number(environment, "OMPI_COMM_WORLD_RANK")
    return Meeting(host, _port(environment, "MASTER_PORT"), rank, "OMPI_COMM_WORLD_RANK and MASTER_ADDR")


def _of_ranks(num_nodes: int, environment: Mapping[str, str]) -> Meeting | None:
    # Those of a torchrun are of its processes, and at its port is a store of its own.
    if "TORCHELASTIC_RUN_ID" in environment or not environment.get("RANK"):
        return None
    if not (host := environment.get("MASTER_ADDR")):
        return None
    return Meeting(host, _port(environment, "MASTER_PORT"), _number(environment, "RANK"), "RANK and MASTER_ADDR")


def _same_number(num_nodes: int, there: str, name: str) -> None:
    if there != str(num_nodes):
        raise InputError(f"trainer.num_nodes={num_nodes}, and {name}={there}: both have to be the number of nodes")


def _endpoint(given: str, name: str) -> tuple[str, int]:
    host, colon, port = given.rpartition(":")
    if not colon or given.endswith("]"):
        host, port = given, str(PORT)
    if not host.strip("[]") or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError(f"{name}={given}: expected HOST:PORT, the machine of node 0 and a free port on it")
    return host.strip("[]"), int(port)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdigit():
        raise InputError(f"{name}={value}: expected the number of this node, from 0")
    return int(value)


def _port(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name) or str(PORT)
    if not value.isdigit() or not 0 < int(value) < 2**16:
        raise InputError(f"{name}={value}: expected a port")
    return int(value)
