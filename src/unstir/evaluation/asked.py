"""One evaluation from question to answers: what is to be measured, in full, so that it can be asked again word for word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, get_type_hints

from PIL import Image

from unstir import samplers
from unstir.data import Dataset
from unstir.denoisers import CLIPS
from unstir.errors import UserError
from unstir.evaluation import chains, extractors, likelihood, memorising, ode, quality, rate, yardsticks
from unstir.evaluation import fields as types
from unstir.evaluation.extractors import exported
from unstir.evaluation.quality import Reference
from unstir.evaluation.sampling import Drawn, Sampling, draw
from unstir.runs import Model
from unstir.runs.walks import AUTO, PRECISIONS, walk_of
from unstir.samplers.options import parsed

LIKELIHOODS = ("bound", "yardsticks", "ode", "rate")
OF_SAMPLES = (*quality.MEASURES, "memorising")
METRICS = (*LIKELIHOODS, *OF_SAMPLES)

CHOICES: dict[str, tuple[str, ...]] = {
    "spacing": chains.SPACINGS,
    "variance": ("analytic",),
    "clip": (AUTO, *CLIPS),
    "precision": PRECISIONS,
    "input_range": tuple(exported.RANGES),
}
"""What the words among an evaluation's options may be; None, where it may stand, is the default."""

SAMPLED = {
    "sampler": "sampler", "sample_steps": "steps", "sample_spacing": "spacing", "sample_times": "times",
    **{name: name for name in ("clip", "label", "guidance", "guidance_interval", "rescale", "autoguidance", "precision")},
}  # fmt: skip
"""What is asked of samples, and the name of the same in :class:`unstir.evaluation.sampling.Sampling`."""

_HOW_SAMPLES = {
    **dict.fromkeys(("features", "input_range"), "what samples are compared in"),
    **dict.fromkeys(SAMPLED, "how samples are drawn"),
}
"""What means nothing where no samples are drawn."""

Bar = Callable[[str, str], AbstractContextManager[Callable[..., None]]]
"""``bar(what, unit)`` gives a context with ``update(done, total)``: how long work shows its progress."""


@contextmanager
def silent(what: str, unit: str) -> Iterator[Callable[..., None]]:
    """A :data:`Bar` that shows nothing."""
    yield lambda *_: None


class Result(Protocol):
    def to_json(self) -> dict[str, Any]: ...

    def table(self) -> str: ...


