"""The VQ-VAE: its codebook against the paper's formulas, its gradient, its codes and what two levels of them are."""

import math

import pytest
import torch
import torch.nn.functional as F

from genlab.distributions.noise import generators
from genlab.distributions.pixel import Bernoulli, Categorical
from genlab.errors import InputError
from genlab.models.abilities import DiscreteLatents
from genlab.models.vae.vq_vae import VQVAE, Codebook


def test_vectors_are_the_nearest_ones_and_the_gradient_goes_straight_through() -> None:
    torch.manual_seed(0)
    book = Codebook(7, 3).eval()
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    quantized = book(z)
    for b, i, j in [(0, 0, 0), (1, 3, 4), (0, 2, 1)]:
        distances = (book.vectors - z[b, :, i, j]).square().sum(1)
        assert quantized.codes[b, i, j] == distances.argmin()
        torch.testing.assert_close(quantized.vectors[b, :, i, j], book.vectors[distances.argmin()])
    weights = torch.randn_like(z)
    (gradient,) = torch.autograd.grad((quantized.vectors * weights).sum(), z, retain_graph=True)
    torch.testing.assert_close(gradient, weights)
    (gradient,) = torch.autograd.grad(quantized.commitment, z)
    torch.testing.assert_close(gradient, 2 * (z - book.lookup(quantized.codes)).detach() / z.numel())


def test_the_codebook_is_the_moving_average_of_the_paper() -> None:
    torch.manual_seed(0)
    book = Codebook(4, 2, decay=0.9, restart_below=0.0)
    uses, sums = book.uses.clone(), book.sums.clone()
    for _ in range(5):
        z = torch.randn(3, 2, 2, 2)
        vectors = book.vectors.clone()
        codes = book(z).codes
        points = z.permute(0, 2, 3, 1).reshape(-1, 2)
        assert torch.equal(codes.flatten(), torch.cdist(points, vectors).argmin(1))
        for k in range(4):
            mine = points[codes.flatten() == k]
            uses[k] = 0.9 * uses[k] + 0.1 * len(mine)
            sums[k] = 0.9 * sums[k] + 0.1 * mine.sum(0)
    torch.testing.assert_close(book.uses, uses)
    torch.testing.assert_close(book.vectors, sums / uses[:, None])


def test_evaluation_leaves_the_codebook_alone() -> None:
    book = Codebook(4, 2).eval()
    before = {name: value.clone() for name, value in book.state_dict().items()}
    book(torch.randn(3, 2, 2, 2))
    assert all(torch.equal(before[name], value) for name, value in book.state_dict().items())


@pytest.mark.parametrize(("restart_below", "used"), [(0.0, 2), (0.05, 8)])
def test_codes_that_nothing_is_near_to_begin_again(restart_below: float, used: int) -> None:
    """Eight clusters far from six of eight vectors."""
    torch.manual_seed(0)
    book = Codebook(8, 2, decay=0.9, restart_below=restart_below)
    vectors = torch.full((8, 2), 1000.0)
    vectors[:2] = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    book.vectors.copy_(vectors)
    book.sums.copy_(vectors)
    angle = torch.arange(8) * math.pi / 4
    centres = 10 * torch.stack([angle.cos(), angle.sin()], 1)
    for _ in range(300):
        points = centres[torch.randint(8, (640,))] + 0.1 * torch.randn(640, 2)
        codes = book(points.T[None, :, None, :]).codes
    assert len(codes.unique()) == used


def small(num_levels: int, shape: tuple[int, int, int] = (1, 8, 8), **options: object) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(
        shape, Categorical(4), num_codes=5, code_dim=3, channels=8, num_blocks=1, num_levels=num_levels, **options
    )


@pytest.mark.parametrize(
    ("num_levels", "shape", "codes"),
    [(1, (1, 8, 8), (1, 4, 4)), (1, (2, 12, 9), (1, 6, 5)), (2, (1, 8, 8), (5, 2, 2)), (2, (3, 12, 9), (5, 3, 3))],
)
def test_codes_are_decoded_to_the_reconstruction(num_levels: int, shape: tuple, codes: tuple) -> None:
    model = small(num_levels, shape).eval()
    assert isinstance(model, DiscreteLatents)
    x = torch.randint(4, (6, *shape)) / 3
    model.initialize(x)
    found = model.codes(x)
    assert found.shape == (6, *codes) == (6, *model.code_shape)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) <= int(found.max()) < model.num_codes
    torch.testing.assert_close(model.decode_codes(found), model.decode(model.encode(x)))


def test_of_two_levels_the_fine_codes_lie_at_their_coarse_ones_place() -> None:
    """Codes packed and unpacked by hand, with every place told apart."""
    model = small(2).eval()
    fine = torch.arange(16).view(1, 4, 4) % 5
    coarse = torch.tensor([[[4, 3], [2, 1]]])
    packed = torch.stack([coarse, fine[:, ::2, ::2], fine[:, ::2, 1::2], fine[:, 1::2, ::2], fine[:, 1::2, 1::2]], 1)
    assert model.coarse_codebook is not None
    vectors = [model.coarse_codebook.lookup(coarse), model.codebook.lookup(fine)]
    expected = model.distribution.mean(model.likelihood_params(vectors))
    torch.testing.assert_close(model.decode_codes(packed), expected)


