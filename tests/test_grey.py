import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from app import grey
from app.grey import on_paper, read_grey
from stages.edges.bad_input import BadInput
from tests.likeness import likeness, mnist_image


def one(mode: str, paper: object, ink: object, size: tuple[int, int] = (90, 120)) -> Image.Image:
    """A picture of a one with a foot, which stands out from it upside down too."""
    image = Image.new(mode, size, paper)  # type: ignore[arg-type]
    draw = ImageDraw.Draw(image)
    draw.rectangle((42, 20, 49, 100), fill=ink)  # type: ignore[arg-type]
    draw.rectangle((25, 93, 66, 100), fill=ink)  # type: ignore[arg-type]
    return image


def written(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


EXPECTED = mnist_image(np.asarray(one("L", 255, 0)))


def upright(tag: int, turn: Image.Transpose) -> io.BytesIO:
    exif = Image.Exif()
    exif[0x0112] = tag
    return written(one("RGB", "white", "black").transpose(turn), "JPEG", exif=exif)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("colour", written(one("RGB", "ivory", "navy"), "PNG")),
        ("light on dark", written(one("RGB", "darkgreen", "white"), "JPEG")),
        ("1 bit", written(one("1", 1, 0), "PNG")),
        ("16 bits", written(one("I;16", 60_000, 2_000), "PNG")),
        ("16 bits, dark", written(one("I;16", 2_000, 1_000), "TIFF")),
        ("float", written(one("F", 1.0, 0.25), "TIFF")),
        ("palette", written(one("RGB", "white", "red").quantize(4), "GIF")),
        ("cmyk", written(one("RGB", "white", "black").convert("CMYK"), "JPEG")),
        ("webp", written(one("RGB", "white", "black"), "WEBP")),
        ("black on nothing", written(one("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "PNG")),
        ("white on nothing", written(one("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)), "PNG")),
        ("grey and alpha", written(one("LA", (0, 0), (0, 255)), "PNG")),
        ("transparent palette", written(one("P", 0, 1), "PNG", transparency=0)),
        ("turned right", upright(8, Image.Transpose.ROTATE_270)),
        ("turned left", upright(6, Image.Transpose.ROTATE_90)),
        ("upside down", upright(3, Image.Transpose.ROTATE_180)),
        ("mirrored", upright(2, Image.Transpose.FLIP_LEFT_RIGHT)),
    ],
)
def test_every_kind_of_file(name: str, file: io.BytesIO) -> None:
    assert likeness(mnist_image(read_grey(file)), EXPECTED) > 0.9, name


def test_a_huge_picture_is_reduced() -> None:
    large = one("L", 255, 0).resize((4_500, 6_000), Image.Resampling.NEAREST)
    for kind in ("PNG", "JPEG"):
        pixels = read_grey(written(large, kind))
        assert max(pixels.shape) <= grey.WORKING_SIDE
        assert likeness(mnist_image(pixels), EXPECTED) > 0.95


def test_holes_are_filled_with_the_paper_around_them() -> None:
    luminance = np.asarray(one("L", 240, 20))
    alpha = np.full_like(luminance, 255)
    alpha[:10, :10] = 0
    assert (on_paper(luminance, alpha)[:10, :10] == 240).all()


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4)


PHOTO = written(one("RGB", "white", "black").resize((900, 1_200)), "JPEG").getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"digits", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
        (PHOTO[: len(PHOTO) // 2], "damaged"),
        (png_that_claims(60_000, 60_000), "more than 100 megapixels"),
        (png_that_claims(10_001, 10_000), "more than 100 megapixels"),
    ],
)
def test_what_is_no_picture_gets_one_line(content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refusal:
        read_grey(io.BytesIO(content))
    assert "\n" not in str(refusal.value)


def flip_bytes(content: bytes, chance: np.random.Generator) -> bytes:
    damaged = np.frombuffer(content, dtype=np.uint8).copy()
    damaged[chance.integers(len(damaged), size=8)] = chance.integers(256, size=8)
    return damaged.tobytes()


def cut(content: bytes, chance: np.random.Generator) -> bytes:
    return content[: chance.integers(len(content))]


@pytest.mark.parametrize("damage", [flip_bytes, cut])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "ICO", "PPM"])
def test_damage_never_gets_a_traceback(
    kind: str, damage: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    content = written(one("RGB", "white", "black"), kind).getvalue()
    chance = np.random.default_rng(seed=1)
    for _ in range(40):
        try:
            pixels = read_grey(io.BytesIO(damage(content, chance)))
        except BadInput:
            continue
        assert pixels.dtype == np.uint8


def test_a_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_grey(tmp_path / "gone.png")
