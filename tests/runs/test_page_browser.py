"""What users of other trackers look for on the page of a comparison, found by clicks and keys in a browser."""

import csv
import io
import math
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genlab.comparison.page import write_page
from support.browser import Opened, launched
from support.made_up_report import HOSTILE, a_report, picture, pictures

SIZE = {"width": 1600, "height": 1200}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


def a_longer_report() -> dict[str, Any]:
    """The made-up report with a constant column, a figure that all rows have, and more kinds of pictures."""
    report = a_report()
    common = {"unit": None, "better": None, "description": None, "protocol": None}
    report["columns"].insert(
        3, {**common, "key": "parameters", "title": "parameters", "kind": "fact", "constant": True}
    )
    report["columns"].insert(3, {**common, "key": "test/nll", "title": "NLL", "kind": "figure", "better": "max"})
    for i, row in enumerate(report["rows"]):
        row["cells"]["parameters"] = {"text": "100", "value": 100, "best": False}
        row["cells"]["test/nll"] = {"text": f"{i}", "value": i, "std": 0.25 if i == 0 else None, "best": i == 9}
    second = report["runs"][4]  # the DCGAN's
    second["pictures"] |= pictures({100: 90, 300: 95}, None, "reconstructions")
    second["pictures"]["text"] = [{"images_seen": None, "text": "To be, or <b>not</b>"}]
    second["config"] = {
        "other": {"seed": 1, "model._target_": "genlab.models.gan.dcgan.DCGAN"},
        "lacks": ["training.lr"],
    }
    return report


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(a_longer_report(), path)
    return path


@pytest.fixture(scope="module")
def window(browser: Any, file: Path) -> Iterator[Opened]:
    window = Opened(browser, file, viewport=SIZE, accept_downloads=True)
    yield window
    window.context.close()


@pytest.fixture
def opened(window: Opened) -> Iterator[Opened]:
    """The page as it is when it has just been opened; opening it anew would take seconds."""
    window.forget()
    yield window
    window.check()


def heads(opened: Opened) -> list[str | None]:
    return [head.get_attribute("data-key") for head in opened.page.locator("#table th[data-key]").all()]


# -- columns -----------------------------------------------------------------------------------------------------------


def test_constant_columns_are_hidden_and_a_menu_shows_them_by_keys(opened: Opened) -> None:
    assert heads(opened) == ["model", "model.latent_dim", "test/fid", "test/nll", "status"]
    menu = opened.page.locator("#columns summary")
    assert menu.inner_text().startswith("Columns (1 hidden)")
    menu.focus()
    opened.page.keyboard.press("Enter")
    box = opened.page.get_by_role("checkbox", name="parameters 100 in all rows")
    box.focus()
    opened.page.keyboard.press("Space")
    assert heads(opened) == ["model", "model.latent_dim", "test/fid", "test/nll", "parameters", "status"]
    assert opened.page.evaluate("document.activeElement.dataset.keep") == "columns parameters"
    opened.page.get_by_role("checkbox", name="model.latent_dim", exact=True).uncheck()
    assert heads(opened) == ["model", "test/fid", "test/nll", "parameters", "status"]
    opened.page.keyboard.press("Escape")
    assert not opened.page.locator("#columns .panel").is_visible()
    assert opened.page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_the_first_column_stays_in_sight(browser: Any, file: Path) -> None:
    opened = Opened(browser, file, viewport={"width": 420, "height": 800})
    box, first = opened.page.locator("#box"), opened.page.locator('tr[data-row="2"] td.first')
    before = first.bounding_box()
    box.evaluate("node => { node.scrollLeft = 300; }")
    assert box.evaluate("node => node.scrollLeft") > 100
    assert first.bounding_box() == before
    assert opened.page.evaluate("({x, y}) => document.elementFromPoint(x + 9, y + 9).className", before) == "first"
    opened.check()
    opened.context.close()


# -- keys and figures --------------------------------------------------------------------------------------------------


