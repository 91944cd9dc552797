"""Join the nodes of a run at the address where they meet: one of them hosts a store there, the others connect to it."""

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from torch.distributed import TCPStore

from genlab.errors import InputError
from genlab.launching.meeting import PATIENCE, Meeting

ANSWER = 15.0  # seconds in which the store has to answer


class Full(Exception):  # noqa: N818, a state and no error of the user's
    """The refusal of a node that comes when all have joined already, such as those of a run that has not ended yet."""


def join(meeting: Meeting, num: int, seconds: float) -> tuple[TCPStore, int, list[str]]:
    """Wait until all nodes of a run have joined.

    Args:
        meeting: where they meet.
        num: number of nodes.
        seconds: time to wait.

    Returns:
        The store, the number of this node, and the names of the hosts by number.

    Raises:
        InputError: if not all nodes come in time; the message says how many came, and from where.
    """
    until = time.monotonic() + seconds
    store, rank = _entered(meeting, num, until, seconds)
    store.set(f"beat/{rank}", "0")
    store.set(f"host/{rank}", socket.gethostname())
    keys = [f"host/{i}" for i in range(num)]
    if not store.check(keys):
        print(f"genlab: node {rank} waits at {meeting.address} for {num} nodes to join", file=sys.stderr)
    try:
        while not store.check(keys):
            if time.monotonic() > until:
                hosts = [store.get(key).decode() for key in keys if store.check([key])]
                raise InputError(_missing(meeting, num, hosts, seconds))
            time.sleep(0.1)
        return store, rank, [host.decode() for host in store.multi_get(keys)]
    except RuntimeError as error:  # node 0 has given up, or was stopped
        raise InputError(
            f"{meeting.address}: node 0, which holds the meeting there, ended before all {num} nodes had joined"
        ) from error


def connect(meeting: Meeting) -> TCPStore:
    """Connect to the store of a meeting."""
    answer = timedelta(seconds=ANSWER)
    return TCPStore(meeting.host, meeting.port, is_master=False, wait_for_workers=False, timeout=answer)


def _entered(meeting: Meeting, num: int, until: float, seconds: float) -> tuple[TCPStore, int]:
    hosts = meeting.rank == 0 or (meeting.rank is None and is_here(meeting.host))
    while True:
        store = _hosted(meeting) if hosts else None
        if store is not None:
            return store, 0
        last = None
        if hosts and meeting.rank == 0:
            last = f"port {meeting.port} of this machine is taken; choose another one by GENLAB_RDZV=HOST:PORT"
        elif _answers(meeting):
            try:
                return _numbered(meeting, num)
            except (Full, RuntimeError) as error:
                last = str(error) or None
        if time.monotonic() > until:
            raise InputError(last or _missing(meeting, num, [socket.gethostname()], seconds))
        time.sleep(0.5)


def _hosted(meeting: Meeting) -> TCPStore | None:
    """Open the store at a port of this machine; None if another process has the port."""
    # The own connection is by the machine's own name, because the name for others may be known a while later only.
    answer = timedelta(seconds=ANSWER)
    with contextlib.suppress(RuntimeError):
        store = TCPStore("localhost", meeting.port, is_master=True, wait_for_workers=False, timeout=answer)
        store.set("next", "0")
        return store
    return None


def _numbered(meeting: Meeting, num: int) -> tuple[TCPStore, int]:
    """Connect, and take the number that the launcher gave, or the next one."""
    store = connect(meeting)
    if not store.check(["next"]):
        time.sleep(1)
        if not store.check(["next"]):
            raise Full(f"{meeting.address} is another program's port; choose another one by GENLAB_RDZV=HOST:PORT")
    rank = meeting.rank if meeting.rank is not None else store.add("next", 1)
    if rank >= num or store.add(f"taken/{rank}", 1) > 1:
        raise Full(
            f"{meeting.address}: {num} nodes have joined there already; end the other run, or choose another port"
        )
    return store, rank


def _answers(meeting: Meeting) -> bool:
    """Tell whether something listens at the address; asked first, because torch prints pages if nothing does."""
    try:
        socket.create_connection((meeting.host, meeting.port), timeout=5).close()
    except OSError:
        return False
    return True


def is_here(host: str) -> bool:
    """Tell whether a name or an address is one of this machine."""
    found: Callable[..., list[tuple[int, int, int, str, tuple[str, int]]]] = socket.getaddrinfo  # type: ignore[assignment]
    try:
        addresses = found(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in addresses:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as one:
            one.bind(address)
            return True
    return False


def _missing(meeting: Meeting, num: int, hosts: list[str], seconds: float) -> str:
    return (
        f"{len(hosts)} of {num} nodes joined at {meeting.address} within {seconds:g} s ({', '.join(hosts)}): start the "
        f"same command on every node; {PATIENCE}=SECONDS waits longer"
    )
