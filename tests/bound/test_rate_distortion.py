"""Rate and distortion against the bound that they are read from, and against closed forms of Gaussian data."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser
from unstir.bound import rate_distortion, variational_bound
from unstir.denoisers import Condition, Denoiser, FiniteDenoiser
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.schedules import Cosine, InverseTime, LinearBeta

F64 = torch.float64
M, V = 0.4, 0.0625


class Net(nn.Module):
    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return torch.tanh(0.5 * x + 0.001 * time.reshape(-1, 1, 1, 1))


def _cases() -> list:
    levels = torch.randint(0, 256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(3)) * 2 / 255 - 1
    points = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]], dtype=F64)
    return [
        pytest.param(Denoiser(Net(), Gaussian(LinearBeta.rescaled(12))), levels, id="levels"),
        pytest.param(FiniteDenoiser(Binomial(Cosine(9), 0.3), points), points, id="bits"),
        pytest.param(FiniteDenoiser(Categorical(InverseTime(7), 3), points.long()), points.long(), id="symbols"),
    ]


@pytest.mark.parametrize(("denoiser", "x0"), _cases())
def test_what_is_sent_by_t_1_and_the_decoders_part_are_the_bound(denoiser: Denoiser, x0: Tensor) -> None:
    """With the same draws, to the last digits; and on the way it is the bound's parts, one more at each step."""
    curve = rate_distortion(denoiser, x0, noise=NoiseSource(4, range(10, 10 + len(x0))))
    bound = variational_bound(denoiser, x0, noise=NoiseSource(4, range(10, 10 + len(x0))))
    unit = x0[0].numel() * math.log(2)
    assert float(curve.rate[-1]) + float(bound.decoder.mean()) / unit == pytest.approx(
        float(bound.total.mean()) / unit, rel=1e-9
    )
    sent = bound.prior.mean() + torch.cat([torch.zeros(1), bound.steps.mean(0).flip(0).cumsum(0)])
    torch.testing.assert_close(curve.rate, sent / unit, rtol=1e-9, atol=1e-9)
    assert curve.times.tolist() == list(range(denoiser.process.T, 0, -1))
    assert bool((curve.rate.diff() >= 0).all())


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "linear-1000"])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_gaussian_data_have_the_closed_form(name: str, variance: str) -> None:
    schedule = SCHEDULES[name]
    x0 = M + math.sqrt(V) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    noise = TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))
    curve = rate_distortion(gaussian_denoiser(Gaussian(schedule), M, V, variance), x0, noise=noise)
    ab = Curve(schedule)
    nats = 0.5 * (1 - ab(schedule.T) + ab(schedule.T) * (M**2 + V) - 1 - math.log(1 - ab(schedule.T)))
    rates, distortions = [], []
    for t in range(schedule.T, 0, -1):
        rates.append(nats / math.log(2))
        rest = gaussian.left_over(ab(t), V)
        distortions.append(math.sqrt(rest))
        if t > 1:
            _, from_0, small, large = gaussian.coefficients(ab(t), ab(t - 1))
            model = {"small": small, "large": large}[variance]
            nats += 0.5 * (small / model - 1 - math.log(small / model) + from_0**2 * rest / model)
    assert curve.rate.tolist() == pytest.approx(rates, rel=1e-8, abs=1e-10)
    assert curve.distortion.tolist() == pytest.approx(distortions, rel=1e-9)
    assert curve.rmse.tolist() == pytest.approx([127.5 * d for d in distortions], rel=1e-9)
    # The guess of an exact denoiser gets better as t falls.
    assert all(a >= b for a, b in itertools.pairwise(distortions))


def test_it_is_counted_as_in_the_papers_table() -> None:
    """[HO20 table 4] counts T - t + 1: 1 where nothing has been sent, T at t = 1; one level off is an RMSE of 1."""
    process = Gaussian(LinearBeta.rescaled(200))
    levels = torch.tensor([[0.0, 77.0, 254.0]])
    curve = rate_distortion(Constant(process, (levels + 1) * 2 / 255 - 1), levels * 2 / 255 - 1)
    assert curve.reverse_times.tolist() == list(range(1, 201))
    assert float(curve.times[-1]) == 1
    assert curve.rmse.tolist() == pytest.approx([1.0] * 200, rel=1e-4)
    # What is sent before anything is known of x_T: the prior's part alone.
    assert float(curve.rate[0]) == pytest.approx(schedule_prior(process, levels * 2 / 255 - 1), rel=1e-4)


def schedule_prior(process: Gaussian, x0: Tensor) -> float:
    return process.schedule.prior_kl_bits(float(x0.double().square().mean()))


def test_the_distortion_of_bits_is_the_root_of_the_share_that_is_wrong() -> None:
    process = Binomial(InverseTime(5), prior=0.5)
    sure = FiniteDenoiser(process, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    curve = rate_distortion(sure, torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    assert curve.distortion.tolist() == pytest.approx([math.sqrt(1 / 8)] * 5)


def test_one_call_a_time_the_condition_and_progress() -> None:
    seen: list[Condition | None] = []

    class Watching(Net):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            seen.append(condition)
            return super().forward(x, time)

    counting, told = Counting(Denoiser(Net(), Gaussian(Cosine(6)))), []
    x0 = torch.zeros(2, 1, 2, 2)
    rate_distortion(counting, x0, progress=lambda *at: told.append(at))
    assert counting.calls == 6
    assert told == [(i, 6) for i in range(1, 7)]
    condition = Condition(label=torch.tensor([1, 2]))
    rate_distortion(Denoiser(Watching(), Gaussian(Cosine(6))), x0, condition=condition)
    assert all(given is condition for given in seen)