def test_any_column_is_drawn_against_any_other(opened: Opened) -> None:
    plot = opened.near("#scatter .plot")
    points = """node => node.data.flatMap(({x, y, customdata}) => customdata.map((id, i) => [id, x[i], y[i]]))"""
    with_both = {(row, row, float(27 + row)) for row in range(4, 10)} | {(0, 2, 20.5)}
    assert {tuple(point) for point in plot.evaluate(points)} == with_both  # a key with numbers, and the ranked figure
    opened.page.locator("#scatter-x").select_option("model")
    opened.page.locator("#scatter-y").select_option("test/nll")
    opened.settle()
    found = {point[0]: point[1:] for point in plot.evaluate(points)}
    assert found[2] == ["gan/dcgan", 2]
    assert len(found) == 10
    assert "<b>" not in found[1][0]  # Plotly would read it as bold
    opened.page.locator("#scatter-x").select_option("test/nll")
    opened.page.locator("#scatter-y").select_option("test/fid")
    opened.page.get_by_label("Scatter: logarithmic y").check()
    assert plot.evaluate("node => [node._fullLayout.xaxis.type, node._fullLayout.yaxis.type]") == ["linear", "log"]
    opened.filtered("fid>99")
    opened.settle()
    assert plot.evaluate(points) == [[3, 3, 100]]  # what the filter shows; it is drawn, as the best of one
    assert opened.page.locator("#scatter h3").inner_text() == "FID against NLL"


def test_a_box_over_an_axis_of_the_parallel_coordinates_filters_the_rows(opened: Opened) -> None:
    from playwright.sync_api import expect

    plot = opened.near("#parallel .plot")
    lines = plot.evaluate("node => Object.fromEntries(node.data.map(({meta, y}) => [meta.row, y]))")
    assert len(lines) == 10
    assert lines["0"][1:] == pytest.approx([0.0, (math.log10(20.5 / 9.25)) / math.log10(100 / 9.25)])
    assert lines["2"][1] is None  # it has no such key
    plot.scroll_into_view_if_needed()
    x, top, bottom = plot.evaluate("""node => {
        const {xaxis, yaxis} = node._fullLayout, frame = node.getBoundingClientRect();
        const below = (y) => frame.top + yaxis._offset + yaxis.l2p(y);
        return [frame.left + xaxis._offset + xaxis.l2p(1), below(0.9), below(0.5)];
    }""")
    mouse = opened.page.mouse
    mouse.move(x - 40, top)
    mouse.down()
    mouse.move(x, (top + bottom) / 2, steps=3)
    mouse.move(x + 40, bottom, steps=3)
    mouse.up()
    asked = re.compile(r"^model.latent_dim>=5.5\d* model.latent_dim<=8.3\d*$")
    expect(opened.page.locator("#filter")).to_have_value(asked)
    assert set(opened.order()) == {6, 7, 8}
    opened.click("#clear-filter")
    assert len(opened.order()) == 10
    opened.page.locator("#axes summary").press("Enter")
    opened.page.locator('#axes [data-keep="axes model"]').uncheck()
    opened.settle()
    assert plot.evaluate("node => node.data[0].x.length") == 2
    opened.page.locator("#axes summary").press("Escape")


