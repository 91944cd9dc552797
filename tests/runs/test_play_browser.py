"""The page of ``genlab play`` in a browser: what is moved changes what is drawn; its command line draws the same."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs Gradio: pip install 'genlab[play]'")

from genlab.composition.configs import composed
from genlab.machine.ports import HOST
from genlab.playing.completion import Completion
from genlab.playing.latents import LatentSliders
from genlab.playing.reconstruction import Reconstruction
from genlab.playing.samples import Samples
from genlab.playing.server import served
from genlab.playing.writing import Writing
from genlab.runs.loading import load
from genlab.views.grid import Grid
from support.browser import Opened, launched
from support.command import FAST, Genlab, Trained

RUNS = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move"
PANELS = (Samples(), Writing(), LatentSliders(sliders=3), Completion(), Reconstruction())
# A model that has everything: classes and guidance, an encoder, and completion.
FLOW = (
    "model=diffusion/flow_matching", "model.num_classes=10", "diffusion/networks=dit", "model.networks.width=8",
    "model.networks.num_heads=1", "model.networks.num_layers=1", "model.num_steps=3", "callbacks=minimal", *FAST,
    "metrics.num_test=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


class Playing(Opened):
    """The page of a run, of which one tab is looked at."""

    def __init__(self, browser: Any, url: str, tab: str) -> None:
        super().__init__(browser, Path(), url=url, viewport={"width": 1400, "height": 1000}, accept_downloads=True)
        self.context.set_default_timeout(45_000)
        self.url = url
        self.errors: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab(tab)

    def tab(self, name: str) -> None:
        button = self.page.get_by_role("tab", name=name)
        button.click()
        self.panel = self.page.locator("[role=tabpanel]:visible")

    def picture(self, other_than: str | None = None) -> str:
        """Wait for a picture that is not the one of before, and give where it lies."""
        image = self.panel.locator(".picture img")
        image.wait_for()
        if other_than is not None:
            self.page.wait_for_function("([node, old]) => node.src !== old", arg=[image.element_handle(), other_than])
        return str(image.get_attribute("src"))

    def command(self, *words: str) -> list[str]:
        """Wait until the command line has some words, and give it."""
        area = self.panel.locator(".command textarea")
        reads = "([node, words]) => words.every((word) => node.value.split(' ').includes(word))"
        self.page.wait_for_function(reads, arg=[area.element_handle(), [*map(shlex.quote, words)]])
        return shlex.split(area.input_value())

    def set(self, field: str, value: str) -> None:
        entry = self.panel.locator(f"#{field} :is(input[type=number], input[type=text], textarea)").first
        entry.fill(value)
        entry.press("Enter")
        entry.blur()

    def choose(self, field: str, option: str) -> None:
        self.panel.locator(f"#{field} input").click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def taken_away(self, folder: Path) -> dict[str, bytes]:
        with self.page.expect_download() as started:
            self.panel.get_by_text("download with settings").click()
        started.value.save_as(folder / "taken.zip")
        with zipfile.ZipFile(folder / "taken.zip") as packed:
            return {name: packed.read(name) for name in packed.namelist()}

    def stayed_here(self) -> None:
        asked = [url for url in self.requests if not url.startswith(("data:", "blob:", self.url))]
        assert asked == [], "the page asked somebody else"
        assert self.errors == []  # Gradio's own scripts warn of others that are old
        self.context.close()


def drawn_again(genlab: Genlab, words: list[str], folder: Path) -> dict[str, bytes]:
    """The files that a command line writes, by their suffixes."""
    assert words[:2] == ["genlab", "sample"]
    result = genlab(*words[1:], f"output={folder / 'again.png'}")
    assert result.code == 0, result.err
    return {path.suffix: path.read_bytes() for path in folder.glob("again.*")}


def test_what_is_not_drawn_yet_is_not_shown_as_if_it_were(
    browser: Any, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, show = threading.Event(), Grid.show

    def slowly(self: Grid, run: Any) -> Any:
        assert self.seed == 0 or may_end.wait(60)
        return show(self, run)

    monkeypatch.setattr(Grid, "show", slowly)
    with served(load(trained(*FLOW)), PANELS, 0, {}) as url:
        page = Playing(browser, url, "Samples")
        first = page.picture()
        page.panel.get_by_text("next seed").click()
        try:
            faded = "(node) => getComputedStyle(node).opacity < 0.5"
            for of in (".picture img", ".command textarea"):
                page.page.wait_for_function(faded, arg=page.panel.locator(of).element_handle())
            state = page.panel.locator(".picture .meta-text")
            assert state.evaluate("(node) => getComputedStyle(node).fontSize") == "0px"  # no place in a queue
            assert "working" in state.evaluate("(node) => getComputedStyle(node, '::after').content")
        finally:
            may_end.set()
        page.picture(first)
        page.page.wait_for_function(
            "(node) => getComputedStyle(node).opacity == 1", arg=page.panel.locator(".picture img").element_handle()
        )
        page.stayed_here()


def test_an_image_model_is_played_with(browser: Any, genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    with served(load(trained(*FLOW)), PANELS, 0, {}) as url:
        page = Playing(browser, url, "Samples")
        assert page.page.get_by_role("tab").all_inner_texts() == [
            "Samples", "Latents", "Completion", "Reconstruction"
        ]  # fmt: skip
        first = page.picture()
        page.panel.get_by_text("next seed").click()
        page.command("seed=1")
        second = page.picture(first)
        page.choose("class", "3")
        page.command("classes=3")
        third = page.picture(second)
        page.set("temperature", "0.5")
        page.command("sampling.temperature=0.5")
        fourth = page.picture(third)
        assert len({first, second, third, fourth}) == 4
        page.set("guidance", "2")
        page.set("n", "9")
        words = page.command("n=9", "seed=1", "classes=3", "sampling.temperature=0.5", "sampling.guidance=2.0")
        page.picture(fourth)
        taken = page.taken_away(tmp_path)
        again = drawn_again(genlab, words, tmp_path)
        assert {".png", ".npy"} <= again.keys()
        for suffix, content in again.items():
            (name,) = [name for name in taken if name.endswith(suffix)]
            assert taken[name] == content, f"the command line draws another {suffix}"
        page.set("temperature", "-1")  # is told on the page
        page.page.get_by_text("temperature=-1.0: give a number above 0").wait_for()
        page.set("temperature", "1")

        page.tab("Latents")
        still = page.picture()
        page.set("latent-0", "3")
        moved = page.picture(still)
        page.set("latent-0", "0")
        page.set("image", "7")
        page.command("mode=traverse", "images=[7]")
        assert page.picture(moved) != still

        page.tab("Reconstruction")
        page.set("image", "5")
        words = page.command("mode=reconstruct", "images=[5]")
        taken = page.taken_away(tmp_path)
        assert taken["reconstruction.npy"] == drawn_again(genlab, words, tmp_path)[".npy"]
        page.stayed_here()


@pytest.mark.slow
def test_a_part_that_is_painted_over_is_drawn_again(
    browser: Any, genlab: Genlab, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(load(trained(*FLOW)), PANELS, 0, {}) as url:
        page = Playing(browser, url, "Completion")
        page.set("image", "3")
        canvas = page.panel.locator("#canvas canvas").last
        canvas.wait_for()
        page.page.wait_for_timeout(1000)
        page.panel.locator("#complete").click()
        half = page.command("mode=complete", "images=[3]", "redraw=bottom", "draws=4")
        lower = np.load(_file(page.taken_away(tmp_path)["completion.npy"], tmp_path))
        assert np.load(_file(drawn_again(genlab, half, tmp_path)[".npy"], tmp_path)).tolist() == lower.tolist()

        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.page.mouse.move(x - 60, y)
        page.page.mouse.down()
        page.page.mouse.move(x, y, steps=5)
        page.page.mouse.move(x + 60, y, steps=5)
        page.page.mouse.up()
        page.page.wait_for_timeout(500)
        page.panel.locator("#complete").click()
        words = page.command("redraw=region.png")
        taken = page.taken_away(tmp_path)
        page.stayed_here()
    (tmp_path / "region.png").write_bytes(taken["region.png"])
    monkeypatch.chdir(tmp_path)
    again = np.load(_file(drawn_again(genlab, words, tmp_path)[".npy"], tmp_path))
    painted = np.load(_file(taken["completion.npy"], tmp_path))
    assert (painted == again).all()
    from PIL import Image

    region = np.array(Image.open(tmp_path / "region.png")) > 0
    assert 1 <= region.sum() < 40
    image, *draws = painted[:1].tolist() + painted[2:].tolist()
    changed = (np.array(draws) != np.array(image))[:, 0]
    assert changed[:, region].any()
    assert not changed[:, ~region].any()


def _file(content: bytes, folder: Path) -> Path:
    (folder / "array.npy").write_bytes(content)
    return folder / "array.npy"


def test_a_text_streams_and_a_seed_gives_it_again(browser: Any, genlab: Genlab, tmp_path: Path) -> None:
    with served(load(RUNS / "transformer-gpt"), PANELS, 0, {}) as url:
        page = Playing(browser, url, "Text")
        area = page.panel.locator("#text textarea")
        area.evaluate("""node => {
            window.lengths = new Set();
            setInterval(() => window.lengths.add(node.value.length), 5);
        }""")

        def written(seed: int) -> str:
            page.set("seed", str(seed))
            page.panel.locator("#write").click()
            page.command(f"seed={seed}", "length=120")
            # A token of this model is a character.
            page.page.wait_for_function("node => node.value.length === 124", arg=area.element_handle())
            return str(area.input_value())

        page.panel.locator("#prompt textarea").fill("the ")
        page.set("top_p", "2")
        page.panel.locator("#write").click()
        page.page.get_by_text("top_p above 0 and at most 1").wait_for()
        page.set("top_p", "")
        page.set("length", "120")
        page.set("top_k", "5")
        page.set("temperature", "0.8")
        first = written(4)
        assert first.startswith("the ")
        assert page.page.evaluate("window.lengths.size") > 2, "the text came at once"
        assert written(5) != first
        assert written(4) == first
        words = page.command("sampling.top_k=5", "sampling.temperature=0.8")
        taken = page.taken_away(tmp_path)
        page.stayed_here()
    result = genlab(*words[1:], f"output={tmp_path / 'again.txt'}")
    assert result.code == 0, result.err
    assert taken["text-seed4.txt"] == (tmp_path / "again.txt").read_bytes()


@pytest.mark.e2e
def test_the_command_serves_this_machine_until_ctrl_c(genlab: Genlab) -> None:
    arguments = [sys.executable, "-m", "genlab", "play", str(RUNS / "gan-dcgan")]
    started = subprocess.Popen(
        [*arguments, "port=0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert started.stdout is not None
    try:
        line = started.stdout.readline()
        assert line.startswith(f"page: http://{HOST}:")
        port = int(line.split("/")[2].split(":")[1])
        assert b" 200 " in asked(port, HOST)
        assert b" 400 " in asked(port, "a.stranger.example")
        second = genlab("play", RUNS / "gan-dcgan", f"port={port}")
        assert (second.code, second.err.count("\n")) == (2, 1)
        assert f"port={port} is in use" in second.err
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=30)
    finally:
        started.kill()
    assert (started.returncode, out, err) == (130, "", "genlab: interrupted\n")


def asked(port: int, host: str) -> bytes:
    """The first line of what a server answers to a browser that knows it by a name."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        return connection.recv(200).split(b"\r\n")[0]


def test_every_panel_of_the_config_is_one_of_these() -> None:
    named = {node["_target_"] for node in composed("play", ["run=x"]).panels.values()}
    assert named == {f"{type(panel).__module__}.{type(panel).__name__}" for panel in PANELS}
