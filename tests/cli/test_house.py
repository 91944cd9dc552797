"""How the house is built: one idea a folder, and kinds of data known to those alone whose business they are."""

import ast
import re

from support.paths import ROOT

PACKAGE = ROOT / "src" / "genlab"
# Whose business is what an example looks like.
KNOWING = ("modalities", "models", "layers", "networks", "data")
ASKS_FOR_THE_KIND = re.compile(
    r"len\([\w.]*shape\)|\.(?:ndim|dim\(\)) *(?:[=!<>]=|[<>])|\.kind *[=!]=|isinstance\([^()]*, *TextDataModule\)"
)
# Which look at weights, whatever the data.
OF_MATRICES = {"training/optimizers.py", "metrics/pretrained.py", "metrics/vgg16.py"}


def test_nobody_else_asks_what_kind_of_data_it_is() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in KNOWING and str(path.relative_to(PACKAGE)) not in OF_MATRICES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ASKS_FOR_THE_KIND.search(line)
    ]
    assert not found, "ask the data's modality"


def test_every_folder_says_in_a_sentence_what_it_is() -> None:
    packages = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
    assert {path.name for path in packages} >= {"runs", "launching", "views", "modalities", "measures"}
    for folder in packages:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder.relative_to(ROOT)}/__init__.py has no docstring"
        sentence, *_ = docstring.split("\n\n")
        assert sentence.endswith("."), folder


def test_a_verb_composes_calls_and_prints() -> None:
    verbs = ("train", "evaluate", "sample", "export", "play", "compare", "benchmark", "dashboard")
    long = {
        name: lines
        for name in verbs
        if (lines := len((PACKAGE / "commands" / f"{name}.py").read_text().splitlines())) >= 100
    }
    assert not long


def test_every_file_that_the_architecture_names_is_there() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = {name for name in re.findall(r"`([\w./-]+/[\w.-]+)`", page) if not name.endswith("/")}
    assert len(named) > 30
    missing = [name for name in named if not (ROOT / name).exists() and not (PACKAGE / name).exists()]
    assert not missing
    walks = page[page.index("## Three walks") : page.index("## Where to put what")]
    assert max(int(number) for number in re.findall(r"^(\d+)\. ", walks, re.MULTILINE)) <= 10
