from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from tests.oracles.denoisers import Counting, gaussian_denoiser
from tests.samplers.solvers import DETERMINISTIC, EVERY
from unstir.denoisers import Condition, DenoiserBase, GaussianMixtureDenoiser, Prediction
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers import (
    DDIM,
    NAMES,
    Ancestral,
    DPMMultistep,
    DPMSinglestep,
    Grid,
    Sampler,
    State,
    UniPC,
    get,
    sample,
    walk,
)
from unstir.schedules import LinearBeta, Time

F64 = torch.float64
each = pytest.mark.parametrize("sampler", EVERY.values(), ids=EVERY)


def _denoiser() -> GaussianMixtureDenoiser:
    g = torch.Generator().manual_seed(0)
    return GaussianMixtureDenoiser(
        Gaussian(LinearBeta()),
        torch.tensor([0.5, 0.5], dtype=F64),
        torch.randn(2, 3, dtype=F64, generator=g),
        torch.eye(3, dtype=F64).expand(2, 3, 3) * 0.1,
    )


def _step(denoiser: DenoiserBase, sampler: Sampler, state: State, indices: list[int]) -> State:
    x, t = sampler.query(state)
    return sampler.advance(state, denoiser.predict(x, t), NoiseSource(7, indices))


def _begin(sampler: Sampler, indices: list[int], grid: Grid) -> State:
    prior = Gaussian(LinearBeta()).prior((len(indices), 3), F64)
    return sampler.start(prior.draw(NoiseSource(7, indices), "prior"), grid.times)


def _run(denoiser: DenoiserBase, sampler: Sampler, state: State, indices: list[int]) -> Tensor:
    while not bool(state.done.all()):
        state = _step(denoiser, sampler, state, indices)
    return state.x


@each
@pytest.mark.parametrize("lead", [1, 2, 5])
def test_requests_at_different_times_share_calls(sampler: Sampler, lead: int) -> None:
    """Two requests with grids of their own, one begun some calls later, batched, finished apart: as if run alone."""
    denoiser = _denoiser()
    one, two = Grid.trailing(LinearBeta(), 9), Grid.log_snr(LinearBeta(), 9)
    alone = [_run(denoiser, sampler, _begin(sampler, rows, grid), rows) for rows, grid in (([3, 8], one), ([5], two))]

    first = _begin(sampler, [3, 8], one)
    for _ in range(lead):
        first = _step(denoiser, sampler, first, [3, 8])
    both, indices = State.concatenate([first, _begin(sampler, [5], two)]), [3, 8, 5]
    finished: dict[int, Tensor] = {}
    while indices:
        both = _step(denoiser, sampler, both, indices)
        for row in both.done.nonzero().flatten().tolist():
            finished[indices[row]] = both.x[row]
        indices = [i for i, done in zip(indices, both.done.tolist()) if not done]
        both = both.select(~both.done)
    torch.testing.assert_close(torch.stack([finished[3], finished[8]]), alone[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(finished[5][None], alone[1], rtol=1e-12, atol=1e-12)


@each
def test_rows_reordered_on_the_way_stay_themselves(sampler: Sampler) -> None:
    denoiser, grid = _denoiser(), Grid.trailing(LinearBeta(), 6)
    rows = [0, 1, 2, 3]
    whole = _run(denoiser, sampler, _begin(sampler, rows, grid), rows)
    state = _begin(sampler, rows, grid)
    for _ in range(3):
        state = _step(denoiser, sampler, state, rows)
    order = [2, 0, 3]
    torch.testing.assert_close(_run(denoiser, sampler, state.select(torch.tensor(order)), order), whole[order])


@each
def test_a_sample_is_the_same_alone_and_in_any_batch(sampler: Sampler) -> None:
    """Trap 43: the noise to the bit, x to rounding."""
    denoiser, grid = _denoiser(), Grid.trailing(LinearBeta(), 8)
    batch = sample(denoiser, sampler, grid, (5, 3), seed=1, indices=[9, 2, 17, 4, 1 << 40])
    for row, index in enumerate([9, 2, 17, 4, 1 << 40]):
        alone = sample(denoiser, sampler, grid, (1, 3), seed=1, indices=[index])
        torch.testing.assert_close(alone[0], batch[row], rtol=1e-5, atol=1e-5)
    assert torch.equal(sample(denoiser, sampler, grid, (5, 3), seed=1, indices=[9, 2, 17, 4, 1 << 40]), batch)


def test_the_start_is_keyed_to_the_bit() -> None:
    denoiser, grid = _denoiser(), Grid.trailing(LinearBeta(), 4)

    def start(**options: object) -> Tensor:
        return next(iter(walk(denoiser, DDIM(), grid, **options)))[1].x_t  # pyright: ignore[reportArgumentType]

    batch = start(shape=(3, 3), seed=2, indices=[5, 6, 7])
    assert torch.equal(start(shape=(1, 3), seed=2, indices=[6])[0], batch[1])
    assert not torch.equal(start(shape=(1, 3), seed=3, indices=[6])[0], batch[1])
    assert torch.equal(start(shape=(3, 3)), start(shape=(3, 3), seed=0, indices=[0, 1, 2]))


def test_noise_of_the_steps_is_fresh() -> None:
    """No two steps, and no step and the start, share their draws."""

    class Listening(NoiseSource):
        drawn: list[Tensor]

        def normal(self, *args, **kwargs) -> Tensor:
            out = super().normal(*args, **kwargs)
            self.drawn.append(out)
            return out

    source = Listening(0, [0])
    source.drawn = []
    sampler, denoiser = Ancestral(), _denoiser()
    state = sampler.start(
        Gaussian(LinearBeta()).prior((1, 3), F64).draw(source, "prior"), Grid.trailing(LinearBeta(), 6).times
    )
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x, t), source)
    values = torch.cat(source.drawn).flatten()
    assert len(values.unique()) == len(values)


