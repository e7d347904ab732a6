from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.oracles.curves import SCHEDULES
from tests.oracles.denoisers import Constant as Always
from unstir.bound import variational_bound
from unstir.denoisers import Clipped, Condition, Denoiser
from unstir.denoisers.discrete import ReversePrediction
from unstir.distributions import Bernoulli
from unstir.networks import MLP, MLPConfig
from unstir.processes import Binomial, Categorical, Gaussian, Process
from unstir.schedules import Constant, Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64


class Recorder(nn.Module):
    """Says ``factor · x`` and remembers what it was fed."""

    def __init__(self, factor: float = 0.3, channels: int = 1) -> None:
        super().__init__()
        self.factor, self.channels = factor, channels
        self.seen: list[tuple[Tensor, Tensor, Condition | None]] = []

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        self.seen.append((x, time, condition))
        return torch.cat([self.factor * x] * self.channels, dim=1)


class Spread(nn.Module):
    """A network with learned variance that always says the same spread."""

    def __init__(self, spread: float | Tensor) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return torch.cat([0.5 * x, torch.zeros_like(x) + self.spread], dim=1)


def test_the_network_sees_x_t_minus_1_and_the_condition() -> None:
    network = Recorder()
    condition = Condition(label=torch.tensor([3, 4]))
    x = torch.randn(2, 1, 4, 4)
    Denoiser(network, Gaussian(LinearBeta())).predict(x, torch.tensor([7, 900]), condition)
    Denoiser(network, Gaussian(LinearBeta())).predict(x, 7)
    (x_in, time, given), (_, scalar_time, none) = network.seen
    assert x_in is x
    assert time.tolist() == [6, 899]
    assert given is condition
    assert scalar_time.tolist() == [6, 6]
    assert none is None


