"""Which way of sampling suits a model: ways held against the many-step solution from the same noise, and against held-out data."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unstir import samplers
from unstir.data import Dataset
from unstir.errors import UserError
from unstir.evaluation import extractors, quality
from unstir.evaluation.asked import Bar, silent
from unstir.evaluation.sampling import Sampling, draw
from unstir.runs import Model
from unstir.sets.distances import frechet_from
from unstir.sets.resampling import bootstrap_interval

CALLS = (5, 8, 10, 15, 20, 30, 50)
"""Network calls for a sample that ways are compared at, unless told otherwise."""

_GAUSSIAN = (
    ("ddim", "uniform"), ("ddim", "log-snr"), ("heun", "uniform"), ("heun", "rho"),
    ("dpm++2m", "uniform"), ("dpm++2m", "log-snr"), ("dpm++2m", "rho"), ("dpm++3m", "uniform"), ("dpm++3m", "log-snr"),
    ("dpm++2s", "log-snr"), ("unipc2", "uniform"), ("unipc2", "log-snr"), ("unipc3", "log-snr"),
    ("pndm", "uniform"), ("deis", "uniform"), ("deis:space=log-snr", "log-snr"),
    ("ancestral", "uniform"), ("dpm++2m-sde", "log-snr"), ("edm", "rho"),
)  # fmt: skip
_DISCRETE = (("ancestral", "uniform"), ("ancestral", "quadratic"), ("tau", "uniform"))
_MANY = 199  # steps of the solution, or as many as the chain has
_KEPT = 4  # of the ways at each number of calls, how many go on to be held against data
_ENOUGH = 0.05  # of the best distance: a way that comes as near as this is as good
_FEWEST = 64


@dataclass(frozen=True)
class Tried:
    """What one way of sampling gave.

    Args:
        how: the way. calls: network calls for a sample. seconds: for a sample, at the batch size of the trial.
        away: root mean square distance from the many-step solution, on the scaled axis; None for ways with noise of their own.
        frechet, half: Fréchet distance to held-out data and half of its 95 % interval over the samples; None: not measured.
    """

    how: Sampling
    calls: int
    seconds: float
    away: float | None = None
    frechet: float | None = None
    half: float | None = None

    @property
    def way(self) -> str:
        return f"{self.how.sampler}, {self.how.spacing}"


@dataclass(frozen=True)
class Trials:
    """Ways of sampling, measured alike.

    Args:
        tried: by network calls, then from near to far.
        reference: the many-step solution in words, or nothing. doubt: how far it is from one of half as many steps, root mean square.
        pictures: samples compared with the many-step solution, and with held-out data. heldout: items of these.
        features: the space of the Fréchet distance, or nothing. floor: what as many training items as there are samples score.
        level: what one grey level is on the scaled axis; None where data have no levels.
    """

    tried: tuple[Tried, ...]
    reference: str
    doubt: float | None
    pictures: tuple[int, int]
    heldout: int
    features: str
    floor: float | None
    level: float | None

    @property
    def winner(self) -> Tried:
        """The fewest calls whose distance to held-out data is within 5 % of the best, else the way nearest to the solution.

        Where nothing was held against data: the fewest calls within half a grey level of the solution, else the nearest.
        """
        seen = [(each.frechet, each) for each in self.tried if each.frechet is not None]
        if seen:
            best = min(frechet for frechet, _ in seen)
            good = [
                (each.calls, frechet, i) for i, (frechet, each) in enumerate(seen) if frechet <= (1 + _ENOUGH) * best
            ]
            return seen[min(good)[2]][1]
        near = [(each.away, each) for each in self.tried if each.away is not None]
        if not near:
            return self.tried[0]
        good = [(each.calls, away, i) for i, (away, each) in enumerate(near) if self.level and away <= self.level / 2]
        return near[min(good)[2] if good else min((away, i) for i, (away, _) in enumerate(near))[1]][1]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        rows = [
            {
                "sampler": each.how.sampler, "spacing": each.how.spacing, "steps": each.how.steps, "calls": each.calls,
                "seconds": each.seconds, "away": each.away, "frechet": each.frechet, "frechet_half": each.half,
            }
            for each in self.tried
        ]  # fmt: skip
        facts = {key: value for key, value in vars(self).items() if key != "tried"}
        return facts | {"pictures": list(self.pictures), "tried": rows, "winner": self.tried.index(self.winner)}


def ways(model: Model, calls: Sequence[int] = CALLS, named: Sequence[tuple[str, str]] | None = None) -> list[Sampling]:
    """The ways to be tried: each sampler and spacing at the most steps that each number of calls allows.

    Raises:
        UserError: where the model leaves no choice, and for a sampler or a spacing that does not exist or suit it.
    """
    process = model.denoiser.process
    if model.denoiser.consecutive:
        raise UserError("this network speaks of single steps alone, so there is no way of sampling to choose")
    found: list[Sampling] = []
    for sampler, spacing in named or (_GAUSSIAN if process.continuous else _DISCRETE):
        try:
            solver = samplers.get(sampler)
        except ValueError as error:
            raise UserError(str(error)) from None
        for most in calls:
            steps = max((n for n in range(1, min(most, process.T) + 1) if (solver.calls(n) or 0) <= most), default=0)
            if not steps or solver.calls(steps) is None:
                continue
            how = Sampling(sampler, steps, spacing)
            try:
                model.walk(sampler=sampler, steps=steps, spacing=spacing)
            except UserError:
                if named:
                    raise
                continue  # of the usual ways some do not suit some models
            found.append(how)
    found = list(dict.fromkeys(found))  # of a short chain, several numbers of calls may allow the same steps
    if not found:
        raise UserError(f"no way of sampling takes {min(calls, default=0)} network calls or fewer: allow more")
    return found


def try_ways(
    model: Model,
    chosen: Sequence[Sampling],
    dataset: Dataset | None,
    *,
    seconds: float = 120.0,
    pictures: int | None = None,
    features: str | None = None,
    batch: int = 64,
    bar: Bar = silent,
) -> Trials:
    """Tries ways of sampling within about so many seconds.

    First each deterministic way from the same noise as a solution of many steps, on a few samples; then the nearest at each
    number of calls, and all with noise of their own, against held-out data.

    Args:
        dataset: the model's data; None leaves the second part out.
        seconds: for everything but reading data; more samples are drawn where more time is.
        pictures: how many samples are held against data, instead of as many as the time allows; all ways are then.
        features: see ``extractors.find``.
    """
    held = dataset is not None and not quality.too_few(dataset)
    each = _call_seconds(model, batch)
    still = [how for how in chosen if not samplers.get(how.sampler).stochastic]
    continuous = model.denoiser.process.continuous and bool(still)
    found = {how: Tried(how, _calls(how), math.nan) for how in chosen}
    few, doubt = 0, None
    if continuous:
        spent = sum(_calls(how) for how in still) + 1.5 * _calls(_solution(model))
        few = int(max(4, min(256, (0.3 if held else 0.9) * seconds / (each * spent))))
        found, doubt = _against_solution(model, found, still, few, batch, bar)
    many, heldout, floor, name = 0, 0, None, ""
    if held:
        assert dataset is not None
        going = list(chosen) if pictures else _going(found)
        spent = sum(_calls(how) for how in going)
        many = pictures or int(max(_FEWEST, 0.65 * seconds / (each * spent)))
        found, heldout, floor, name = _against_data(model, found, going, dataset, many, features, batch, bar)
    order = sorted(found.values(), key=lambda one: (one.calls, _last(one.frechet), _last(one.away)))
    return Trials(
        tuple(order),
        _solution(model).walked if continuous else "",
        doubt,
        (few, many),
        heldout,
        name,
        floor,
        2 / 255 if model.spec.eight_bit else None,
    )


def _against_solution(
    model: Model, found: dict[Sampling, Tried], still: Sequence[Sampling], n: int, batch: int, bar: Bar
) -> tuple[dict[Sampling, Tried], float | None]:
    whole = _solution(model)
    half = replace(whole, steps=-(-whole.steps // 2))
    total, done = _calls(whole) + _calls(half) + sum(map(_calls, still)), 0
    with bar("towards the many-step solution", "network calls") as update:

        def seen(how: Sampling) -> tuple[Tensor, float]:
            nonlocal done
            began = time.perf_counter()
            x = _drawn(model, how, n, batch)
            done += _calls(how)
            update(done, total)
            return x, (time.perf_counter() - began) / n

        truth = seen(whole)[0]
        doubt = _away(seen(half)[0], truth)
        found = dict(found)
        for how in still:
            x, seconds = seen(how)
            found[how] = replace(found[how], away=_away(x, truth), seconds=seconds)
    return found, doubt


def _against_data(
    model: Model,
    found: dict[Sampling, Tried],
    going: Sequence[Sampling],
    dataset: Dataset,
    n: int,
    features: str | None,
    batch: int,
    bar: Bar,
) -> tuple[dict[Sampling, Tried], int, float, str]:
    with bar("features of the data", "items") as update:
        known = quality.reference(model, dataset, extractors.find(features, model.spec), progress=update)
    from_heldout = frechet_from(known.others)
    found = dict(found)
    with bar("against held-out data", "samples") as update:
        for place, how in enumerate(going):
            drawn = draw(
                model, n, known.extractor, how, batch=batch,
                progress=lambda done, _, place=place: update(place * n + done, len(going) * n),
            )  # fmt: skip
            found[how] = replace(found[how], seconds=drawn.seconds / n)
            if bool(drawn.features.isfinite().all()):  # a way may leave the numbers: it has no distance then
                value, half = bootstrap_interval(from_heldout, drawn.features, draws=25)
                found[how] = replace(found[how], frechet=value, half=half)
    floor = from_heldout(known.own[torch.linspace(0, len(known.own) - 1, min(n, len(known.own))).round().long()])
    return found, len(known.others), floor, known.extractor.name


def _solution(model: Model) -> Sampling:
    return Sampling("dpm++3m", min(_MANY, model.denoiser.process.T), "log-snr")


def _going(found: dict[Sampling, Tried]) -> list[Sampling]:
    """The nearest few at each number of calls, and all whose noise is their own."""
    kept: list[Sampling] = []
    for calls in sorted({each.calls for each in found.values()}):
        same = [each for each in found.values() if each.calls == calls]
        near = sorted((each for each in same if each.away is not None), key=lambda each: _last(each.away))
        noisy = [each for each in same if samplers.get(each.how.sampler).stochastic]
        kept += [each.how for each in (*near[:_KEPT], *noisy)]
    return kept


def _drawn(model: Model, how: Sampling, n: int, batch: int) -> Tensor:
    """Samples 0 … n-1 as the network sees them: rounded to levels, small distances would be lost."""
    way = asdict(how)
    return torch.cat(
        [*model.drawn(range(n), seed=way.pop("seed"), batch=batch, shown={"label": way.pop("label")}, **way)]
    )


def _away(x: Tensor, truth: Tensor) -> float | None:
    away = float((x.double() - truth.double()).square().mean().sqrt())
    return away if math.isfinite(away) else None


def _last(value: float | None) -> float:
    """For sorting: what was not measured comes last."""
    return math.inf if value is None else value


def _calls(how: Sampling) -> int:
    calls = samplers.get(how.sampler).calls(how.steps)
    assert calls is not None
    return calls


def _call_seconds(model: Model, batch: int) -> float:
    """What one network call takes for one sample, at this batch size."""
    how = Sampling(model.denoiser.process.sampler, 1)
    _drawn(model, how, batch, batch)
    began = time.perf_counter()
    _drawn(model, how, batch, batch)
    return (time.perf_counter() - began) / batch
