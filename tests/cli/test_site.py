"""The documentation site: it is built strictly, loads nothing from elsewhere, and leaves nothing public out."""

import importlib
import inspect
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import genlab as package
from support.pages import PAGES
from support.paths import CONF, ROOT

LOADED = re.compile(
    r"""<(?:script|img|source|iframe)\b[^>]*\bsrc="?([^"\s>]+)|<link\b[^>]*\bhref="?([^"\s>]+)|url\(([^)]+)\)"""
)
ON_THE_PAGE = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)


def build(checkout: Path, target: Path) -> subprocess.CompletedProcess[str]:
    for name in ("mkdocs", "material", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason="the site needs pip install 'genlab[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    built = build(ROOT, target)
    assert built.returncode == 0, built.stderr
    return target


@pytest.mark.e2e
@pytest.mark.xdist_group("site")
def test_every_page_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    names = {path.name for path in site.glob("*.html")}
    assert names >= {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert names >= {"overview.html", "changelog.html", "architecture.html", "contributing.html", "security.html"}
    for page in [*site.glob("*.html"), *site.rglob("*.css")]:
        for found in LOADED.finditer(page.read_text(encoding="utf-8")):
            address = next(filter(None, found.groups())).strip("'\"")
            assert address.startswith("data:") or not re.match(r"(?:[a-z]+:)?//", address), f"{page.name}: {address}"
            # 404.html is shown at any address, so its own are those of a server's root.
            if page.suffix == ".html" and page.stem != "404" and not address.startswith("data:"):
                assert (page.parent / address).exists(), f"{page.name}: {address}"


@pytest.mark.e2e
@pytest.mark.xdist_group("site")
def test_a_built_page_has_its_tables_docstrings_and_no_marks_of_their_languages(site: Path) -> None:
    gans = (site / "gans.html").read_text(encoding="utf-8")
    assert "<!-- results: cifar10_*gan* -->" in gans
    assert re.search(r"<td[^>]*>7\.200 ± 0\.374</td>", gans)
    api = (site / "api.html").read_text(encoding="utf-8")
    assert {f'id="{name}"' in api for name in ON_THE_PAGE} == {True}
    assert not re.search(r":(?:class|func|meth|mod|attr|data):", api)
    changelog = (site / "changelog.html").read_text(encoding="utf-8")
    assert 'href="comparing.html#is-it-more-than-seed-noise"' in changelog


@pytest.mark.e2e
def test_a_dead_link_stops_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]:
        shutil.copy(path, tmp_path)
    for name in ("src", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs/vaes.md").open("a", encoding="utf-8") as file:
        file.write("\n[dead](nowhere.md) and [dead](gans.md#no-such-part)\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert re.search(r"'vaes.md' contains a link 'nowhere.md'", built.stderr)
    assert re.search(r"'vaes.md' contains a link 'gans.md#no-such-part'", built.stderr)


# -- what the pages say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "folder", "expected"),
    [
        ("[a page](docs/gans.md#seeing-it)", "", "[a page](gans.md#seeing-it)"),
        ("[home](../README.md#models)", "docs", "[home](overview.md#models)"),
        ("[`code`](../src/genlab/cli.py) and [a](gans.md)", "docs", "`code` and [a](gans.md)"),
        ("![speed](../benchmarks/results.png)", "docs", "![speed](speed.png)"),
        ("[dead](nowhere.md)", "docs", "[dead](nowhere.md)"),
        ("[paper](https://arxiv.org/abs/1312.6114)", "", "[paper](https://arxiv.org/abs/1312.6114)"),
        ("`x[i](../src/a.py)`", "docs", "`x[i](../src/a.py)`"),
        ("```\n[no](../src/a.py)\n```\n[yes](../src/a.py)", "docs", "```\n[no](../src/a.py)\n```\nyes"),
        ("<!-- runs: x | fid -->\n[a](#b)", "docs", "<!-- runs: x | fid -->\n[a](#b)"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_become_text(markdown: str, folder: str, expected: str) -> None:
    pytest.importorskip("mkdocs")
    with_links: Callable[[str, str, set[str]], str] = runpy.run_path(str(ROOT / "docs/site/pages.py"))["with_links"]
    assert with_links(markdown, folder, {"gans.md", "overview.md", "speed.png"}) == expected


def test_every_group_of_the_config_is_documented() -> None:
    page = (ROOT / "docs/groups.md").read_text(encoding="utf-8")
    groups = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {".", "hydra"}
    assert len(groups) > 40
    assert {name for name in groups if f"`{name}`" not in page} == set()
    first = re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE)
    assert {name for cell in first for name in re.findall(r"`(.+?)`", cell) if not (CONF / name).is_dir()} == set()


def test_every_option_of_a_group_is_named_on_some_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for group in ("model", "dataset", "mode", "logger", "trainer"):
        names = {path.stem for path in (CONF / group).rglob("*.yaml")}
        assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set(), group


def test_the_page_of_the_api_has_every_function_and_each_member_has_a_docstring() -> None:
    assert {f"genlab.{name}" for name in package.__all__} <= set(ON_THE_PAGE)
    missing = []
    for name in ON_THE_PAGE:
        module, _, last = name.rpartition(".")
        found = getattr(importlib.import_module(module), last)
        members = vars(found) if inspect.isclass(found) else {}
        public = [key for key, value in members.items() if not key.startswith("_") and hasattr(value, "__get__")]
        documented = {name: found, **{f"{name}.{key}": getattr(found, key) for key in public}}
        missing += [key for key, value in documented.items() if not inspect.getdoc(value)]
    assert missing == []