def test_importance_is_the_share_of_the_ranks_variance_that_a_keys_values_tell(opened: Opened) -> None:
    groups = [[1.0, 2.0, 3.0], [4.0, 5.0, 7.0], [6.0, 8.0, 9.0]]
    every = [value for group in groups for value in group]
    total = sum((value - statistics.fmean(every)) ** 2 for value in every)
    within = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
    noise = within / (9 - 3)
    expected = (total - within - 2 * noise) / (total + noise)
    assert opened.page.evaluate("omegaSquared([[1, 2, 3], [4, 5, 7], [6, 8, 9]])") == pytest.approx(expected)
    assert opened.page.evaluate("omegaSquared([[1, 2], [1, 2]])") == 0
    assert opened.page.evaluate("ranks([5, 1, 5, 9])") == [2.5, 1, 2.5, 4]
    bars = "node => node.data.map(({x, y, text}) => [[...x], [...y], [...text]])"
    plot = opened.near("#importance .plot")
    opened.page.locator("#figure").select_option("test/nll")
    opened.settle()
    ((shares, keys, signs),) = plot.evaluate(bars)
    assert keys[0] == "model.latent_dim"  # the higher, the higher
    assert signs[0] == "\N{GREEK SMALL LETTER RHO} +1.00"
    assert shares == sorted(shares, reverse=True)
    assert "Only 10 rows" in opened.page.locator("#importance-how").inner_text()
    opened.filtered("fid<21")
    opened.settle()
    said = opened.page.locator("#importance .empty").inner_text()
    assert said == "Importance takes 4 rows with NLL or more; there are 2."


# -- configs -----------------------------------------------------------------------------------------------------------


