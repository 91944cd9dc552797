"""Dequantization noise that depends on the image, for a tighter bound than uniform noise: Flow++ (arXiv:1902.00275)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.logistic import log_sigmoid
from genlab.distributions.noise import normal
from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, Couplings, channel_mask, checkerboard_mask


class ConditionedNet(nn.Module):
    """The network that gives ``s`` and ``t`` of a coupling, ``(B, 2C, H, W)``.

    It reads the part of the noise that the coupling keeps, and an image's features. Its output is 0 at initialization.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + width, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 2 * channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        h = torch.cat([h.to(features.dtype), features], 1)
        return self.last(F.relu(self.middle(F.relu(self.first(h)))))


class VariationalDequantization(nn.Module):
    """Flow++: Improving Flow-Based Generative Models with Variational Dequantization (arXiv:1902.00275), section 3.1.

    The noise is ``u = sigmoid(f(eps; x))``, where ``f`` is a sequence of affine couplings of noise ``eps`` whose
    networks see the image ``x``. Its density ``q(u | x)`` follows from that of ``eps`` by the change of variables. The
    bound on the log-likelihood is ``E_q[log p(x + u) - log q(u | x)]``.

    ``eps`` is logistic here and normal in the paper: ``f`` starts as the identity, so ``u`` starts as uniform noise.

    Args:
        shape: image shape ``(C, H, W)``.
        width: channels of the networks.
        num_couplings: number of couplings, which alternate between the colours of a checkerboard, or between the halves
            of the channels if an image is a single pixel.

    Raises:
        InputError: if an option is out of its range.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 32, num_couplings: int = 4) -> None:
        super().__init__()
        if len(shape) != 3 or min(*shape, width, num_couplings) < 1:
            raise InputError(
                f"shape {tuple(shape)}, width={width}, num_couplings={num_couplings}: expected images (C, H, W), and "
                "at least 1 of each"
            )
        C, H, W = shape
        self.features = nn.Sequential(
            nn.Conv2d(C, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.couplings = Couplings(
            AffineCoupling(
                ConditionedNet(C, width),
                channel_mask(C, i % 2) if H * W == 1 else checkerboard_mask(H, W, i % 2),
                C,
            )
            for i in range(num_couplings)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw ``u`` in (0, 1) for images, both ``(B, C, H, W)``; return it and ``log q(u | x)`` in nats, ``(B,)``."""
        noise = normal(x.shape, None, x.device).to(torch.promote_types(x.dtype, torch.float32))
        # The logistic quantile of the noise's cumulative probability, from log-probabilities so that it stays finite.
        return self.from_logistic(torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise), x)

    def from_logistic(self, eps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map logistic noise ``eps`` to ``u``, both ``(B, C, H, W)``, and ``log q(u | x)`` in nats, ``(B,)``."""
        features = self.features((2 * x - 1).to(next(self.parameters()).dtype))
        v, log_det = self.couplings(eps, features)
        log_eps = (log_sigmoid(eps) + log_sigmoid(-eps)).flatten(1).sum(1)
        log_slope = (log_sigmoid(v) + log_sigmoid(-v)).flatten(1).sum(1)  # log-derivative of the sigmoid
        return torch.sigmoid(v), log_eps - log_det - log_slope
