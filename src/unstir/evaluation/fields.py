"""Whether what a JSON file holds is of the type that it is read as."""

from __future__ import annotations

import json
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
_LARGEST = 2**63  # of whole numbers: JSON knows no end, tensors do


def check(value: Any, kind: Any) -> str:
    """What is wrong with a value that should be of this type, as the end of a sentence; empty where nothing is.

    Args:
        kind: of JSON: str, int, float (which may be whole), bool, None, list[…], tuple[…, ...], dict[str, …], Literal, or a
            union of these. No truth value is a number.
    """
    return "" if _fits(value, kind) else f"must be {_words(kind)}, not {_cut(json.dumps(value, ensure_ascii=False))}"


def _fits(value: Any, kind: Any) -> bool:
    outer, inner = get_origin(kind), get_args(kind)
    if outer in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if outer is Literal:
        return value in inner
    if outer in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(each, inner[0]) for each in value)
    if outer is dict:
        return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())
    if kind is int or (kind is float and isinstance(value, int)):
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    return kind is Any or isinstance(value, kind)


def _words(kind: Any) -> str:
    outer, inner = get_origin(kind), get_args(kind)
    if outer in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if outer is Literal:
        return f"one of {', '.join(inner)}"
    if outer in (list, tuple):
        return f"a list, each {_words(inner[0])}"
    return "an object" + (f", each {_words(inner[1])}" if inner[1] is not Any else "") if inner else _WORDS[kind]


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"
