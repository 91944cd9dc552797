"""DiT, a transformer over the patches of an image: Scalable Diffusion Models with Transformers (arXiv:2212.09748)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.networks.time_embedding import TimeEmbedding
from genlab.networks.unet import attention


class Block(nn.Module):
    """Attention and feed-forward layers whose inputs and outputs the condition scales and shifts: adaLN-zero.

    At initialization the outputs are scaled by 0, so that the block is the identity.

    Args:
        width: number of features of a patch, and of the condition.
        num_heads: number of heads of the attention.
        mlp_ratio: width of the feed-forward layer as a multiple of ``width``.
        dropout: dropout probability of what the layers add.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Map patches ``(B, T, width)`` to the same shape, given conditions ``(B, width)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).unsqueeze(1).chunk(6, 2)
        qkv = self.qkv(self.norm1(h) * (1 + scale1) + shift1)
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        h = h + gate1 * self.dropout(self.out(attention(q, k, v).transpose(1, 2).flatten(2)))
        return h + gate2 * self.dropout(self.mlp(self.norm2(h) * (1 + scale2) + shift2))


class DiT(nn.Module):
    """Network from noisy images, times and classes to images: ``(B, C, H, W)`` to the same shape.

    Sides that are no multiples of the patch are padded with zeros, and the result is cut.

    Args:
        shape: image shape ``(C, H, W)``.
        num_times: number of times of an image.
        num_classes: number of classes; None for none.
        time_scale: factor of the times in their embedding.
        patch: side of a patch.
        width: number of features of a patch.
        num_layers: number of blocks.
        num_heads: number of heads of the attention.
        mlp_ratio: width of the feed-forward layers as a multiple of ``width``.
        dropout: dropout probability.

    Raises:
        InputError: if the shape is not an image's, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_times: int = 1,
        num_classes: int | None = None,
        time_scale: float = 1000.0,
        *,
        patch: int = 4,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: DiT is for images (C, H, W); use diffusion/networks=mlp")
        if min(patch, width, num_layers, num_heads) < 1 or width % num_heads:
            raise InputError(
                f"patch={patch}, width={width}, num_layers={num_layers}, num_heads={num_heads}: expected at least 1 of "
                "each, and a width that is a multiple of the heads"
            )
        C, H, W = shape
        self.patch = patch
        self.grid = (-(-H // patch), -(-W // patch))
        self.embedding = TimeEmbedding(width, num_times, num_classes, 256, time_scale)
        self.first = nn.Conv2d(C, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, self.grid[0] * self.grid[1], width))
        self.blocks = nn.ModuleList(Block(width, num_heads, mlp_ratio, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, C * patch**2)
        for layer in (self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        B, C, H, W = x.shape
        (rows, columns), p = self.grid, self.patch
        condition = self.embedding(times, y)
        h = self.first(F.pad(x, [0, columns * p - W, 0, rows * p - H])).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            h = block(h, condition)
        shift, scale = self.modulation(F.silu(condition)).unsqueeze(1).chunk(2, 2)
        patches = self.last(self.norm(h) * (1 + scale) + shift)  # (B, T, C p p)
        out = patches.view(B, rows, columns, C, p, p).permute(0, 3, 1, 4, 2, 5).reshape(B, C, rows * p, columns * p)
        return out[:, :, :H, :W]