@dataclass(frozen=True)
class Asked:
    """Everything that decides an evaluation's numbers beside weights and data.

    Args:
        metrics: of :data:`METRICS`, each once.
        images, within, terms, given_labels: of the bound: see ``likelihood.measure``. ``terms`` 0 for all.
        steps, spacing, variance: of the chain that is bounded: see ``chains``.
        samples, sampler, sample_steps, sample_spacing, sample_times, clip, label, guidance, guidance_interval, rescale, autoguidance,
            precision: of the samples: see ``sampling.Sampling``; what is None is the model's default.
        features, input_range: what samples are compared in: see ``extractors.find``.
        seed: of all noise. batch: how many at a time, which decides results to rounding.
    """

    metrics: tuple[str, ...] = ("bound", "yardsticks")
    images: int = 256
    within: float | None = None
    terms: int = 100
    given_labels: bool = False
    steps: int | None = None
    spacing: str | None = None
    variance: str | None = None
    samples: int = 2_048
    sampler: str | None = None
    sample_steps: int | None = None
    sample_spacing: str | None = None
    sample_times: tuple[float, ...] | None = None
    clip: str = AUTO
    label: str | None = None
    guidance: float = 1.0
    guidance_interval: tuple[float, ...] | None = None
    rescale: float = 0.0
    autoguidance: str | None = None
    precision: str | None = None
    features: str | None = None
    input_range: str = "-1,1"
    seed: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(name.strip() for name in self.metrics)))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in (None, *choices):
                raise UserError(f"{_option(name)} is one of {'; '.join(choices)}: not {getattr(self, name)!r}")
        _check_walk(self.sampler, self.sample_spacing)
        if self.images < 2 or self.batch < 1 or self.terms < 0:
            raise UserError("--images must be at least 2, for an interval, --batch at least 1, --terms at least 0")
        strange = [name for name in self.metrics if name not in METRICS]
        if strange or not self.metrics:
            raise UserError(f"there is no measure called {(*strange, '')[0]!r}; there are {', '.join(METRICS)}")
        if (self.steps or self.spacing or self.within) and "bound" not in self.metrics:
            raise UserError("--steps, --spacing and --within are about the bound: add it to --metrics")
        if self.variance and not self.stepped:
            raise UserError(
                "--variance is about the reverse steps of bound and rate: add one to --metrics, or leave it out"
            )
        if self.within is not None and not self.within > 0:
            raise UserError(f"--within is how wide half of the interval may be, above 0, not {self.within:g}")
        for name, what in _HOW_SAMPLES.items():
            if getattr(self, name) != getattr(type(self), name) and not self.of_samples:
                raise UserError(
                    f"{_option(name)} is {what}: add frechet, kernel, overlap or memorising to --metrics, or leave it out"
                )

    @property
    def stepped(self) -> bool:
        """Whether the widths of reverse steps come into it."""
        return bool({"bound", "rate"} & set(self.metrics))

    @property
    def of_samples(self) -> tuple[str, ...]:
        """The metrics that samples are drawn for."""
        return tuple(name for name in OF_SAMPLES if name in self.metrics)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self) | {"metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Asked:
        """The question that was written down.

        Raises:
            UserError: for what this version does not know, what is missing and what is of another type.
        """
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise UserError(f"the receipt asks for {', '.join(sorted(unknown))}, which this unstir does not know")
        if "metrics" not in values:
            raise UserError("asked.metrics is missing")
        kinds = get_type_hints(cls)
        for name, value in values.items():
            if wrong := types.check(value, kinds[name]):
                raise UserError(f"asked.{name} {wrong}")
        # JSON has lists alone.
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**read)

    def check(self, model: Model) -> None:
        """Refuses what this model cannot answer, before any data is read."""
        chains.check(model, self.steps, self.spacing)
        if self._fits(model):
            chains.check_variance(model)
        if "ode" in self.metrics:
            ode.check(model)
        if self.of_samples:
            quality.check(model, self.samples, self.of_samples)
            extractors.find(self.features, model.spec, input_range=self.input_range)
            walk_of(model.denoiser, model.spec, self.sampling(model))

    def settled(self, model: Model) -> Asked:
        """The same question with the model's own way of sampling written out, which may be another one tomorrow."""
        if not self.of_samples:
            return self
        how = self.sampling(model)
        return replace(self, **{name: getattr(how, said) for name, said in SAMPLED.items()})

    def sampling(self, model: Model) -> Sampling:
        """How the samples are drawn."""
        return Sampling.of(model, seed=self.seed, **{said: getattr(self, name) for name, said in SAMPLED.items()})

    def _fits(self, model: Model) -> bool:
        return self.stepped and (bool(self.variance) or model.denoiser.variance == "analytic")


def _check_walk(sampler: str | None, spacing: str | None) -> None:
    try:
        if sampler is not None:
            samplers.get(sampler)
        if spacing is not None and parsed(spacing)[0] not in samplers.SPACINGS:
            raise UserError(f"--sample-spacing is one of {'; '.join(samplers.SPACINGS)}: not {spacing!r}")
    except ValueError as error:
        raise UserError(f"--sampler: {error}") from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass
class Answers:
    """What was found, by name: ``bound``, ``yardsticks``, ``ode``, ``rate``, ``quality`` (of the distances), ``memorising``.

    Args:
        reference, drawn: of the measures of samples, where there were any.
        sheet: samples beside the training pictures nearest to them, where copies were looked for.
    """

    results: dict[str, Result] = field(default_factory=dict)
    reference: Reference | None = None
    drawn: Drawn | None = None
    sheet: Image.Image | None = None

    def to_json(self) -> dict[str, Any]:
        """Each result's JSON, by name."""
        return {name: result.to_json() for name, result in self.results.items()}

    @property
    def verdict(self) -> str:
        """What the bound means beside other coders, in a sentence; nothing where one of them was not measured."""
        bound, beside = self.results.get("bound"), self.results.get("yardsticks")
        if isinstance(bound, likelihood.Likelihood) and isinstance(beside, yardsticks.Yardsticks):
            return beside.verdict(bound.total)
        return ""

    def table(self) -> str:
        parts = {name: result.table() for name, result in self.results.items()}
        if self.verdict:
            parts["yardsticks"] += f"\n{self.verdict}"
        return "\n\n".join(parts.values())


