"""Every kind of picture file is handled in the stated way or refused by name: each on a file made here."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from unstir.data import inspect, load
from unstir.data.decode import MAX_PIXELS, Refused, declared_size, decode, fit, sixteen_to_eight_bits
from unstir.errors import UserError

SIDE = 8
WHITE = (255, 255, 255)
GREEN = (0, 128, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, background: tuple[int, int, int] = WHITE) -> tuple[np.ndarray, list[str]]:
    """RGB levels (H, W, 3) and notes."""
    notes: list[str] = []
    image, _ = decode(data, background, notes.append)
    assert image.mode in ("L", "RGB")
    return np.asarray(image.convert("RGB")), notes


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def laid_over(colours: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.floor(share * colours + (1 - share) * np.array(background) + 0.5).astype(np.uint8)


def test_grey_and_rgb_are_kept_as_they_are() -> None:
    grey, colour = noise(SIDE, SIDE), noise(SIDE, SIDE, 3)
    levels, notes = decoded(encoded(Image.fromarray(grey)))
    assert notes == []
    np.testing.assert_array_equal(levels, np.repeat(grey[..., None], 3, -1))
    levels, notes = decoded(encoded(Image.fromarray(colour)))
    assert notes == []
    np.testing.assert_array_equal(levels, colour)


@pytest.mark.parametrize("background", [WHITE, (0, 0, 0), GREEN])
def test_rgba_is_laid_over_the_background(background: tuple[int, int, int]) -> None:
    pixels = noise(SIDE, SIDE, 4)
    levels, notes = decoded(encoded(Image.fromarray(pixels)), background)
    np.testing.assert_array_equal(levels, laid_over(pixels[..., :3], pixels[..., 3], background))
    assert notes == ["transparency laid over the background"]


def test_grey_with_alpha_is_laid_over_the_background() -> None:
    pixels = noise(SIDE, SIDE, 2)
    levels, notes = decoded(encoded(Image.fromarray(pixels, "LA")), GREEN)
    np.testing.assert_array_equal(levels, laid_over(pixels[..., :1], pixels[..., 1], GREEN))
    assert notes == ["transparency laid over the background"]


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 8, 9))])
def test_one_transparent_colour_is_laid_over_the_background(mode: str, colour: int | tuple[int, int, int]) -> None:
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), 200 if mode == "L" else (200, 200, 200))
    levels, _ = decoded(encoded(image, transparency=colour), GREEN)
    assert levels.tolist() == [[list(GREEN), [200, 200, 200]]]


def test_an_opaque_alpha_channel_changes_nothing_and_says_nothing() -> None:
    pixels = noise(SIDE, SIDE, 4)
    pixels[..., 3] = 255
    levels, notes = decoded(encoded(Image.fromarray(pixels)), GREEN)
    np.testing.assert_array_equal(levels, pixels[..., :3])
    assert notes == []


def test_hidden_colour_never_fringes() -> None:
    """A red disc whose transparent surround hides green: after resizing, nothing is greener than white or red."""
    y, x = np.mgrid[:64, :64]
    inside = (x - 31.5) ** 2 + (y - 31.5) ** 2 < 20**2
    pixels = np.where(inside[..., None], [255, 0, 0, 255], [0, 255, 0, 0]).astype(np.uint8)
    notes: list[str] = []
    small = np.asarray(fit(decode(encoded(Image.fromarray(pixels)), WHITE, notes.append)[0], (12, 12))).astype(int)
    assert (small[..., 0] >= 254).all()  # red is full in red and in white
    assert np.abs(small[..., 1] - small[..., 2]).max() <= 1


def palette(transparency: bytes | int | None = None) -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    return encoded(image) if transparency is None else encoded(image, transparency=transparency)


def test_palette_colours_are_used() -> None:
    levels, notes = decoded(palette())
    assert levels.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert notes == ["palette, its colours used"]


@pytest.mark.parametrize("transparency", [b"\xff\x00", 1])
def test_palette_transparency_is_laid_over_the_background(transparency: bytes | int) -> None:
    levels, notes = decoded(palette(transparency), GREEN)
    assert levels.tolist() == [[[10, 20, 30], list(GREEN)]]
    assert notes == ["palette, its colours used", "transparency laid over the background"]


def test_sixteen_bits_become_the_nearest_eight() -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(sixteen_to_eight_bits(every), np.round(every * 255.0 / 65535))


@pytest.mark.parametrize(("kind", "order"), [("PNG", "<"), ("TIFF", "<"), ("TIFF", ">"), ("PPM", "<")])
def test_sixteen_bit_grey_is_scaled(kind: str, order: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
    image = Image.fromarray(values)
    if order == ">":
        image = Image.frombytes("I;16B", (SIDE, SIDE), values.astype(">u2").tobytes())
    levels, notes = decoded(encoded(image, kind))
    np.testing.assert_array_equal(levels[..., 0], np.round(values * 255.0 / 65535))
    assert notes == ["16-bit grey, scaled to 8 bits"]


def test_sixteen_bit_colour_is_said_so() -> None:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + struct.pack(">3H", 0x1234, 0xFF00, 0x00FF)
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    levels, notes = decoded(png)
    assert levels.tolist() == [[[0x12, 0xFF, 0x00]]]
    assert notes == ["16-bit colour, the high byte kept"]


def test_one_bit_is_black_and_white() -> None:
    bits = noise(SIDE, SIDE) > 127
    levels, notes = decoded(encoded(Image.fromarray(bits)))
    np.testing.assert_array_equal(levels[..., 1], bits * 255)
    assert notes == ["1 bit, black and white"]


@pytest.mark.parametrize("values", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused_by_name(values: type) -> None:
    data = encoded(Image.fromarray(np.full((SIDE, SIDE), 70000, values)), "TIFF")
    with pytest.raises(Refused, match="no stated range"):
        decoded(data)


def test_lab_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="mode LAB are not supported"):
        decoded(encoded(Image.new("LAB", (SIDE, SIDE)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = noise(5, 7, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    levels, notes = decoded(data)
    np.testing.assert_array_equal(levels, upright)
    assert notes == ([] if orientation == 1 else ["turned upright by its EXIF orientation"])
    if kind != "PNG":
        assert declared_size(data) == (7, 5)


def test_cmyk_is_converted() -> None:
    levels, notes = decoded(encoded(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "TIFF"))
    assert (levels == [255, 0, 0]).all()
    assert notes == ["CMYK, converted to RGB"]
    levels, _ = decoded(encoded(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(levels.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    levels, notes = decoded(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (levels == [255, 0, 0]).all()
    assert "several frames, the first used" in notes


def test_srgb_profile_changes_nothing_and_others_are_applied() -> None:
    pixels = noise(SIDE, SIDE, 3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    levels, notes = decoded(encoded(Image.fromarray(pixels), icc_profile=srgb))
    np.testing.assert_array_equal(levels, pixels)
    assert notes == []
    levels, notes = decoded(encoded(Image.fromarray(pixels), icc_profile=b"nonsense" * 20))
    np.testing.assert_array_equal(levels, pixels)
    assert notes == ["its colour profile cannot be applied and is ignored"]


def test_another_profile_is_converted_to_srgb() -> None:
    """sRGB's own profile with red and green exchanged: what its red is, is green in sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"held").replace(b"gXYZ", b"rXYZ").replace(b"held", b"gXYZ")
    profile = profile.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))
    levels, notes = decoded(encoded(Image.new("RGB", (SIDE, SIDE), (255, 0, 0)), icc_profile=profile))
    assert notes == ["colour profile, converted to sRGB"]
    assert np.abs(levels.astype(int) - [0, 255, 0]).max() <= 1
    pixels = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
    levels, notes = decoded(encoded(pixels, icc_profile=profile), GREEN)
    assert (levels == GREEN).all()  # the background is sRGB already


