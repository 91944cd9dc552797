"""The page of runs that are still running: what a window shows while folders come, change, break and go."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genlab.comparison.report import report_of
from genlab.comparison.rereading import Reader
from genlab.comparison.watching import Server, Watched
from support.browser import Opened, launched
from support.command import Genlab

FID = {"dataset": "digits", "features": "digits", "num_samples": 100, "num_real": 100, "reference": "train"}


def write_run(folder: Path, width: int, *, fid: float | None = None, images: int = 300) -> Path:
    """A run of a sweep over the width: running, or done if its FID is given."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(
        f"seed: 0\nchoices: {{model: vae/vae, dataset: digits}}\nmodel: {{width: {width}}}\ntraining: {{lr: 0.1}}\n"
    )
    lines = [f"{seen},{seen / 10},{seen // 100},{1 / (1 + seen)}" for seen in range(0, images, 100)]
    (folder / "metrics.csv").write_text("\n".join(["images_seen,seconds,epoch,val/fid", *lines, ""]))
    status = "running" if fid is None else "done"
    overrides = [f"model.width={width}"]
    about = {"status": status, "overrides": overrides, "command": f"genlab train model.width={width}", "host": "far"}
    (folder / "status.json").write_text(json.dumps(about))
    if fid is not None:
        summary = {"metrics": {"test/fid": {"value": fid, "protocol": FID}}, "parameters": width}
        (folder / "summary.json").write_text(json.dumps(summary))
    shade = np.full((8, 8), width, np.uint8)
    Image.fromarray(shade).save(folder / "samples" / f"{images:010d}.png")
    return folder


def watched(place: Path, **options: Any) -> Watched:
    chosen = {"figures": None, "sort": None, "spread": "std", "command": "genlab compare", "heading": None, **options}
    return Watched(Reader([str(place)]), partial(report_of, **chosen))


def reports(of: Watched) -> tuple[list[str], str]:
    """The commands of the runs that a page is told of, and what is said to it."""
    news = of.news("")
    return [run["command"] for run in (news["report"] or {"runs": []})["runs"]], news["said"]


def test_what_comes_changes_breaks_and_goes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "sweep"
    page = watched(place)
    assert reports(page) == ([], f"Waiting: there is no {place}.")
    place.mkdir()
    assert reports(page) == ([], f"Waiting: there are no runs in {place}.")
    write_run(place / "0", 8)
    assert reports(page) == (["genlab train model.width=8"], "")
    first = page.news("")
    assert page.news(first["stamp"])["report"] is None  # a page is not told twice
    write_run(place / "0", 8, images=500)
    write_run(place / "1", 16, fid=3.0)
    news = page.news(first["stamp"])
    assert [run["status"] for run in news["report"]["runs"]] == ["running", "done"]
    assert len(news["report"]["runs"][0]["curves"]["val/fid"]["values"]) == 5
    # Half-written files: what can be compared is.
    (place / "1" / "summary.json").write_text('{"metrics": {"test/f')
    (place / "1" / "samples" / "0000000300.png").write_bytes(b"\x89PNG\r\n")
    for _ in range(2):
        runs = page.news("")["report"]["runs"]
        assert [run["status"] for run in runs] == ["running", "damaged"]
        assert (len(runs[0]["pictures"]["samples"]), runs[1]["pictures"]) == (2, {})
    assert capfd.readouterr().err.count("left out of the page") == 1  # said once, not at every look
    shutil.rmtree(place / "1")
    assert len(reports(page)[0]) == 1
    shutil.rmtree(place)
    runs, said = reports(page)
    assert len(runs) == 1  # as it was
    assert said.startswith(f"there is no {place}: this is what was there at 20")
    write_run(place / "2", 4, fid=1.0)
    assert reports(page) == (["genlab train model.width=4"], "")


def test_a_figure_that_nothing_has_measured_yet_is_waited_for(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 8)
    page = watched(tmp_path, sort="fid")
    assert reports(page)[1].startswith("Waiting: sort=fid: there is no such column")
    write_run(tmp_path / "0", 8, fid=2.0)
    assert reports(page) == (["genlab train model.width=8"], "")


def test_only_what_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import genlab.comparison.rereading as rereading

    read: list[str] = []
    monkeypatch.setattr(rereading, "read_run", lambda f, real=rereading.read_run: read.append(f.path.name) or real(f))
    for i in range(3):
        write_run(tmp_path / str(i), i, fid=1.0 + i)
    reader = Reader([str(tmp_path)])
    first = reader.runs()
    write_run(tmp_path / "1", 1, fid=9.0)
    assert [a is b for a, b in zip(first, reader.runs(), strict=True)] == [True, False, True]
    assert read == ["0", "1", "2", "1"]


