"""The last step: the denoiser's own, the forward kernel of [SD15], and what K leaves out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import gaussian_denoiser
from unstir.bound import Bound, decoder_nats, variational_bound
from unstir.denoisers import Condition, Denoiser
from unstir.noise import TwoPoint
from unstir.processes import Categorical, Gaussian
from unstir.schedules import Cosine, FromBetas, InverseTime, LinearBeta, Schedule

F64 = torch.float64
BENT = FromBetas(torch.tensor([0.05, 0.5, 0.02, 0.9, 0.3], dtype=F64))


def _bound(schedule: Schedule, m: float, v: float, variance: str, **options: object) -> Bound:
    """All in pairs of x0 at m ± sqrt(v) and eps at ±1: means of quadratics are expectations."""
    x0 = m + math.sqrt(v) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    noise = TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))
    return variational_bound(gaussian_denoiser(Gaussian(schedule), m, v, variance), x0, noise=noise, **options)  # pyright: ignore[reportArgumentType]


def test_the_reverse_decoder_is_the_denoisers_own_step_to_0() -> None:
    """N(x0_hat, sigma²(0, 1)): for large that is beta_1, the decoder "normal" of the default width."""
    own = _bound(BENT, 0.4, 0.1, "large", decoder="reverse")
    named = _bound(BENT, 0.4, 0.1, "large", decoder="normal")
    torch.testing.assert_close(own.decoder, named.decoder, rtol=1e-12, atol=1e-12)
    assert own.density


class Says(nn.Module):
    """Zero for x0, and one number for the variance."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread, dtype=F64))

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return torch.cat([torch.zeros_like(x), self.spread.expand_as(x)], 1)


@pytest.mark.parametrize("spread", [-2.0, 0.0, 3.0])
def test_a_free_variance_is_the_width_of_the_last_step(spread: float) -> None:
    denoiser = Denoiser(Says(spread), Gaussian(BENT), "x0", "free")
    x0, x_1 = torch.tensor([[0.3, -1.0]], dtype=F64), torch.tensor([[0.1, 0.2]], dtype=F64)
    with torch.no_grad():
        prediction = denoiser.predict(x_1, 1)
    variance = 1 / (1 + math.exp(-spread) * 0.95 / 0.05)  # sigmoid(spread + logit(beta_1))
    expected = math.log(2 * math.pi * variance) + (0.09 + 1.0) / (2 * variance)
    for name, scale in (("reverse", "beta_1"), ("normal", "reverse")):
        assert float(decoder_nats(prediction, x0, name, scale)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variance", ["small", "learned"])
def test_a_point_has_no_density_to_give(variance: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return torch.cat([x] * (2 if variance == "learned" else 1), 1) * 0

    denoiser, x0 = Denoiser(Net(), Gaussian(BENT), "x0", variance), torch.zeros(2, 2, dtype=F64)
    for decoder, scale in (("reverse", "beta_1"), ("normal", "reverse"), ("discretized", "reverse")):
        with pytest.raises(ValueError, match="beta_1") as refusal:
            variational_bound(denoiser, x0 + 1, decoder=decoder, decoder_variance=scale)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("schedule", [BENT, LinearBeta(), InverseTime(20)], ids=["bent", "linear", "inverse"])
@pytest.mark.parametrize(("m", "v"), [(0.0, 1.0), (0.4, 0.1), (-1.0, 3.0)])
def test_the_forward_decoder_is_the_kernel_read_backwards(schedule: Schedule, m: float, v: float) -> None:
    """``E -log N(x0; x_1 sqrt(1 - beta_1), beta_1) = ½ (log(2 pi beta_1) + 1 + beta_1 (m² + v - 1))``, without a call."""
    beta = float(schedule.betas[0])
    bound = _bound(schedule, m, v, "large", decoder="forward", times=None if schedule.T < 100 else [1, schedule.T])
    expected = 0.5 * (math.log(2 * math.pi * beta) + 1 + beta * (m**2 + v - 1))
    assert float(bound.decoder.mean()) == pytest.approx(expected, rel=1e-9)
    assert bound.calls == bound.steps.shape[1]


@pytest.mark.parametrize("schedule", [BENT, Cosine(30), InverseTime(20)], ids=["bent", "cosine", "inverse"])
@pytest.mark.parametrize(("m", "v"), [(0.0, 1.0), (0.4, 0.1), (-1.0, 3.0)])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_k_differs_from_the_bound_by_what_the_data_lack_of_unit_size(
    schedule: Schedule, m: float, v: float, variance: str
) -> None:
    """``total + K ln 2 = ½ (alpha_bar_T + beta_1) (m² + v - 1)``: [SD15] puts entropies for the cross-entropies to the prior."""
    bound = _bound(schedule, m, v, variance, decoder="forward")
    curve = Curve(schedule)
    expected = 0.5 * (curve(schedule.T) + 1 - curve(1)) * (m**2 + v - 1)
    difference = bound.total + math.log(2) * bound.k_bits
    assert float(difference.mean()) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    null = 0.5 * (math.log(2 * math.pi) + m**2 + v) / math.log(2)
    assert float((bound.k_minus_null_bits - bound.k_bits).mean()) == pytest.approx(null, rel=1e-12)


def test_k_is_its_formula() -> None:
    """``-sum KL + H_q(x_T|x0) - H_q(x_1|x0) - H_p(x_T)``, every entropy written out."""
    m, v, curve = 0.4, 0.1, Curve(BENT)
    bound = _bound(BENT, m, v, "large", decoder="forward")
    steps = 0.0
    for t in range(2, 6):
        _, from_0, small, large = gaussian.coefficients(curve(t), curve(t - 1))
        steps += 0.5 * (
            small / large - 1 - math.log(small / large) + from_0**2 * gaussian.left_over(curve(t), v) / large
        )
    entropies = gaussian.entropy(1 - curve(5)) - gaussian.entropy(1 - curve(1)) - gaussian.entropy(1.0)
    assert float(bound.k_bits.mean()) == pytest.approx((entropies - steps) / math.log(2), rel=1e-9)


def test_the_forward_kernel_may_be_asked_alone() -> None:
    """Of symbols too: kept with 1 - beta, else any class."""
    process = Categorical(BENT, 4)
    denoiser = Denoiser(nn.Linear(1, 1), process)
    raw = torch.zeros(2, 8, dtype=F64)
    x_1, x0 = torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 1], [3, 2]])
    prediction = denoiser.interpret(raw, None, x_1, torch.ones(2, dtype=F64))
    said = decoder_nats(prediction, x0, "forward")
    kept, moved = -math.log(0.95 + 0.05 / 4), -math.log(0.05 / 4)
    assert said.tolist() == pytest.approx([2 * kept, kept + moved], rel=1e-12)
