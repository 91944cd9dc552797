"""Draw docs/families.png, the picture at the top of README: what a small model of each family makes.

    python benchmarks/families.py dcgan=RUN vae=RUN real_nvp=RUN image_gpt=RUN

docs/families.md says how these runs are trained; a run whose weights are kept in results/ need not be given. Nothing is
chosen by hand: samples are the first ones of seed 0, and test images the first ones.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import genlab
from genlab.errors import InputError
from genlab.pictures.files import save_png
from genlab.runs.loading import Run, load

ROOT = Path(__file__).parents[1]
SIDE, GAP, COLUMNS, ROWS = 64, 4, 7, 5  # pixels of an image, and between two; images in a panel
WIDTH, HEIGHT = COLUMNS * (SIDE + GAP) - GAP, ROWS * (SIDE + GAP) - GAP  # of the images of a panel
HEAD, MARGIN, BETWEEN, RADIUS = 108, 40, 40, 32  # pixels above the images, around panels, between them; of the corners
BACKGROUND, WORDS, FAINT, UNKNOWN = (15, 20, 30), (240, 244, 250), (150, 163, 184), (38, 47, 66)
WHITE, BLUE, GREEN, AMBER, VIOLET = (255, 255, 255), (110, 190, 255), (120, 230, 190), (255, 176, 66), (190, 160, 255)


@dataclass(frozen=True)
class Panel:
    """A family in the picture.

    Attributes:
        family: name of the family.
        what: the model, and what is shown of it, in a few words.
        run: folder of the run whose record is kept, relative to the checkout.
        images: function from the run to 35 images in [0, 1], ``(35, 3, H, W)``, row by row.
    """

    family: str
    what: str
    run: str
    images: Callable[[Run], Tensor]

    @property
    def name(self) -> str:
        return Path(self.run).parent.name

    def drawn(self, run: Run) -> Image.Image:
        """Draw the panel of a run."""
        panel = Image.new("RGB", (WIDTH, HEAD + HEIGHT), BACKGROUND)
        draw = ImageDraw.Draw(panel)
        draw.text((0, 0), self.family, fill=WORDS, font=ImageFont.load_default(43), stroke_width=1, stroke_fill=WORDS)
        draw.text((0, 56), self.what, fill=FAINT, font=ImageFont.load_default(29))
        images = self.images(run)
        if images.shape[:2] != (ROWS * COLUMNS, 3):
            raise InputError(f"{self.name}: {ROWS * COLUMNS} images are drawn, and not {tuple(images.shape)}")
        for i, image in enumerate(images):
            panel.paste(enlarged(image), (i % COLUMNS * (SIDE + GAP), HEAD + i // COLUMNS * (SIDE + GAP)))
        return panel


def enlarged(image: Tensor) -> Image.Image:
    """Make a picture of an image in [0, 1], ``(3, H, W)``."""
    whole = Image.fromarray((image.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy())
    exact = SIDE % whole.width == 0  # repeated pixels make a smaller file
    return whole.resize((SIDE, SIDE), Image.Resampling.NEAREST if exact else Image.Resampling.BICUBIC)


def tinted(images: Tensor, colour: tuple[int, int, int] = WHITE) -> Tensor:
    """Give grey images ``(N, 1, H, W)`` a colour; images in colour stay as they are."""
    return images * torch.tensor(colour).view(3, 1, 1) / 255 if images.shape[1] == 1 else images


def samples(run: Run) -> Tensor:
    """Draw the first samples of seed 0."""
    return tinted(genlab.sample(run, n=ROWS * COLUMNS).samples, VIOLET)


def from_noise(run: Run) -> Tensor:
    """Draw the first samples of seed 0 on their way from noise, one in each row."""
    return tinted(genlab.sample(run, "mode=steps", n=ROWS, steps=COLUMNS).samples, BLUE)


def between_test_images(run: Run) -> Tensor:
    """Go from the first test image to the second through the latents, from the third to the fourth, and so on."""
    images = list(range(2 * ROWS))
    return tinted(genlab.sample(run, "mode=interpolate", n=ROWS, steps=COLUMNS, images=images).samples)


def plane_of_latents(run: Run) -> Tensor:
    """Decode a square lattice of the plane of two latents, without its uppermost and its lowest row."""
    images = genlab.sample(run, "mode=manifold", steps=COLUMNS).samples.unflatten(0, (COLUMNS, COLUMNS))
    return tinted(images[1 : ROWS + 1].flatten(0, 1), GREEN)


def lower_halves(run: Run) -> Tensor:
    """Draw the lower halves of the first test image of each class, six times each; what is drawn has a colour."""
    images = genlab.sample(run, "mode=complete", n=ROWS, draws=COLUMNS - 1).samples
    images = tinted(images.unflatten(0, (ROWS, COLUMNS + 1))[:, 1:].flatten(0, 1))  # without the whole test image
    halves, known = images[..., images.shape[-2] // 2 :, :], torch.arange(len(images)) % COLUMNS == 0
    halves[known] = torch.tensor(UNKNOWN).view(3, 1, 1) / 255
    halves[~known] = tinted(halves[~known][:, :1], AMBER)
    return images


PANELS = [
    Panel("Normalizing flows", "RealNVP between test images", "results/families/real_nvp/0", between_test_images),
    Panel("Diffusion", "flow matching from noise to digits", "results/mnist/flow_matching/0", from_noise),
    Panel("Autoregressive models", "PixelCNN draws lower halves", "results/families/pixel_cnn/0", lower_halves),
    Panel("VAEs", "a plane of two latents", "results/families/vae/0", plane_of_latents),
    Panel("GANs", "DCGAN draws photographs", "results/families/dcgan/0", samples),
    Panel("Transformers", "ImageGPT draws digits", "results/families/image_gpt/0", samples),
]


def overview(runs: dict[str, Run]) -> Image.Image:
    """Draw the panels on a dark card with round corners, for light and dark pages alike.

    Args:
        runs: opened runs, by the names of the panels.
    """
    across, width, height = 3, WIDTH + BETWEEN, HEAD + HEIGHT + BETWEEN
    size = (2 * MARGIN - BETWEEN + across * width, 2 * MARGIN - BETWEEN + len(PANELS) // across * height)
    card = Image.new("RGB", size, BACKGROUND)
    for i, panel in enumerate(PANELS):
        card.paste(panel.drawn(runs[panel.name]), (MARGIN + i % across * width, MARGIN + i // across * height))
    corners = Image.new("L", (4 * size[0], 4 * size[1]))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 4 * size[0] - 1, 4 * size[1] - 1), 4 * RADIUS, fill=255)
    card.putalpha(corners.resize(size, Image.Resampling.LANCZOS))
    return card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="NAME=RUN", help="a run whose weights are not kept in results/")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/families.png")
    arguments = parser.parse_args()
    folders = {panel.name: str(ROOT / panel.run) for panel in PANELS}
    given = dict(argument.partition("=")[::2] for argument in arguments.runs)
    if unknown := given.keys() - folders.keys():
        parser.error(f"{min(unknown)}: the runs are {', '.join(folders)}")
    save_png(overview({name: load(Path(folder)) for name, folder in {**folders, **given}.items()}), arguments.output)
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