def test_a_prediction_is_in_the_dtype_of_x_t() -> None:
    class Half(Recorder):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return super().forward(x, time, condition).to(torch.bfloat16)

    for dtype in (torch.float32, F64):
        prediction = Denoiser(Half(), Gaussian(LinearBeta())).predict(torch.ones(2, 3, dtype=dtype), 500)
        for said in (prediction.x0, prediction.eps, prediction.v, prediction.score):
            assert said.dtype == dtype


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "preconditioned"])
@pytest.mark.parametrize("name", ["linear-1000", "cosine-100"])
def test_clipping_derives_eps_and_v_again(kind: str, name: str) -> None:
    """Trap 5: for a model that forces |x0| > 1, alpha x0c + sigma eps' == x_t; the reverse mean uses the clipped x0."""
    process = Gaussian(SCHEDULES[name])
    t = torch.linspace(1, process.T, 20, dtype=F64)
    x_t = 3 * torch.randn(20, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    clipped = Clipped(Denoiser(Recorder(2.0), process, prediction=kind), -1, 0.5)
    prediction = clipped.predict(x_t, t)
    free = clipped.denoiser.predict(x_t, t)
    assert bool((free.x0.abs() > 1).any())
    assert torch.equal(prediction.x0, free.x0.clamp(-1, 0.5))
    alpha, sigma = process.schedule.alpha(t)[:, None], process.schedule.sigma(t)[:, None]
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x_t, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(prediction.v, alpha * prediction.eps - sigma * prediction.x0)
    torch.testing.assert_close(prediction.score, -prediction.eps / sigma)
    s = t - 1
    torch.testing.assert_close(prediction.reverse(s).mean, process.posterior(x_t, prediction.x0, s, t).mean)
    torch.testing.assert_close(prediction.reverse(s).variance, free.reverse(s).variance)


def test_a_changed_x0_is_read_even_after_the_old_one_was() -> None:
    prediction = Denoiser(Recorder(), Gaussian(LinearBeta())).predict(torch.ones(1, 2, dtype=F64), 300)
    old = (prediction.x0, prediction.eps, prediction.v)
    new = prediction.with_x0(torch.zeros(1, 2, dtype=F64))
    assert not any(torch.equal(a, b) for a, b in zip(old, (new.x0, new.eps, new.v)))


def test_the_cosine_end_does_not_explode_what_is_bounded() -> None:
    """Trap 12: 1/sqrt(alpha_bar_T) is 2e4 there; v keeps x0 of the size of v, and every form is finite in float32."""
    process = Gaussian(Cosine(1000))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    off = Denoiser(Recorder(0.0), process, prediction="v").predict(x, 1000)
    assert float(off.x0.abs().max()) < 1e-3
    for kind in ("eps", "x0", "v", "preconditioned"):
        prediction = Denoiser(Recorder(0.5), process, prediction=kind).predict(x, 1000)
        for said in (prediction.x0, prediction.eps, prediction.v, prediction.reverse(prediction.t - 1).mean):
            assert bool(torch.isfinite(said).all())


# --- reverse variances ------------------------------------------------------------------------------------------------

PAIRS = [(0.0, 1.0), (0.0, 40.0), (1.0, 2.0), (3.0, 30.0), (59.0, 60.0), (12.5, 12.75)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_small_and_large_are_the_posteriors_and_the_steps_for_the_actual_pair(name: str) -> None:
    """Trap 14: a strided chain takes its variances from its own pairs."""
    process = Gaussian(SCHEDULES[name])
    x = torch.randn(2, 1, 3, 3, dtype=F64)
    for s, t in [(0.0, process.T / 7), (process.T * 2 / 7, process.T * 3 / 7), (process.T * 6 / 7, float(process.T))]:
        s_row, t_row = (torch.full((2,), u, dtype=F64) for u in (s, t))
        reverse = {
            kind: Denoiser(Recorder(), process, "x0", variance=kind).predict(x, t_row).reverse(s_row)
            for kind in ("small", "large")
        }
        assert torch.equal(reverse["small"].variance, process.posterior(x, x, s, t_row).variance)
        assert torch.equal(reverse["large"].variance, process.step(x, s_row, t_row).variance)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_learned_variance_interpolates_logs(pair: tuple[float, float], dtype: torch.dtype) -> None:
    """Trap 15: spread -1 is small, +1 large, 0 their geometric mean."""
    process = Gaussian(InverseTime(60))
    x = torch.ones(2, 1, 3, 3, dtype=dtype)
    s, t = (torch.full((2,), u, dtype=F64) for u in pair)
    small, large = (v.to(dtype).expand_as(x) for v in process.variances(s, t, x))
    for spread, expected in (
        (-1.0, small),
        (1.0, large),
        (0.0, (small * large).sqrt()),
        (0.5, small**0.25 * large**0.75),
    ):
        variance = Denoiser(Spread(spread), process, "v", variance="learned").predict(x, t).reverse(s).variance
        torch.testing.assert_close(
            variance.expand_as(x), expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0
        )


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("spread", [-1.3, -1.0, 0.0, 1.0, 1.3])
def test_learned_variance_and_its_gradient_are_finite(pair: tuple[float, float], spread: float) -> None:
    """Also at s = 0, where log small is -inf, and a little outside -1 … 1, where nothing holds a network back."""
    process = Gaussian(InverseTime(60))
    value = torch.full((1, 2, 3), spread, requires_grad=True)
    x = torch.ones(4, 2, 3)
    s, t = (torch.full((4,), u, dtype=F64) for u in pair)
    denoiser = Denoiser(Spread(value), process, "v", variance="learned")
    variance = denoiser.predict(x, t).reverse(s).variance
    assert bool(torch.isfinite(variance).all())
    assert bool((variance >= 0).all())
    variance.sum().backward()
    assert value.grad is not None
    assert bool(torch.isfinite(value.grad).all())


def test_learned_variance_leaves_the_mean_to_the_first_half() -> None:
    process = Gaussian(LinearBeta())
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([5.0, 600.0], dtype=F64)
    learned = Denoiser(Spread(0.2), process, variance="learned").predict(x, t)
    fixed = Denoiser(Recorder(0.5), process).predict(x, t)
    assert torch.equal(learned.eps, fixed.eps)
    assert torch.equal(learned.reverse(t - 1).mean, fixed.reverse(t - 1).mean)


def test_a_callable_gives_its_own_variance_row_by_row() -> None:
    """A value for each row, (B,), belongs to rows: with B = D it must not slip along the sample."""
    process = Gaussian(LinearBeta())
    x, t = torch.zeros(3, 3), torch.tensor([10.0, 20.0, 30.0], dtype=F64)
    denoiser = Denoiser(Recorder(), process, variance=lambda s, t: t - s + 0 * s)
    reverse = denoiser.predict(x, t).reverse(torch.tensor([9.0, 18.0, 25.0], dtype=F64))
    drawn = reverse.mean + reverse.variance.sqrt() * torch.ones(3, 3)
    torch.testing.assert_close((drawn - reverse.mean)[:, 0].double(), torch.tensor([1.0, 2.0, 5.0], dtype=F64).sqrt())
    torch.testing.assert_close((drawn - reverse.mean)[:, 2].double(), torch.tensor([1.0, 2.0, 5.0], dtype=F64).sqrt())


def test_an_unknown_variance_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'fixed'"):
        Denoiser(Recorder(), Gaussian(LinearBeta()), variance="fixed")


def test_no_call_edits_its_inputs() -> None:
    process = Gaussian(LinearBeta())
    x, t, s = torch.randn(4, 2), torch.tensor([1.0, 2, 3, 4], dtype=F64), torch.tensor([0.0, 1, 2, 3], dtype=F64)
    kept = [tensor.clone() for tensor in (x, t, s)]
    for denoiser in (
        Denoiser(Recorder(), process),
        Denoiser(Spread(0.1), process, variance="learned"),
        Clipped(Denoiser(Recorder(5.0), process, "x0")),
        Always(process, torch.zeros(2)),
    ):
        prediction = denoiser.predict(x, t)
        _ = prediction.x0, prediction.eps, prediction.v, prediction.score, prediction.reverse(s)
        for before, after in zip(kept, (x, t, s)):
            assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("process", "variance", "shape", "answer"),
    [
        (Gaussian(LinearBeta()), "small", (8, 2), (8, 1)),
        (Gaussian(LinearBeta()), "small", (2, 3, 4, 4), (2, 1, 4, 4)),
        (Gaussian(LinearBeta()), "small", (2, 3, 4, 4), (2, 6, 4, 4)),
        (Gaussian(LinearBeta()), "learned", (8, 2), (8, 3)),
        (Gaussian(LinearBeta()), "learned", (2, 3, 4, 4), (2, 6, 1, 1)),
        (Binomial(InverseTime(1000)), "small", (8, 2), (8, 1)),
        (Categorical(InverseTime(1000), 4), "small", (8, 2), (8, 4)),
        (Categorical(InverseTime(1000), 4), "small", (8, 2), (1, 8)),
    ],
)
def test_an_answer_of_another_shape_is_refused(
    process: Process, variance: str, shape: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    """Else it would broadcast against x_t, or be cut in the wrong place, and train to something."""

    class Says(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return torch.zeros(answer)

    x = torch.zeros(shape, dtype=torch.int64 if isinstance(process, Categorical) else torch.float32)
    with pytest.raises(ValueError, match=r"channels out"):
        Denoiser(Says(), process, variance=variance).predict(x, 5)


def test_a_range_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ValueError, match="rises"):
        Clipped(Denoiser(Recorder(), Gaussian(LinearBeta())), 1.0, -1.0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("schedule", [InverseTime(1000), Cosine(1000)])
def test_the_next_bits_tell_the_clean_ones(schedule: Schedule, dtype: torch.dtype) -> None:
    """A step made of p(x0) gives p(x0) back, also where float32 has few digits left for the difference that tells them apart."""
    process = Binomial(schedule, 0.2)
    x_t = torch.tensor([[0.0, 1.0]], dtype=dtype).expand(4, 2)
    t = torch.tensor([2.0, 300.0, 900.0, 1000.0], dtype=F64)
    x0 = Bernoulli.from_probs(torch.tensor([[0.3, 0.7]], dtype=F64).expand(4, 2))
    step = process.posterior(x_t.double(), x0, t - 1, t).logits.to(dtype)
    found = ReversePrediction(process, x_t, t, step).x0
    told = (
        process.posterior(x_t.double(), torch.ones_like(x_t.double()), t - 1, t).mean
        - process.posterior(x_t.double(), torch.zeros_like(x_t.double()), t - 1, t).mean
    )
    # What the rounding of the step's own logits to the dtype leaves.
    torch.testing.assert_close(
        found.mean.double(), x0.mean, rtol=0, atol=float((4 * torch.finfo(dtype).eps / told).amax())
    )
    assert found.logits.dtype == dtype


def test_a_step_that_tells_nothing_of_the_clean_bits_leaves_them_to_the_prior() -> None:
    """alpha_bar so small that the posterior is the same for both values of x0."""
    process = Binomial(Constant(1000, 0.05), 0.2)
    x_t, t = torch.tensor([[0.0, 1.0]]), torch.tensor([1000.0], dtype=F64)
    step = process.step(x_t, t - 1, t).logits
    x0 = ReversePrediction(process, x_t, t, step).x0.mean
    assert bool(((x0 >= 0) & (x0 <= 1)).all())
    process = Binomial(Constant(1000, 0.5), 0.2)
    x0 = ReversePrediction(process, x_t, t, process.step(x_t, t - 1, t).logits).x0.mean
    torch.testing.assert_close(x0, torch.full_like(x0, 0.2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_asked_in_its_own_dtype(dtype: torch.dtype) -> None:
    """The walk and the bound around it stay in float32."""
    network = MLP(MLPConfig(2, 2, width=16, depth=1)).to(dtype)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    denoiser = Denoiser(network, Gaussian(LinearBeta.rescaled(10)))
    assert denoiser.predict(x, 5).x0.dtype == torch.float32
    bound = variational_bound(denoiser, x.to(dtype), decoder="normal").total
    assert bool(bound.isfinite().all())


def test_times_keep_their_precision_in_half() -> None:
    """bfloat16 counts in steps of four at 1,000."""

    class Half(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones((), dtype=torch.bfloat16))

    network = Half()
    Denoiser(network, Gaussian(LinearBeta())).predict(torch.zeros(2, 3), torch.tensor([1000, 998]))
    ((x, time, _),) = network.seen
    assert x.dtype == torch.bfloat16
    assert time.tolist() == [999, 997]
