"""How samples are drawn from a model: the solver, its times, and what is laid around the denoiser."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from unstir import samplers
from unstir.data import DataSpec
from unstir.denoisers import CLIPS, Autocast, Denoiser, DenoiserBase, clipped
from unstir.errors import UserError
from unstir.processes import Process
from unstir.runs.guides import guided
from unstir.samplers import Grid, Sampler

if TYPE_CHECKING:
    from unstir.runs.model import Model

AUTO = "auto"
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class How:
    """All that decides how samples come about, given the weights and the noise.

    Args:
        sampler: a name of :data:`unstir.samplers.NAMES`, with options after a colon, such as ``ddim:eta=0.5``.
        steps: from noise to data.
        spacing: of the times, a name of :data:`unstir.samplers.SPACINGS`, with options after a colon, such as ``rho:rho=5``.
        times: these falling times, ending at 0, instead of a spacing.
        clip: what is done to the predicted x0: ``static``, ``dynamic`` (of real numbers) or ``none``; ``auto`` is static for
            8-bit data, whose range is known, and none for the rest.
        guidance: w of ``base + w (model - base)``, the base being the model without any condition.
        guidance_interval: the noise levels ``low < sigma_t / alpha_t <= high`` at which guidance acts; None: all.
        rescale: the share, 0 … 1, in which guided x0 get the spread of the model's own back.
        autoguidance: a weaker model, a run's folder or a file, which is the base in place of the model without a condition.
        precision: of the network's products: ``fp32``, or ``bf16``, which is faster where the processor has it.
    """

    sampler: str
    steps: int
    spacing: str = "uniform"
    times: tuple[float, ...] | None = None
    clip: str = AUTO
    guidance: float = 1.0
    guidance_interval: tuple[float, ...] | None = None
    rescale: float = 0.0
    autoguidance: str | None = None
    precision: str = "fp32"

    @classmethod
    def of(cls, model: Model, **given: Any) -> Self:
        """With the run's stored choice, else the shipped defaults, in the places left open or None.

        Raises:
            UserError: for an option that does not exist.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(given.keys() - known)
        if unknown:
            raise UserError(f"samples have no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
        given = {name: value for name, value in given.items() if value is not None}
        known = _open(model, given) | given
        if known.get("times") is not None:
            times = tuple(float(t) for t in known["times"])
            known |= {"times": times, "steps": len(times) - 1}
        made = cls(**known)
        if made.steps < 1:
            raise UserError(f"samples take one step at least, not {made.steps}")
        return made

    def grid(self, process: Process) -> Grid:
        """The times, on this process.

        Raises:
            ValueError: for more steps than a spacing can have, and for times that do not fall.
        """
        if self.times is not None:
            return Grid.custom(self.times)
        return Grid.named(self.spacing, process.schedule, self.steps)

    @property
    def walked(self) -> str:
        """Solver and times in words, without what is as usual."""
        if samplers.get(self.sampler).calls(self.steps) is None:
            return f"{self.sampler}, steps by tolerance"
        if self.times is not None:
            return f"{self.sampler}, {self.steps} steps at chosen times"
        spread = f" spread {self.spacing}" if self.spacing != "uniform" else ""
        return f"{self.sampler}, {self.steps} steps{spread}"

    @property
    def guided(self) -> str:
        """The guidance in words that follow others; empty for none."""
        if self.guidance == 1:
            return ""
        away = f" away from {self.autoguidance}" if self.autoguidance else ""
        interval = " for sigma/alpha in {:g} … {:g}".format(*self.guidance_interval) if self.guidance_interval else ""
        rescaled = f", rescaled {self.rescale:g}" if self.rescale else ""
        return f", guidance {self.guidance:g}{away}{interval}{rescaled}"


@dataclass(frozen=True)
class Walk:
    """A denoiser with everything laid around it, and who asks it when."""

    denoiser: DenoiserBase
    sampler: Sampler
    grid: Grid


def walk_of(denoiser: Denoiser, spec: DataSpec, how: How) -> Walk:
    """What :func:`unstir.samplers.walk` needs.

    Raises:
        UserError: where the sampler, the times, or what is laid around do not suit the model.
    """
    process = denoiser.process
    if how.times is None and how.steps > process.T:
        raise UserError(f"{how.steps} steps are more than this model's chain has: at most {process.T}")
    try:
        grid, solver = how.grid(process), samplers.get(how.sampler)
        if denoiser.whole_times:
            grid = grid.whole()
        if how.times is not None and how.times[-1] != 0:
            raise ValueError(
                f"samples are what stands at time 0, and these times end at {how.times[-1]:g}: end them with 0"
            )
        samplers.check_suits(denoiser, solver, grid)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not solver.continuous and denoiser.variance == "analytic":
        raise UserError(
            "this run's reverse variance is found from data, which sampling does not read: take a sampler without noise, "
            "such as ddim"
        )
    if how.precision not in PRECISIONS:
        raise UserError(f"precision is one of {', '.join(PRECISIONS)}, not {how.precision!r}")
    asked = guided(denoiser, spec, how)
    # Clipped last: a strong guidance leaves the data's range even where both of its branches stay inside.
    return Walk(bounded(asked if how.precision == "fp32" else Autocast(asked), spec, how.clip), solver, grid)


def bounded(denoiser: DenoiserBase, spec: DataSpec, clip: str = AUTO) -> DenoiserBase:
    """The denoiser with its x0 kept in the data's range, where it has one.

    8-bit data is bounded, so a prediction outside its range is surely wrong; other data has no known range.
    """
    if clip not in (AUTO, *CLIPS):
        raise UserError(f"clip is one of {', '.join((AUTO, *CLIPS))}, not {clip!r}")
    kind = ("static" if spec.eight_bit else "none") if clip == AUTO else clip
    if kind != "none" and not spec.eight_bit:
        raise UserError(f"clip={kind} keeps x0 within the range of 8-bit data, and this data has no such range")
    return clipped(denoiser, kind)


def shipped(denoiser: Denoiser) -> dict[str, Any]:
    """How samples are drawn where nobody chose: the best of ``unstir bench solvers`` on three runs, see docs/sampling.md.

    Bits and symbols have one sampler, and a network of single steps walks the whole chain.
    """
    process = denoiser.process
    if denoiser.consecutive:
        return {"sampler": process.sampler, "steps": process.T}
    if not process.continuous:
        return {"sampler": process.sampler, "steps": min(process.T, 200)}
    return {"sampler": "dpm++2m", "spacing": f"log-snr:last={process.T / 50:g}", "steps": min(process.T, 20)}


def _open(model: Model, given: dict[str, Any]) -> dict[str, Any]:
    """What is used where nothing is given: the run's stored choice, else what is shipped.

    A spacing belongs to the sampler that it was found good for: with another sampler goes the stored choice, or the shipped spacing.
    """
    own, base = dict(model.defaults), shipped(model.denoiser)
    if given.get("sampler", own.get("sampler")) != own.get("sampler"):
        own = {}
    if {"steps", "spacing", "times"} & given.keys():
        own.pop("times", None)
    if (own | given).get("sampler", base["sampler"]) != base["sampler"]:
        base.pop("spacing", None)
    return base | own
