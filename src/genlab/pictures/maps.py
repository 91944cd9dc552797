"""Pictures of a model's per-pixel results: heat maps next to images, and receptive fields."""

import math

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels


def beside_heat(images: Tensor, values: Tensor, unit: str, columns: int = 4) -> Image.Image:
    """Draw each image next to a heat map of its values, with a colour scale from 0 to the highest value below.

    Args:
        images: images in [0, 1], ``(N, C, H, W)``.
        values: values of the pixels, ``(N, H, W)``.
        unit: unit of the values, for the scale.
        columns: number of images in a row.
    """
    import matplotlib

    colours = matplotlib.colormaps["inferno"]
    highest = float(values.max())
    heat = torch.from_numpy(colours(values.clamp_min(0).numpy() / max(highest, 1e-12))[..., :3]).float()
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    pairs = torch.stack([images, heat.movedim(-1, 1)], 1).flatten(0, 1)
    sheet = grid(pairs, columns=2 * min(columns, len(images)), min_side=80, labels=Labels(["image", unit]))
    picture = Image.new("RGB", (sheet.width, sheet.height + 40), "white")
    picture.paste(sheet)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    left, right, top = 8, sheet.width - 8, sheet.height + 8
    for column in range(left, right):
        red, green, blue, _ = (round(255 * part) for part in colours((column - left) / (right - left)))
        draw.line((column, top, column, top + 10), fill=(red, green, blue))
    draw.text((left, top + 14), "0", fill="black", font=font)
    draw.text((right, top + 14), f"{highest:.3g} {unit}", fill="black", font=font, anchor="ra")
    return picture


def field(seen: Tensor, before: Tensor, pixel: tuple[int, int]) -> Image.Image:
    """Draw which of the earlier pixels the prediction of one pixel depends on.

    A pixel of which only some channels are seen has a colour between those of seen and unseen pixels.

    Args:
        seen: values that the prediction depends on, bool ``(C, H, W)``.
        before: values that come before the pixel in the generation order, bool ``(C, H, W)``.
        pixel: row and column of the pixel.
    """
    blue, unseen, after, itself = (
        torch.tensor(colour) / 255 for colour in ((0, 98, 184), (232, 182, 172), (246, 246, 246), (255, 153, 0))
    )
    share = (seen & before).sum(0) / before.sum(0).clamp_min(1)  # (H, W)
    colours = unseen + share.unsqueeze(-1) * (blue - unseen)
    colours[~before.any(0)] = after
    colours[pixel] = itself
    side = max(4, math.ceil(320 / max(share.shape)))
    sheet = grid(colours.movedim(-1, 0)[None].repeat_interleave(side, 2).repeat_interleave(side, 3))
    picture = Image.new("RGB", (max(sheet.width, 330), sheet.height + 26), "white")
    picture.paste(sheet)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    x, y = 4, sheet.height + 7
    for colour, label in ((itself, "the pixel"), (blue, "seen"), (unseen, "before it, not seen"), (after, "after it")):
        fill = tuple((255 * colour).round().int().tolist())
        draw.rectangle((x, y, x + 12, y + 12), fill=fill, outline="#777777")
        draw.text((x + 17, y - 1), label, fill="black", font=font)
        x += 30 + int(font.getlength(label))
    return picture
