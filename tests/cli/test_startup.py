"""Help is quick because it does not import torch; the commands in the docs exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WATCH = """
import sys
sys.argv = ["unstir", *{words!r}]
try:
    {action}
except SystemExit as end:
    assert not end.code, end.code
heavy = [name for name in ("torch", "numpy", "PIL", "safetensors", "accelerate") if name in sys.modules]
print("heavy:", heavy)
"""


def commands() -> list[list[str]]:
    """Each command as its words: of ``features`` the commands below it."""
    from unstir.cli import app

    found = []
    for name in sorted(name for name in app if not name.startswith("-")):
        below = [[name, word] for word in app[name] if not word.startswith("-")]
        found += below or [[name]]
    return found


def run(words: list[str], action: str = "from unstir.cli import main; main()") -> str:
    code = WATCH.format(words=words, action=action)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_import_and_no_help_imports_torch() -> None:
    """All in one process where nothing heavy may ever have been imported."""
    action = "import unstir; unstir.__version__; from unstir.cli import main\n" + "".join(
        f"""
    for words in ({words} + ["--help"], {words} + ["-h"]):
        sys.argv = ["unstir", *words]
        try:
            main()
        except SystemExit as end:
            assert not end.code
"""
        for words in commands()
    )
    for words in ([], ["--help"], ["--version"]):
        out = run(words, f"{action}\n    sys.argv = ['unstir', *{words!r}]\n    main()")
        assert "heavy: []" in out


def test_help_names_every_command() -> None:
    out = run(["--help"])
    assert len(commands()) >= 6
    for name, *_ in commands():
        assert re.search(rf"\b{name}\b", out)


def test_every_option_is_explained_and_every_command_speaks_json() -> None:
    from unstir.cli import app

    for words in commands():
        arguments = reduce(getitem, words, app).assemble_argument_collection(parse_docstring=True)
        assert all(argument.parameter.help for argument in arguments), words
        assert "--json" in {word for argument in arguments for word in argument.names}, words


def test_every_command_in_the_docs_exists() -> None:
    from unstir.cli import app

    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    said = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for code in re.findall(r"```(?:sh|bash|console)?\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
            said |= set(re.findall(r"(?:^|\s)unstir ([a-z]+)\b(?! import)", "\n".join(code), re.MULTILINE))
    assert "train" in said
    assert said <= set(app)


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_main_ends_well(word: str) -> None:
    from unstir import __version__

    out = run([word])
    assert __version__ in out if word == "--version" else "Usage" in out
