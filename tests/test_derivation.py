"""The derivation's formulas are alive: each has code that can be imported and a test that exists, alike in both languages."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {language: ROOT / "docs" / f"derivation.{language}.md" for language in ("en", "zh")}

# The formulas of the text of origin in their order there: what it shows, our number, and a piece of ours, which tells a
# number that has moved.
ORIGIN = [
    ("the step", 3, r"\sqrt{1 - \beta_t}\, x_{t-1},\ \beta_t I"),
    ("the products of what stays", 1, r"\prod_{i=1}^{t} (1 - \beta_i)"),
    ("a step by reparameterisation", 9, r"\sqrt{\beta_t}\, \varepsilon_t"),
    ("the step before", 10, r"x_{t-1} = \sqrt{1 - \beta_{t-1}}\, x_{t-2}"),
    ("one inserted into the other", 11, r"\sqrt{\beta_{t-1}}\, \varepsilon_{t-1} + \sqrt{\beta_t}\, \varepsilon_t"),
    ("variances of a sum", 12, r"v_1 + v_2"),
    ("the variance of the two noises", 13, r"1 - (1 - \beta_t)(1 - \beta_{t-1})"),
    ("two steps in one", 14, r"x_{t-2} + \sqrt{1 - (1 - \beta_t)(1 - \beta_{t-1})}"),
    ("down to x_0", 15, r"\sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}"),
    ("the marginal", 16, r"q(x_t \mid x_0) = \mathcal N"),
    ("the bound by adding a divergence", 25, r"\le -\log p_\theta(x_0)"),
    ("the divergence of paths", 26, r"\mathbb E_{q(x_{1:T} \mid x_0)}"),
    ("Bayes for paths", 27, r"\frac{p_\theta(x_{0:T})}{p_\theta(x_0)}"),
    ("the logarithm taken apart", 28, r"+ \log p_\theta(x_0)"),
    ("what cannot be computed cancels", 29, r"=: L(x_0)"),
    ("the products", 31, r"\prod_{t=1}^{T} q(x_t \mid x_{t-1})"),
    ("the sum over steps", 32, r"-\log p(x_T) + \sum_{t=1}^{T}"),
    ("the first step apart", 33, r"-\log p(x_T) + \sum_{t=2}^{T}"),
    ("the Markov property", 34, r"q(x_t \mid x_{t-1}, x_0)"),
    ("Bayes for a step", 35, r"\frac{q(x_{t-1}, x_t, x_0)}{q(x_t, x_0)}"),
    ("Bayes turned round", 36, r"q(x_t \mid x_{t-1}) = \frac"),
    ("Bayes inserted", 38, r"\sum_{t=2}^{T} \log \frac{q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)}"),
    ("why the last term stands apart", 37, r"q(x_0 \mid x_0)"),
    ("the telescope for T = 4", 39, r"\sum_{t=2}^{4}"),
    ("the terms rearranged", 41, r"\log \frac{q(x_T \mid x_0)}{p(x_T)}"),
    ("the bound as divergences", 43, r"\underbrace"),
    ("the prior's divergence", 19, r"D_{\mathrm{KL}}\big(q(x_T \mid x_0)\,\|\,p(x_T)\big)"),
    ("three Gaussians", 46, r"\propto \exp"),
    ("their exponents multiplied out", 47, r"A\, x_{t-1}^2 - 2 B\, x_{t-1} + C"),
    ("sorted by powers, with C", 48, r"C &="),
    ("beta-tilde", 50, r"\tilde\beta_t = \frac1A"),
    ("mu-tilde", 51, r"\tilde\mu_t(x_t, x_0) = \frac{B}{A}"),
    ("the square", 49, r"C = \frac{B^2}{A}"),
    ("the posterior", 52, r"\tilde\mu_t(x_t, x_0),\ \tilde\beta_t I"),
    (
        "the term that the text ends with",
        42,
        r"D_{\mathrm{KL}}\big(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t)\big)",
    ),
]

_NAMES = r"`[^`]+`(?:, `[^`]+`)*"
_LABEL = re.compile(rf"\*\*\((\d+)\)\*\* (.+) · code: ({_NAMES}) · test: ({_NAMES})")


@dataclass(frozen=True)
class Formula:
    number: int
    tex: str
    source: str
    code: tuple[str, ...]
    tests: tuple[str, ...]


def formulas(text: str) -> list[Formula]:
    """Every ``math`` block of a page with the line under it.

    Raises:
        ValueError: for a block whose line is missing, or lacks its number, source, code or test.
    """
    found = []
    for block in re.finditer(r"^```math\n(.*?)^```\n\n(.*)$", text, re.MULTILINE | re.DOTALL):
        tex, line = block[1], block[2].split("\n", 1)[0]
        label = _LABEL.fullmatch(line)
        if label is None:
            raise ValueError(f"the formula\n{tex}is not followed by its number, source, code and test, but by: {line}")
        names = [tuple(re.findall(r"`([^`]+)`", label[i])) for i in (3, 4)]
        found.append(Formula(int(label[1]), " ".join(tex.split()), label[2], *names))
    return found


@cache
def page(language: str) -> str:
    return PAGES[language].read_text(encoding="utf-8")


@cache
def all_of(language: str) -> list[Formula]:
    # Block by block, so that a pattern never runs from one formula's fence to the next one's line.
    parts = re.split(r"(?=^```math$)", page(language), flags=re.MULTILINE)[1:]
    return [formula for part in parts for formula in formulas(part)]


def resolve(name: str) -> object:
    """The object of a dotted name: the longest module that can be imported, then attributes.

    Raises:
        ModuleNotFoundError, AttributeError: if there is no such thing.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        try:
            there: object = importlib.import_module(module)
        except ModuleNotFoundError as error:
            # Only this module may be missing: one that lacks something itself is broken, not absent.
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise
            continue
        for part in parts[end:]:
            there = getattr(there, part)
        return there
    raise ModuleNotFoundError(f"no module is called {parts[0]}")


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def is_test(name: str) -> bool:
    file, _, function = name.partition("::")
    return (ROOT / file).is_file() and function.startswith("test") and function in functions_of(file)


