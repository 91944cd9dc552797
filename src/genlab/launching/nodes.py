"""The nodes of a run: what they agree on, what they tell each other, and how each notices that another one is gone."""

import json
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from genlab.errors import InputError, RunFailed
from genlab.launching.disk import disk_errors
from genlab.launching.joining import ANSWER, connect
from genlab.launching.meeting import Meeting

BEAT = 1.0  # seconds between two signs of life
DEAD = ANSWER  # seconds without one after which a node counts as gone
SEEN = 60.0  # seconds in which a new file has to appear on the other nodes; file servers' clients keep listings so long
TOKEN = ".nodes"


class Nodes:
    """The machines of one run, as one of them sees it.

    They talk through a store that node 0 holds. A thread shows this node's life there and looks for that of the others.

    Args:
        store: store at which the nodes met.
        meeting: address of the store.
        rank: number of this node.
        hosts: names of the hosts of all nodes, by number.

    Attributes:
        token: random word of this launch, known once the folder is shown.
        asked: signal that another node passes on to node 0; None if there is none.
    """

    def __init__(self, store: TCPStore, meeting: Meeting, rank: int, hosts: list[str]) -> None:
        self.meeting, self.rank, self.hosts, self.token = meeting, rank, hosts, ""
        self.asked: int | None = None
        self._store, self._answered = store, time.monotonic()
        self._ends: dict[int, dict[str, Any]] = {}  # what other nodes said when they ended
        self._silent: set[int] = set()
        self._stop = threading.Event()
        own = connect(Meeting("localhost", meeting.port, 0, "") if rank == 0 else meeting)
        self._thread = threading.Thread(target=self._live, args=(own,), name="genlab-nodes", daemon=True)
        self._thread.start()

    @property
    def num(self) -> int:
        return len(self.hosts)

    def name(self, rank: int) -> str:
        """Name a node for people."""
        return f"node {rank} ({self.hosts[rank]})"

    # -- life ----------------------------------------------------------------------------------------------------------

    def _live(self, store: TCPStore) -> None:
        others = [i for i in range(self.num) if i != self.rank]
        last = dict.fromkeys(others, (b"", time.monotonic()))
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                store.set(f"beat/{self.rank}", str(count))
                beats = store.multi_get([f"beat/{i}" for i in others])
                for i in others:
                    if i not in self._ends and store.check([f"end/{i}"]):
                        self._ends[i] = json.loads(store.get(f"end/{i}"))
                if self.rank == 0 and self.asked is None and store.check(["asked"]):
                    self.asked = int(store.get("asked"))
            except RuntimeError:
                if 0 not in self._ends and not self._stop.is_set():
                    self._silent.add(0)
                return
            now = self._answered = time.monotonic()
            for i, beat in zip(others, beats, strict=True):
                if beat != last[i][0]:
                    last[i] = beat, now
                elif now - last[i][1] > DEAD and i not in self._ends:
                    self._silent.add(i)
            self._stop.wait(BEAT)

    def silent(self) -> set[int]:
        """Give the numbers of the nodes that are gone without a word."""
        hangs = self.rank != 0 and 0 not in self._ends and time.monotonic() - self._answered > DEAD
        return self._silent | ({0} if hangs else set())

    def ends(self) -> dict[int, dict[str, Any]]:
        """Give what the nodes that have ended said: ``reason`` if they failed, and what else they have to tell."""
        return dict(self._ends)

    def trouble(self) -> str | None:
        """Say which other node is gone or has failed, and why; None if all are well."""
        for i in sorted(self.silent()):
            return f"{self.name(i)} died: no sign of life for {DEAD:.0f} s" if i else self._of_host()
        for _, end in sorted(self.ends().items()):
            if end.get("reason"):
                return str(end["reason"])
        return None

    def _of_host(self) -> str:
        return f"{self.name(0)}, which holds the meeting of the nodes, died"

    # -- words ---------------------------------------------------------------------------------------------------------

    def say(self, key: str, value: Any) -> None:
        """Tell all nodes something once."""
        try:
            self._store.set(key, json.dumps(value, default=str))
        except RuntimeError as error:
            raise RunFailed(self._of_host()) from error

    def said(self, key: str) -> Any:
        """Read what was said under a key; None if nothing was said yet."""
        try:
            return json.loads(self._store.get(key)) if self._store.check([key]) else None
        except RuntimeError as error:
            raise RunFailed(self._of_host()) from error

    def heard(self, key: str, seconds: float = float("inf")) -> Any:
        """Wait until something is said under a key, and read it; None if nothing is said in time.

        Raises:
            RunFailed: if meanwhile a node dies or fails.
        """
        until = time.monotonic() + seconds
        while (value := self.said(key)) is None:
            if (trouble := self.trouble()) is not None:
                raise RunFailed(trouble)
            if time.monotonic() > until:
                return None
            time.sleep(0.1)
        return value

    # -- the folder ----------------------------------------------------------------------------------------------------

    def show(self, folder: Path) -> None:
        """Show the run's folder to the other nodes, and wait until all see it; for node 0.

        Raises:
            RunFailed: if a node does not see it.
        """
        folder, self.token = folder.absolute(), secrets.token_hex(16)
        file = folder / TOKEN
        try:
            with disk_errors(folder):
                file.write_text(self.token, encoding="utf-8")
            self.say("folder", {"path": str(folder), "token": self.token})
            for i in range(1, self.num):
                self.heard(f"seen/{i}")
        finally:
            with suppress(OSError):
                file.unlink()

    def find(self) -> Path:
        """Find the folder that node 0 shows; for the others.

        Raises:
            InputError: if it is not on this node's disk, or holds another token.
            RunFailed: if meanwhile a node dies or fails.
        """
        shown = self.heard("folder")
        folder, self.token = Path(shown["path"]), shown["token"]
        until = time.monotonic() + SEEN
        while True:
            with suppress(OSError):
                list(folder.parent.iterdir())  # a file server's client looks at the folder anew
                if (folder / TOKEN).read_text(encoding="utf-8") == self.token:
                    break
            if (trouble := self.trouble()) is not None:
                raise RunFailed(trouble)
            if time.monotonic() > until:
                raise InputError(
                    f"{self.name(self.rank)} does not see the run folder {folder} that {self.name(0)} made: a shared "
                    "disk that is not shared? all nodes need the same paths.output_dir on one disk"
                )
            time.sleep(0.2)
        self.say(f"seen/{self.rank}", True)
        return folder

    # -- the end -------------------------------------------------------------------------------------------------------

    def end(self, **words: Any) -> None:
        """Tell the others that this node has ended, and how; the first words count."""
        with suppress(RuntimeError):
            if not self._store.check([f"end/{self.rank}"]):
                self._store.set(f"end/{self.rank}", json.dumps(words, default=str))

    def close(self) -> None:
        """Leave; node 0 waits a while for the others to read what it said."""
        self.end()
        until = time.monotonic() + DEAD
        if self.rank == 0:
            while time.monotonic() < until and len(self.ends().keys() | self.silent()) < self.num - 1:
                time.sleep(0.05)
            time.sleep(0.2)  # the others' threads end before the store does
        self._stop.set()
        self._thread.join(2 * BEAT)
