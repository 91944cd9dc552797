"""Images reduced to few colours: each pixel becomes the nearest colour of a palette, found by k-means.

The palette is fitted to pixels of the training images: Generative Pretraining from Pixels (Chen et al., ICML 2020),
section 3.1.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.images import ImageDataModule, ToModel
from genlab.data.module import SPLITS, DataModule
from genlab.distributions.noise import mix
from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.modalities.binary import Binary
from genlab.modalities.codes import Codes

FORMAT = 1  # version of cached palettes; increase it if the same images must give another palette
NUM_IMAGES, NUM_PIXELS = 10_000, 100_000  # upper limits on the data that a palette is fitted to


class PaletteDataModule(DataModule):
    """Data set of images as palette codes: ``(B, 1, H, W)`` with values k / (levels - 1) for colour number k.

    Colours are numbered from the darkest to the brightest. Splits, classes and flips are those of the images, and
    samples are compared with the original images. Every run on the same training images uses the same palette.

    Args:
        of: data set of the images, grey or colour.
        num_colours: number of colours in the palette.
        shape: shape ``(1, H, W)`` of an example.
        levels: number of values of a code; must equal ``num_colours``.
        kind: name of the modality, for the config.
        num_classes: number of classes; ``None`` for data without classes.
        train_size: number of training examples to use; ``None`` for all.
        batch_size: number of training examples in a batch, over all devices.
        seed: random seed of the order and of the flips.
        cache_dir: folder in which palettes are cached; ``None`` for no cache.

    Raises:
        InputError: if the data is not images of at most 3 channels, or they are shifted, or ``shape``, ``levels`` and
            ``num_colours`` do not agree.
    """

    levels: int

    def __init__(
        self,
        of: DataModule,
        num_colours: int,
        shape: tuple[int, int, int],
        levels: int,
        kind: Literal["codes"] = "codes",
        num_classes: int | None = None,
        train_size: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if not isinstance(of, ImageDataModule) or isinstance(of.modality, Binary) or of.shape[0] > 3:
            raise InputError(f"dataset.of={of.name}: a palette needs images with 1 to 3 channels")
        if of.shift is not None:
            raise InputError(f"dataset.of.shift={of.shift}: between pixels there are colours that a palette lacks")
        if not 2 <= num_colours <= 2**15:
            raise InputError(f"dataset.num_colours={num_colours}: expected 2 to {2**15}")
        if levels != num_colours or tuple(shape) != (1, *of.shape[1:]):
            raise InputError(
                f"dataset palette: shape={list(shape)}, levels={levels}; for {of.name} in {num_colours} colours they "
                f"must be {[1, *of.shape[1:]]} and {num_colours}"
            )
        self.of = of
        self._coded = CodedImages(of, num_colours, cache_dir)
        super().__init__(
            self._coded,
            f"{of.name} in {num_colours} colours",
            shape,
            levels=levels,
            num_classes=num_classes,
            train_size=train_size,
            batch_size=batch_size,
            split_seed=of.split_seed,
            seed=seed,
        )

    @property
    def modality(self) -> Codes:
        return Codes()

    @property
    def pictured(self) -> DataModule:
        return self.of

    def decode(self, x: Tensor) -> Tensor:
        return coloured((x * (self.levels - 1)).round().long(), self._coded.palette)

    @property
    def protocol(self) -> dict[str, object]:
        """Facts about the data, with ``palette_mse``.

        ``palette_mse`` is the mean squared error that the palette causes in the test images, per value in [0, 1].
        """
        error = self._coded.test_mse
        return super().protocol if error is None else {**super().protocol, "palette_mse": error}

    def sha256(self, split: Split) -> str | None:
        """Give the hash of the images: they decide the palette, and with it the codes, except for rounding."""
        return self.of.sha256(split)

    def hold_out_as(self, identity: Mapping[str, Any]) -> None:
        super().hold_out_as(identity)
        self.of.hold_out_as(identity)

    def check(self, split: Split, examples: Examples) -> None:
        """Check nothing: the images are checked when they are loaded, and the codes are computed from them."""

    def transform(self, split: Split, augment: bool = True) -> Transform:
        train = split == "train"
        seed = mix(self.seed, SPLITS.index(split))
        return ToModel(self.levels, flip=self.of.flip and train and augment, binarize=False, seed=seed)


class CodedImages:
    """Source of a :class:`PaletteDataModule`: the splits of a data set of images, as palette codes.

    Args:
        of: data set of the images.
        num_colours: number of colours in the palette.
        cache_dir: folder in which palettes are cached; ``None`` for no cache.

    Attributes:
        test_mse: mean squared error of the coded test images; ``None`` until they are loaded.
    """

    def __init__(self, of: ImageDataModule, num_colours: int, cache_dir: str | None) -> None:
        self.of, self.num_colours, self.cache_dir = of, num_colours, cache_dir
        self.test_mse: float | None = None
        self._palette: Tensor | None = None

    @property
    def palette(self) -> Tensor:
        """Colours in [0, 1], float32 ``(K, C)``; read from the cache, or computed and cached.

        The name of the cached file contains a hash of the training images, and the file is written atomically. A
        damaged file is replaced. If the cache cannot be written, the palette is computed again each time.
        """
        if self._palette is None:
            self.of.setup()
            path = self._path()
            kept = None if path is None else _read(path, (self.num_colours, self.of.shape[0]))
            self._palette = palette_of(some_pixels(self.of), self.num_colours) if kept is None else kept
            if kept is None:
                _keep(self._palette, path)
        return self._palette

    def load(self) -> dict[Split, Examples]:
        nearest = Nearest(self.palette, self.of.source_levels)
        splits: dict[Split, Examples] = {}
        for split in SPLITS:
            codes, squares = [], 0.0
            for x, _ in self.of.batches(split, augment=False):
                codes.append(nearest(x))
                if split == "test":
                    squares += float((coloured(codes[-1].long(), self.palette) - x).square().sum(dtype=torch.float64))
            splits[split] = Examples(torch.cat(codes), self.of.splits[split].labels)
        self.test_mse = squares / (len(splits["test"]) * self.of.shape[0] * codes[-1][0].numel())
        return splits

    def _path(self) -> Path | None:
        if self.cache_dir is None:
            return None
        of = self.of
        made_of = {"format": FORMAT, "images": of.splits["train"].fingerprint(), "levels": of.source_levels}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:24]
        return Path(self.cache_dir).expanduser() / f"{of.name}-palette-{self.num_colours}-{key}.npy"


class Nearest:
    """Function that finds the nearest palette colour of each pixel; the search runs once for each distinct pixel.

    Args:
        palette: colours in [0, 1], ``(K, C)``.
        levels: number of grey levels of the images.
    """

    def __init__(self, palette: Tensor, levels: int) -> None:
        self.palette, self.levels = palette, levels
        self.place = levels ** torch.arange(palette.shape[1])
        self.found = torch.full((levels ** palette.shape[1],), -1, dtype=torch.int16)

    def __call__(self, x: Tensor) -> Tensor:
        """Convert images in [0, 1], ``(B, C, H, W)``, to codes, int16 ``(B, 1, H, W)``."""
        values = (x * (self.levels - 1)).round().long()
        pixels = (values * self.place.view(-1, 1, 1)).sum(1, keepdim=True)  # one integer for each possible pixel
        new = pixels[self.found[pixels] < 0].unique()
        for part in new.split(2**15):
            colours = (part.unsqueeze(1) // self.place % self.levels).float() / (self.levels - 1)
            self.found[part] = torch.cdist(colours, self.palette).argmin(1).to(torch.int16)
        return self.found[pixels]


def coloured(codes: Tensor, palette: Tensor) -> Tensor:
    """Convert codes, int64 ``(B, 1, H, W)``, to their colours ``(B, C, H, W)`` in a palette ``(K, C)``."""
    return palette.to(codes.device)[codes.squeeze(1)].permute(0, 3, 1, 2).contiguous()


def some_pixels(images: ImageDataModule) -> Tensor:
    """Choose at most ``NUM_PIXELS`` pixels of the training images, always the same: in [0, 1], float32 ``(N, C)``."""
    generator = torch.Generator().manual_seed(0)
    train = images.splits["train"]
    index = torch.randperm(len(train), generator=generator)[:NUM_IMAGES]
    stored = train.take(index).movedim(1, -1).flatten(0, -2)
    chosen = torch.randperm(len(stored), generator=generator)[:NUM_PIXELS]
    return stored[chosen].cpu().float() / (images.source_levels - 1)


def palette_of(pixels: Tensor, num_colours: int) -> Tensor:
    """Find the k-means centres of pixels ``(N, C)``, sorted by rising brightness, float32 ``(num_colours, C)``.

    Raises:
        InputError: if the pixels have fewer distinct colours than ``num_colours``.
    """
    from sklearn.cluster import MiniBatchKMeans

    if (distinct := len(pixels.unique(dim=0))) < num_colours:
        raise InputError(f"dataset.num_colours={num_colours}: {len(pixels):,} pixels have {distinct} colours")
    kmeans = MiniBatchKMeans(num_colours, batch_size=4096, n_init=3, random_state=0).fit(pixels.numpy())
    centres = torch.from_numpy(kmeans.cluster_centers_).float()
    return centres[centres.mean(1).argsort(stable=True)].clamp(0, 1)


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    if not path.is_file():
        return None
    try:
        kept = np.load(path, allow_pickle=False)
        if kept.shape != shape or kept.dtype != np.float32:
            raise ValueError(f"{kept.dtype} {kept.shape} in place of float32 {shape}")
        return torch.from_numpy(kept)
    except (ValueError, OSError, EOFError) as error:
        warnings.warn(f"{path} is damaged ({error}): the palette is made again", stacklevel=2)
        return None


def _keep(palette: Tensor, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.save(content, palette.numpy())
        write_atomically(path, content.getvalue())
    except OSError as error:
        warnings.warn(f"the palette could not be kept in {path.parent} ({error})", stacklevel=2)