@each
def test_walk_shows_every_network_call(sampler: Sampler) -> None:
    denoiser, grid = Counting(_denoiser()), Grid.trailing(LinearBeta(), 5)
    seen = [(float(p.t[0]), s.x) for s, p in walk(denoiser, sampler, grid, (2, 3))]
    assert len(seen) == denoiser.calls
    assert sampler.calls(5) in (denoiser.calls, None)
    assert torch.equal(seen[-1][1], sample(denoiser, sampler, grid, (2, 3)))
    assert seen[0][0] == 1000
    assert not any(x.requires_grad for _, x in seen)


def test_sampling_holds_two_steps_at_most() -> None:
    """A walk of a thousand steps must not keep a thousand batches."""
    denoiser = _denoiser()
    alive: list[weakref.ref] = []
    most = 0

    class Watched(DenoiserBase):
        process = denoiser.process

        def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
            nonlocal most
            prediction = denoiser.predict(x_t, t, condition)
            most = max(most, sum(ref() is not None for ref in alive))
            alive.append(weakref.ref(prediction))
            return prediction

    sample(Watched(), DDIM(), Grid.trailing(LinearBeta(), 40), (2, 3))
    assert most <= 2


@each
def test_the_condition_goes_with_every_call(sampler: Sampler) -> None:
    seen: list[Condition | None] = []
    inner = _denoiser()

    class Asked(DenoiserBase):
        process = inner.process

        def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
            seen.append(condition)
            return inner.predict(x_t, t)

    condition = Condition(label=torch.tensor([1, 2]))
    sample(Asked(), sampler, Grid.trailing(LinearBeta(), 3), (2, 3), condition=condition)
    assert all(c is condition for c in seen)


