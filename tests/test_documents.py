"""Every command and snippet in README and docs runs: on small data made here, with the budgets cut down."""

from __future__ import annotations

import gzip
import os
import re
import shlex
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.samplers import orders
from tests.samplers.solvers import DETERMINISTIC
from unstir import samplers
from unstir.cli.sample import sample_
from unstir.evaluation import receipt as receipts
from unstir.evaluation.asked import OF_SAMPLES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
UNSTIR = str(Path(sys.executable).parent / "unstir")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


SMALL = {
    # Nothing is measured here of which precision and layout are the fastest.
    "train": {"--images": "64", "--precision": "fp32", "--layout": "contiguous"},
    "bench": {"--seconds": "1", "--calls": "2", "--pictures": "20"},
    "features": {"--images": "64"},
    "sample": {"-n": "4", "--steps": "3"},
    "edit": {"-n": "1", "--steps": "2"},
    "film": {"-n": "2", "--steps": "2"},
    "evaluate": {"--images": "2", "--terms": "2", "--samples": "20", "--sample-steps": "1"},
    "report": {"--images": "2", "--samples": "0"},
    "score": {"--limit": "4", "--reference": "4"},
}
"""What keeps a command small, whatever the page asks for."""

HERE = ("edit", "film", "sample", "bench", "doctor")
"""Commands of which a page has many and each takes a moment: run in this process, since to start one takes longer."""


