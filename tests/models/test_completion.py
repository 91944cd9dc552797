"""Completing images: what is known is kept, and the rest is drawn as the model says."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.distributions.pixel import Bernoulli
from genlab.errors import InputError
from genlab.models.autoregressive.fvsbn import FVSBN
from genlab.models.autoregressive.made import MADE
from genlab.models.base import Completes
from genlab.runs.loading import load
from genlab.views.complete import drawn_too_early, in_turns, region_of
from support.catalogue import batch
from support.command import FAST, Genlab, Trained
from support.completing_models import NAMES, perturbed


def test_every_autoregressive_model_of_images_is_tested() -> None:
    assert {"transformer/image_gpt", "autoregressive/nade", "autoregressive/pixel_cnn_pp"} <= set(NAMES)
    assert len(NAMES) >= 10


@pytest.mark.parametrize(("shape", "levels"), [((1, 3, 4), 2), ((1, 4, 3), 17), ((3, 2, 3), 256)])
@pytest.mark.parametrize("name", NAMES)
def test_what_follows_a_known_beginning_is_what_was_drawn(name: str, shape: tuple[int, ...], levels: int) -> None:
    model = perturbed(name, shape, levels)
    assert isinstance(model, Completes)
    x = model.sample(5, generator=generators(3, range(5)))
    for begun in (0, 1, 5, model.num_dims):
        known = torch.where(model.orders[0] < begun, x, torch.nan)
        assert torch.equal(model.sample(5, generator=generators(3, range(5)), known=known), x)


@pytest.mark.parametrize("name", NAMES)
def test_known_values_are_kept_wherever_they_are(name: str) -> None:
    model = perturbed(name, (3, 3, 4), 256, num_classes=3)
    x = batch((3, 3, 4), 256, 6)
    known = torch.where(torch.rand(x.shape) < 0.5, x, torch.nan)
    completed = model.sample(6, torch.arange(6) % 3, generator=generators(0, range(6)), known=known)
    is_known = ~known.isnan()
    assert torch.equal(completed[is_known], x[is_known])
    assert (completed[~is_known] != x[~is_known]).any()
    torch.testing.assert_close(model.distribution.index(completed) / 255, completed)


@pytest.mark.parametrize("name", NAMES)
def test_completions_have_the_conditional_probabilities(name: str) -> None:
    """Of all binary images of four values, given two that come first in the model's order."""
    num = 4000
    model = perturbed(name, (1, 2, 2), 2)
    images = torch.tensor([[k >> 3 & 1, k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(16)]).float().view(-1, 1, 2, 2)
    first = model.orders[0] < 2
    with torch.no_grad():
        joint = model.log_prob(images).double().exp()
    for image in images[[0, 6, 15]]:
        known = torch.where(first, image, torch.nan).expand(num, -1, -1, -1)
        drawn = model.sample(num, generator=torch.Generator().manual_seed(1), known=known)
        counts = torch.stack([(drawn == one).flatten(1).all(1).sum() for one in images]).double()
        fits = (images == image)[:, first].all(1)
        assert counts[~fits].sum() == 0
        expected = num * joint[fits] / joint[fits].sum()
        chi_square = ((counts[fits] - expected) ** 2 / expected).sum().item()
        assert chi_square < 3 + 4 * math.sqrt(6)


def test_a_mixture_of_orders_completes_in_that_of_the_mask_it_draws() -> None:
    torch.manual_seed(0)
    model = MADE((1, 3, 3), Bernoulli(2), [20], num_masks=4)
    assert model.orders.shape == (4, 1, 3, 3)
    x = model.sample(8, generator=generators(0, range(8)))
    known = torch.where(region_of("bottom", (1, 3, 3)), torch.nan, x)
    completed = model.sample(8, generator=generators(0, range(8)), known=known)
    assert torch.equal(completed[~known.isnan()], known[~known.isnan()])
    assert drawn_too_early(model, region_of("bottom", (1, 3, 3))) > 0


@pytest.mark.parametrize(
    ("known", "message"),
    [(torch.zeros(2, 1, 3, 3), r"expected \[2, 1, 2, 2\]"), (torch.full((2, 1, 2, 2), 1.5), r"values in \[0, 1\]")],
)
def test_what_cannot_be_known_is_refused(known: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FVSBN((1, 2, 2), Bernoulli(2)).sample(2, known=known)


def test_values_drawn_before_known_ones_are_counted() -> None:
    model = FVSBN((2, 4, 6), Bernoulli(2))
    for redraw, early in (
        ("bottom", 0),
        ("top", 2 * 12),
        ("right", 2 * 9),  # but for the last row, which nothing known comes after
        ("left", 2 * 12),
        ([1, 1, 3, 3], 2 * 4),
        ([0, 0, 4, 6], 0),
        ([3, 5, 4, 6], 0),
    ):
        assert drawn_too_early(model, region_of(redraw, model.shape)) == early, redraw


def test_examples_of_all_classes_in_turns() -> None:
    assert in_turns(torch.tensor([2, 2, 0, 1, 0, 2])).tolist() == [2, 3, 0, 4, 1, 5]
    assert in_turns(torch.zeros(4, dtype=torch.long)).tolist() == [0, 1, 2, 3]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(trained: Trained) -> Path:
    small = ("model.channels=4", "model.num_layers=1", "model.num_classes=10")
    return trained("model=autoregressive/pixel_cnn", *small, *FAST)


def test_the_command_completes_test_images(genlab: Genlab, run: Path) -> None:
    data = load(run).data
    for options, region, rows in (
        (("images=[3,17]", "draws=4"), (slice(4, 8), slice(0, 8)), [3, 17]),
        (("images=[3]", "draws=4", "redraw=right"), (slice(0, 8), slice(4, 8)), [3]),
        (("n=10", "draws=4", "redraw=[2,3,5,7]"), (slice(2, 5), slice(3, 7)), None),
    ):
        result = genlab("sample", f"run={run}", "mode=complete", *options)
        assert result.code == 0, result.err
        picture, array = (line for line in result.out.splitlines() if line.endswith((".png", ".npy")))
        assert Image.open(picture).width > 6 * 32
        # Said where the part drawn does not come last.
        assert ("do not depend on them" in result.out) == (region != (slice(4, 8), slice(0, 8)))
        samples = np.load(array).reshape(-1, 6, 8, 8)
        index = torch.tensor(rows) if rows is not None else in_turns(data.splits["test"].labels)[:10]
        assert len(samples) == len(index)
        if rows is None:
            assert data.splits["test"].labels[index].tolist() == list(range(10))
        expected = (255 * data.first("test")[index, 0]).round().numpy()
        assert np.array_equal(samples[:, 0], expected)
        assert (samples[:, 1][:, *region] == 128).all()
        kept = np.ones((8, 8), dtype=bool)
        kept[region] = False
        assert (samples[:, :, kept] == samples[:, :1, kept]).all()
        assert (samples[:, 2] != samples[:, 3]).any()
        again = genlab("sample", f"run={run}", "mode=complete", *options)
        assert np.array_equal(np.load(array).reshape(-1, 6, 8, 8), samples), again.err


def test_a_painted_region_is_drawn_again(genlab: Genlab, run: Path, tmp_path: Path) -> None:
    painted = np.zeros((8, 8), np.uint8)
    painted[2:4, 1:6] = painted[6, 2] = 255
    Image.fromarray(painted).save(tmp_path / "my region.png")
    result = genlab("sample", run, "mode=complete", "images=[3]", "draws=4", f"redraw={tmp_path / 'my region.png'}")
    assert result.code == 0, result.err
    image, _, *draws = np.load(Path(result.out.splitlines()[-1]))
    changed = np.stack(draws)[:, 0] != image[0]
    assert changed.any()
    assert not changed[:, painted == 0].any()
    assert changed[:, painted > 0].any()
    for wrong, line in ((np.zeros((8, 8), np.uint8), "is black everywhere"), (painted[:5], "has 5 rows and 8 columns")):
        Image.fromarray(wrong).save(tmp_path / "wrong.png")
        refused = genlab("sample", run, "mode=complete", f"redraw={tmp_path / 'wrong.png'}")
        assert (refused.code, line in refused.err, refused.err.count("\n")) == (2, True, 1), refused.err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("redraw=[0,0,9,8]",), "is no region of 8 rows and 8 columns"),
        (("redraw=[4,0,4,8]",), "is no region"),
        (("redraw=[1,2]",), "give [top,left,bottom,right]"),
        (("redraw=middle",), "'bottom'"),
        (("draws=0",), "draws=0"),
        (("images=[300]",), "the images 0 to 299"),
        (("redraw=nowhere.png",), "there is no such file"),
    ],
)
def test_a_wrong_part_is_one_line(genlab: Genlab, run: Path, options: tuple[str, ...], line: str) -> None:
    result = genlab("sample", f"run={run}", "mode=complete", *options)
    assert result.code == 2
    assert line in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("model=vae/vae", "model.networks.hidden=[8]"), "autoregressive models"),
        (("experiment=toy/gan", "model.width=8"), "is for images"),
    ],
)
def test_models_that_cannot_are_one_line(genlab: Genlab, overrides: tuple[str, ...], line: str) -> None:
    size = "dataset.train_size=256" if "toy" not in overrides[0] else "dataset.train_size=400"
    options = ("trainer.max_epochs=1", size, "metrics.num_samples=50", "logger=csv")
    run = genlab("train", *overrides, *options, "callbacks.sample_metrics=null").run
    for mode in ("complete", "surprise", "receptive_field"):
        result = genlab("sample", f"run={run}", f"mode={mode}", "checkpoint=last")
        assert result.code == 2
        assert line in result.err, result.err
        assert result.err.count("\n") == 1
