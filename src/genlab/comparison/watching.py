"""The page of runs that are still running, served on this machine: it asks for news, and runs are read again."""

import gzip
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from genlab.comparison.gallery import Gallery
from genlab.comparison.page import encoded, page_of
from genlab.comparison.rereading import Reader
from genlab.comparison.runs import Run
from genlab.errors import InputError
from genlab.machine.ports import HOST, NAMES, refused

BUDGET = 60_000_000  # bytes of pictures, which are fetched one by one

Made = Callable[[Sequence[Run], Gallery], dict[str, Any]]


def watch(places: Sequence[str], made: Made, port: int) -> None:
    """Serve the page of runs until Ctrl-C, and read them again when somebody looks.

    Args:
        places: folders of runs, folders that contain runs, or glob patterns; they need not exist yet.
        made: function that makes the report of runs, with a gallery for its pictures.
        port: port to serve at; 0 for any that is free.

    Raises:
        InputError: if the port is in use or not allowed.
        KeyboardInterrupt: when the user ends it.
    """
    watched = Watched(Reader(places), made)
    try:
        server = Server((HOST, port), watched)
    except OSError as error:
        raise InputError(refused(port, error)) from error
    except OverflowError as error:
        raise InputError(f"port={port}: give a number from 1024 to 65535") from error
    with server:
        said = watched.news("")["said"]
        print(f"page: http://{HOST}:{server.server_port} (Ctrl-C ends it)", flush=True)
        if said:
            print(said, flush=True)
        server.serve_forever()


class Watched:
    """The newest report that could be made of the runs, and a line about what could not.

    Args:
        reader: reader of the runs.
        made: function that makes the report of runs, with a gallery for its pictures.
    """

    def __init__(self, reader: Reader, made: Made) -> None:
        self._reader, self._made = reader, made
        self._pictures: dict[str, bytes] = {}
        self._gallery = Gallery(self._placed, BUDGET)
        self._lock = threading.Lock()  # two windows must not read the runs at once
        self._seen: Any = None
        self._stamp, self._said = "0", ""
        self._report: dict[str, Any] | None = None

    def news(self, since: str) -> dict[str, Any]:
        """Read what has changed on the disk, and give the report if it is another than the one a page has.

        Args:
            since: stamp of the report that the page has.

        Returns:
            ``stamp``, ``said`` (a line to show, which may be empty) and ``report``, which is None if there is none, or
            none newer.
        """
        with self._lock:
            self._look()
            same = since == self._stamp
            return {"stamp": self._stamp, "said": self._said, "report": None if same else self._report}

    def picture(self, name: str) -> bytes | None:
        """Give a picture of the newest reports by its name; None if there is none."""
        return self._pictures.get(name)

    def _look(self) -> None:
        try:
            seen = self._reader.stamp()
            if seen == self._seen:
                return
            report = self._made(self._reader.runs(), self._gallery)
        except InputError as error:  # no runs yet, a figure that nothing has measured yet, a folder that went away
            self._say(self._waiting(error))
            return
        except OSError as error:  # the disk, for a moment
            self._say(f"The runs cannot be read now: {error.strerror or error}.")
            return
        self._seen = seen
        self._report, self._said = report, ""
        self._renew()

    def _waiting(self, error: InputError) -> str:
        if self._report is None:
            return f"Waiting: {error}."
        return f"{error}: this is what was there at {self._report['made']}."

    def _say(self, words: str) -> None:
        self._seen = None  # what is there again must be read again
        if words != self._said:
            self._said = words
            self._renew()

    def _renew(self) -> None:
        content = json.dumps([self._said, self._report], default=str)
        self._stamp = hashlib.blake2b(content.encode(errors="replace"), digest_size=8).hexdigest()

    def _placed(self, content: bytes, kind: str) -> str:
        name = f"{hashlib.blake2b(content, digest_size=12).hexdigest()}.{kind}"
        self._pictures[name] = content
        return f"pictures/{name}"


NOTHING: dict[str, Any] = {
    "title": "Comparison", "made": "", "version": "", "command": "", "columns": [], "rows": [], "runs": [],
    "config": {}, "real": [], "against_settings": [], "metrics": [], "decisions": [], "notes": [],
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """A server of one page.

    Args:
        address: host and port.
        watched: what the page shows.
    """

    daemon_threads = True
    # Elsewhere than on Windows, it only lets a port be used again at once after a server has ended.
    allow_reuse_address = os.name != "nt"

    def __init__(self, address: tuple[str, int], watched: Watched) -> None:
        self.watched = watched
        super().__init__(address, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a browser go that left before it had its answer; what else goes wrong is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """A handler of requests for the page, its reports and their pictures."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a request."""
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if self.headers.get("Host", "").rpartition(":")[0] not in NAMES:
            return self._refuse(HTTPStatus.FORBIDDEN)
        watched = self.server.watched
        if path == "/":
            return self._answer(
                page_of(encoded(NOTHING), "Comparison", live=True).encode(errors="replace"), "text/html"
            )
        if path == "/report.json":
            since = query.get("since", [""])[0]
            news = watched.news(since)
            if news["stamp"] == since:
                return self._refuse(HTTPStatus.NO_CONTENT)
            return self._answer(encoded(news).encode(errors="replace"), "application/json")
        kind = Path(path).suffix.removeprefix(".")
        if path.startswith("/pictures/") and (content := watched.picture(path.removeprefix("/pictures/"))) is not None:
            return self._answer(content, f"image/{kind}", for_ever=True)
        return self._refuse(HTTPStatus.NOT_FOUND)

    def _answer(self, content: bytes, kind: str, *, for_ever: bool = False) -> None:
        """Send content; pictures are named by what they hold, and never change."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind if for_ever else f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "max-age=31536000, immutable" if for_ever else "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if not for_ever and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal is for what the user should know."""
