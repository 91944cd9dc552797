"""The page of a comparison, in a browser that is offline: what it shows, and what its controls do."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genlab.comparison.page import write_page
from support.browser import Opened, launched
from support.made_up_report import HOSTILE, a_report, picture

# -- the file ----------------------------------------------------------------------------------------------------------


def embedded(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_the_report_and_the_chart_library_whole(tmp_path: Path) -> None:
    from plotly.offline import get_plotlyjs

    report = a_report()
    write_page(report, tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    inside = embedded(page)
    assert inside["runs"][4]["curves"]["val/fid"]["values"] == [8.0, None]
    report["runs"][4]["curves"]["val/fid"]["values"] = [8.0, None]  # NaN is no JSON
    assert inside == report
    assert page.count(get_plotlyjs()) == 1
    assert [*tmp_path.rglob("*")] == [tmp_path / "new", tmp_path / "new" / "report.html"]


def test_no_value_ends_the_data_or_becomes_a_tag(tmp_path: Path) -> None:
    plain = a_report() | {"rows": [], "runs": [], "decisions": [], "notes": [], "title": "plain"}
    write_page(plain, tmp_path / "plain.html")
    write_page(a_report(), tmp_path / "hostile.html")
    tags = [
        re.findall(r"</?\w+", (tmp_path / name).read_text(encoding="utf-8")) for name in ("plain.html", "hostile.html")
    ]
    assert tags[0] == tags[1]


# -- the page in a browser ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(a_report(), path)
    return path


@pytest.fixture(scope="module")
def window(browser: Any, file: Path) -> Iterator[Opened]:
    window = Opened(browser, file, viewport={"width": 1600, "height": 1200})
    yield window
    window.context.close()


@pytest.fixture
def opened(window: Opened) -> Iterator[Opened]:
    """The page as it is when it has just been opened; opening it anew would take seconds."""
    window.forget()
    yield window
    window.check()


def test_a_head_sorts_and_sorts_back_with_the_missing_last(opened: Opened) -> None:
    assert opened.order() == [*range(10)]
    head = opened.page.locator('th[data-key="test/fid"]')
    assert head.get_attribute("aria-sort") is None
    opened.click('th[data-key="test/fid"] button')
    assert opened.order() == [2, 0, 4, 5, 6, 7, 8, 9, 3, 1]  # by number: 9.25 first, 100 behind 36, nothing last
    assert head.get_attribute("aria-sort") == "ascending"
    opened.click('th[data-key="test/fid"] button')
    assert opened.order() == [3, 9, 8, 7, 6, 5, 4, 0, 2, 1]
    assert head.get_attribute("aria-sort") == "descending"
    opened.click('th[data-key="model.latent_dim"] button')
    assert opened.order()[:7] == [0, 4, 5, 6, 7, 8, 9]
    assert opened.order()[7:] == [3, 2, 1]  # the missing, as they were
    assert head.get_attribute("aria-sort") is None


def test_the_best_and_the_missing_are_told_apart(opened: Opened) -> None:
    assert opened.page.locator("td.best").all_inner_texts() == ["9.25 ± 0.10"]
    weight, colour = opened.page.locator("td.best").evaluate(
        "n => [getComputedStyle(n).fontWeight, getComputedStyle(n).color]"
    )
    other = opened.page.locator('tr[data-row="0"] td.number').evaluate("n => getComputedStyle(n).color")
    assert (weight, colour != other) == ("700", True)
    assert opened.page.locator('tr[data-row="1"] td.number').inner_text() == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("dcgan", {2}),
        ("REAL_nvp", {3}),
        ("failed", {0, 1}),
        ("vae failed", {0}),
        ("model=vae", {0, 4, 5, 6, 7, 8, 9}),
        ("latent_dim=2", {0}),
        ("latent_dim>7", {8, 9}),
        ("fid<=31", {0, 2, 4}),
        ("fid>31 latent_dim<6", {5}),
        ("model!=vae/vae", {1, 2, 3}),
        ("nothing-like-it", set()),
    ],
)
def test_the_filter_takes_words_values_and_bounds(opened: Opened, text: str, rows: set[int]) -> None:
    assert opened.filtered(text) == rows
    assert opened.page.locator("#count").inner_text() == f"{len(rows)} of 10"
    assert opened.page.locator("#no-rows").is_visible() == (not rows)
    assert opened.filtered("") == {*range(10)}


def test_the_rows_chosen_are_the_rows_drawn(opened: Opened) -> None:
    assert set(opened.traces("val/fid", "mean")) == {0, 2, 4, 5, 6, 7, 8, 9}  # the best eight; row 1 has no FID
    opened.page.get_by_role("checkbox", name="Draw model=gan/dcgan").uncheck()
    opened.page.get_by_role("checkbox", name="Draw model=flow/real_nvp").check()
    opened.settle()
    drawn = opened.traces("val/fid", "mean")
    assert set(drawn) == {0, 3, 4, 5, 6, 7, 8, 9}
    colours = {(trace["line"]["color"], trace["line"]["dash"]) for trace in drawn.values()}
    assert len(colours) == len(drawn)
    swatch = opened.page.locator('tr[data-row="9"] .swatch').evaluate("node => getComputedStyle(node).borderTopColor")
    red, green, blue = bytes.fromhex(drawn[9]["line"]["color"].removeprefix("#"))
    assert swatch == f"rgb({red}, {green}, {blue})"
    opened.click("#choose-none")
    assert opened.page.locator('[data-metric="val/fid"] .empty').is_visible()
    opened.filtered("latent_dim>6")
    opened.click("#choose-all")
    assert set(opened.traces("val/fid", "mean")) == {7, 8, 9}
    assert opened.page.locator("#legend li").all_inner_texts() == [f"vae/vae latent_dim={n}" for n in (7, 8, 9)]
    opened.filtered("")
    opened.click("#choose-first")
    assert set(opened.traces("val/fid", "mean")) == {0, 2, 3, 4, 5, 6, 7, 8, 9}


def test_a_line_is_the_mean_of_the_finished_seeds_where_all_of_them_are(opened: Opened) -> None:
    mean, band = opened.traces("val/fid", "mean")[0], opened.traces("val/fid", "band")[0]
    assert mean["x"] == [50, 100, 150, 200]
    assert mean["y"] == pytest.approx([3.0, 2.5, 2.0, 1.5])
    deviation = [0.0, math.sqrt(0.5), math.sqrt(2.0), math.sqrt(4.5)]  # of (3, 3), (2, 3), (1, 3) and (0, 3)
    high = [m + d for m, d in zip(mean["y"], deviation, strict=True)]
    low = [m - d for m, d in zip(mean["y"], deviation, strict=True)]
    assert band["x"] == [50, 100, 150, 200, 200, 150, 100, 50]
    assert band["y"] == pytest.approx([*high, *reversed(low)])
    assert set(opened.traces("val/fid", "band")) == {0}
    opened.page.get_by_label("Single seeds").check()
    plot = opened.page.locator('[data-metric="val/fid"] .plot')
    seeds = plot.evaluate("node => node.data.filter(({meta}) => meta.kind === 'seed').map(({meta}) => meta.run)")
    assert (seeds, opened.traces("val/fid", "band")) == ([0, 1, 2], {})


def test_a_published_value_is_a_dashed_line_and_a_verdict_is_found_by_its_word(browser: Any, tmp_path: Path) -> None:
    content = a_report()
    common = {"unit": None, "better": None, "description": "A paper", "protocol": None}
    content["columns"] += [
        {**common, "key": "fid_published", "title": "published", "kind": "published"},
        {**common, "key": "fid_verdict", "title": "verdict", "kind": "verdict"},
    ]
    for number, value, verdict in ((0, 5.0, "reproduced"), (4, 5.0, "failed"), (5, 6.0, "truncated 25 %")):
        row = content["rows"][number]
        row["published"] = {"fid": value}
        row["cells"]["fid_published"] = {"text": f"{value:g} ± 1", "value": value, "best": False}
        row["cells"]["fid_verdict"] = {"text": verdict, "value": None, "best": False}
    write_page(content, tmp_path / "report.html")
    window = Opened(browser, tmp_path / "report.html", viewport={"width": 1600, "height": 1200})
    plot = window.page.locator('[data-metric="val/fid"] .plot')
    lines = "node => node.data.filter(({meta}) => meta.kind === 'published').map(({x, y, line}) => [x, y, line.dash])"
    words = "node => node.layout.annotations.map(({text, y}) => [text, y])"
    assert plot.evaluate(lines) == [[[0, 300], [5, 5], "dash"], [[0, 300], [6, 6], "dash"]]  # one for each value
    assert plot.evaluate(words) == [["published 5", 5], ["published 6", 6]]
    window.page.get_by_label("Log y").check()
    assert [y for _, y in plot.evaluate(words)] == pytest.approx([math.log10(5), math.log10(6)])
    assert window.page.locator('[data-metric="train/loss"] .plot').evaluate(lines) == []  # of training examples
    for number, tone in ((0, "good"), (4, "failed"), (5, "interrupted")):
        assert window.page.locator(f'tr[data-row="{number}"] td').last.get_attribute("class") == tone
    assert window.filtered("reproduced") == {0}
    assert window.filtered("fid_published>5") == {5}
    window.filtered("")
    window.click("#choose-none")
    window.page.get_by_role("checkbox", name="Draw model=gan/dcgan").check()
    window.settle()
    assert plot.evaluate(lines) == []  # of the rows that are drawn
    window.check()
    window.context.close()


def test_axes_and_metrics_are_chosen(opened: Opened) -> None:
    opened.click('[data-x="seconds"]')
    assert opened.traces("val/fid", "mean")[0]["x"] == [25, 50, 75, 100]
    assert opened.page.locator('[data-metric="val/fid"] .xtitle').text_content() == "seconds"
    assert opened.page.locator('[data-metric="train/loss"] .empty').inner_text() == "No wall time was logged."
    opened.click('[data-x="images"]')
    assert opened.traces("val/fid", "mean")[0]["x"] == [50, 100, 150, 200]
    assert opened.traces("train/loss", "mean")[0]["x"] == [0, 100]
    opened.page.get_by_label("Log y").check()
    axis = opened.page.locator('[data-metric="val/fid"] .plot').evaluate("node => node._fullLayout.yaxis.type")
    low = opened.traces("val/fid", "band")[0]["y"]
    assert (axis, min(low) > 0) == ("log", True)  # a band that reaches below zero stays on the axis
    chips = opened.page.locator("#metrics button")
    assert chips.all_inner_texts() == ["val/fid", "train/loss"]  # those that have values
    chips.first.click()
    assert opened.page.locator("[data-metric]").evaluate_all("all => all.map(n => n.dataset.metric)") == ["train/loss"]
    chips.first.click()
    charts = opened.page.locator("[data-metric]").evaluate_all("all => all.map(n => n.dataset.metric)")
    assert charts == ["val/fid", "train/loss"]


def test_the_pointer_tells_the_values(opened: Opened) -> None:
    from playwright.sync_api import expect

    opened.filtered("latent_dim<5")
    opened.click("#choose-all")
    plot = opened.page.locator('[data-metric="val/fid"] .nsewdrag')
    plot.scroll_into_view_if_needed()
    plot.hover()
    tip = opened.page.locator("#tip")
    expect(tip).to_be_visible()
    label, value = tip.locator(".entry").first.locator("> :nth-child(n + 2)").all_inner_texts()
    assert label == "vae/vae latent_dim=4"
    assert 7 < float(value) < 8  # between its first and its last value
    opened.page.locator("h1").hover()
    expect(tip).to_be_hidden()


def test_the_slider_shows_each_runs_newest_samples_until_then(opened: Opened) -> None:
    from playwright.sync_api import expect

    opened.page.locator("#samples").scroll_into_view_if_needed()
    image = opened.page.locator('#cards [data-row="0"] img')
    expect(image).to_have_attribute("src", picture(30))  # at the end, the final samples
    assert opened.page.locator("#moment").inner_text() == "final"
    assert opened.page.locator("#cards img").first.get_attribute("src") == picture(255)
    assert image.evaluate("node => getComputedStyle(node).imageRendering") == "pixelated"
    opened.move_to(0)
    expect(image).to_have_attribute("src", picture(10))
    assert opened.page.locator("#moment").inner_text() == "100 images seen"
    opened.move_to(1)  # 150 images, where the other seed has a grid
    expect(image).to_have_attribute("src", picture(10))
    opened.page.get_by_label("Seed of model=vae/vae model.latent_dim=2").select_option("seed 2")
    expect(image).to_have_attribute("src", picture(40))
    opened.move_to(0)
    expect(image).to_have_count(0)  # that seed had none yet
    opened.click("#play")
    expect(opened.page.locator("#moment")).to_have_text("final")
    expect(image).to_have_attribute("src", picture(50))
    expect(opened.page.locator("#play")).to_have_text("Play")


def test_a_row_unfolds_to_its_runs(opened: Opened) -> None:
    unfold = opened.page.get_by_role("button", name="Runs of model=vae/vae model.latent_dim=2")
    unfold.focus()
    opened.page.keyboard.press("Enter")
    assert unfold.get_attribute("aria-expanded") == "true"
    first, _, failed = opened.page.locator("tr.detail .run").all()
    text = first.inner_text()
    for expected in ("seed 1", "genlab train model=vae/vae seed=1 number=0", "/somewhere/outputs/run-0", "2.14.1"):
        assert expected in text
    for expected in ("test/fid", "20.4", "in a few words", "features: digits", "num_samples: 2000", "few samples"):
        assert expected in text
    assert text.count("seed: 0") == 1  # what the protocols share stands once
    failed.locator("summary").click()
    assert "the disk is full" in failed.inner_text()
    opened.click('th[data-key="test/fid"] button')
    following = opened.page.locator("tr.detail").evaluate("node => node.previousElementSibling.dataset.row")
    assert following == "0"  # it stays with its row
    unfold.click()
    assert opened.page.locator("tr.detail").is_hidden()


def test_the_exact_command_is_copied(browser: Any, file: Path) -> None:
    opened = Opened(browser, file, viewport={"width": 1600, "height": 1200})
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.locator(".unfold").first.click()
    opened.page.get_by_role("button", name="Copy").first.click()
    opened.page.get_by_role("button", name="Copied").wait_for()
    assert opened.page.evaluate("navigator.clipboard.readText()") == "genlab train model=vae/vae seed=1 number=0"
    opened.check()
    opened.context.close()


def test_text_of_runs_stays_text(opened: Opened) -> None:
    opened.page.locator('tr[data-row="1"] .unfold').click()
    assert opened.page.locator("tr.detail pre").text_content() == HOSTILE
    assert opened.page.locator("tr.detail .reason").text_content() == HOSTILE
    assert opened.page.locator("h1").text_content() == f"Digits {HOSTILE}"
    assert opened.page.title() == f"Digits {HOSTILE}"
    assert opened.page.locator("#notes li").last.text_content() == HOSTILE
    assert opened.page.locator("#decisions li").all_text_contents()[0].startswith("FID: b is better than a by")
    assert opened.page.locator("#decisions li").last.text_content() == HOSTILE
    assert opened.page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("width", [1600, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_window(browser: Any, file: Path, width: int, scheme: str) -> None:
    opened = Opened(browser, file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.page.locator('tr[data-row="1"] .unfold').click()
    opened.page.locator('tr[data-row="0"] .unfold').click()
    opened.settle()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.page.locator("#box").evaluate("node => [node.scrollWidth, node.clientWidth]")
    assert width == 1600 or box[0] > box[1]  # the table scrolls inside its box
    dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 60)")
    assert dark == (scheme == "dark")
    opened.check()
    opened.context.close()


def test_rows_without_curves_samples_and_notes_make_a_page_too(browser: Any, tmp_path: Path) -> None:
    report = a_report() | {"metrics": [], "real": [], "notes": []}
    for run in report["runs"]:
        run |= {"at": [], "curves": {}, "pictures": {}}
    write_page(report, tmp_path / "bare.html")
    opened = Opened(browser, tmp_path / "bare.html")
    assert len(opened.order()) == 10
    assert [opened.page.locator(f"#{part}").is_visible() for part in ("curves", "samples", "notes")] == [False] * 3
    opened.check()
    opened.context.close()