def test_a_runs_whole_config_and_what_two_runs_differ_in(opened: Opened) -> None:
    def table() -> list[list[str]]:
        rows = opened.page.locator("#config-table tbody tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]

    opened.page.get_by_role("button", name="Runs of model=vae/vae model.latent_dim=2").click()
    opened.page.get_by_role("button", name="Whole config").first.press("Enter")
    vae = ["genlab.models.vae.vae.VAE", "8", "1", "0.001"]
    keys = ["model._target_", "model.width", "seed", "training.lr"]
    assert table() == [[key, value] for key, value in zip(keys, vae, strict=True)]
    opened.page.locator("#config-b").select_option(label="gan/dcgan · seed 1")
    assert table() == [
        ["model._target_", vae[0], "genlab.models.gan.dcgan.DCGAN"],
        ["model.width", "8", "\N{EN DASH}"],
        ["training.lr", "0.001", "\N{EN DASH}"],
    ]
    assert opened.page.locator("#config-count").inner_text() == "3 of 4 keys differ"
    opened.page.get_by_label("Keys that agree, too").check()
    assert len(table()) == 4
    opened.page.get_by_label("Find in the configs").fill("dcgan")
    assert [row[0] for row in table()] == ["model._target_"]


# -- curves ------------------------------------------------------------------------------------------------------------


def test_curves_are_smoothed_as_tensorboard_does(opened: Opened) -> None:
    opened.page.locator("#smooth").fill("0.6")
    opened.settle()
    first = [4.0, 4.0 * 0.4 * 0.6 + 2.0 * 0.4, 0.0]
    first[2] = first[1] * 0.6
    expected = [4.0, first[1] / (1 - 0.6**2), first[2] / (1 - 0.6**3)]
    assert opened.page.evaluate("smoothed([4, 2, 0], 0.6)") == pytest.approx(expected)
    smooth, raw = opened.traces("val/fid", "mean")[0], opened.traces("val/fid", "raw")[0]
    assert raw["y"] == pytest.approx([3.0, 2.5, 2.0, 1.5])  # as it was, in a faint line
    at_100 = (expected[1] + 3.0) / 2  # of two seeds, one of which is constant
    assert smooth["y"][1] == pytest.approx(at_100)
    assert opened.page.locator("#smooth-value").inner_text() == "0.60"


def test_curves_have_other_axes(opened: Opened) -> None:
    axis = "node => [node._fullLayout.xaxis.type, node._fullLayout.xaxis.title.text]"
    plot = opened.page.locator('[data-metric="val/fid"] .plot')
    opened.page.get_by_role("button", name="Epochs").press("Enter")
    opened.settle()
    assert plot.evaluate(axis) == ["linear", "epochs"]
    assert opened.traces("val/fid", "mean")[4]["x"] == [0, 3]
    opened.page.get_by_label("Log x", exact=True).check()
    opened.settle()
    assert plot.evaluate(axis) == ["log", "epochs"]


def test_the_best_rows_are_drawn_by_the_figure_and_its_direction(opened: Opened) -> None:
    drawn = "[...chosen.keys()].sort((a, b) => a - b)"
    assert opened.page.evaluate(drawn) == [0, 2, 4, 5, 6, 7, 8, 9]  # 3 has the highest FID, 1 none
    opened.page.locator("#figure").select_option("test/nll")
    opened.settle()
    assert opened.page.evaluate(drawn) == [2, 3, 4, 5, 6, 7, 8, 9]  # the higher the better
    opened.click("#choose-none")
    assert opened.page.evaluate(drawn) == []
    opened.click("#choose-best")
    assert opened.page.evaluate(drawn) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_charts_share_a_cursor_that_arrow_keys_move(opened: Opened) -> None:
    one, other = (opened.page.locator(f'[data-metric="{name}"]') for name in ("val/fid", "train/loss"))
    one.locator(".plot").focus()
    for _ in range(20):
        opened.page.keyboard.press("ArrowRight")
    tip = opened.page.locator("#tip")
    assert tip.is_visible()
    images = int(tip.locator("div").first.inner_text().split()[0])
    assert 80 < images < 110
    assert (one.locator(".cursor").is_visible(), other.locator(".cursor").is_visible()) == (True, True)
    place = "node => { const {plot, cursor} = charts.get(node.dataset.metric), {xaxis} = plot._fullLayout;"
    place += "return xaxis.p2d(parseFloat(cursor.style.left) - plot.offsetLeft - xaxis._offset); }"
    assert one.evaluate(place) == pytest.approx(other.evaluate(place), abs=1)  # 100 images are elsewhere on each
    opened.page.keyboard.press("Escape")
    assert not tip.is_visible()
    assert not other.locator(".cursor").is_visible()


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_other_pictures_take_the_place_of_samples_and_are_enlarged(opened: Opened) -> None:
    from playwright.sync_api import expect

    page = opened.page
    page.locator("#samples").scroll_into_view_if_needed()
    page.get_by_role("button", name="reconstructions", exact=True).press("Enter")
    images = page.locator("#cards img")
    expect(images).to_have_count(2)
    expect(images.first).to_have_attribute("src", picture(80))
    page.get_by_role("button", name="Enlarge reconstructions of model=vae/vae model.latent_dim=2").press("Enter")
    large = page.locator("#large img")
    expect(large).to_have_attribute("src", picture(80))
    assert large.evaluate("node => node.clientWidth") > 500  # of 4 pixels
    page.keyboard.press("ArrowRight")
    expect(large).to_have_attribute("src", picture(95))
    assert "gan/dcgan, seed 1" in page.locator("#large strong").inner_text()
    page.keyboard.press("ArrowUp")  # back in training
    page.keyboard.press("ArrowUp")
    expect(large).to_have_attribute("src", picture(90))
    page.keyboard.press("Escape")
    expect(page.locator("#large")).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "frame"
    page.get_by_role("button", name="text", exact=True).click()
    assert page.locator("#cards pre").inner_text() == "To be, or <b>not</b>"


# -- links and files ---------------------------------------------------------------------------------------------------


STATE = """() => ({
    heads: [...document.querySelectorAll("#table th[data-key]")].map((node) => node.dataset.key + node.ariaSort),
    rows: [...document.querySelectorAll("tr.row:not([hidden])")].map((node) => node.dataset.row),
    chosen: [...chosen].sort(), open: document.querySelectorAll("tr.detail:not([hidden])").length,
    charts: [...charts].map(([metric, {plot}]) => [metric, plot._fullLayout.xaxis.type, plot._fullLayout.yaxis.type,
        plot.data.map(({x, y}) => [[...x], [...y]])]),
    scatter: document.querySelector("#scatter h3").textContent,
    type: document.querySelector("#scatter .plot")._fullLayout.yaxis.type,
    parallel: document.querySelector("#parallel .plot").data[0].x.length,
    moment: byId("moment").textContent, kind: document.querySelector("#kinds [aria-pressed=true]").textContent,
    configs: byId("config-table").textContent, smooth: byId("smooth").value, filter: byId("filter").value,
})"""


def test_a_link_shows_the_same_view(opened: Opened, browser: Any) -> None:
    page = opened.page
    assert "#" not in page.url
    opened.near("#relations")
    before = page.evaluate(STATE)
    page.locator("#columns summary").click()
    page.locator('#columns [data-keep="columns parameters"]').check()
    page.locator('#columns [data-keep="columns status"]').uncheck()
    page.keyboard.press("Escape")
    opened.click('th[data-key="test/nll"] button')
    opened.filtered('latent_dim>3 model=="vae/vae"')
    opened.click("#choose-all")
    page.get_by_role("checkbox", name="Draw model=vae/vae model.latent_dim=5").uncheck()
    page.locator("tr.row:visible .unfold").first.click()
    page.get_by_role("button", name="Epochs").click()
    page.get_by_label("Log y", exact=True).check()
    page.locator("#smooth").fill("0.35")
    page.get_by_role("button", name="train/loss", exact=True).click()
    page.locator("#scatter-x").select_option("test/nll")
    page.get_by_label("Scatter: logarithmic y").check()
    page.locator("#axes summary").click()
    page.locator('#axes [data-keep="axes model"]').uncheck()
    page.keyboard.press("Escape")
    page.locator("#config-b").select_option(label="gan/dcgan · seed 1")
    page.get_by_role("button", name="reconstructions", exact=True).click()
    page.wait_for_url(re.compile("kind=reconstructions"))
    opened.near("#relations")
    state = page.evaluate(STATE)
    assert {key for key in state if state[key] == before[key]} <= {"moment"}
    again = Opened(browser, Path(), viewport=SIZE, url=page.url)
    again.near("#relations")
    assert again.page.evaluate(STATE) == state
    again.check()
    # Another link in the same window, one that names what is not there, and one that was cut.
    for link in ("", "#rows=none,at,all&metrics=x&sort=-x&figure=x&kind=x&a=x&x=x&smooth=7&axes=x", "#filter=%E2%8"):
        again.page.evaluate("link => { location.hash = link; }", link)
        again.settle()
        assert len(again.order()) == 10, link
    again.check()
    again.context.close()


def test_the_table_is_saved_as_csv_as_it_is_shown(opened: Opened) -> None:
    opened.filtered("model!=flow")
    opened.click('th[data-key="test/fid"] button')
    with opened.page.expect_download() as download:
        opened.page.locator("#csv").press("Enter")
    assert download.value.suggested_filename.endswith(".csv")
    rows = [*csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))]
    assert [*rows[0]] == ["model", "model.latent_dim", "test/fid", "test/nll", "test/nll std", "status", "folders"]
    assert [row["test/fid"] for row in rows[:3]] == ["9.25", "20.5", "31"]
    assert rows[1]["test/nll std"] == "0.25"
    assert len(rows) == 9
    assert rows[-1]["model"] == HOSTILE
    assert opened.page.evaluate("['=1+1', '-3', 'a, b'].map(inCsv)") == ["'=1+1", "-3", '"a, b"']


@pytest.mark.parametrize(("chart", "format"), [("val/fid", "PNG"), ("importance", "SVG")])
def test_charts_are_saved_with_their_title_and_legend(opened: Opened, chart: str, format: str) -> None:
    opened.near("#relations")
    box = opened.page.locator(f'[data-metric="{chart}"], #{chart.replace("/", "-")}')
    with opened.page.expect_download() as download:
        box.get_by_role("button", name=format).press("Enter")
    content = Path(download.value.path()).read_bytes()
    if format == "PNG":
        assert download.value.suggested_filename == "val_fid.png"
        assert content.startswith(b"\x89PNG")
        assert int.from_bytes(content[16:20]) >= 1400
    else:
        text = content.decode()
        assert text.startswith("<svg")
        for part in ("Importance of keys for FID", "model.latent_dim"):
            assert part in text
