"""Files are read and written in UTF-8, whatever the locale says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import genlab

SOURCES = sorted(Path(genlab.__file__).parent.rglob("*.py"))


def unsaid(source: str) -> list[int]:
    """Lines that open a file as text, or read a process's output as text, without an encoding."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        given = {keyword.arg for keyword in call.keywords}
        if "encoding" in given:
            continue
        words = [
            node.value for node in [*call.args[:2], *(k.value for k in call.keywords)] if isinstance(node, ast.Constant)
        ]
        is_binary = any(isinstance(word, str) and "b" in word and set(word) <= set("rwaxb+") for word in words)
        # Open methods of other things: images, archives, run folders, addresses.
        of_others = isinstance(owner, ast.Name) and owner.id in (
            "Image",
            "tarfile",
            "gzip",
            "os",
            "RunFolder",
            "zipfile",
        )
        reads = (
            name == "read_text" and not call.args and not isinstance(owner, ast.Name | type(None))
        ) or name == "write_text"
        reads |= name == "read_text" and isinstance(owner, ast.Name) and not call.args
        opens = name == "open" and not is_binary and not of_others
        words_of_process = {
            k.arg for k in call.keywords if isinstance(k.value, ast.Constant) and k.value.value is True
        } & {"text", "universal_newlines"}
        if reads or opens or words_of_process:
            found.append(call.lineno)
    return found


def test_unsaid_encodings_are_found() -> None:
    assert unsaid("path.read_text()\nopen('a')\npath.open('a', newline='')\nrun(x, text=True)") == [1, 2, 3, 4]
    assert unsaid("path.read_text(encoding='utf-8')\nopen('a', 'rb')\nImage.open(a)\nrun(x)\npath.open('ab')") == []


def test_every_file_is_opened_in_a_stated_encoding() -> None:
    found = [f"{path.name}:{line}" for path in SOURCES for line in unsaid(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.e2e
def test_a_locale_without_utf8(tmp_path: Path) -> None:
    """In the C locale without Python's UTF-8 mode, files are read as ASCII unless an encoding is given."""
    run = tmp_path / "outputs" / "one"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: größe\nchoices: {model: vae/größe, dataset: digits}\n", encoding="utf-8")
    (run / "summary.json").write_text('{"metrics": {}, "name": "größe"}', encoding="utf-8")
    (run / "status.json").write_text('{"status": "done"}', encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "genlab", "compare", str(run.parent), "format=csv"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "one,done," in done.stdout