def cut_down(words: list[str]) -> list[str]:
    """The same command with a budget of a few updates instead of minutes, and few items to measure."""
    words = list(words)
    if words[1] == "reproduce":
        # An experiment takes minutes: that its words are understood is checked here, what it does in tests/reproduce.
        return [words[0], "reproduce", "--help"]
    if "--check" in words:
        return words
    small = dict(SMALL.get(words[1], {}))
    if words[1] == "evaluate" and not any(name in " ".join(words) for name in OF_SAMPLES):
        del small["--sample-steps"]  # refused where no samples are drawn
    if "--indices" in words:
        del small["-n"]  # they are counted already
    if "--times" in words:
        del small["--steps"]  # they are the steps
    if "--heldout" in words:
        words[words.index("--heldout") + 1] = "0-1"  # the small data have no more
    if words[1] in ("train", "features") and any(
        word.startswith(("photos", "emoji", "mnist/", "shards", "hf:")) for word in words
    ):
        small["--size"] = "8"
    if words[1] == "bench" and "--way" not in words:
        words += ["--way", "ddim uniform", "--way", "ancestral uniform"]
    for option in ("--minutes", "--within", *small):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    return [*words, *(word for pair in small.items() for word in pair)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data under the names that the pages use, and a run of the digits as the demo makes it."""
    folder = tmp_path_factory.mktemp("documents")
    rng = np.random.default_rng(0)
    for name in ("photos", "emoji"):
        (folder / name).mkdir()
        for i in range(240):  # a tenth is held out, and sample quality takes 20
            picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(picture).save(folder / name / f"{i}.png")
    (folder / "ages.csv").write_text(
        "file,age,height\n" + "".join(f"{i}.png,{i % 80},{1 + i / 300}\n" for i in range(240))
    )
    (folder / "mnist").mkdir()
    for part, count in (("train", 40), ("t10k", 24)):
        images = struct.pack(">IIII", 2051, count, 28, 28) + rng.integers(0, 256, count * 784, np.uint8).tobytes()
        labels = struct.pack(">II", 2049, count) + (np.arange(count) % 10).astype(np.uint8).tobytes()
        with gzip.open(folder / "mnist" / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(images)
        with gzip.open(folder / "mnist" / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(labels)
    np.savez(folder / "few.npz", rng.integers(0, 256, (24, 8, 8, 1), np.uint8))
    np.savez(folder / "emoji64.npz", rng.integers(0, 256, (24, 32, 32, 3), np.uint8))
    np.savez(folder / "tiles.npz", x=rng.integers(0, 256, (24, 32, 32, 4), np.uint8))
    (folder / "shards").mkdir()
    for number in range(3):
        with tarfile.open(folder / "shards" / f"train-{number:03d}.tar", "w") as archive:
            for i in range(8):
                archive.add(folder / "photos" / f"{8 * number + i}.png", f"{i:04d}.png")
    (folder / "pets").mkdir()
    pets = [{"bytes": (folder / "photos" / f"{i}.png").read_bytes(), "path": None} for i in range(24)]
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict({"image": pets}, features=features).to_parquet(folder / "pets" / "train.parquet")
    run(folder, ["unstir", "train", "digits", "--out", "runs/demo", "--images", "128"])
    return folder


def run(folder: Path, words: list[str]) -> None:
    own = {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hugging-face"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([UNSTIR, *words[1:]], cwd=folder, capture_output=True, text=True, env=os.environ | own)
    assert done.returncode in ends(words), f"{shlex.join(words)}\n{done.stderr}"


def ends(words: list[str]) -> tuple[int, ...]:
    """The exit codes of a command that worked: 1 says that something is wrong with a run, as with those that are small here."""
    return (0, 1) if words[1] == "doctor" else (0,)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_run(page: Path, place: Path, unstir: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in commands(page):
        words = shlex.split(command)
        if words[0] == "torchrun":  # one process will do: tests/cli/ and tests/training/test_processes.py try several
            words = words[words.index("-m") + 1 :]
        if words == [".", ".venv/bin/activate"]:
            continue
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file() or words[1:2] == ["-m"]
        else:
            assert words[0] == "unstir", f"{page.name}: nobody checks {command!r}"
            words = cut_down(words)
            if words[1] in HERE:
                ended = unstir(*words[1:])
                assert ended.code in ends(words), f"{shlex.join(words)}\n{ended.err}"
            else:
                run(place, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for snippet in blocks(page, "python"):
        exec(compile(snippet, str(page), "exec"), {})


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_the_measured_table_is_that_of_its_receipts() -> None:
    page = ROOT / "docs" / "evaluation.md"
    text = page.read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    for column, name in enumerate(("mnist", "emoji", "heartbeat")):
        receipt = receipts.read(ROOT / "docs" / "receipts" / f"{name}.json")
        bound, values = receipt["results"]["bound"], receipt["results"]["quality"]["values"]
        said = {
            "bits, held out": f"{bound['total']:.3f} ± {bound['half_width']:.3f} {bound['unit']}, {bound['items']:,} items",
            "frechet": f"{values['frechet']:.4f} ± {values['frechet_half']:.4f}",
            "– of held-out data": f"{values['frechet_heldout']:.4f}",
            "– of two halves of the training data": f"{values['frechet_halves']:.4f}",
            "kernel (standard error)": f"{values['kernel']:.6f} ({values['kernel_error']:.6f})",
            "features": receipt["extractor"]["name"],
            "samples": f"{receipt['sampling']['number']:,}, {receipt['sampling']['sampler']}, {receipt['sampling']['steps']} steps",
            "copies": receipt["results"]["memorising"]["verdict"],
        }
        if "precision" in values:
            said["precision, recall"] = f"{values['precision']:.3f}, {values['recall']:.3f}"
        said |= {row["name"]: f"{row['value']:.3f}" for row in receipt["results"]["yardsticks"]["rows"]}
        for what, figure in said.items():
            # "of held-out data" stands beneath several measures.
            assert any(row[0] == what and figure in row[column + 1] for row in rows if len(row) == 4), (name, what)
    own = receipts.read(ROOT / "docs" / "receipts" / "mnist-classifier.json")["results"]["quality"]["values"]
    assert f"{own['frechet']:.2f} ± {own['frechet_half']:.2f}" in text


def test_the_table_of_orders_is_the_one_that_is_measured() -> None:
    """Every solver that is tested stands on the page, with the order and the calls that it declares."""
    page = (ROOT / "docs" / "sampling.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    found = {cells[0].strip("`"): cells[1:] for cells in rows if len(cells) == 5 + len(orders.CASES)}
    assert list(found) == list(DETERMINISTIC)
    for name, solver in DETERMINISTIC.items():
        assert found[name][:3] == [solver.reference, str(solver.order), orders.calls(solver)], name
        slopes = [float(cell) for cell in found[name][3:]]
        assert min(slopes) == slopes[-1] >= solver.order - orders.TOLERANCE, name


def test_every_sampler_and_spacing_is_explained() -> None:
    page = (ROOT / "docs" / "sampling.md").read_text(encoding="utf-8")
    line = (sample_.__doc__ or "").replace("\n", " ")
    for name in samplers.NAMES:
        assert f"`{name}" in page, name
        assert re.search(rf"{re.escape(name)}[ ,.;]", line), name
    for name in samplers.SPACINGS:
        assert f"| `{name}` |" in page
        assert name in line
