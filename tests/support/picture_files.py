"""Image files of the kinds that Pillow reads but does not write: of 16 bits, with one transparent colour, and so on."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL

# Pillow reads uncompressed TIFFs in YCbCr since version 13. Before, it looks for four bytes a pixel in place of three.
READS_YCBCR = int(PIL.__version__.split(".")[0]) >= 13

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6  # kinds of PNG


def write_png(path: Path, rows: list[bytes], width: int, bits: int, kind: int, *chunks: tuple[bytes, bytes]) -> None:
    """Write a PNG of rows of packed samples, with chunks before them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def write_bomb(path: Path, side: int = 20_000) -> None:
    """Write a PNG of a few bytes whose header promises ``side`` times ``side`` pixels."""
    write_png(path, [b""], side, 8, GREY)
    content = bytearray(path.read_bytes())
    content[20:24] = struct.pack(">I", side)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(bytes(content))


def write_tiff(
    path: Path,
    width: int,
    height: int,
    data: bytes,
    bits: int,
    *,
    order: str = "<",
    white_is_zero: bool = False,
    sample_format: int = 1,
) -> None:
    """Write a grey TIFF of one strip; sample formats: 1 unsigned, 2 signed, 3 floating point."""
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, sample_format),
    ]  # fmt: skip
    data += b"\0" * (len(data) % 2)
    content = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data)) + data
    content += struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        content += struct.pack(order + "HHI", tag, kind, 1)
        content += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    path.write_bytes(content + struct.pack(order + "I", 0))


def write_12_bits(path: Path, values: np.ndarray) -> None:
    """Write a TIFF of 12 bits, two pixels in three bytes; the width is even."""
    bits = "".join(f"{value:012b}" for value in values.ravel())
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    write_tiff(path, values.shape[1], values.shape[0], data, 12)