def test_truncated_text_and_empty_files_are_refused_by_name() -> None:
    jpeg = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")
    for data, reason in [(jpeg[: len(jpeg) // 2], "truncated"), (b"hello", "not a picture"), (b"", "empty file")]:
        with pytest.raises(Refused, match=reason):
            decoded(data)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = encoded(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)))
    with pytest.raises(Refused, match="pixels"), pytest.warns(Image.DecompressionBombWarning):
        decoded(wide)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Refused, match="pixels"):
        decoded(wide)


def test_fit_keeps_the_size_wanted_and_crops_the_centre() -> None:
    pixels = noise(6, 10, 3)
    image = Image.fromarray(pixels)
    assert fit(image, (10, 6)) is image
    np.testing.assert_array_equal(np.asarray(fit(image, (6, 6))), pixels[:, 2:8])


def test_fit_is_antialiased() -> None:
    """A checkerboard of single pixels shrinks to its mean; picking pixels would give black or white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = np.asarray(fit(Image.fromarray(board.astype(np.uint8)), (8, 8)))
    assert np.abs(small.astype(int) - 127.5).max() < 8


def test_a_folder_of_odd_files_loads_and_says_what_it_did(tmp_path: Path) -> None:
    for i in range(8):
        Image.fromarray(noise(40 + i, 48, 3, seed=i)).save(tmp_path / f"good{i}.png")
    jpeg = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")
    (tmp_path / "bad.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "zero.webp").write_bytes(b"")
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "dot.png")
    Image.fromarray(np.full((50, 50), 0x8080, np.uint16)).save(tmp_path / "scan.tif")
    Image.fromarray(np.zeros((50, 50), np.float32)).save(tmp_path / "float.tif")
    dataset = load(tmp_path)
    assert dataset.spec.shape == (3, 32, 32)  # median shorter side 44, down to a power of two
    assert len(dataset.train) + len(dataset.heldout) == 10
    expected = [
        "bad.jpg: truncated, skipped",
        "text.png: not a picture that can be read, skipped",
        "zero.webp: empty file, skipped",
        "float.tif: floating-point pixels have no stated range, convert it to 8 or 16 bits, skipped",
        "4 of 14 files skipped",
        "dot.png: 1×1, enlarged to 32×32 of one colour",
        "scan.tif: 16-bit grey, scaled to 8 bits",
        "pictures of 10 sizes, 1×1 to 50×50, resized to 32×32",
    ]
    assert [line for line in expected if line not in dataset.log] == []
    seen = np.concatenate([dataset.train.x, dataset.heldout.x])
    assert (seen == [9, 8, 7]).all(axis=(1, 2, 3)).sum() == 1
    assert (seen == 0x80).all(axis=(1, 2, 3)).sum() == 1
    assert {name for name, _ in inspect(tmp_path).survey.broken} == {"bad.jpg", "text.png", "zero.webp", "float.tif"}


def test_strict_makes_a_broken_file_an_error_even_when_cached(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8)).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("hello")
    for _ in range(2):
        with pytest.raises(UserError, match=r"text\.png cannot be used: not a picture"):
            load(tmp_path, strict=True)
    assert len(load(tmp_path).train) == 1
    with pytest.raises(UserError, match="strict"):
        load(tmp_path, strict=True)


def test_only_broken_files_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    jpeg = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")
    with pytest.raises(UserError, match=r"none of the 1 pictures can be read; the first, a\.png: not a picture"):
        load(tmp_path)
    (tmp_path / "a.png").write_bytes(jpeg[:600])
    with pytest.raises(UserError, match=r"a\.png: truncated"):
        load(tmp_path)


def test_a_broken_file_has_no_say_in_the_size(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(noise(6, 9, 3, seed=i)).save(tmp_path / f"{i}.png")
    jpeg = encoded(Image.fromarray(noise(64, 64, 3)), "JPEG")
    (tmp_path / "bad.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    assert load(tmp_path).spec.shape == (3, 6, 9)


def test_twelve_bits_in_sixteen_are_pointed_out() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
    levels, notes = decoded(encoded(Image.fromarray(values), "PNG"))
    assert levels.max() <= 16
    assert len(notes) == 1
    assert "nearly black" in notes[0]
