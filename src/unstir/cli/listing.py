"""Lists of numbers as they are typed."""

from __future__ import annotations

from unstir.errors import UserError


def whole_numbers(text: str, option: str) -> list[int]:
    """``3,17,100-103`` as the numbers that it names, in that order.

    Raises:
        UserError: for what is no such list, or names no number.
    """
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            chosen += range(int(first), int(last) + 1) if dash and first else [int(part)]
        except ValueError:
            raise UserError(f"{option} is a list such as 3,17,99 or 100-199, not {text!r}") from None
    if not chosen:
        raise UserError(f"{option} {text} names no number")
    return chosen