@each
def test_no_call_edits_its_inputs(sampler: Sampler) -> None:
    denoiser, times = _denoiser(), Grid.trailing(LinearBeta(), 4).times
    x = torch.randn(2, 3, dtype=F64)
    kept_x, kept_times = x.clone(), times.clone()
    state = sampler.start(x, times)
    while not bool(state.done.all()):
        before = [v.clone() for v in (state.x, state.times, state.position, *state.history.values())]
        query, t = sampler.query(state)
        asked = query.clone(), t.clone()
        prediction = denoiser.predict(query, t)
        said = prediction.x0.clone()
        following = sampler.advance(state, prediction, NoiseSource(0, [0, 1]))
        for a, b in zip(before, (state.x, state.times, state.position, *state.history.values())):
            assert torch.equal(a, b)
        assert torch.equal(asked[0], query)
        assert torch.equal(asked[1], t)
        assert torch.equal(said, prediction.x0)
        state = following
    assert torch.equal(x, kept_x)
    assert torch.equal(times, kept_times)


@each
def test_dtype_and_shape_are_those_asked_for(sampler: Sampler) -> None:
    process = Gaussian(LinearBeta())
    for dtype in (torch.float32, F64):
        x = sample(gaussian_denoiser(process, 0.0, 1.0), sampler, Grid.trailing(LinearBeta(), 3), (4, 1), dtype=dtype)
        assert x.dtype == dtype
        assert x.shape == (4, 1)


def test_samplers_are_found_by_name() -> None:
    for name in NAMES:
        assert isinstance(get(name), Sampler)
    assert get("ddim", eta=0.25).stochastic
    assert not get("ddim").stochastic
    with pytest.raises(ValueError, match="'plms'"):
        get("plms")


def test_stochastic_samplers_ask_for_noise_and_wrong_options_are_refused() -> None:
    denoiser = _denoiser()
    for sampler in (DDIM(1.0), Ancestral()):
        assert sampler.stochastic
        state = sampler.start(torch.zeros(1, 3), Grid.trailing(LinearBeta(), 2).times)
        with pytest.raises(ValueError, match="NoiseSource"):
            sampler.advance(state, denoiser.predict(*sampler.query(state)), None)
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="eta"):
            DDIM(eta)
    for wrong in ("deis:order=4", "deis:space=time", "unipc2:b=3"):
        with pytest.raises(ValueError, match=r"DEIS|UniPC"):
            get(wrong)
    for kind in (DPMSinglestep, DPMMultistep, UniPC):
        with pytest.raises(ValueError, match="2 or 3, not 4"):
            kind(4)
    with pytest.raises(ValueError, match="2 indices"):
        sample(denoiser, DDIM(), Grid.trailing(LinearBeta(), 2), (3, 3), indices=[1, 2])


def test_deterministic_samplers_need_no_noise() -> None:
    denoiser, grid = _denoiser(), Grid.trailing(LinearBeta(), 4)
    for sampler in DETERMINISTIC.values():
        assert not sampler.stochastic
        state = sampler.start(torch.ones(2, 3), grid.times)
        while not bool(state.done.all()):
            state = sampler.advance(state, denoiser.predict(*sampler.query(state)), None)
        assert bool(torch.isfinite(state.x).all())


def test_walking_leaves_the_callers_gradients_alone() -> None:
    """No graph is built inside, and gradients stay on for whoever consumes the walk."""
    weight = torch.nn.Parameter(torch.ones(()))
    inner = _denoiser()

    class Learns(DenoiserBase):
        process = inner.process

        def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
            prediction = inner.predict(x_t, t)
            return prediction.with_x0(weight * prediction.x0)

    for state, prediction in walk(Learns(), DDIM(), Grid.trailing(LinearBeta(), 3), (2, 3)):
        assert torch.is_grad_enabled()
        assert not state.x.requires_grad
        assert not prediction.x0.requires_grad


def test_a_walk_from_beyond_the_chains_end_is_refused() -> None:
    """A grid made from another schedule."""
    denoiser = gaussian_denoiser(Gaussian(LinearBeta(10, 0.05, 0.5)), 0.0, 1.0)
    for grid in (Grid.trailing(LinearBeta(), 10), Grid.custom([20, 5, 0])):
        with pytest.raises(ValueError, match="ends at T = 10"):
            sample(denoiser, DDIM(), grid, (2, 1))
