"""What is installed is what is said, and never torchvision."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import unstir

ROOT = Path(__file__).parents[1]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading of docs/dependencies.md."""
    text = (
        (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    )
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None
    assert not [d for d in distributions() if (d.name or "").lower() in ("torchvision", "timm", "torchaudio")]


def test_nothing_we_install_asks_for_torchvision() -> None:
    ours = {name_of(r) for r in project()["dependencies"]}
    for group in project()["optional-dependencies"].values():
        ours |= {name_of(r) for r in group}
    asked = {
        d.name: [r for r in d.requires or () if name_of(r) == "torchvision" and "extra ==" not in r]
        for d in distributions()
        if (d.name or "").lower().replace("_", "-") in ours
    }
    assert not [name for name, found in asked.items() if found]
    assert "torchvision" not in (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()


def test_core_dependencies_are_those_explained() -> None:
    explained = [row[0] for row in table("Core")]
    assert [name_of(r) for r in project()["dependencies"]] == explained
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in table("Core"))


def test_extras_are_those_explained() -> None:
    assert {row[0].strip("`") for row in table("Extras")} == set(project()["optional-dependencies"])


def test_core_dependencies_are_pinned_and_used() -> None:
    pins = {name_of(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    modules = {"pillow": "PIL", "tomli-w": "tomli_w"}
    for requirement in project()["dependencies"]:
        name = name_of(requirement)
        assert name in pins or name == "torch"
        assert re.search(rf"^\s*(?:import|from) {modules.get(name, name)}\b", source, re.MULTILINE), name


def test_the_version_is_said_once() -> None:
    assert unstir.__version__ == project()["version"]
    assert (Path(unstir.__file__).parent / "py.typed").exists()
