"""The picture of all families: its table, its experiments and its records agree, and its drawing shows what it says."""

import json
import re
import runpy
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from genlab.composition.configs import composed
from genlab.runs.loading import load
from support.paths import ROOT

SCRIPT = runpy.run_path(str(ROOT / "benchmarks/families.py"))
PANELS = SCRIPT["PANELS"]
PAGE = (ROOT / "docs/families.md").read_text(encoding="utf-8")
# What decides how the networks are trained; the rest says where a run is, and how it is shown, logged and measured.
TRAINED_BY = ("seed", "model", "dataset", "training", "schedule", "budget", "sampling", "distribution")


def record(run: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / f"{run}.json").read_text(encoding="utf-8"))
    return content


def test_the_table_says_what_the_records_say() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| \[`(\S+)`\]\((\S+)\) \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == len(PANELS)
    for panel, (family, experiment, link, dataset, figures) in zip(PANELS, rows, strict=True):
        kept = record(panel.run)
        training = kept["training"]
        assert (family, panel.run, link) == (
            panel.family,
            f"results/{experiment}/0",
            f"../conf/experiment/{experiment}.yaml",
        )
        assert dataset == kept["config"]["choices"]["dataset"]
        minutes = f"{training['cpu_seconds'] / 60:.1f} min"
        assert figures == f"{training['parameters']:,} | {training['images_seen']:,} | {minutes}"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_caption_says_what_the_records_say(page: str) -> None:
    kept = [record(panel.run)["training"] for panel in PANELS]
    text = (ROOT / page).read_text(encoding="utf-8")
    caption = " ".join(text.split("\n*Small models", 1)[1].split("*\n", 1)[0].split())
    seen = [training["images_seen"] for training in kept]
    minutes = max(training["cpu_seconds"] for training in kept) / 60
    assert f"after {min(seen):,} to {max(seen):,} images and at most {minutes:.0f} minutes of one CPU core" in caption


@pytest.mark.parametrize("panel", [panel for panel in PANELS if "/families/" in panel.run], ids=lambda one: one.name)
def test_an_experiment_trains_as_its_run_was_trained(panel: Any) -> None:
    config = composed("train", [f"experiment=families/{panel.name}"])
    for part in TRAINED_BY:
        new = leaves(OmegaConf.to_container(OmegaConf.create({part: config[part]}), resolve=False))
        old = leaves({part: record(panel.run)["config"][part]})
        plain = {key: value for key, value in new.items() if not (isinstance(value, str) and "${" in value)}
        plain.pop("dataset.source.root", None)
        assert {key: old.get(key) for key in plain} == plain
    kept = record(panel.run)["config"]["trainer"]
    assert {key: config.trainer[key] for key in ("max_epochs", "max_steps", "max_time")} == {
        key: kept[key] for key in ("max_epochs", "max_steps", "max_time")
    }


def leaves(content: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to keys with dots."""
    if not isinstance(content, dict):
        return {prefix.removesuffix("."): content}
    return {key: value for name, part in content.items() for key, value in leaves(part, f"{prefix}{name}.").items()}


def test_of_a_completed_image_only_the_drawn_half_has_a_colour(mnist_root: str) -> None:
    (panel,) = (panel for panel in PANELS if panel.name == "pixel_cnn")
    run = load(ROOT / panel.run)
    images = SCRIPT["lower_halves"](run).unflatten(0, (5, 7))
    half = images.shape[-2] // 2
    upper, lower = images[..., :half, :], images[:, 1:, :, half:]
    for i, image in enumerate(upper):
        first = int((run.data.splits["test"].labels == i).nonzero()[0])
        shown = run.data.first("test", first + 1)[first][:, :half]
        torch.testing.assert_close(image, shown.expand(7, 3, -1, -1))
    assert lower.amax() > 0.5
    assert torch.unique(lower, dim=1).shape[1] > 1
    torch.testing.assert_close(lower[:, :, 2], lower[:, :, 0] * 66 / 255)


def test_the_picture_is_small_and_has_the_size_of_its_panels() -> None:
    path = ROOT / "docs/families.png"
    assert path.stat().st_size < 1_200_000
    with Image.open(path) as picture:
        assert picture.mode == "RGBA"
        assert picture.getpixel((0, 0))[3] == 0  # outside of the round corner, the page shows
        width, height = picture.size
    assert width == 2 * SCRIPT["MARGIN"] + 3 * SCRIPT["WIDTH"] + 2 * SCRIPT["BETWEEN"]
    assert height == 2 * SCRIPT["MARGIN"] + 2 * (SCRIPT["HEAD"] + SCRIPT["HEIGHT"]) + SCRIPT["BETWEEN"]


def test_an_unknown_run_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["families.py", "dcgna=outputs/dcgan"])
    with pytest.raises(SystemExit):
        SCRIPT["main"]()
    assert "dcgna: the runs are real_nvp, flow_matching" in capsys.readouterr().err
