"""StyleGAN2: Analyzing and Improving the Image Quality of StyleGAN (arXiv:1912.04958), in plain PyTorch."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from genlab.distributions.noise import Generators, normal
from genlab.errors import InputError
from genlab.layers.equalized import EqualizedConv2d, EqualizedLinear
from genlab.layers.minibatch_std import MinibatchStd
from genlab.layers.packing import packed
from genlab.layers.precision import own_precision
from genlab.layers.resampling import Smooth, doubled, resolutions, widths
from genlab.models.adversarial import AdversarialModel, given
from genlab.models.sampling import SamplingSettings, usual

EvaluationNoise = Literal["fixed", "random"]


class StyleGAN2(AdversarialModel):
    """StyleGAN2: a mapping network turns z into a style w, which modulates the convolutions of the generator.

    The generator's output is the sum of images at all resolutions.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I), and of the class embedding.
        style_dim: number of dimensions of w.
        mapping_layers: number of layers of the mapping network.
        channels: upper limit on the number of channels.
        channel_base: upper limit on the number of channels times the side.
        style_mixing: probability in training that the finer layers use the w of a second z.
        architecture: discriminator architecture: ``resnet``, or ``plain``, which the authors use for CIFAR-10
            (arXiv:2006.06676).
        minibatch_std: number of images that the discriminator compares; None for no comparison.
        pack: number of images that the discriminator judges together.
        class_layers: number of layers of the discriminator's mapping network, from the class to the vector of the
            projection: 8 in the code of StyleGAN2-ADA (arXiv:2006.06676); 0 projects on the embedding itself.
        class_bias: whether a bias is added to the embeddings of classes, as in that code.
        float32_core: whether the mapping networks and both networks' layers at the smallest resolution compute in
            float32 also in mixed precision, as in that code.
    """

    @dataclass(frozen=True)
    class Sampling(SamplingSettings):
        """Settings of the truncation trick, ``w <- E[w] + psi (w - E[w])``, and of the added noise.

        Here ``psi = truncation * temperature``.

        Args:
            temperature: factor of psi, provided because all models have a temperature.
            truncation: factor of psi; 1 for no truncation, 0 for the mean style.
            noise: whether the added noise is the ``fixed`` draw that is kept with the weights, so that a sample is a
                function of z, or a ``random`` draw for each sample, with which the authors measure.
        """

        truncation: float = usual(1.0, 0.0, 2.0, 0.05)
        noise: EvaluationNoise = "fixed"

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 <= self.truncation < math.inf:
                raise InputError(f"truncation={self.truncation}: expected a number from 0 on")
            if self.noise not in ("fixed", "random"):
                raise InputError(f"noise={self.noise}: fixed or random")

    generator: "Generator"

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 512,
        style_dim: int = 512,
        mapping_layers: int = 8,
        channels: int = 512,
        channel_base: int = 16384,
        style_mixing: NonNegativeFloat = 0.9,
        architecture: Literal["resnet", "plain"] = "resnet",
        minibatch_std: PositiveInt | None = 4,
        pack: int = 1,
        class_layers: int = 0,
        class_bias: bool = False,
        float32_core: bool = False,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        if min(latent_dim, style_dim, mapping_layers, channels, channel_base) < 1:
            raise InputError(
                f"latent_dim={latent_dim}, style_dim={style_dim}, mapping_layers={mapping_layers}, "
                f"channels={channels}, channel_base={channel_base}: at least 1 of each"
            )
        if class_layers < 0:
            raise InputError(f"class_layers={class_layers}: at least 0")
        self.latent_dim = latent_dim
        sizes = resolutions(shape[1:])
        each = widths(channels, channel_base, sizes)
        mapping = Mapping(latent_dim, style_dim, mapping_layers, num_classes, class_bias, float32_core)
        self.generator = Generator(mapping, Synthesis(shape[0], sizes, each, style_dim, float32_core), style_mixing)
        self.discriminator = Discriminator(
            shape,
            each[::-1],
            num_classes,
            style_dim,
            architecture,
            minibatch_std,
            pack,
            class_layers=class_layers,
            class_bias=class_bias,
            float32_last=float32_core,
        )

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw images, with the styles truncated towards their mean and the noise drawn according to the settings."""
        chosen = self.settings(sampling)
        assert isinstance(chosen, StyleGAN2.Sampling)
        y = self.classes(num_samples, y, generator)
        z = self.draw_latents(num_samples, generator)
        synthesis = self.generator.synthesis
        noise = None
        if chosen.noise == "random":
            noise = synthesis.maps(normal((num_samples, synthesis.noise_dim), generator, self.device))
        w = self.generator.mapping(z, y)
        w = self.generator.mapping.mean_w.lerp(w, chosen.truncation * chosen.temperature)
        return synthesis(w, noise).clamp(0, 1).float()

    def draw_latents(self, num: int, generator: Generators, sampling: SamplingSettings | None = None) -> Tensor:
        """Draw latents z ``(num, latent_dim)`` from N(0, I); the sampling settings only affect the styles w."""
        return normal((num, self.latent_dim), generator, self.device)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        chosen = self.settings(sampling)
        assert isinstance(chosen, StyleGAN2.Sampling)
        return "truncation of w" + (", random noise" if chosen.noise == "random" else "")


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to images with black at 0 and white at 1; the values are not bounded."""

    def __init__(self, mapping: "Mapping", synthesis: "Synthesis", style_mixing: NonNegativeFloat) -> None:
        super().__init__()
        self.mapping, self.synthesis, self.style_mixing = mapping, synthesis, style_mixing

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        w = self.mapping(z, y)
        if not self.training or self.style_mixing == 0:
            return self.synthesis(w)
        layers = self.synthesis.num_layers
        other = self.mapping(torch.randn_like(z), y)
        cut = torch.randint(1, layers, (len(z), 1), device=z.device)
        cut = torch.where(torch.rand(len(z), 1, device=z.device) < self.style_mixing, cut, layers)
        mixed = torch.arange(layers, device=z.device) >= cut  # (B, layers)
        return self.synthesis(torch.where(mixed.unsqueeze(2), other.unsqueeze(1), w.unsqueeze(1)))


class Mapping(nn.Module):
    """Mapping network from z ``(B, latent_dim)`` and the class to w ``(B, style_dim)``.

    Attributes:
        mean_w: moving average of w, used for truncation.
    """

    mean_w: Tensor
    mean_decay = 0.998

    def __init__(
        self,
        latent_dim: int,
        style_dim: int,
        num_layers: int,
        num_classes: int | None,
        class_bias: bool,
        float32: bool,
    ) -> None:
        super().__init__()
        self.float32 = float32
        self.embedding = _embedding(num_classes, latent_dim, class_bias) if num_classes is not None else None
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, lr_multiplier=0.01)
            for before, after in itertools.pairwise([inputs, *[style_dim] * num_layers])
        )
        self.register_buffer("mean_w", torch.zeros(style_dim))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        with own_precision(z, self.float32):
            h = _normalized(z)
            if self.embedding is not None:
                h = torch.cat([h, _normalized(self.embedding(given(y)))], 1)
            for layer in self.layers:
                h = _activated(layer(h))
        w = h.float()
        if self.training:
            with torch.no_grad():
                self.mean_w.lerp_(w.mean(0), 1 - self.mean_decay)
        return w


class ClassEmbedding(EqualizedLinear):
    """Embedding of classes ``(B,)`` with a bias: a linear layer on one-hot vectors, with equalized learning rate."""

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(F.one_hot(y, self.weight.shape[1]).to(self.weight.dtype))


class Synthesis(nn.Module):
    """Synthesis network from w to images: one w ``(B, style_dim)``, or one per layer ``(B, num_layers, style_dim)``."""

    def __init__(
        self,
        image_channels: int,
        sizes: list[tuple[int, ...]],
        widths: list[int],
        style_dim: int,
        float32_first: bool,
    ) -> None:
        super().__init__()
        self.sizes, self.float32_first = sizes, float32_first
        self.constant = nn.Parameter(torch.randn(1, widths[0], *sizes[0]))
        convolutions = [StyledConv2d(widths[0], widths[0], sizes[0], style_dim)]
        for (before, after), size in zip(itertools.pairwise(widths), sizes[1:], strict=True):
            convolutions.append(StyledConv2d(before, after, size, style_dim, up=True))
            convolutions.append(StyledConv2d(after, after, size, style_dim))
        self.convolutions = nn.ModuleList(convolutions)
        self.to_image = nn.ModuleList(ToImage(width, image_channels, style_dim) for width in widths)
        self.num_layers = len(convolutions) + 1
        self.noise_sizes = [layer.size for layer in convolutions]
        self.noise_dim = sum(math.prod(size) for size in self.noise_sizes)

    def maps(self, noise: Tensor) -> list[Tensor]:
        """Split noise ``(B, noise_dim)`` into the maps ``(B, 1, H, W)`` of the convolutions."""
        parts = noise.split([math.prod(size) for size in self.noise_sizes], 1)
        return [part.view(-1, 1, *size) for part, size in zip(parts, self.noise_sizes, strict=True)]

    def forward(self, w: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        ws = w.unbind(1) if w.ndim == 3 else [w] * self.num_layers
        maps = [None] * len(self.convolutions) if noise is None else noise
        h = self.constant.expand(len(w), -1, -1, -1)
        with own_precision(h, self.float32_first):
            h = self.convolutions[0](h, ws[0], maps[0])
            image = self.to_image[0](h, ws[1])
        for i, size in enumerate(self.sizes[1:]):
            h = self.convolutions[2 * i + 1](h, ws[2 * i + 1], maps[2 * i + 1])
            h = self.convolutions[2 * i + 2](h, ws[2 * i + 2], maps[2 * i + 2])
            image = doubled(image, size) + self.to_image[i + 1](h, ws[2 * i + 3])
        return (image.float() + 1) / 2


class StyledConv2d(nn.Module):
    """Modulated and demodulated 3x3 convolution, followed by noise and a leaky ReLU: section 2.2 of the paper.

    The features are scaled by the style before the convolution and by the demodulation after it. This is equivalent to
    scaling the weights as in the paper, but needs no separate weights for each image.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        size: ``(H, W)`` of the output.
        style_dim: number of dimensions of w.
        up: whether to double the sides before the convolution.
    """

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, size: tuple[int, ...], style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.size, self.up = size, up
        self.to_style = EqualizedLinear(style_dim, inputs, bias=1.0)
        self.conv = EqualizedConv2d(inputs, outputs, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        # Outside training, the noise is by default a fixed draw, so that a sample is a function of z.
        self.register_buffer("noise", torch.randn(1, 1, *size))

    def forward(self, h: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            style = self.to_style(w)  # (B, inputs)
            squares = (self.conv.weight * self.conv.scale).square().sum((2, 3))  # (outputs, inputs)
            demodulation = (style.square() @ squares.T + 1e-8).rsqrt()  # (B, outputs)
        h = h * style.to(h.dtype)[:, :, None, None]
        h = self.conv(doubled(h, self.size) if self.up else h)
        h = h * demodulation.to(h.dtype)[:, :, None, None]
        if noise is None:
            noise = torch.randn(len(h), 1, *self.size, device=h.device) if self.training else self.noise
        h = h + (self.noise_strength * noise).to(h.dtype)
        return _activated(h + self.bias.to(h.dtype)[:, None, None])


class ToImage(nn.Module):
    """Modulated 1x1 convolution from features to an image."""

    def __init__(self, inputs: int, image_channels: int, style_dim: int) -> None:
        super().__init__()
        self.to_style = EqualizedLinear(style_dim, inputs, bias=1.0)
        self.conv = EqualizedConv2d(inputs, image_channels, 1)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        return self.conv(h * self.to_style(w).to(h.dtype)[:, :, None, None])


class Discriminator(nn.Module):
    """Network from images to logits ``(B / pack,)``, conditioned on the class by projection."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: list[int],
        num_classes: int | None,
        class_dim: int,
        architecture: str,
        minibatch_std: int | None,
        pack: int,
        *,
        class_layers: int,
        class_bias: bool,
        float32_last: bool,
    ) -> None:
        super().__init__()
        self.pack, self.float32_last = pack, float32_last
        image_channels, height, width = shape
        self.from_image = EqualizedConv2d(pack * image_channels, widths[0], 1)
        blocks = []
        for before, after in itertools.pairwise(widths):
            blocks.append(DiscriminatorBlock(before, after, residual=architecture == "resnet"))
            height, width = height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        last = widths[-1]
        self.compare = MinibatchStd(minibatch_std) if minibatch_std is not None else nn.Identity()
        self.conv = EqualizedConv2d(last + (minibatch_std is not None), last, 3)
        self.linear = EqualizedLinear(last * height * width, last)
        self.to_logit = EqualizedLinear(last, 1 if num_classes is None else class_dim)
        self.embedding = _embedding(num_classes, class_dim, class_bias) if num_classes is not None else None
        self.class_layers = nn.ModuleList(
            EqualizedLinear(class_dim, class_dim, lr_multiplier=0.01)
            for _ in range(0 if num_classes is None else class_layers)
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.blocks(_activated(self.from_image(2 * packed(x, self.pack) - 1)))
        with own_precision(h, self.float32_last):
            h = _activated(self.conv(self.compare(h.float() if self.float32_last else h)))
            h = self.to_logit(_activated(self.linear(h.flatten(1))))
            if self.embedding is None:
                return h.squeeze(1)
            of_class = _normalized(self.embedding(given(y)).view(len(h), self.pack, -1).sum(1))
            for layer in self.class_layers:
                of_class = _activated(layer(of_class))
            return (h * of_class).sum(1) / math.sqrt(h.shape[1])


class DiscriminatorBlock(nn.Module):
    """Block that halves the resolution: ``(B, inputs, H, W)`` to ``(B, outputs, H // 2, W // 2)``."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = EqualizedConv2d(inputs, inputs, 3)
        # A padding of 2 compensates for the pixels lost by the filter of width 4 and the convolution of width 3.
        self.smooth = Smooth(stride=1, padding=2)
        self.conv2 = EqualizedConv2d(inputs, outputs, 3, stride=2)
        self.halve = Smooth() if residual else None
        self.shortcut = EqualizedConv2d(inputs, outputs, 1, bias=False) if residual else None

    def forward(self, h: Tensor) -> Tensor:
        out = _activated(self.conv2(self.smooth(_activated(self.conv1(h)))))
        if self.shortcut is None or self.halve is None:
            return out
        return (out + self.shortcut(self.halve(h))) / math.sqrt(2)


def _embedding(num_classes: int, features: int, bias: bool) -> nn.Module:
    return ClassEmbedding(num_classes, features) if bias else nn.Embedding(num_classes, features)


def _activated(h: Tensor) -> Tensor:
    """Apply a leaky ReLU scaled to preserve the second moment."""
    return math.sqrt(2) * F.leaky_relu(h, 0.2)


def _normalized(h: Tensor) -> Tensor:
    """Normalize each row to unit second moment."""
    h = h.float()
    return h * (h.square().mean(1, keepdim=True) + 1e-8).rsqrt()