def answer(asked: Asked, model: Model, dataset: Dataset, bar: Bar = silent) -> Answers:
    """Measures all that was asked for; see :meth:`Asked.check` for what is refused before any data is read.

    Raises:
        UserError: where copies of training data are looked for in other data.
    """
    if "memorising" in asked.metrics and dataset.spec.hash != model.spec.hash:
        raise UserError(
            "memorising holds samples against what the model learned from, and this is other data: leave --data or memorising out"
        )
    return _Work(asked, model, dataset, bar).all()


@dataclass
class _Work:
    asked: Asked
    model: Model
    dataset: Dataset
    bar: Bar

    def all(self) -> Answers:
        asked, found = self.asked, Answers()
        if asked._fits(self.model):
            with self.bar("fitting the variance", "network calls") as update:
                chains.fit_variance(self.model, self.dataset.train, **self._how, progress=update)
        for name in LIKELIHOODS:
            if name in asked.metrics:
                found.results[name] = getattr(self, f"_{name}")()
        if asked.of_samples:
            self._samples(found)
        return found

    @cached_property
    def _how(self) -> dict[str, Any]:
        asked = self.asked
        return {"images": asked.images, "given_labels": asked.given_labels, "seed": asked.seed, "batch": asked.batch}

    def _bound(self) -> Result:
        asked, times, spacing = self.asked, None, ""
        if asked.steps is not None:
            spacing = asked.spacing or chains.BEST
            with self.bar("choosing the steps", "network calls") as update:
                times = chains.times(
                    self.model, lambda: self.dataset.train, asked.steps, spacing, **self._how, progress=update
                )
        with self.bar("measuring", "network calls") as update:
            return likelihood.measure(
                self.model, self.dataset.heldout, terms=asked.terms or None, within=asked.within, times=times, spacing=spacing,
                **self._how, progress=update,
            )  # fmt: skip

    def _yardsticks(self) -> Result:
        with self.bar("other coders", "items") as update:
            return yardsticks.measure(
                self.dataset.train, self.dataset.heldout, self.dataset.spec, images=self.asked.images, progress=update
            )

    def _ode(self) -> Result:
        with self.bar("following the flow", "thousandths of the way") as update:
            return ode.measure(self.model, self.dataset.heldout, **self._how, progress=update)

    def _rate(self) -> Result:
        with self.bar("measuring the rate", "network calls") as update:
            return rate.measure(self.model, self.dataset.heldout, **self._how, progress=update)

    def _samples(self, found: Answers) -> None:
        asked, model = self.asked, self.model
        with self.bar("features of the data", "items") as update:
            reference = quality.reference(
                model,
                self.dataset,
                extractors.find(asked.features, model.spec, input_range=asked.input_range),
                progress=update,
            )
        with self.bar("sampling", "samples") as update:
            drawn = draw(
                model, asked.samples, reference.extractor, asked.sampling(model), batch=asked.batch, progress=update
            )
        found.reference, found.drawn = reference, drawn
        measures = tuple(name for name in quality.MEASURES if name in asked.metrics)
        if measures:
            found.results["quality"] = quality.measure(drawn, reference, measures, asked.seed)
        if "memorising" in asked.metrics:
            with self.bar("features of all training data", "items") as update:
                every = reference.seen(model, self.dataset.train.x, update)
            with self.bar("looking for copies", "items") as update:
                copies = memorising.measure(
                    drawn.x, drawn.features, self.dataset.train, every, reference.heldout, reference.others,
                    model.inside, reference.extractor.name, progress=update,
                )  # fmt: skip
            found.results["memorising"] = copies
            if model.spec.kind == "image":
                found.sheet = copies.sheet(drawn.x, self.dataset.train, model.spec)