def prose(text: str) -> str:
    """A page without its fenced blocks and the lines under formulas."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not re.match(r"\*\*\(\d+\)\*\* ", line))


def inline(text: str) -> Iterator[tuple[str, str]]:
    """Every piece of inline TeX in the prose, with the character before it."""
    for line in prose(text).splitlines():
        line = re.sub(r"`[^`]*`", "", line)
        parts = line.split("$")
        assert len(parts) % 2, f"an odd number of $ in: {line}"
        for before, tex in zip(parts[::2], parts[1::2]):
            yield before[-1:], tex


@pytest.mark.parametrize("language", PAGES)
def test_numbers_run_from_one_to_the_last(language: str) -> None:
    numbers = [formula.number for formula in all_of(language)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == page(language).count("```math\n") > 0


def test_both_languages_have_the_same_formulas() -> None:
    """Number, TeX, source, code and tests: only the prose differs."""
    for english, chinese in zip(all_of("en"), all_of("zh")):
        assert english == chinese
    assert len(all_of("en")) == len(all_of("zh"))


@pytest.mark.parametrize("language", PAGES)
def test_every_formula_names_living_code(language: str) -> None:
    stale = []
    for formula in all_of(language):
        for name in formula.code:
            try:
                there = resolve(name)
            except (ModuleNotFoundError, AttributeError) as error:
                stale.append(f"({formula.number}) {name}: {error}")
                continue
            computes = callable(there) or isinstance(there, property | cached_property)
            if not name.startswith("unstir.") or not computes or getattr(there, "__isabstractmethod__", False):
                stale.append(f"({formula.number}) {name} computes nothing")
    assert not stale, "\n".join(stale)


@pytest.mark.parametrize("language", PAGES)
def test_every_formula_names_a_living_test(language: str) -> None:
    stale = [f"({f.number}) {name}" for f in all_of(language) for name in f.tests if not is_test(name)]
    assert not stale, "\n".join(stale)


@pytest.mark.parametrize("language", PAGES)
def test_every_formula_of_the_text_of_origin_is_there(language: str) -> None:
    ours = {formula.number: formula.tex for formula in all_of(language)}
    for shown, number, piece in ORIGIN:
        assert piece in ours.get(number, ""), f"{shown}: ({number}) does not contain {piece}"


@pytest.mark.parametrize("language", PAGES)
def test_references_point_at_formulas(language: str) -> None:
    """(12) in the prose and in the sources is a formula's number."""
    last = len(all_of(language))
    sources = " ".join(formula.source for formula in all_of(language))
    for number in re.findall(r"(?<!\w)\((\d+)\)", re.sub(r"\$[^$]*\$", "", prose(page(language))) + sources):
        assert 1 <= int(number) <= last, f"({number}) is no formula"
    for formula in all_of(language):
        assert f"({formula.number})" not in formula.source, f"({formula.number}) follows from itself"


@pytest.mark.parametrize("language", PAGES)
def test_inline_tex_shows_on_github_too(language: str) -> None:
    """GitHub reads $ as mathematics after a space or a bracket only, and takes the backslash off punctuation."""
    for before, tex in inline(page(language)):
        assert before in ("", " ", "("), f"${tex}$ follows {before!r}"
        assert not re.search(r"\\[^a-zA-Z|]", tex), f"${tex}$ has an escaped sign"
        assert tex == tex.strip(), f"${tex}$ begins or ends with a space"


# --- the checks themselves can fail -----------------------------------------------------------------------------------


GOOD = "```math\na = b\n```\n\n**(1)** [HO20 eq. 1] · code: `unstir.bound` · test: `tests/test_bound.py::test_it`\n"


def test_a_whole_formula_is_read() -> None:
    assert formulas(GOOD) == [Formula(1, "a = b", "[HO20 eq. 1]", ("unstir.bound",), ("tests/test_bound.py::test_it",))]


@pytest.mark.parametrize(
    "cut", ["**(1)** ", "[HO20 eq. 1] ", " · code: `unstir.bound`", "`tests/test_bound.py::test_it`"]
)
def test_a_formula_that_lacks_something_is_refused(cut: str) -> None:
    with pytest.raises(ValueError, match="a = b"):
        formulas(GOOD.replace(cut, ""))


@pytest.mark.parametrize(
    "name", ["unstir.nowhere.f", "unstir.bound.nothing", "unstir.processes.Gaussian.stir", "nowhere.f"]
)
def test_a_stale_code_name_is_noticed(name: str) -> None:
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        resolve(name)


@pytest.mark.parametrize(
    "name", ["tests/nowhere.py::test_it", "tests/test_derivation.py::test_nothing", "tests/test_derivation.py::prose"]
)
def test_a_stale_test_name_is_noticed(name: str) -> None:
    assert not is_test(name)
    assert is_test("tests/test_derivation.py::test_a_stale_test_name_is_noticed")
