"""Names with options, as commands and configurations write them: ``ddim:eta=0.5``, ``rho:rho=5,last=2``."""

from __future__ import annotations

import ast
from typing import Any


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """``name:key=value,key=value`` taken apart: numbers, true and false become what they are, other values stay text.

    Raises:
        ValueError: for an option without a value, and one that is said twice.
    """
    name, colon, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in rest.split(",") if colon else []:
        key, equals, value = part.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise ValueError(f"options are written as in name:key=value,key=value, not as in {text!r}")
        if key.strip().replace("-", "_") in options:
            raise ValueError(f"{key.strip()} is said twice in {text!r}")
        options[key.strip().replace("-", "_")] = _value(value.strip())
    return name, options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
