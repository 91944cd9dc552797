"""A W&B server on this machine that speaks as much of the protocol as a run needs, and keeps what it is told.

GraphQL at ``/graphql``; a run's history, summary and console at ``/files/<entity>/<project>/<run>/file_stream``; and
files at the addresses that it gives out. Its network can be lost: see ``Network``.
"""

import base64
import gzip
import json
import re
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.sharedctypes import RawValue
from typing import Any

from wandb.proto.wandb_internal_pb2 import MetricRecord

from support.wandb_files import Artifact, Metric, WandbRun, dotted

ENTITY = "tester"
HISTORY, EVENTS, SUMMARY, OUTPUT = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json", "output.log"
MANIFEST = "wandb_manifest.json"


class Network(IntEnum):
    UP = 0  # requests are answered
    CUT = 1  # connections are closed unanswered
    SILENT = 2  # connections stay open, and are never answered


@dataclass
class Stored:
    """What was received of a run."""

    facts: dict[str, Any] = field(default_factory=dict)  # the variables of upsertBucket
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)  # the lines of a streamed file
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)  # their identities
    exit_code: int | None = None
    beginnings: int = 0  # processes that asked whether there is something to go on with

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.streams.get(name, []) if line]


class WandbServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1 from its making on until ``close``.

    Attributes:
        url: for ``WANDB_BASE_URL``.
        requests: what was asked, in order: an operation of GraphQL, ``file_stream`` or a file's name.
        unknown: operations that it has no answer to.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._network, self._lost = RawValue("b", Network.UP), RawValue("i", 0)
        self.runs: dict[str, Stored] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}  # of artifacts, by the address that was given out
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Gone for good: connections are refused."""
        self._closed.set()
        self.shutdown()
        self.server_close()

    @property
    def network(self) -> Network:
        """Can be looked at and set in a fork of the server's process as well."""
        return Network(self._network.value)

    @network.setter
    def network(self, state: Network) -> None:
        self._network.value = state

    def wait_for_loss(self, seconds: float = 60) -> None:
        """Until one more request was lost. As ``network``, also in a fork."""
        before, until = self._lost.value, time.monotonic() + seconds
        while self._lost.value == before:
            if time.monotonic() > until:
                raise TimeoutError("nobody asked anything")
            time.sleep(0.01)

    def reachable(self) -> bool:
        """Whether the request at hand is to be answered. It waits while the network is silent."""
        if self.network is not Network.UP:
            self._lost.value += 1
        while self.network is Network.SILENT and not self._closed.wait(0.05):
            pass
        return self.network is Network.UP

    def run(self, name: str) -> WandbRun:
        """A run as it was received."""
        with self.lock:
            stored = self.runs[name]
            facts = stored.facts
            summaries = stored.lines(SUMMARY)
            return WandbRun(
                id=name,
                name=facts.get("displayName") or "",
                project=facts.get("project") or "",
                group=facts.get("groupName") or "",
                job_type=facts.get("jobType") or "",
                notes=facts.get("notes") or "",
                tags=facts.get("tags") or [],
                config={key: value for key, value in stored.config.items() if key != "_wandb"},
                history=[dotted(row) for row in stored.lines(HISTORY)],
                summary=dotted(summaries[-1]) if summaries else {},
                metrics=_metrics(stored.config.get("_wandb", {}).get("m", [])),
                artifacts=[self._artifact(key) for key in stored.artifacts],
                exit_code=stored.exit_code,
                parts=max(1, stored.beginnings),
            )

    def _artifact(self, key: str) -> Artifact:
        given = self.artifacts[key]
        files = sorted(path.removeprefix(f"{key}/") for path in self.blobs if path.startswith(f"{key}/"))
        return Artifact(
            given["artifactCollectionName"],
            given["artifactTypeName"],
            [alias["alias"] for alias in given["aliases"]],
            [file for file in files if file != MANIFEST],
        )

    # -- GraphQL -------------------------------------------------------------------------------------------------------

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """The data of a query's answer, of the fields that a run's process reads; ``None`` to what is unknown.

        Args:
            query: in GraphQL.
            given: its variables.
        """
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = named[1] if named else query
        self.requests.append(operation)
        match operation:
            case "Viewer" | "Whoami":
                team = {"node": {"name": ENTITY}}
                return {"viewer": {"id": "VXNlcg==", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}",
                                   "admin": False, "teams": {"edges": [team]}}}  # fmt: skip
            case "ServerInfo":
                return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.0.0"}, "latestLocalVersionInfo": None}}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrgFeatureFlags":
                return {"organization": {"featureFlags": []}}
            case "RunResumeStatus":
                return {"model": self._resume_status(given["name"])}
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(given)}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "RunStoppedStatus":
                return {"project": {"run": {"stopped": False}}}
            case "CreateRunFiles":
                files = [
                    {"name": name, "uploadUrl": f"{self.url}/put/{given['run']}/{name}"} for name in given["files"]
                ]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "MarkRunFilesUploaded":
                return {"markRunFilesUploaded": {"success": True}}
            case "CreateArtifact":
                return {"createArtifact": {"artifact": self._create_artifact(given["input"])}}
            case "CreateArtifactManifest" | "UpdateArtifactManifest":
                manifest = given.get("artifactID") or given["artifactManifestID"]
                address = f"{self.url}/artifact/{manifest}/{MANIFEST}"
                entry = {"id": manifest, "file": {"id": manifest, "uploadUrl": address, "uploadHeaders": []}}
                return {operation[0].lower() + operation[1:]: {"artifactManifest": entry}}
            case "CreateArtifactFiles":
                return {"createArtifactFiles": {"files": {"edges": self._artifact_files(given["input"])}}}
            case "CommitArtifact":
                self.artifacts[given["artifactID"]]["state"] = "COMMITTED"
                return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
        self.unknown.append(query)
        return None

    def _resume_status(self, name: str) -> dict[str, Any]:
        stored = self.runs.get(name)
        bucket = None
        if stored is None:
            self.runs[name] = stored = Stored()
        elif "t" in stored.config.get("_wandb", {}):
            lines = {file: stored.streams.get(file, []) for file in (HISTORY, EVENTS, SUMMARY, OUTPUT)}
            bucket = {
                "id": _identity(name),
                "name": name,
                "summaryMetrics": (lines[SUMMARY] or ["{}"])[-1],
                "displayName": stored.facts.get("displayName"),
                "historyLineCount": len(lines[HISTORY]),
                "eventsLineCount": len(lines[EVENTS]),
                "logLineCount": len(lines[OUTPUT]),
                "historyTail": json.dumps(lines[HISTORY][-1:]),
                "eventsTail": json.dumps(lines[EVENTS][-1:]),
                "config": json.dumps({key: {"value": value} for key, value in stored.config.items()}),
                "tags": stored.facts.get("tags") or [],
                "notes": stored.facts.get("notes"),
                "wandbConfig": json.dumps({"t": stored.config["_wandb"]["t"]}),
            }
        stored.beginnings += 1
        return {"id": "UHJvamVjdA==", "name": "", "entity": {"id": "RW50aXR5", "name": ENTITY}, "bucket": bucket}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["name"]
        inserted = name not in self.runs or not self.runs[name].facts
        stored = self.runs.setdefault(name, Stored())
        stored.facts |= {key: value for key, value in given.items() if value is not None and key != "config"}
        if given.get("config"):
            stored.config = {key: item["value"] for key, item in json.loads(given["config"]).items()}
        project = {"id": "UHJvamVjdA==", "name": given["project"], "entity": {"id": "RW50aXR5", "name": ENTITY}}
        bucket = {
            "id": _identity(name),
            "name": name,
            "displayName": stored.facts.get("displayName"),
            "project": project,
            "historyLineCount": len(stored.streams.get(HISTORY, [])),
        }
        return {"bucket": bucket, "inserted": inserted}

    def _create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        key = f"QXJ0aWZhY3Q{len(self.artifacts)}"
        self.artifacts[key] = {**given, "state": "PENDING"}
        if given.get("runName") in self.runs:
            self.runs[given["runName"]].artifacts.append(key)
        return {"id": key, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}

    def _artifact_files(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "node": {
                    "storagePath": f"{file['artifactID']}/{file['name']}",
                    "uploadUrl": f"{self.url}/artifact/{file['artifactID']}/{file['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in given["artifactFiles"]
        ]

    # -- streams and files ---------------------------------------------------------------------------------------------

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Lines go where their offset says, so that what is sent twice is there once."""
        self.requests.append("file_stream")
        stored = self.runs[name]
        for file, chunk in (sent.get("files") or {}).items():
            lines, start = stored.streams.setdefault(file, []), chunk["offset"]
            lines.extend("" for _ in range(start - len(lines)))
            lines[start : start + len(chunk["content"])] = chunk["content"]
        if sent.get("complete"):
            stored.exit_code = sent["exitcode"]

    def put(self, path: str, content: bytes) -> None:
        where, _, name = path.partition("/")
        self.requests.append(name)
        if where == "put":
            run, _, file = name.partition("/")
            self.runs[run].files[file] = content
        else:
            self.blobs[name] = content


def _identity(name: str) -> str:
    return base64.b64encode(f"Run:v1:{name}".encode()).decode()


def _metrics(encoded: list[dict[str, Any]]) -> dict[str, Metric]:
    """From how a config has them: by the numbers of MetricRecord's fields, the x-axis by its place (from 1)."""
    fields = {name: str(field.number) for name, field in MetricRecord.DESCRIPTOR.fields_by_name.items()}
    summaries = MetricRecord.DESCRIPTOR.fields_by_name["summary"].message_type.fields_by_number
    names = [entry.get(fields["name"]) or entry.get(fields["glob_name"], "") for entry in encoded]
    return {
        name: Metric(
            names[entry[fields["step_metric_index"]] - 1] if fields["step_metric_index"] in entry else None,
            tuple(summaries[number].name for number in entry.get(fields["summary"], [])),
        )
        for name, entry in zip(names, encoded, strict=True)
    }


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def handle(self) -> None:
        if self.server.reachable():
            super().handle()

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if not body:  # whoever asked is gone
            return
        sent = json.loads(body)
        answer: dict[str, Any] = {}
        try:
            with self.server.lock:
                if self.path.endswith("/graphql"):
                    answer["data"] = self.server.answer(sent["query"], sent.get("variables") or {})
                else:
                    _files, _entity, _project, run, _stream = self.path.strip("/").split("/")
                    self.server.stream(run, sent)
        except Exception as error:  # for the test to find, as the client would only ask again
            self.server.unknown.append(f"{self.path}: {error!r}, of {body.decode()}")
        # What cannot be answered is a bad request, which is not repeated.
        self._reply(answer, 200 if answer.get("data", answer) is not None else 400)

    def do_PUT(self) -> None:
        body = self._body()
        with self.server.lock:
            self.server.put(self.path.strip("/").partition("?")[0], body)
        self._reply({})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not to the terminal."""
