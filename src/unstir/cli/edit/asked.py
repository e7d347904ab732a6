"""What every edit may be asked: which items, how to draw, where to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


@dataclass(frozen=True)
class Drawing:
    """How to draw, and where to.

    Parameters
    ----------
    n: int
        How many draws: the k-th is that of seed + k.
    sampler: str
        As for unstir sample; each edit has its own by default.
    steps: int
        Network steps from where the edit begins down to data.
    spacing: str
        How the steps are spread over the times, as for unstir sample.
    seed: int
        Of the noise.
    label: str
        A class, by name or number, or each for item i of class i.
    guidance: float
        How strongly to insist on the class: 1 is the plain conditional model.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time; memory, not results, depends on it.
    out: Path
        x.png for a sheet of what was given beside what was drawn, x.npz or x.npy for arrays, a folder for one PNG each; by default
        a sheet in the run's folder. Points, bits and symbols are arrays, there too.
    json: bool
        A summary as JSON on stdout.
    """

    n: Annotated[int, Parameter(name=["-n", "--number"])] = 1
    sampler: str | None = None
    steps: int | None = None
    spacing: str | None = None
    seed: int = 0
    label: str | None = None
    guidance: float | None = None
    weights: Literal["ema", "raw"] = "ema"
    batch: int = 64
    out: Path | None = None
    json: Annotated[bool, Parameter(name="--json")] = False

    @property
    def how(self) -> dict[str, Any]:
        """What :class:`unstir.runs.walks.How` takes of it."""
        return {
            "sampler": self.sampler,
            "steps": self.steps,
            "spacing": self.spacing,
            "guidance": self.guidance,
            "batch": self.batch,
        }


DRAWING = Drawing()
Asked = Annotated[Drawing, Parameter(name="*", help="How to draw, and where to.")]
HeldOut = Annotated[str | None, Parameter(help="Items of the run's own held-out data instead, by place: 3,17 or 0-7.")]
