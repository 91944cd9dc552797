"""DINOv2 and CLIP: features of vision transformers, whose weights lie in a file on disk.

The networks are timm's. Their sizes are read from the files, which are those that the authors publish.
"""

import re
from collections.abc import Mapping
from functools import partial
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.metrics.pretrained import PretrainedNetwork, fill, shaped
from genlab.metrics.weights_file import read_weights

HEAD_WIDTH = 64  # width of a head of attention, in all sizes of both


class DINOv2(PretrainedNetwork):
    """Class token of DINOv2 (arXiv:2304.07193) after the last normalization: 1,024 features with ViT-L/14.

    On ViT-L/14, Exposing Flaws of Generative Model Evaluation Metrics (arXiv:2306.04675) measures the Fréchet distance,
    and images are prepared as in its code: Pillow's bicubic resize to 224 x 224, ImageNet's mean and deviation. The
    embedding of positions is resized as in DINOv2's code.

    Args:
        weights: path of DINOv2's ``.pth``; genlab does not download it.
        sha256: expected SHA-256 of the file; None takes any file.
        name: name in protocols and tables, such as ``"dinov2_vitl14"``.
        side: height and width of the network's input, a multiple of the side of a patch, in pixels.

    Raises:
        InputError: if timm is not installed, or the file is missing, is another one or holds other weights.
    """

    def __init__(self, weights: str | None, sha256: str | None = None, *, name: str, side: int = 224) -> None:
        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, times 255
        super().__init__(name, side, mean, std)
        vit = _timm()
        file = f"{name}_pretrain.pth"
        found, self.weights_hash = read_weights(weights, sha256, f"{name} ({file} of facebookresearch/dinov2)")
        found.pop("mask_token", None)  # of training
        kernel = shaped(found, "patch_embed.proj.weight", 4, name)
        width, patch = kernel.shape[0], kernel.shape[-1]
        if side % patch:
            raise InputError(f"metrics.features.side={side}: {name} takes patches of {patch} pixels")
        found["pos_embed"] = resized_positions(shaped(found, "pos_embed", 3, name), side // patch)
        self.network = vit.VisionTransformer(
            img_size=side,
            patch_size=patch,
            embed_dim=width,
            depth=_depth(found, r"blocks\.(\d+)\."),
            num_heads=width // HEAD_WIDTH,
            init_values=1.0,
            num_classes=0,
        )
        fill(self.network, found, name)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.network(self.prepare(images)), None


class CLIP(PretrainedNetwork):
    """Image embedding of CLIP (arXiv:2103.00020), of length 1: 768 features with ViT-L/14 at 336 pixels.

    These are the embeddings of CMMD (arXiv:2401.09603). Images are prepared as in its code: a square crop at the
    centre, Pillow's bicubic resize, CLIP's mean and deviation.

    Args:
        weights: path of OpenAI's ``.pt``, or of OpenCLIP's file of the same network with QuickGELU; genlab does not
            download it.
        sha256: expected SHA-256 of the file; None takes any file, except for OpenAI's archives, which hold code.
        name: name in protocols and tables.

    Raises:
        InputError: if timm is not installed, or the file is missing, is another one or holds other weights.
    """

    def __init__(self, weights: str | None, sha256: str | None = None, name: str = "clip_vitl14_336") -> None:
        vit = _timm()
        found, digest = read_weights(weights, sha256, f"{name} (ViT-L-14-336px.pt of openai/CLIP)")
        found = {key: value for key, value in found.items() if key.startswith("visual.")}
        kernel = shaped(found, "visual.conv1.weight", 4, name)
        width, patch = kernel.shape[0], kernel.shape[-1]
        side = patch * round((len(shaped(found, "visual.positional_embedding", 2, name)) - 1) ** 0.5)
        mean = (122.7709383, 116.7460125, 104.09373615)  # those of CLIP's code, times 255
        std = (68.5005327, 66.6321579, 70.32316305)
        super().__init__(name, side, mean, std, crop=True)
        self.weights_hash = digest
        self.network = vit.VisionTransformer(
            img_size=side,
            patch_size=patch,
            embed_dim=width,
            depth=_depth(found, r"visual\.transformer\.resblocks\.(\d+)\."),
            num_heads=width // HEAD_WIDTH,
            pre_norm=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
            act_layer="quick_gelu",
            num_classes=shaped(found, "visual.proj", 2, name).shape[1],
        )
        fill(self.network, vit.checkpoint_filter_fn(found, self.network), name)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return F.normalize(self.network(self.prepare(images)), dim=1), None


def resized_positions(embedding: Tensor, side: int) -> Tensor:
    """Resize the embedding of positions as DINOv2's code does: bicubic, with a scale that is a little too large.

    Args:
        embedding: embedding ``(1, 1 + P * P, d)`` of the class token and of P x P patches.
        side: number of patches in a row of the network's input.
    """
    token, patches = embedding[:, :1], embedding[:, 1:]
    before = round(patches.shape[1] ** 0.5)
    if before == side:
        return embedding
    grid = patches.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    # The tenth of a patch stood against rounding errors, and is part of what the published features are.
    grid = F.interpolate(grid, scale_factor=(side + 0.1) / before, mode="bicubic")
    return torch.cat([token, grid.flatten(2).transpose(1, 2)], 1)


def _depth(parameters: Mapping[str, Tensor], pattern: str) -> int:
    """Count the blocks, which are numbered in the parameters' names."""
    return len({match[1] for name in parameters if (match := re.match(pattern, name))})


def _timm() -> ModuleType:
    try:
        from timm.models import vision_transformer
    except ImportError as error:
        raise InputError("the networks of DINOv2 and CLIP are timm's: pip install 'genlab[features]'") from error
    return vision_transformer
