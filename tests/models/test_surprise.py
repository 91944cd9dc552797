"""What each pixel costs, and which pixels it depends on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.metrics.receptive_field import receptive_field
from genlab.models.abilities import Pointwise
from genlab.models.autoregressive.gated_pixel_cnn import GatedPixelCNN
from genlab.models.autoregressive.made import MADE
from genlab.models.autoregressive.nade import NADE
from genlab.models.autoregressive.pixel_cnn import PixelCNN
from genlab.models.autoregressive.pixel_rnn import DiagonalBiLSTM, PixelRNN
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from genlab.models.transformer.image_gpt import ImageGPT
from genlab.pictures.maps import beside_heat, field
from genlab.runs.loading import load
from support.catalogue import batch
from support.command import FAST, Genlab, Trained
from support.completing_models import NAMES, perturbed


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize(("shape", "levels"), [((1, 8, 8), 2), ((1, 5, 7), 17), ((3, 4, 4), 256)])
@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_the_sum_of_its_map(
    name: str, shape: tuple[int, ...], levels: int, num_classes: int | None
) -> None:
    model = perturbed(name, shape, levels, num_classes)
    assert isinstance(model, Pointwise)
    x, y = batch(shape, levels), None if num_classes is None else torch.tensor([0, 2, 1, 0])
    with torch.no_grad():
        log_probs = model.log_prob_map(x, y)
        assert log_probs.shape == x.shape
        assert (log_probs <= 0).all()
        torch.testing.assert_close(log_probs.flatten(1).sum(1), model.log_prob(x, y))
        # In their places: values change the likelihood of those after them alone, and their own. In double precision,
        # for quick convolutions of floats round a value by what is beside it.
        model, x, order = model.double(), x.double(), model.orders[0]
        changed = torch.where(order == order.max() // 2, 1 - x, x)
        moved = model.log_prob_map(changed, y) != model.log_prob_map(x, y)
    assert not moved[:, order < order.max() // 2].any()
    assert moved[:, order == order.max() // 2].any()


def test_a_mixture_of_orders_has_no_map() -> None:
    model = MADE((1, 2, 2), Bernoulli(2), num_masks=2)
    with pytest.raises(InputError, match="mixture of 2 orders"):
        model.log_prob_map(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match="mixture of 2 orders"):
        receptive_field(model, (0, 1, 1))


# -- receptive fields --------------------------------------------------------------------------------------------------


def order_of(C: int, H: int, W: int) -> Tensor:
    return to_image(torch.arange(C * H * W), (C, H, W))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_field_of_a_gated_pixel_cnn_is_a_rectangle(kernel_size: int) -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN((1, 9, 13), Bernoulli(2), 8, 2, None, kernel_size)
    reach = 3 + 2 * (kernel_size // 2)
    rows, columns = torch.arange(9)[:, None], torch.arange(13)
    for i, j in ((8, 6), (5, 12), (0, 4), (0, 0)):
        near = (rows >= i - reach) & ((columns - j).abs() <= reach)
        assert torch.equal(receptive_field(model, (0, i, j))[0], near & (order_of(1, 9, 13)[0] < i * 13 + j))


def test_the_field_of_a_pixel_cnn_is_where_its_gradient_is_not_zero() -> None:
    """Its blind spot is to the right, above; channels of the pixel itself are seen in their order."""
    torch.manual_seed(0)
    model = PixelCNN((2, 8, 11), Categorical(3), channels=16, num_layers=2)
    x = torch.rand(8, 2, 8, 11, dtype=torch.double, requires_grad=True)
    model.double()(x)[:, :, 1, 7, 4].abs().sum().backward()
    assert x.grad is not None
    expected = x.grad.abs().sum(0) != 0
    seen = receptive_field(model, (1, 7, 4))
    assert torch.equal(seen, expected)
    assert seen[0, 7, 4]
    assert not seen[1, 7, 4]
    assert seen.sum() < (order_of(2, 8, 11) < order_of(2, 8, 11)[1, 7, 4]).sum()


def test_fields_that_leave_nothing_out() -> None:
    torch.manual_seed(0)
    for model in (
        PixelSNAIL((1, 5, 6), Bernoulli(2), 8, 1, 1, 4, 8),
        ImageGPT((2, 3, 5), Categorical(4), num_layers=1, num_heads=2, width=8),
        NADE((1, 5, 6), Bernoulli(2), 16, order="random"),
        MADE((3, 3, 2), DiscretizedLogisticMixture(256, 2), [200], num_classes=3),
    ):
        order = model.orders[0]
        place = tuple((order == 17).nonzero()[0].tolist())
        assert torch.equal(receptive_field(model, place), order < 17), type(model).__name__


def test_a_diagonal_bilstm_leaves_out_the_last_value_of_the_row_above() -> None:
    torch.manual_seed(0)
    model = PixelRNN((1, 3, 12), Bernoulli(2), DiagonalBiLSTM, 8, 1)
    order = order_of(1, 3, 12)
    expected = (order < order[0, 2, 3]) & (order != order[0, 1, 11])
    assert torch.equal(receptive_field(model, (0, 2, 3)), expected)


def test_receptive_fields_leave_the_model_as_it_was() -> None:
    model = PixelCNN((1, 4, 4), Bernoulli(2), channels=4, num_layers=1).train()
    before = torch.get_rng_state()
    receptive_field(model, (0, 2, 2))
    assert model.training
    assert model.last.weight.dtype == torch.float32
    assert torch.equal(before, torch.get_rng_state())


# -- pictures and the command ------------------------------------------------------------------------------------------


def test_all_heat_maps_have_one_scale() -> None:
    values = torch.zeros(2, 4, 4)
    values[0, 0, 0], values[1, 1, 1] = 8, 4
    sheet = np.asarray(beside_heat(torch.zeros(2, 1, 4, 4), values, "bits"))
    side = 80
    sheet = sheet[-(40 + 4 + side) :]  # between the labels and the scale
    corners = [2 + side + 2, 2 + 3 * (side + 2)]  # of the two maps
    highest, half = sheet[10, corners[0] + 10], sheet[2 + 30, corners[1] + 30]
    assert highest.sum() > half.sum() > sheet[2 + 30, corners[0] + 30].sum()


def test_a_field_is_drawn_in_three_colours_about_its_pixel() -> None:
    seen = torch.zeros(1, 4, 4, dtype=torch.bool)
    seen[0, 1, 1] = True
    before = order_of(1, 4, 4) < 10
    sheet = np.asarray(field(seen, before, (2, 2)))[:320, :320][40::80, 40::80]
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) == 4
    assert (sheet[1, 1] != sheet[0, 0]).any()
    assert (sheet[0, 0] == sheet[2, 1]).all()
    assert (sheet[2, 3] == sheet[3, 3]).all()


def test_the_command_shows_surprise_and_receptive_fields(genlab: Genlab, trained: Trained) -> None:
    small = ("model.channels=4", "model.num_layers=1")
    run = trained("model=autoregressive/pixel_cnn", *small, *FAST)
    result = genlab("sample", f"run={run}", "mode=surprise", "images=[3,17]")
    assert result.code == 0, result.err
    assert "bits an image" in result.out
    picture, array = (line for line in result.out.splitlines() if line.endswith((".png", ".npy")))
    Image.open(picture).verify()
    bits = torch.from_numpy(np.load(array))
    opened = load(run)
    with torch.no_grad():
        expected = -opened.model.log_prob(opened.data.first("test")[[3, 17]]) / np.log(2)  # type: ignore[operator]
    torch.testing.assert_close(bits.flatten(1).sum(1), expected)

    result = genlab("sample", f"run={run}", "mode=receptive_field", "pixel=[7,0]")
    assert result.code == 0, result.err
    assert "the pixel at row 7, column 0 sees" in result.out
    assert "of 56 values before it" in result.out
    array = next(line for line in result.out.splitlines() if line.endswith(".npy"))
    assert Path(array).name == "receptive_field-7-0.npy"
    assert f"sees {(np.load(array) > 0).sum()} of" in result.out
    for options in ("pixel=[8,0]", "pixel=[1]"):
        result = genlab("sample", f"run={run}", "mode=receptive_field", options)
        assert result.code == 2
        assert "give [row,column]" in result.err
