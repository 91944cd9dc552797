"""What is released: the wheel, installed without the checkout and trained with elsewhere, the sdist and their metadata.

``make release`` lets the tests look at what it has built, in the folder that ``GENLAB_DIST`` names.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, the libraries of this one, and no checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pytest.importorskip("hatch_fancy_pypi_readme", reason="building needs what make setup installs")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if "GENLAB_DIST" in os.environ:
        for path in Path(os.environ["GENLAB_DIST"]).iterdir():
            shutil.copy(path, folder)
    else:
        for target in ("wheel", "sdist"):
            build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
            subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("genlab-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    # The libraries only: a path in a .pth file is not searched for .pth files, such as the editable install's.
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(elsewhere: Path, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = ("PYTHONPATH", "GENLAB_OUTPUTS")
    environment = {k: v for k, v in os.environ.items() if k not in own} | {"WANDB_MODE": "disabled"}
    return subprocess.run(
        [elsewhere / "venv" / "bin" / "genlab", *arguments],
        cwd=cwd or elsewhere, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.e2e
def test_the_wheel_trains_without_the_checkout(elsewhere: Path) -> None:
    python = elsewhere / "venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import genlab; print(genlab.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(elsewhere) in where.stdout
    # A user's own folder of configs adds to those inside the wheel.
    own = elsewhere / "my_conf" / "model" / "vae"
    own.mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - vae/vae\nmodel:\n  networks:\n    hidden: [8]\n"
    (own / "tiny.yaml").write_text(text)
    result = run(
        elsewhere,
        "train",
        "--config-dir",
        "my_conf",
        "model=vae/tiny",
        "debug=limit",
        f"paths.output_dir={elsewhere}/out",
    )
    assert result.returncode == 0, result.stderr
    assert "vae/tiny" in result.stderr
    (summary,) = (elsewhere / "out").rglob("summary.json")
    assert run(elsewhere, "compare", str(summary.parent), "--html", "page.html").returncode == 0
    page = (elsewhere / "page.html").read_text(encoding="utf-8")
    for part in ('<table id="table">', "function drawCurves", "--ground", "plotly.js"):  # template, scripts, styles
        assert part in page


@pytest.mark.e2e
def test_the_first_commands_run_in_an_empty_folder(elsewhere: Path) -> None:
    (elsewhere / "empty").mkdir()
    for words in (["--version"], ["models", "gan"], ["train", "debug=fast_dev_run"]):
        result = run(elsewhere, *words, cwd=elsewhere / "empty")
        assert result.returncode == 0, result.stderr
        if words == ["--version"]:
            assert result.stdout.strip() == PROJECT["version"]
        elif words[0] == "models":
            assert "gan/stylegan2" in result.stdout
    assert {path.name for path in (elsewhere / "empty").iterdir()} == {"outputs"}


def test_the_page_on_pypi_leads_nowhere_that_it_does_not_have(elsewhere: Path) -> None:
    page = metadata_of(elsewhere).get_payload()
    assert len(page) > 0.8 * len((ROOT / "README.md").read_text())
    assert page.startswith("# genlab\n")
    addresses = [target for target in re.findall(r"\]\(([^)\s]+)\)", page) if not target.startswith("#")]
    assert len(addresses) > 30
    assert [target for target in addresses if not target.startswith("https://")] == []
    assert "<!--" not in page
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert {target[1:] for target in re.findall(r"\]\((#[^)]+)\)", page)} <= headings


def test_the_sdist_holds_what_a_wheel_is_built_of_and_no_results(elsewhere: Path) -> None:
    (path,) = elsewhere.glob("genlab-*.tar.gz")
    assert path.name == f"genlab-{PROJECT['version']}.tar.gz"
    assert path.stat().st_size < 4_000_000
    with tarfile.open(path) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    assert {name.partition("/")[0] for name in names} == {
        "src", "conf", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "LICENSE", "PKG-INFO",
        "pyproject.toml", ".gitignore",
    }  # fmt: skip
    assert not [name for name in names if name.endswith((".pyc", ".ckpt", ".pt"))]


def test_the_version_is_one_everywhere(elsewhere: Path) -> None:
    version = PROJECT["version"]
    assert metadata_of(elsewhere)["Version"] == version
    dated = re.findall(r"^## \[(.+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert dated[0] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_workflow_publishes_what_was_checked_and_holds_no_password() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    build, publish = yaml.safe_load(text)["jobs"].values()
    assert [step["run"] for step in build["steps"] if "run" in step][-1] == "make release"
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
    assert "password" not in [key for step in publish["steps"] for key in step.get("with", {})]


def metadata_of(elsewhere: Path) -> Message:
    """The metadata of the wheel, whose payload is the page on PyPI."""
    (path,) = elsewhere.glob("genlab-*.whl")
    with zipfile.ZipFile(path) as wheel:
        return message_from_bytes(wheel.read(f"genlab-{PROJECT['version']}.dist-info/METADATA"))


def test_the_wheel_holds_the_licence_the_types_and_what_the_project_says_of_itself(elsewhere: Path) -> None:
    (path,) = elsewhere.glob("genlab-*.whl")
    with zipfile.ZipFile(path) as wheel:
        info = f"genlab-{PROJECT['version']}.dist-info"
        assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert wheel.read("genlab/py.typed") == b""
        metadata = wheel.read(f"{info}/METADATA").decode().split("\n\n", 1)[0].splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Author: the genlab developers" in metadata
    assert f"Version: {PROJECT['version']}" in metadata
    for classifier in PROJECT["classifiers"]:
        assert f"Classifier: {classifier}" in metadata
