"""Labels beside the rows and above the columns of a sheet of images, and captions of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIZE, SMALLEST = 13, 9  # sizes of the letters
GAP = 5  # pixels between a label and what it names


@dataclass(frozen=True)
class Labels:
    """What the rows and the columns of a sheet show.

    Attributes:
        columns: labels of the columns, from the left; empty for none. If they are fewer than the columns, they repeat.
        rows: labels of the rows, from the top; empty for none.
        title: what the labels of the columns are values of; empty if they say it themselves.
    """

    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    title: str = ""

    def __bool__(self) -> bool:
        return bool(self.columns or self.rows or self.title)


def labelled(sheet: Image.Image, cell: tuple[int, int], labels: Labels, padding: int = 2) -> Image.Image:
    """Put labels around a sheet; its own pixels stay as they are.

    Labels of columns that are too wide for them are written smaller, and if that does not help, only every second,
    third and so on is written.

    Args:
        sheet: images side by side.
        cell: width and height of an image in pixels.
        labels: labels of the rows and columns.
        padding: pixels between two images.
    """
    columns, rows = ((length - padding) // (side + padding) for length, side in zip(sheet.size, cell, strict=True))
    above = [labels.columns[i % len(labels.columns)] for i in range(columns)] if labels.columns else []
    font = _fitting(above, cell[0])
    of_rows = _fitting([], cell[0]) if cell[1] >= SIZE else ImageFont.load_default(SMALLEST)
    left = max((round(of_rows.getlength(text)) + 2 * GAP for text in labels.rows[:rows]), default=0)
    title_font = ImageFont.load_default(SIZE)
    title_height = _height(title_font) + GAP if labels.title else 0
    top = title_height + (_height(font) + GAP if above else 0)
    width = max(left + sheet.width, left + round(title_font.getlength(labels.title)) + 2 * GAP if labels.title else 0)
    picture = Image.new("RGB", (width, top + sheet.height), "white")
    picture.paste(sheet, (left, top))
    draw = ImageDraw.Draw(picture)
    if labels.title:
        draw.text((left + padding, GAP // 2), labels.title, fill="black", font=title_font)
    widest = max((font.getlength(text) for text in above), default=0.0)
    every = max(1, -(-round(widest + GAP) // (cell[0] + padding))) if widest > cell[0] + padding else 1
    for i, text in enumerate(above):
        if i % every == 0:
            x = left + padding + i * (cell[0] + padding) + cell[0] / 2
            draw.text((x, top - GAP / 2), text, fill="black", font=font, anchor="md")
    for i, text in enumerate(labels.rows[:rows]):
        y = top + padding + i * (cell[1] + padding) + cell[1] / 2
        draw.text((left - GAP, y), text, fill="black", font=of_rows, anchor="rm")
    return picture


def captioned(picture: Image.Image, text: str, among: Sequence[str] = ()) -> Image.Image:
    """Put a line of text above a picture, which becomes wider if the text needs it.

    Args:
        picture: picture of any mode.
        text: caption.
        among: captions of pictures that are to become as wide as this one, such as those of a film.
    """
    font = ImageFont.load_default(SIZE)
    top = _height(font) + GAP
    width = max(picture.width, *(round(font.getlength(one)) + 2 * GAP for one in (text, *among)))
    whole = Image.new("RGB", (width, picture.height + top), "white")
    whole.paste(picture, (0, top))
    ImageDraw.Draw(whole).text((GAP, GAP // 2), text, fill="black", font=font)
    return whole


def _fitting(texts: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give the largest font in which all texts fit in a width; the smallest one if they fit in none."""
    for size in range(SIZE, SMALLEST, -1):
        font = ImageFont.load_default(size)
        if all(font.getlength(text) <= width for text in texts):
            return font
    return ImageFont.load_default(SMALLEST)


def _height(font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(font.getbbox("Ag")[3])