@pytest.mark.parametrize("num_levels", [1, 2])
def test_the_bound_is_that_of_a_uniform_prior(num_levels: int) -> None:
    model = small(num_levels).eval()
    x = torch.randint(4, (6, 1, 8, 8)) / 3
    vectors = [level.vectors for level in model.quantize(x)]
    log_likelihood = -F.cross_entropy(model.likelihood_params(vectors), (3 * x).round().long(), reduction="none")
    num = 16 if num_levels == 1 else 16 + 4
    expected = log_likelihood.flatten(1).sum(1) - num * math.log(5)
    torch.testing.assert_close(model.log_prob(x), expected)
    figures = model.loss(x)
    torch.testing.assert_close(figures["nll"], -expected.mean())


@pytest.mark.parametrize("num_levels", [1, 2])
def test_it_lies_below_the_likelihood_that_sums_to_one(num_levels: int) -> None:
    """2x2 binary images: p(x) is the mean over all codes, in reach of a sum, and above every bound."""
    torch.manual_seed(0)
    model = VQVAE((1, 2, 2), Bernoulli(), num_codes=3, code_dim=2, channels=4, num_blocks=0, num_levels=num_levels)
    model.eval()
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(16, 1, 2, 2)
    num = 4 + (num_levels - 1)
    codes = torch.cartesian_prod(*[torch.arange(3)] * num).view(-1, num, 1, 1)
    if num_levels == 1:
        codes = codes.view(-1, 1, 2, 2)
    mean = model.decode_codes(codes).flatten(1)  # of a Bernoulli its probability
    x = images.flatten(1)[:, None]
    likelihood = (mean * x + (1 - mean) * (1 - x)).prod(2).mean(1)
    torch.testing.assert_close(likelihood.sum(), torch.tensor(1.0))
    assert (model.log_prob(images) < likelihood.log()).all()


def test_training_uses_the_codebook_and_lowers_the_loss() -> None:
    model = small(1)
    x = torch.randint(4, (64, 1, 2, 2)).repeat_interleave(4, 2).repeat_interleave(4, 3) / 3  # four grey squares each
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        figures = model.loss(x)
        optimizer.zero_grad()
        figures["loss"].backward()
        optimizer.step()
        losses.append(figures["reconstruction"].item())
    assert losses[-1] < 0.3 * losses[0]
    found = model.eval().diagnose(x)
    assert found["codebook_use"] >= 0.8
    assert 1 < found["codebook_perplexity"] <= 5


@pytest.mark.parametrize("num_levels", [1, 2])
def test_the_sum_of_the_commitment_is_the_papers(num_levels: int) -> None:
    """Equation 3 of arXiv:1711.00937: nats of an image, and beta times the sum of squares over its code grids."""
    model = small(num_levels, commitment=0.4, commitment_sum=True).eval()
    x = torch.rand(3, 1, 8, 8).round()
    figures = model.loss(x)
    nats = figures["reconstruction"]
    with torch.no_grad():
        h = model.encoder(2 * x - 1)
        levels = model.quantize(x)
        if num_levels == 1:
            outputs = [model.to_fine(h)]
        else:
            decoded = model.coarse_decoder(levels[0].vectors)
            outputs = [model.to_coarse(model.coarse_encoder(h)), model.to_fine(torch.cat([h, decoded], 1))]
    squares = sum((z - level.vectors).square().sum() / 3 for z, level in zip(outputs, levels, strict=True))
    torch.testing.assert_close(figures["loss"] * 64 * math.log(2), nats + 0.4 * squares)


def test_perplexity_is_the_number_of_equally_frequent_codes() -> None:
    model = small(1).eval()
    x = torch.randint(4, (50, 1, 8, 8)) / 3
    model.initialize(x)
    found = model.diagnose(x)
    shares = torch.bincount(model.codes(x).flatten(), minlength=5) / (50 * 16)
    entropy = -sum(float(p) * math.log(float(p)) for p in shares if p > 0)
    assert found["codebook_perplexity"] == pytest.approx(math.exp(entropy), rel=1e-5)
    assert found["codebook_use"] == pytest.approx(float((shares > 0).float().mean()))


def test_samples_are_of_uniform_codes() -> None:
    model = small(1).eval()
    samples = model.sample(4, generator=generators(0, range(4)))
    u = torch.stack([torch.rand(1, 4, 4, generator=g) for g in generators(0, range(4))])
    torch.testing.assert_close(samples, model.decode_codes((5 * u).long()))


@pytest.mark.parametrize(
    "options", [{"num_levels": 3}, {"num_codes": 1}, {"code_dim": 0}, {"commitment": -1}, {"decay": 1.0}]
)
def test_what_makes_no_codebook_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        VQVAE((1, 8, 8), Categorical(4), **options)