# -- the server --------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, Path]]:
    place = tmp_path / "sweep"
    with Server(("127.0.0.1", 0), watched(place)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server, place
        server.shutdown()
        thread.join()


def ask(server: Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_only_this_machine_is_answered_and_only_what_there_is(served: tuple[Server, Path]) -> None:
    server, place = served
    run = write_run(place / "0", 200, fid=1.0)
    news = json.loads(ask(server, "/report.json?since=").read())
    assert ask(server, f"/report.json?since={news['stamp']}").status == 204
    (picture,) = news["report"]["runs"][0]["pictures"]["samples"]
    answer = ask(server, f"/{picture['src']}")
    assert (answer.headers["Content-Type"], answer.read()[8:12]) == ("image/webp", b"WEBP")
    assert ask(server, "/report.json", Host="evil.example:80").status == 403  # another site's page that asks
    for path in ("/pictures/x.webp", "/../../etc/passwd", f"/pictures/..{run}/config.yaml", "/x"):
        assert ask(server, path).status == 404


def test_a_window_keeps_its_view_while_runs_come_and_go(served: tuple[Server, Path]) -> None:
    from playwright.sync_api import expect

    server, place = served
    with launched() as browser:
        opened = Opened(
            browser, Path(), url=f"http://127.0.0.1:{server.server_port}/", viewport={"width": 1400, "height": 900}
        )
        page = opened.page
        page.evaluate("PAUSES.next = 50")
        expect(page.locator("#said")).to_have_text(f"Waiting: there is no {place}.")
        for i, fid in enumerate((5.0, 3.0)):
            write_run(place / str(i), 8 + i, fid=fid)
        expect(page.locator("tr.row")).to_have_count(2)
        expect(page.locator("#said")).to_be_hidden()
        page.locator('th[data-key="test/fid"] button').click()
        page.locator("tr.row .unfold").first.click()
        page.get_by_role("button", name="Epochs").click()
        page.get_by_role("checkbox", name="Draw model.width=8").uncheck()
        page.locator("#filter").fill("width>1")
        page.get_by_role("checkbox", name="Draw model.width=9").focus()
        write_run(place / "2", 7, fid=4.0)
        write_run(place / "3", 6)
        expect(page.locator("tr.row")).to_have_count(4)
        opened.settle()
        widths = [cell.inner_text() for cell in page.locator("tr.row td.first").all()]
        assert widths == ["9", "7", "8", "6"]  # sorted by FID, still
        assert page.locator("tr.detail:visible").count() == 1
        assert page.locator("#filter").input_value() == "width>1"
        assert page.evaluate("[...chosen.keys()].map((id) => report.rows[id].label)") == ["model.width=9"]
        assert page.evaluate("document.activeElement.ariaLabel") == "Draw model.width=9"
        assert page.locator("#legend li").count() == 1
        page.locator("#samples").scroll_into_view_if_needed()
        image = page.locator("#cards img")
        expect(image).to_have_count(1)
        assert image.evaluate("node => node.decode().then(() => node.naturalWidth)") == 8
        shutil.rmtree(place)
        expect(page.locator("#said")).to_contain_text("this is what was there at")
        expect(page.locator("tr.row")).to_have_count(4)
        assert opened.complaints == []
        opened.context.close()


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_ctrl_c_ends_the_command_and_its_port_is_free_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "genlab", "compare", str(tmp_path / "none"), "--watch", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert process.stdout
    address = process.stdout.readline()
    port = int(address.partition("127.0.0.1:")[2].split()[0])
    assert process.stdout.readline() == f"Waiting: there is no {tmp_path / 'none'}.\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("genlab: interrupted\n")
    assert "Traceback" not in err
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_a_port_in_use_and_what_does_not_go_together_are_one_line(genlab: Genlab, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = genlab("compare", tmp_path, "--watch", f"port={port}")
    assert result.code == 2
    advice = f"give another one, such as port={port + 1}, or port=0 for any that is free"
    assert result.err.splitlines()[-1] == f"genlab: error: port={port} is in use: {advice}"
    for arguments, said in (
        (("port=70000",), "give a number from 1024 to 65535"),
        (("--port", "x"), "port"),
        (("--html", "a.html"), "leave out --html"),
        (("--format", "csv"), "leave out --html and --format"),
    ):
        result = genlab("compare", tmp_path, "--watch", *arguments)
        assert (result.code, said in result.err.splitlines()[-1]) == (2, True), result.err
