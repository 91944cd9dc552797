"""Tests of ``genlab models`` and ``genlab datasets`` against the configs, the classes and the data."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genlab.data.digits import Digits
from genlab.data.plane import TwoMoons
from genlab.inventory.comments import paper_in, sizes_in, sources_in, what_it_is
from genlab.inventory.datasets import DOWNLOADED, EMBEDDED, OF_RUN, OWN, datasets
from genlab.inventory.models import models
from support.catalogue import ALL, kinds_of
from support.command import Genlab
from support.paths import CONF

MODELS = {row["name"]: row for row in models([CONF]).rows}
DATASETS = {row["name"]: row for row in datasets([CONF]).rows}


def test_every_model_is_listed_with_what_it_is_and_its_paper() -> None:
    assert list(MODELS) == ALL
    for name, row in MODELS.items():
        assert None not in (row["what"], row["paper"]), f"{name}.yaml: begin with '# What it is: Title, arXiv:...'"
        assert row["arxiv"] or re.search(r"\([^()]+ \d{4}\)$", row["paper"]), name
    assert len({row["what"] for row in MODELS.values()}) == len(MODELS)
    titles: dict[str, set[str]] = {}
    for row in MODELS.values():
        titles.setdefault(row["arxiv"] or row["paper"], set()).add(row["paper"])
    assert not {number: names for number, names in titles.items() if len(names) > 1}


@pytest.mark.parametrize("name", [name for name in ALL if MODELS[name]["class"]])
def test_kinds_of_data_are_those_of_the_class(name: str) -> None:
    if re.search("^model:\n  _target_: ", (CONF / "model" / f"{name}.yaml").read_text(), re.MULTILINE):
        assert MODELS[name]["kinds"] == sorted(kinds_of(name))
    else:  # a variant of another file's class
        others = [row for row in MODELS.values() if row["class"] == MODELS[name]["class"]]
        assert all(row["kinds"] == MODELS[name]["kinds"] for row in others)


def test_every_dataset_is_listed_with_what_it_is_and_where_it_comes_from() -> None:
    assert list(DATASETS) == sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
    for name, row in DATASETS.items():
        assert None not in (row["what"], row["kind"]), name
        assert row["sizes"] or row["origin"] == OF_RUN, f"conf/dataset/{name}.yaml: say N train, N val, N test"
    origins = {row["origin"]: name for name, row in DATASETS.items()}
    assert origins.keys() == {OWN, OF_RUN, DOWNLOADED, EMBEDDED}
    assert DATASETS["palette"]["origin"] == DATASETS["cifar10"]["origin"] == DOWNLOADED
    assert DATASETS["binarized_mnist"]["kind"] == "binary"
    assert DATASETS["binarized_mnist"]["sizes"] == DATASETS["mnist"]["sizes"]
    assert DATASETS["mnist"]["sources"] == ["LeCun, Cortes, Burges, 1998"]
    assert DATASETS["grid2d"]["sources"] == ["arXiv:1705.07761", "arXiv:1712.04086"]


def numbers(sizes: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", sizes)]


def test_sizes_are_those_of_the_data() -> None:
    (images,) = (found["train"] for found in [Digits().load()] if "train" in found)
    assert sum(numbers(DATASETS["digits"]["sizes"])) == len(images)
    drawn = list(TwoMoons().sizes.values())
    for name in ("two_moons", "pinwheel", "checkerboard", "grid2d", "ring2d"):
        assert numbers(DATASETS[name]["sizes"]) == drawn


def test_a_comment_is_read_in_its_parts() -> None:
    text = "Flow++, with: Flow++: Better Flows, arXiv:1902.00275. Its parts: a=b (Ho et al., 2019)"
    paper = paper_in(text)
    assert paper is not None
    assert (what_it_is(text), paper.title, paper.arxiv) == ("Flow++, with", "Flow++: Better Flows", "1902.00275")
    assert paper_in("A model of mine: it has no paper") is None
    assert sources_in("as in A (arXiv:1705.07761) and B (Neal, 1992), for 3 (or 4) things") == [
        "arXiv:1705.07761",
        "Neal, 1992",
    ]
    assert sizes_in("100 images to train on. A set of 5,000 train, 10 val") == "5,000 train, 10 val"
    assert sizes_in("It has 5 parts, one to train on") is None


def test_configs_of_ones_own_are_listed_and_not_run(genlab: Genlab, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    for group, text in {
        "model/mine": "# @package _global_\n# Mine, a small one: My Paper, arXiv:2401.00001\nmodel:\n"
        "  _target_: own_code.Mine\n",
        "model/vae/small": "# @package _global_\n# A small VAE\ndefaults: [vae/vae]\nmodel: {latent_dim: 2}\n",
        "dataset/shells": "# Shells of the beach\ndefaults: [image_folder]\nshape: [3, 64, 64]\n",
    }.items():
        (conf / group).parent.mkdir(parents=True, exist_ok=True)
        (conf / f"{group}.yaml").write_text(text)
    (tmp_path / "own_code.py").write_text(
        "from genlab.models.flow.zuko_flow import ZukoFlow as Base\n"
        "raise SystemExit('was run')\n"
        "class Mine(Base):\n    pass\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        listed = genlab("models", "mine", "small", "--config-dir", conf, "--format", "json")
    finally:
        sys.path.remove(str(tmp_path))
    mine, small = json.loads(listed.out)
    assert (mine["name"], mine["what"], mine["paper"]) == ("mine", "Mine, a small one", "My Paper")
    assert mine["kinds"] == ["latents", "points"]
    assert (small["what"], small["paper"], small["class"]) == ("A small VAE", None, "genlab.models.vae.vae.VAE")
    (shells,) = json.loads(genlab("datasets", "shells", f"--config-dir={conf}", "--format=json").out)
    assert (shells["shape"], shells["kind"], shells["origin"]) == ([3, 64, 64], "image", OWN)
    (conf / "model" / "mine.yaml").write_text("model: [\n")
    broken = genlab("models", "--config-dir", conf)
    assert broken.code == 2
    assert "mine.yaml" in broken.err
    assert broken.err.count("\n") == 1


def test_every_format_has_every_row(genlab: Genlab) -> None:
    table = genlab("models").out
    marked = genlab("models", "--format", "markdown").out
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(genlab("models", "--format", "csv").out)))
    assert [row["name"] for row in rows] == ALL
    assert rows[0]["kinds"] == "binary image"
    for name in ALL:
        assert f"│ {name} " in table
        assert f"| {name} |" in marked
    told = json.loads(genlab("datasets", "--json").out.splitlines()[-1])
    assert [row["name"] for row in told["datasets"]] == list(DATASETS)


@pytest.mark.e2e
def test_a_list_takes_less_than_a_second_and_no_torch() -> None:
    script = (
        "import sys, time; begun = time.process_time()\n"
        "from genlab.cli import main\n"
        "main(['models']); main(['datasets'])\n"
        "assert not {'torch', 'wandb', 'pytorch_lightning', 'zuko'} & set(sys.modules)\n"
        "print(time.process_time() - begun)"
    )
    result = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.split()[-1]) < 1.5
