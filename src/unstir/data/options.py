"""What the user may ask of the pictures, and the sentence that says what is done to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from unstir.errors import UserError

_LARGEST = 4096
_NATIVE = 128  # pixels: larger pictures are only learned at their own size when that is asked for


@dataclass(frozen=True)
class Options:
    """How pictures become arrays.

    Args:
        size: the side in pixels of square output; None: the native size when all are equal and at most 128, else
            ``mixed_size``.
        mode: ``"L"``, ``"RGB"``, or None: L when every picture is grey (R = G = B in every pixel), else RGB.
        background: levels of red, green and blue behind transparent pixels.
    """

    size: int | None = None
    mode: str | None = None
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= _LARGEST:
            raise UserError(f"size is {self.size}: it is a side in pixels, 1 to {_LARGEST}")
        if self.mode not in (None, "L", "RGB"):
            raise UserError(f"mode is {self.mode!r}: it is L (grey) or RGB, or left out to follow the data")
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise UserError(f"background is {self.background}: it is three levels, red, green and blue, each 0 to 255")

    def side(self, sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """The (width, height) of the output for pictures of these (width, height)."""
        sizes = list(sizes)
        if self.size is not None:
            return self.size, self.size
        if len(set(sizes)) == 1 and max(sizes[0]) <= _NATIVE:
            return sizes[0]
        side = mixed_size(sizes)
        return side, side

    def rules(self, size: tuple[int, int], mode: str, *, resized: bool, transparent: bool, coloured: bool) -> str:
        """One sentence for ``DataSpec.rules``: what was done to pictures of which some were as the flags say."""
        width, height = size
        done = []
        if transparent:
            behind = "white" if self.background == (255, 255, 255) else f"RGB {self.background}"
            done.append(f"transparency laid over {behind}")
        if resized:
            done.append(
                f"the largest centred square resized to {width}×{height} (bicubic, antialiased, on sRGB values)"
            )
        else:
            done.append(f"kept at {width}×{height}")
        levels = "RGB" if mode == "RGB" else "grey levels by ITU-R 601 luma" if coloured else "grey levels"
        sentence = ", ".join([*done, f"stored as {levels}", "never flipped"])
        return f"{sentence[0].upper()}{sentence[1:]}."


def mixed_size(sizes: Iterable[tuple[int, int]]) -> int:
    """The side for pictures of mixed or large sizes: the median shorter side, rounded down to a power of two, within 8…64."""
    shorter = sorted(min(size) for size in sizes)
    median = shorter[len(shorter) // 2]
    return max(8, min(64, 1 << (median.bit_length() - 1)))
