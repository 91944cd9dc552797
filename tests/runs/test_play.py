"""What the page of ``genlab play`` offers of a model, and the lines that it refuses to open with."""

import dataclasses
import json
import shlex
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from genlab.composition.sampling import sampling_settings
from genlab.errors import InputError
from genlab.machine.ports import HOST, free_port
from genlab.models.gan.mlp import MLP
from genlab.models.sampling import SamplingSettings, usual
from genlab.playing.controls import changes, controls_of, values_of
from genlab.playing.pictures import canvas, enlarged, painted_region, region_picture, uploaded
from genlab.playing.stage import Stage, whole
from genlab.runs.loading import load
from support.catalogue import make
from support.command import Genlab

NAMES = ("vae/vae", "gan/stylegan2", "diffusion/flow_matching", "diffusion/ddpm", "diffusion/mean_flow",
         "transformer/maskgit", "transformer/image_gpt")  # fmt: skip
RUNS = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_a_slider_offers_is_allowed(name: str) -> None:
    model = make(name, (1, 8, 8), 17)
    controls = controls_of(model)
    assert {control.name for control in controls} <= {field.name for field in dataclasses.fields(model.Sampling)}
    assert all(control.about for control in controls), "a setting without a word in its class's docstring"
    assert changes(controls, [control.now for control in controls]) == {}
    for control in controls:
        offered = control.values or ((control.range.low, control.range.high) if control.range else ())
        for value in offered:
            changed = sampling_settings(model, {control.name: control.value(value)})
            assert getattr(model.settings(changed), control.name) == value


def test_a_setting_that_is_of_no_use_with_a_model_is_not_offered() -> None:
    def names(name: str, **options: Any) -> set[str]:
        return {control.name for control in controls_of(make(name, (1, 8, 8), 17, **options))}

    assert not {"guidance", "guidance_from"} & names("diffusion/flow_matching")
    assert {"guidance", "guidance_from"} <= names("diffusion/flow_matching", num_classes=10)
    assert not {"churn", "tolerance"} & names("diffusion/ddpm")
    (solver,) = [c for c in controls_of(make("diffusion/ddpm", (1, 8, 8), 17)) if c.name == "solver"]
    assert set(solver.values) == {"ddim", "ddpm", "dpm_solver_pp"}


def test_a_setting_of_a_users_own_model_needs_no_word_and_no_range() -> None:
    class Mine(MLP):
        @dataclasses.dataclass(frozen=True)
        class Sampling(MLP.Sampling):
            sharpness: float = 2.0
            rounds: int | None = usual(None, 1, 5, 1)

    model = Mine((2,), width=4, discriminator_width=4)
    model.sampling = Mine.Sampling(temperature=7.5)
    controls = {control.name: control for control in controls_of(model)}
    assert list(controls) == ["temperature", "truncation", "sharpness", "rounds"]
    assert controls["sharpness"].range is None
    assert controls["rounds"].is_optional
    assert controls["temperature"].range is not None
    assert controls["temperature"].range.high == 7.5  # what the run has is within reach
    assert "standard deviation of z" in controls["temperature"].about  # of the nearest class that says it
    given = [1, "", "3", "4"]
    assert changes(list(controls.values()), given) == {"temperature": 1.0, "sharpness": 3.0, "rounds": 4}
    assert [type(v) for v in values_of(list(controls.values()), given).values()] == [float, type(None), float, int]
    with pytest.raises(InputError, match="sharpness=much: give a number"):
        controls["sharpness"].value("much")


def test_pixels_are_enlarged_as_squares() -> None:
    x = torch.rand(4, 1, 8, 8)
    sheet = np.array(enlarged(x))
    factor = (sheet.shape[0] - 6) // 16
    assert factor > 20
    first = sheet[2 : 2 + 8 * factor, 2 : 2 + 8 * factor, 0]
    assert (first[::factor, ::factor].repeat(factor, 0).repeat(factor, 1) == first).all()
    assert enlarged(torch.rand(2, 3, 300, 400), columns=2).width == 2 * 402 + 2
    assert canvas(x[0]).size == (384, 384)


def test_what_is_painted_becomes_pixels_of_the_image() -> None:
    layer = np.zeros((80, 160, 4), np.uint8)
    layer[20:40, 40:60, 3] = 255  # one pixel of 4 rows and 8 columns
    layer[60:64, 100:104, 3] = 255  # a spot
    region = painted_region([layer], (1, 4, 8))
    assert region is not None
    assert region.nonzero().tolist() == [[1, 2]]
    assert painted_region([], (1, 4, 8)) is None
    assert painted_region([np.zeros_like(layer)], (1, 4, 8)) is None
    assert np.array_equal(np.array(region_picture(region)) == 255, region.numpy())


