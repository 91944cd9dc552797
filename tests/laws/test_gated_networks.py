"""Gated encoders and decoders of VAEs."""

import math

import pytest
import torch

from genlab.errors import InputError
from genlab.models.vae.gated import Gated, GatedLinear


def test_a_gated_layer_is_a_product_with_a_sigmoid() -> None:
    torch.manual_seed(0)
    layer = GatedLinear(3, 2)
    x = torch.randn(5, 3)
    gate = 1 / (1 + torch.exp(-(x @ layer.gate.weight.T + layer.gate.bias)))
    torch.testing.assert_close(layer(x), (x @ layer.weight.T + layer.bias) * gate)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_shapes_classes_and_the_first_weights(num_classes: int | None) -> None:
    torch.manual_seed(0)
    networks = Gated((400, 200))
    encoder, decoder = networks.encoder((2, 3, 5), 8, num_classes), networks.decoder(4, (2, 3, 5), 6, num_classes)
    x, z, y = torch.rand(7, 2, 3, 5), torch.randn(7, 4), torch.arange(7) % 3
    assert encoder(x, y).shape == (7, 8)
    assert decoder(z, y).shape == (7, 6, 3, 5)
    assert decoder.body[0].weight.shape == (200, 4 + (num_classes or 0))
    for layer in (encoder.body[1], encoder.body[1].gate):
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    if num_classes is not None:
        assert not torch.equal(encoder(x, y), encoder(x, (y + 1) % 3))


@pytest.mark.parametrize("hidden", [(), (3, 0)])
def test_layers_without_units_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least one layer"):
        Gated(hidden)
