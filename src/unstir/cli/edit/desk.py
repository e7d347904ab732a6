"""Where an edit is done: the model, the items, and what is written in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unstir import runs
from unstir.cli import console
from unstir.cli.edit.asked import Drawing
from unstir.cli.listing import whole_numbers
from unstir.cli.opening import open_model, own_data
from unstir.errors import UserError
from unstir.runs import Model, pictures


@dataclass(frozen=True)
class Desk:
    """One edit: what it is called, what was asked, the model, and where its result goes."""

    name: str
    asked: Drawing
    model: Model
    target: Path
    notes: list[str] = field(default_factory=list)
    """What was done to the items, said once something comes of them."""

    @classmethod
    def opened(cls, name: str, run: Path, asked: Drawing, sources: Sequence[Path] = ()) -> Desk:
        """Ready to draw: whatever could only fail in the end is refused now."""
        if asked.n < 1 or asked.batch < 1 or (asked.steps is not None and asked.steps < 1):
            raise UserError("-n, --steps and --batch must be at least 1")
        model = open_model(run, weights=asked.weights)
        codec = model.spec.codec
        suffix = ".png" if codec.kind == "image" else ".npy"
        folder = run if run.is_dir() else run.parent
        target = asked.out or folder / "edits" / f"{name}-seed-{asked.seed}{suffix}"
        runs.check(target, codec=codec, source=model.config.data.source if asked.out else "")
        for source in sources:
            runs.check_apart(target, str(source), "what is edited")
        return cls(name, asked, model, target)

    def items(
        self, sources: Sequence[Path], heldout: str | None, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """What is to be edited, as users hold it, (N, …), and what each is called."""
        if heldout is not None:
            if sources:
                raise UserError("files are given and --heldout too: one of the two says what is edited")
            own = own_data(self.model).heldout
            places = _places(heldout, len(own))
            return np.asarray(own.x)[places], [f"held-out {place}" for place in places]
        given = pictures.read(self.model, sources, size=size)
        self.notes.extend(given.log)
        return given.x, given.names

    def draws(self, work: Callable[..., np.ndarray]) -> np.ndarray:
        """``work(seed=, progress=)`` for each draw: (N, n, …)."""
        asked, results = self.asked, []
        with console.bar(self.name, "network calls") as update:
            for k in range(asked.n):

                def told(done: int, total: int, k: int = k) -> None:
                    update(k * total + done, asked.n * total)

                results.append(work(seed=asked.seed + k, progress=told))
        return np.stack(results, 1)

    def finish(
        self, drawn: np.ndarray, beside: Sequence[np.ndarray], said: dict[str, Any], after: Sequence[np.ndarray] = ()
    ) -> None:
        """Writes what was drawn, (N, k, …), on a sheet between what stands before and after it, each (N, …), and says so."""
        codec = self.model.spec.codec
        for sentence in self.notes:
            console.say(sentence)
        rows, columns = drawn, drawn.shape[1]
        if self.target.suffix.lower() == ".png":
            before, behind = ([column[:, None] for column in side] for side in (beside, after))
            rows = np.concatenate([*before, drawn, *behind], 1)
            columns = rows.shape[1]
        flat = rows.reshape(-1, *rows.shape[2:])
        try:
            with console.writing(self.target):
                runs.write(flat, self.target, range(len(flat)), codec=codec, columns=columns)
        except OSError as error:
            raise UserError(f"the result could not be written to {self.target}: {error.strerror}") from None
        console.say(f"{drawn.shape[0] * drawn.shape[1]} drawn, in {self.target}")
        if self.asked.json:
            console.give(
                {"out": str(self.target), "edit": self.name, "seed": self.asked.seed, "n": self.asked.n} | said
            )


def enlarged(small: np.ndarray, factor: int) -> np.ndarray:
    """Pictures with each pixel as a square, to stand beside those that are larger."""
    return small.repeat(factor, 1).repeat(factor, 2)


def _places(text: str, count: int) -> list[int]:
    chosen = whole_numbers(text, "--heldout")
    if not all(0 <= place < count for place in chosen):
        raise UserError(f"--heldout {text}: there are {count:,} held-out items, 0 to {count - 1:,}")
    return chosen
