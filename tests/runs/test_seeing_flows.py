"""What is seen of a flow: its samples on their way from noise, and the likelihood of single images."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.errors import InputError
from genlab.metrics.drawing import draw
from genlab.models.flow.real_nvp import RealNVP
from genlab.runs.loading import load
from genlab.views.likelihood_histogram import (
    CHANGES,
    beside_others,
    bits_of,
    changed,
    likelihood_histogram,
    on_levels,
    per_image_bits,
)
from genlab.views.noise_to_data import StepByStep, moves_in_plane, noise_to_data, stages
from support.command import Genlab
from support.point_flows import FLOWS, NUMERICAL, data_like, make

# -- from noise to data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("name", FLOWS)
def test_the_way_begins_with_the_noise_and_ends_with_the_samples(name: str, num_classes: int | None) -> None:
    model = make(name, num_classes=num_classes)
    assert isinstance(model, StepByStep)
    way = stages(model, 20, seed=3, times=4)
    streams = generators(3, range(20))
    model.classes(20, None, streams)
    noise = normal((20, 2), streams, model.device)
    torch.testing.assert_close(way[0], noise * model.std + model.mean)
    torch.testing.assert_close(way[-1], draw(model, 20, seed=3), rtol=0, atol=NUMERICAL.get(name, 1e-5))
    assert len(way) > 2
    for before, after in itertools.pairwise(way):
        assert not torch.equal(before, after)


def test_a_continuous_flow_is_stopped_on_its_way() -> None:
    model = make("cnf")
    z = torch.randn(10, 2)
    few, many = model.trajectory(z, times=2), model.trajectory(z, times=4)
    assert [len(few), len(many)] == [3, 5]
    torch.testing.assert_close(torch.stack(few), torch.stack(many[::2]), rtol=0, atol=1e-3)


def test_the_film_shows_all_samples_and_ends_in_the_density() -> None:
    model = make("nsf")
    frames, sheet = noise_to_data(model, data_like(2, 300)[0], num=50, num_frames=7, num_stages=3)
    assert len({frame.size for frame in frames}) == 1
    assert len(frames) == 7 + 4
    side = frames[0].width
    assert sheet.width > 4 * side  # three stages and the density
    coloured = [(np.asarray(frame) < 250).any(2).mean() for frame in (frames[0], frames[6], frames[-1])]
    assert 0.001 < coloured[0] < 0.2
    assert coloured[2] > coloured[1] > 0.001
    assert not moves_in_plane(make("nsf", dims=3))
    assert not moves_in_plane(RealNVP((1, 8, 8), width=4, num_couplings=1))


# -- the likelihood of single images -----------------------------------------------------------------------------------

IMAGES = ["model.width=4", "dataset.train_size=300", "trainer.max_epochs=1", "metrics.num_samples=16", "logger=csv"]


@pytest.mark.parametrize("more", [["model=flow/real_nvp"], ["model=flow/glow", "model.num_classes=10"]])
def test_bits_of_single_images_average_to_the_run_s_figure(genlab: Genlab, more: list[str]) -> None:
    result = genlab("train", *more, *IMAGES)
    assert result.code == 0, result.err
    assert (result.run / "samples" / "likelihood_histogram.png").is_file()
    assert not (result.run / "samples" / "noise_to_data.gif").exists()
    run = load(result.run, device="cpu")
    bits = per_image_bits(run.model, run.data, "test", None)  # type: ignore[arg-type]
    figures = json.loads((result.run / "summary.json").read_text())["metrics"]
    assert len(bits) == figures["test/bits_per_dim"]["protocol"]["num"]
    assert float(bits.mean()) == pytest.approx(figures["test/bits_per_dim"]["value"], rel=1e-6)
    assert per_image_bits(run.model, run.data, "train", 20).shape == (20,)  # type: ignore[arg-type]
    beside = beside_others(run, ["noise", "digits", str(result.run / "samples" / "final.npy")], 20)
    assert list(beside)[:4] == ["train", "test", "noise", "digits"]
    assert all(values.shape == (20,) for values in beside.values())
    torch.testing.assert_close(beside["test"], beside["digits"])  # other images' test images, here the same
    for wrong, says in (("nothing", "neither a change"), ("two_moons", "has no images")):
        with pytest.raises(InputError, match=says):
            beside_others(run, [wrong], 20)


def test_a_flow_of_points_is_filmed(genlab: Genlab) -> None:
    small = ["model.flow.hidden_features=[8]", "trainer.max_epochs=1", "metrics.num_samples=50", "logger=csv"]
    result = genlab("train", "model=flow/nsf", "dataset=two_moons", "dataset.train_size=1000", *small)
    assert result.code == 0, result.err
    assert not (result.run / "samples" / "likelihood_histogram.png").exists()
    with Image.open(result.run / "samples" / "noise_to_data.gif") as film:
        assert film.n_frames > 20  # type: ignore[attr-defined]
    with Image.open(result.run / "samples" / "noise_to_data.png") as sheet:
        assert sheet.width > 4 * sheet.height


def digits_like(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return on_levels(torch.rand(num, 1, 8, 8, generator=generator) ** 4, 17)


def test_images_of_elsewhere_are_scored() -> None:
    model = RealNVP((1, 8, 8), levels=17, width=4, num_couplings=1)
    x = digits_like(30)
    for how in CHANGES:
        strange = changed(x, how, 17)
        assert strange.shape == x.shape
        assert not torch.equal(strange, x)
        torch.testing.assert_close(strange, on_levels(strange, 17))
        assert torch.equal(strange, changed(x, how, 17))
        assert bits_of(model, strange).shape == (30,)
    torch.testing.assert_close(changed(changed(x, "inverted", 17), "inverted", 17), x)
    assert torch.equal(changed(x, "permuted", 17).flatten(1).sort(1).values, x.flatten(1).sort(1).values)
    assert len(changed(x, "constant", 17)[3].unique()) == 1
    with pytest.raises(InputError, match="expected one of inverted"):
        changed(x, "upside down", 17)
    with pytest.raises(InputError, match=r"this model's are \[1, 8, 8\]"):
        bits_of(model, torch.rand(2, 1, 9, 9))


def test_without_classes_all_of_them_are_equally_likely() -> None:
    model = RealNVP((1, 8, 8), num_classes=3, levels=17, width=4, num_couplings=1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = digits_like(5)
    # Without noise, of which each class would get its own.
    model._draw = lambda images: (images.clamp(0.01, 0.99), images.new_zeros(len(images)))  # type: ignore[method-assign]
    with torch.no_grad():
        of_classes = torch.stack([model.eval().log_prob(x, torch.full((5,), k)) for k in range(3)])
    expected = model.bits_per_dim(math.log(3) - of_classes.double().logsumexp(0))
    torch.testing.assert_close(bits_of(model, x), expected, check_dtype=False, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(of_classes[0], of_classes[1])


def test_a_histogram_marks_medians() -> None:
    """Three quarters of one set lie in one place, and its line stands there."""
    low, high = torch.full((100,), 1.0), torch.full((100,), 2.0)
    low[:25], high[:25] = 1.5, 1.5
    shown = np.asarray(likelihood_histogram({"a": low, "b": high})).astype(int)
    assert shown.shape == (360, 640, 3)
    blue = (abs(shown - np.array([0x00, 0x62, 0xB8])).sum(2) < 60).sum(0)
    orange = (abs(shown - np.array([0xD1, 0x56, 0x0C])).sum(2) < 60).sum(0)
    assert blue[:100].max() > 100  # at the left end, and the other one at the right
    assert orange[-60:].max() > 100
    wide = np.asarray(likelihood_histogram({"a": low, "b": 100 * high}))
    assert wide.shape == shown.shape
    for wrong, says in ((torch.zeros(0), "no images"), (torch.tensor([1.0, float("nan")]), "1 images have")):
        with pytest.raises(InputError, match=says):
            likelihood_histogram({"a": low, "b": wrong})
