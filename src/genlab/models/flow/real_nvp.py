"""RealNVP: a multi-scale flow of affine couplings.

Density estimation using Real NVP, arXiv:1605.08803.
"""

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genlab.distributions.dequantization import dequantize, to_logit
from genlab.distributions.noise import uniform
from genlab.layers.coupling import AffineCoupling, channel_mask, checkerboard_mask, squeeze
from genlab.models.base import LikelihoodModel

K2 = int(os.environ.get("K2", 3))
KH = int(os.environ.get("KH", 3))


class ResidualBlock(nn.Module):
    def __init__(self, width: int, k2=K2) -> None:
        super().__init__()
        self.conv1 = weight_norm(nn.Conv2d(width, width, 3, padding=1))
        self.conv2 = weight_norm(nn.Conv2d(width, width, K2, padding=K2 // 2))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.relu(self.conv1(F.relu(h))))


class CouplingNet(nn.Module):
    def __init__(self, channels: int, width: int, num_blocks: int, patch: int, num_classes: int | None) -> None:
        super().__init__()
        self.patch = patch
        self.stem = weight_norm(nn.Conv2d(channels * patch**2, width, 3, padding=1))
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(num_blocks)])
        self.head = nn.Conv2d(width, 2 * channels * patch**2, KH, padding=KH // 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        H, W = h.shape[-2:]
        h = F.pad(h, (0, -W % self.patch, 0, -H % self.patch))
        h = self.stem(F.pixel_unshuffle(h, self.patch))
        if self.embedding is not None:
            h = h + self.embedding(y)[:, :, None, None]
        h = self.head(F.relu(self.blocks(h)))
        return F.pixel_shuffle(h, self.patch)[..., :H, :W]


class RealNVP(LikelihoodModel):
    likelihood = "lower_bound"

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        alpha: float = 0.05,
        num_scales: int = 3,
        num_couplings: int = 4,
        width: int = 32,
        num_blocks: int = 1,
        patch: int = 2,
        grow: float = 2.0,
    ) -> None:
        super().__init__(shape, num_classes)
        self.levels = levels
        self.alpha = alpha
        C, H, W = shape
        self.scales = nn.ModuleList()
        self.latent_shapes = []

        def couplings(masks, patch):
            nets = (CouplingNet(C, int(width), num_blocks, patch, num_classes) for _ in masks)
            return nn.ModuleList([AffineCoupling(n, m, C) for n, m in zip(nets, masks)])

        while True:
            last = len(self.scales) + 1 == num_scales or H % 2 or W % 2 or min(H, W) < 4
            self.scales.append(nn.ModuleDict())
            s = self.scales[-1]
            s["checkerboard"] = couplings([checkerboard_mask(H, W, i % 2) for i in range(num_couplings)], patch)
            if last:
                self.latent_shapes.append((C, H, W))
                break
            C, H, W = 4 * C, H // 2, W // 2
            s["channel"] = couplings([channel_mask(C, i % 2) for i in range(num_couplings)], 1)
            C = C // 2
            self.latent_shapes.append((C, H, W))
            width = width * grow

    def transform(self, h: Tensor, y: Tensor | None = None):
        log_det = h.new_zeros(len(h))
        z = []
        for s in self.scales:
            for c in s["checkerboard"]:
                h, ld = c(h, y)
                log_det = log_det + ld
            if "channel" in s:
                h = squeeze(h)
                for c in s["channel"]:
                    h, ld = c(h, y)
                    log_det = log_det + ld
                h, out = h.chunk(2, 1)
                z.append(out.flatten(1))
        z.append(h.flatten(1))
        return torch.cat(z, 1), log_det

    def log_prob(self, x, y=None):
        u = uniform(x.shape, None, x.device)
        h, ld0 = dequantize(x, u, self.levels)
        h, ld1 = to_logit(h, self.alpha)
        z, ld2 = self.transform(h, y)
        return -0.5 * (z**2 + 1.8378770664093453).sum(1) + ld0 + ld1 + ld2

    def sample(self, n, y=None, *, generator=None, temperature=1.0):
        raise NotImplementedError
