"""The blocks of a hierarchical VAE, in numbers and in the notation of the paper."""

import pytest

from genlab.errors import InputError
from genlab.models.vae.block_layout import halved, written

ENCODER, DECODER = "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3", "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21"


def test_the_papers_strings() -> None:
    found = written((3, 32, 32), ENCODER, DECODER)
    assert found.sizes == [(32, 32), (16, 16), (8, 8), (4, 4), (1, 1)]
    assert found.rates == [2, 2, 2, 4]
    assert found.encoder == [11, 6, 6, 3, 3]
    assert found.lowering == [True, True, True, True, False]
    assert found.decoder == [22, 11, 6, 3, 1]
    assert all(found.with_latents)
    assert (found.encoder_gain**-2, found.decoder_gain**-2) == (pytest.approx(33), pytest.approx(43))


def test_odd_sides_are_rounded_up_and_named_by_the_larger() -> None:
    found = written((1, 5, 7), "7x1,7d2,4d4,1x1", "1x1,4m1,7m4")
    assert found.sizes == [(5, 7), (3, 4), (1, 1)]
    assert found.decoder == [1, 1, 1]


def test_numbers_halve_the_sides() -> None:
    found = halved((1, 12, 9), 2, 3, 4)
    assert found.sizes == [(12, 9), (6, 5), (3, 3), (2, 2), (1, 1)]
    assert found.decoder == [1, 1, 3, 3, 3]
    assert found.encoder == [2] * 5
    assert not any(found.lowering)
    assert found.encoder_gain == found.decoder_gain == 9**-0.5


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ("8x1,8d8,1x1", "1x1,8", "decoder_blocks: '8' is not like 8x5 or 8m4"),
        ("8m4", "1x1", "encoder_blocks: '8m4' is not like 8x5 or 8d4"),
        ("4x1", "4x1", "encoder_blocks: 4x1 stands where the features' side is 8"),
        ("8x1,8d1", "8x1", "encoder_blocks: 8d1 does not shrink the features"),
        ("8x1,8d2,4x1", "4x1,8x1", "decoder_blocks: 8x1 stands where the features' side is 4"),
        ("8x1,8d2,4x1", "4x1,8m2", "decoder_blocks: 8m2 does not follow features of side 2"),
        ("8x1,8d2,4x1", "8m4", "decoder_blocks: 8m4 does not follow features of side 4"),
        ("8x1,8d2,4x1", "4x1", r"decoder_blocks lists the sides \[4\], and encoder_blocks \[4, 8\]"),
    ],
)
def test_strings_that_make_no_sense_are_refused_in_one_line(encoder: str, decoder: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        written((3, 8, 8), encoder, decoder)
