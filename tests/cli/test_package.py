"""The wheel: built, installed without the checkout, and trained with from another folder."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, the libraries of this one, and no checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)], check=True
    )
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


def run(elsewhere: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"WANDB_MODE": "disabled"}
    return subprocess.run(
        [elsewhere / "venv" / "bin" / "genlab", *arguments],
        cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300,
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


def test_the_wheel_holds_the_licence_the_types_and_what_the_project_says_of_itself(elsewhere: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (path,) = elsewhere.glob("genlab-*.whl")
    with zipfile.ZipFile(path) as wheel:
        info = f"genlab-{project['version']}.dist-info"
        assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert wheel.read("genlab/py.typed") == b""
        metadata = wheel.read(f"{info}/METADATA").decode().split("\n\n", 1)[0].splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Author: the genlab developers" in metadata
    assert f"Version: {project['version']}" in metadata
    for classifier in project["classifiers"]:
        assert f"Classifier: {classifier}" in metadata
