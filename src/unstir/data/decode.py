"""One picture: from the bytes of a file to opaque 8-bit pixels, and from there to the size wanted.

Every kind of picture is either handled as stated here or refused by name:

- grey, RGB: as they are; 1-bit: black and white; palette: its colours;
- transparency (RGBA, grey with alpha, transparent palette entries or colours): laid over the background, before any
  resizing. Both steps are linear, so this equals resizing premultiplied colours: no fringe of hidden colour can appear;
- 16-bit grey: level v becomes 255 v / 65535, rounded; of 16-bit colour Pillow keeps the high byte;
- CMYK, YCbCr: converted to RGB;
- an embedded colour profile that is not sRGB: converted to sRGB, relative colorimetric; one that cannot be applied is
  ignored. Pixels without a profile are taken as sRGB;
- EXIF orientation: applied;
- animated, or several pictures in one file: the first;
- floating point, 32-bit integers beyond 16 bits, Lab and anything else: refused.

A picture of more than 89 million pixels is refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms, ImageOps

TRANSPARENT = "transparency laid over the background"
MAX_PIXELS = 89_478_485  # Pillow's own limit: 256 MiB of RGB
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_TWELVE_BITS = 4095
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SWAPPED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

Note = Callable[[str], None]


class Refused(Exception):
    """This picture cannot be used; the message says why, in words that follow "name: "."""


def declared_size(data: bytes) -> tuple[int, int]:
    """Width and height after EXIF orientation, from the header alone.

    Raises:
        Refused: when the bytes are no picture, or of a kind that is refused.
    """
    image = _open(data)
    # Asking a PNG for its EXIF would decode it (that it is turned is found out then); a TIFF's size is already turned.
    turned = image.format not in ("PNG", "TIFF") and _orientation(image) in _SWAPPED
    return (image.height, image.width) if turned else image.size


def decode(data: bytes, background: tuple[int, int, int], note: Note) -> tuple[Image.Image, str]:
    """The picture, upright, opaque, 8 bits, of mode L or RGB, at its own size; and its mode in the file.

    Args:
        data: the file's bytes.
        background: levels behind transparent pixels.
        note: is told of everything that was done to the pixels, in words that follow "name: ".

    Raises:
        Refused: when the picture is broken or of a kind that is refused.
    """
    image = _open(data)
    mode = image.mode
    if getattr(image, "is_animated", False):
        note("several frames, the first used")
    if mode == "RGB" and data.startswith(_PNG_SIGNATURE) and data[24] == 16:
        note("16-bit colour, the high byte kept")
    turned_by_loading = image.format == "TIFF" and _orientation(image) != 1  # Pillow does that by itself
    try:
        image.load()
    except Exception as error:
        # Pillow's decoders raise whatever a damaged file provokes in them: struct.error, IndexError, zlib.error, …
        raise Refused(_reason(error)) from error
    turned = _orientation(image) != 1
    if turned:
        image = ImageOps.exif_transpose(image)
    if turned or turned_by_loading:
        note("turned upright by its EXIF orientation")
    return _opaque(_eight_bit(image, note), background, note), mode


def fit(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """The largest centred part of the wanted shape, resized to ``size`` (width, height); untouched when it has it."""
    if image.size == size:
        return image
    width, height = image.size
    ratio = min(width / size[0], height / size[1])
    part_width, part_height = max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    box = (left, top, left + part_width, top + part_height)
    return image.resize(size, resample, box=box, reducing_gap=3.0)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise Refused("empty file")
    try:
        image = Image.open(io.BytesIO(data))
    except Image.UnidentifiedImageError as error:
        raise Refused("not a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # as above
        raise Refused(_reason(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise Refused(f"{image.width}×{image.height}, more than {MAX_PIXELS:,} pixels")
    if image.mode == "F":
        raise Refused("floating-point pixels have no stated range, convert it to 8 or 16 bits")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; 1 when there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF beside sound pixels
        return 1
    return orientation if orientation in range(1, 9) else 1


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return "truncated" if "truncated" in words.lower() else f"broken ({words or type(error).__name__})"


def _eight_bit(image: Image.Image, note: Note) -> Image.Image:
    """Mode L, LA, RGB or RGBA."""
    mode = image.mode
    if mode in _SIXTEEN_BIT or mode == "I":
        return _from_sixteen_bit(image, note)
    if mode == "1":
        note("1 bit, black and white")
        return image.convert("L")
    if mode in ("L", "LA", "La"):
        return image.convert("LA") if image.has_transparency_data else image
    if mode in ("P", "PA"):
        note("palette, its colours used")
    elif mode in ("CMYK", "YCbCr", "RGBX"):
        note(f"{mode}, converted to RGB")
    elif mode not in ("RGB", "RGBA", "RGBa"):
        raise Refused(f"pixels of mode {mode} are not supported, convert it to RGB")
    return _to_srgb(image, note)


def _from_sixteen_bit(image: Image.Image, note: Note) -> Image.Image:
    levels = np.asarray(image)
    if image.mode == "I" and (levels.min() < 0 or levels.max() > 65535):
        raise Refused("32-bit integer pixels beyond 0…65535 have no stated range, convert it to 8 or 16 bits")
    if levels.max() <= _TWELVE_BITS:
        note(
            "16-bit grey that uses 12 bits at most, scaled from 16: it looks nearly black; stretch the files to mend that"
        )
    else:
        note("16-bit grey, scaled to 8 bits")
    return Image.fromarray(sixteen_to_eight_bits(levels))


def sixteen_to_eight_bits(levels: np.ndarray) -> np.ndarray:
    """``255 v / 65535`` rounded: v / 257, which is never half-way between two levels."""
    return ((levels.astype(np.int64) + 128) // 257).astype(np.uint8)


def _to_srgb(image: Image.Image, note: Note) -> Image.Image:
    """RGB or RGBA whose colours are sRGB."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    colours = image if image.mode == "CMYK" else image.convert("RGB")
    colours = (profile and _apply_profile(colours, profile, note)) or colours.convert("RGB")
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


def _apply_profile(image: Image.Image, profile: bytes, note: Note) -> Image.Image | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        converted = ImageCms.profileToProfile(image, source, target, renderingIntent=intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        note("its colour profile cannot be applied and is ignored")
        return None
    note("colour profile, converted to sRGB")
    return converted


def _opaque(image: Image.Image, background: tuple[int, int, int], note: Note) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    alpha = image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return image.convert(image.mode[:-1])
    note(TRANSPARENT)
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(image.convert("RGB"), mask=alpha)
    return canvas