def test_a_picture_of_ones_own_becomes_what_the_model_sees(tmp_path: Path) -> None:
    run = load(RUNS / "vae-vae")
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, 30:] = 200
    Image.fromarray(colours).save(tmp_path / "mine.png")
    x = uploaded(str(tmp_path / "mine.png"), run)
    assert x.shape == (1, *run.model.shape)
    assert run.levels is not None
    assert torch.allclose((x * (run.levels - 1)).round(), x * (run.levels - 1), atol=1e-4)
    assert x[..., 0].max() == 0
    assert abs(float(x[..., -1].mean()) - 200 / 255) < 0.05
    (tmp_path / "mine.png").write_text("no picture")
    with pytest.raises(InputError, match=r"^mine\.png cannot be read as an image"):
        uploaded(str(tmp_path / "mine.png"), run)


@pytest.mark.parametrize("prompt", ["it's", "'quoted'", "null", "a, b", "${x}", "two\nlines"])
def test_the_command_line_says_a_prompt_as_it_is(prompt: str, tmp_path: Path, genlab: Genlab) -> None:
    run = load(RUNS / "vae-vae")
    line = Stage(run, tmp_path, {}).command({"prompt": prompt, "n": 2, "classes": [1, 2]}, {"temperature": 0.5})
    words = shlex.split(line)
    assert words[:3] == ["genlab", "sample", str(run.folder.path)]
    assert {"n=2", "classes=[1,2]", "sampling.temperature=0.5"} <= set(words)
    shown = genlab("sample", f"run={words[2]}", *words[3:], "--cfg", "job")
    assert shown.code == 0, shown.err
    assert OmegaConf.create(shown.out).prompt == prompt


def test_the_model_has_other_settings_for_one_computation_alone(tmp_path: Path) -> None:
    run = load(RUNS / "vae-vae")
    stage, before = Stage(run, tmp_path, {"weights": "raw"}), run.model.sampling
    with stage.using({"temperature": 0.5}):
        assert run.model.sampling == SamplingSettings(0.5)
    assert run.model.sampling == before
    with pytest.raises(InputError, match="temperature"), stage.using({"temperature": -1.0}):
        pass
    with stage.using({}):  # a refusal leaves the next one its turn
        assert run.model.sampling == before
    assert stage.command({}, {}).endswith("weights=raw")


def test_what_is_taken_away_has_its_settings(tmp_path: Path) -> None:
    stage = Stage(load(RUNS / "vae-vae"), tmp_path, {})

    def write(stem: Path) -> list[Path]:
        stem.with_suffix(".txt").write_text("x")
        return [stem.with_suffix(".txt")]

    archives = [stage.packed("mine", {"seed": i}, write) for i in range(60)]
    with zipfile.ZipFile(archives[-1]) as packed:
        assert sorted(packed.namelist()) == ["mine.txt", "settings.json"]
        assert json.loads(packed.read("settings.json")) == {"seed": 59}
    assert len(list(tmp_path.rglob("*.zip"))) == 50


def test_an_empty_field_is_one_line() -> None:
    assert whole("seed", 3.0, 0) == 3
    for given in (None, -1, 0.5):
        with pytest.raises(InputError, match="seed: give a whole number, 0 or more"):
            whole("seed", given, 0)


def test_a_port_that_is_taken_is_one_line() -> None:
    assert free_port(0) > 1023
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port={port} is in use: give another one"):
            free_port(port)
    with pytest.raises(InputError, match="give a number from 1024 to 65535"):
        free_port(70000)


def test_a_run_without_weights_or_a_missing_library_is_one_line(
    genlab: Genlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genlab.playing.server.find_spec", lambda name: None)
    refused = genlab("play", RUNS / "vae-vae")
    assert refused.code == 2
    assert refused.err == (
        "genlab: error: the page to play with a model is made with Gradio: pip install 'genlab[play]'\n"
    )
    monkeypatch.setattr("genlab.playing.server.find_spec", lambda name: True)
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.yaml").write_text((RUNS / "vae-vae" / "config.yaml").read_text())
    refused = genlab("play", begun)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "there is no checkpoint" in refused.err
