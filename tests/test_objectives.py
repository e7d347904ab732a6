from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from unstir import objectives
from unstir.bound import variational_bound
from unstir.denoisers import Condition, Denoiser
from unstir.noise import TwoPoint
from unstir.objectives import EDM, Hybrid, MinSNR, Objective, Simple, Variational
from unstir.processes import Gaussian
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
KINDS = [
    "eps",
    "x0",
    "v",
    "mean",
    {"name": "preconditioned", "data_rms": 0.5},
    {"name": "preconditioned", "data_rms": 2.0},
]


class Says(nn.Module):
    """Says what it was told to."""

    def __init__(self, raw: Tensor | None = None) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        assert self.raw is not None
        return self.raw


class Small(nn.Module):
    """A little network that learns: one convolution, scaled by the time."""

    def __init__(self, channels: int = 2, halves: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mean = nn.Conv2d(channels, channels, 1, dtype=dtype)
        self.spread = nn.Conv2d(channels, channels, 1, dtype=dtype) if halves == 2 else None

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        out = self.mean(x) + 0.001 * time.reshape(-1, 1, 1, 1).to(x.dtype)
        return out if self.spread is None else torch.cat([out, self.spread(x).tanh()], 1)


def _levels(n: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randint(0, 256, (n, 2, 3, 3), generator=torch.Generator().manual_seed(1)).to(dtype) * 2 / 255 - 1


def _noise(like: Tensor, seed: int = 2) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(seed))


# --- one error of x0, one loss ----------------------------------------------------------------------------------------

ALIKE = [MinSNR(), MinSNR(1.0), EDM(), EDM(2.0), Variational()]


@pytest.mark.parametrize("objective", ALIKE, ids=["snr-5", "snr-1", "edm", "edm-2", "variational"])
@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(200), InverseTime(50)], ids=["linear", "cosine", "inverse"])
def test_the_same_error_of_x0_costs_the_same_whatever_is_predicted(objective: Objective, schedule: Schedule) -> None:
    """Traps 17 and 19."""
    process = Gaussian(schedule)
    t = torch.tensor([1, 2, 3, schedule.T // 2, schedule.T - 1, schedule.T], dtype=F64)
    x0 = _levels(len(t))
    eps, wrong = _noise(x0), 0.05 * _noise(x0, 3)
    losses = []
    for kind in KINDS:
        if kind == "eps" and isinstance(schedule, InverseTime):
            continue
        network = Says()
        denoiser = Denoiser(network, process, kind)
        p = denoiser.parameterisation
        # the raw error that moves x0 by `wrong`: its size by x0_error, its sign from what raw does to x0
        target = p.target(x0, eps, t)
        x_t = process.marginal(x0, t).sample(eps)
        sign = (denoiser.interpret(target + 1, None, x_t, t).x0 - x0).sign()
        network.raw = target + sign * wrong / p.x0_error(t).reshape(-1, 1, 1, 1)
        torch.testing.assert_close(denoiser.predict(x_t, t).x0, x0 + wrong, rtol=1e-9, atol=1e-9)
        losses.append(objective(denoiser, x0, t, eps))
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-8, atol=1e-12)


def test_weights_are_the_published_ones() -> None:
    """min(S, g)/S for eps, min(S, g)/(S + 1) for v, min(S, g) for x0; SNR clamped from above, not below (trap 17)."""
    schedule = LinearBeta()
    t = torch.tensor([1, 30, 300, 700, 1000], dtype=F64)
    snr = schedule.alpha(t) ** 2 / schedule.sigma(t) ** 2
    clamped = torch.minimum(snr, torch.tensor(5.0, dtype=F64))
    for kind, expected in (("eps", clamped / snr), ("x0", clamped), ("v", clamped / (snr + 1))):
        torch.testing.assert_close(
            MinSNR().weight(Denoiser(Says(), Gaussian(schedule), kind), t), expected, rtol=1e-10, atol=0
        )
    assert bool((MinSNR().weight(Denoiser(Says(), Gaussian(schedule), "eps"), t) <= 1 + 1e-12).all())


@pytest.mark.parametrize("sd", [0.25, 0.5, 1.0, 3.0])
def test_the_edm_weight_is_1_on_the_preconditioned_output(sd: float) -> None:
    for schedule in (LinearBeta(), InverseTime(60)):
        denoiser = Denoiser(Says(), Gaussian(schedule), {"name": "preconditioned", "data_rms": sd})
        t = torch.linspace(0.01, schedule.T, 30, dtype=F64)
        torch.testing.assert_close(EDM(sd).weight(denoiser, t), torch.ones(30, dtype=F64), rtol=1e-10, atol=0)


def test_the_edm_weight_is_karras_in_their_own_scale() -> None:
    """lambda(s) = (s² + sd²)/(s sd)² with s = sigma_t/alpha_t, on the error of x0."""
    schedule, sd = LinearBeta(), 0.5
    t = torch.tensor([1.0, 200.0, 900.0], dtype=F64)
    s = schedule.sigma(t) / schedule.alpha(t)
    weight = EDM(sd).weight(Denoiser(Says(), Gaussian(schedule), "x0"), t)
    torch.testing.assert_close(weight, (s**2 + sd**2) / (s * sd) ** 2, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_simple_is_the_mean_square_of_the_raw_error(kind: str | dict) -> None:
    network = Says()
    denoiser = Denoiser(network, Gaussian(LinearBeta()), kind)
    x0 = _levels(3)
    t, eps = torch.tensor([1.0, 400.0, 1000.0], dtype=F64), _noise(x0)
    network.raw = denoiser.parameterisation.target(x0, eps, t)
    assert float(Simple()(denoiser, x0, t, eps).max()) == 0
    network.raw = network.raw + torch.tensor([0.1, 0.2, 0.3], dtype=F64).reshape(3, 1, 1, 1)
    torch.testing.assert_close(Simple()(denoiser, x0, t, eps), torch.tensor([0.01, 0.04, 0.09], dtype=F64))


def test_hos_simplified_loss_is_the_bounds_with_its_weight_left_off() -> None:
    """[HO20 eq. 12]: L_{t-1} = beta² / (2 var alpha (1 - alpha_bar)) |eps - eps_hat|² (their alpha = 1 - beta), var = beta."""
    schedule = LinearBeta()
    network = Says()
    denoiser = Denoiser(network, Gaussian(schedule), "eps", "large")
    x0 = _levels(4)
    t, eps = torch.tensor([2, 40, 500, 1000], dtype=F64), _noise(x0)
    network.raw = eps + 0.1 * _noise(x0, 5)
    beta, ab = schedule.betas[t.long() - 1], schedule.alpha_bar[t.long()]
    before = schedule.alpha_bar[t.long() - 1]
    from_mean = beta / (2 * (1 - beta) * (1 - ab)) * Simple()(denoiser, x0, t, eps)
    ratio = (1 - before) / (1 - ab)
    from_variance = 0.5 * (ratio - 1 - ratio.log())
    loss = Variational()(denoiser, x0, t, eps) / 1000
    torch.testing.assert_close(loss, from_mean + from_variance, rtol=1e-8, atol=1e-12)


# --- the bound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("decoder", ["discretized", "normal"])
@pytest.mark.parametrize("schedule", [LinearBeta.rescaled(15), InverseTime(15)], ids=["linear", "inverse"])
def test_the_mean_of_T_L_t_over_t_is_the_sum_of_the_terms(schedule: Schedule, decoder: str, variance: str) -> None:
    """Trap 20: row by row, with the same noise, E_t[T L_t] is the bound less its prior part, per dim."""
    network = Small(halves=2 if variance == "learned" else 1, dtype=F64)
    denoiser = Denoiser(network, Gaussian(schedule), "v", variance)
    x0, signs = _levels(2), torch.tensor([1.0, -1.0], dtype=F64)
    eps = signs.reshape(-1, 1, 1, 1).expand_as(x0)
    with torch.no_grad():
        losses = [Variational(decoder)(denoiser, x0, torch.full((2,), t, dtype=F64), eps) for t in range(1, 16)]
    bound = variational_bound(denoiser, x0, decoder=decoder, noise=TwoPoint(signs))
    mean = torch.stack(losses).mean(0)
    torch.testing.assert_close(mean, (bound.steps.sum(1) + bound.decoder) / 18, rtol=1e-10, atol=1e-10)
    assert Variational.whole_times


def test_a_batch_of_mixed_times_is_its_rows() -> None:
    """The decoder's rows and the steps' are worked out apart and put back in their places."""
    denoiser = Denoiser(Small(halves=2, dtype=F64), Gaussian(LinearBeta.rescaled(9)), variance="learned")
    x0 = _levels(6)
    t, eps = torch.tensor([3, 1, 9, 1, 2, 5], dtype=F64), _noise(x0)
    for objective in (Simple(), MinSNR(), EDM(), Variational(), Hybrid()):
        together = objective(denoiser, x0, t, eps)
        assert together.shape == (6,)
        for i in range(6):
            alone = objective(denoiser, x0[i : i + 1], t[i : i + 1], eps[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-12)


def test_hybrid_leaves_the_mean_to_the_simple_loss() -> None:
    denoiser = Denoiser(Small(halves=2), Gaussian(LinearBeta.rescaled(20)), variance="learned")
    network = denoiser.network
    assert isinstance(network, Small)
    assert network.spread is not None
    x0 = _levels(8, torch.float32)
    t, eps = torch.tensor([1, 2, 3, 7, 12, 18, 19, 20], dtype=F64), _noise(x0)

    def gradients(objective: Objective) -> tuple[Tensor | None, Tensor | None]:
        network.zero_grad()
        objective(denoiser, x0, t, eps).sum().backward()
        assert network.spread is not None
        return network.mean.weight.grad, network.spread.weight.grad

    (simple_mean, simple_spread), (hybrid_mean, hybrid_spread) = gradients(Simple()), gradients(Hybrid(0.25))
    _, variational_spread = gradients(Variational())
    assert simple_mean is not None
    assert hybrid_mean is not None
    assert hybrid_spread is not None
    assert variational_spread is not None
    torch.testing.assert_close(hybrid_mean, simple_mean)
    assert simple_spread is None or not simple_spread.any()
    torch.testing.assert_close(hybrid_spread, 0.25 * variational_spread)
    assert bool(hybrid_spread.any())


def test_the_spread_that_hybrid_teaches_is_the_best_variance() -> None:
    """Where the mean is exact for N(0, 1) data the bound is least at spread = +1, which is large, the true variance."""
    process = Gaussian(LinearBeta.rescaled(20))

    class Exact(nn.Module):
        spread = torch.tensor(0.0)

        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            sigma = process.schedule.sigma(time + 1).to(x.dtype).reshape(-1, 1)
            return torch.cat([sigma * x, torch.zeros_like(x) + self.spread], 1)

    network = Exact()
    denoiser = Denoiser(network, process, variance="learned")
    x0 = _noise(torch.zeros(20_000, 1, dtype=F64), 7)
    t, eps = torch.full((20_000,), 4.0, dtype=F64), _noise(x0, 8)
    spreads = torch.tensor([0.4, 0.9, 1.0, 1.1, 1.6], dtype=F64)
    losses = []
    for spread in spreads:
        network.spread = spread
        losses.append(float(Variational("normal")(denoiser, x0, t, eps).mean()))
    assert losses[2] == pytest.approx(min(losses), abs=2e-3)
    assert losses[0] > losses[2] < losses[4]


def test_hybrid_needs_a_learned_variance() -> None:
    with pytest.raises(ValueError, match="learned"):
        Hybrid()(Denoiser(Small(), Gaussian(LinearBeta())), _levels(1), torch.ones(1), _noise(_levels(1)))


# --- finite everywhere ------------------------------------------------------------------------------------------------


ENDS = [LinearBeta(), Cosine(1000), InverseTime(1000)]


@pytest.mark.parametrize("name", ["simple", "min_snr", "edm", "variational", "hybrid"])
@pytest.mark.parametrize(
    ("schedule", "kind"),
    [(s, k) for s in ENDS for k in KINDS if k != "eps" or not isinstance(s, InverseTime)],
    ids=lambda value: type(value).__name__ if isinstance(value, Schedule) else str(value),
)
def test_loss_and_gradient_are_finite_at_both_ends(schedule: Schedule, kind: str | dict, name: str) -> None:
    """Trap 18, in float32, with the zero-SNR schedule too."""
    variance = "learned" if name in ("hybrid", "variational") else "small"
    denoiser = Denoiser(Small(halves=2 if variance == "learned" else 1), Gaussian(schedule), kind, variance)
    x0 = _levels(4, torch.float32)
    t, eps = torch.tensor([1, 2, schedule.T - 1, schedule.T], dtype=F64), _noise(x0)
    loss = objectives.get({"name": name})(denoiser, x0, t, eps)
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss).all())
    assert bool((loss >= 0).all())
    loss.sum().backward()
    for parameter in denoiser.parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())
    assert denoiser.network.mean.weight.grad is not None  # pyright: ignore[reportAttributeAccessIssue]


def test_the_min_snr_weight_is_zero_not_nan_where_there_is_no_signal() -> None:
    for kind in KINDS[1:]:
        weight = MinSNR().weight(Denoiser(Says(), Gaussian(InverseTime(10)), kind), torch.tensor([10.0], dtype=F64))
        assert weight.tolist() == [0]


def test_the_network_sees_the_noised_sample_and_the_condition() -> None:
    seen: list = []

    class Watching(Small):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            seen.append((x, time, condition))
            return super().forward(x, time, condition)

    process = Gaussian(LinearBeta())
    x0 = _levels(2, torch.float32)
    t, eps, condition = torch.tensor([1.0, 700.0], dtype=F64), _noise(x0), Condition(label=torch.tensor([1, 2]))
    for objective, halves in ((Simple(), 1), (Variational(), 1), (Hybrid(), 2)):
        denoiser = Denoiser(Watching(halves=halves), process, variance="learned" if halves == 2 else "small")
        objective(denoiser, x0, t, eps, condition)
    assert len(seen) == 3
    alpha, sigma = (f(t).float().reshape(-1, 1, 1, 1) for f in (process.schedule.alpha, process.schedule.sigma))
    for x, time, given in seen:
        torch.testing.assert_close(x, alpha * x0 + sigma * eps)
        assert time.tolist() == [0, 699]
        assert given is condition


def test_objectives_are_found_by_name_with_their_arguments() -> None:
    found = objectives.get({"name": "min_snr", "gamma": 3.0})
    assert isinstance(found, MinSNR)
    assert found.gamma == 3
    description = {"name": "hybrid", "weight": 0.5}
    assert isinstance(objectives.get(description), Hybrid)
    assert description == {"name": "hybrid", "weight": 0.5}
    with pytest.raises(ValueError, match="'l2'"):
        objectives.get({"name": "l2"})


def test_no_call_edits_its_inputs() -> None:
    denoiser = Denoiser(Small(halves=2, dtype=F64), Gaussian(LinearBeta.rescaled(9)), variance="learned")
    x0 = _levels(3)
    t, eps = torch.tensor([1, 4, 9], dtype=F64), _noise(x0)
    kept = [tensor.clone() for tensor in (x0, t, eps)]
    for objective in (Simple(), MinSNR(), EDM(), Variational(), Hybrid()):
        objective(denoiser, x0, t, eps).sum().backward()
        for before, after in zip(kept, (x0, t, eps)):
            assert torch.equal(before, after)


def test_data_off_the_levels_needs_the_density_decoder() -> None:
    denoiser = Denoiser(Small(dtype=F64), Gaussian(LinearBeta()))
    x0 = _levels(1) + 0.002
    with pytest.raises(ValueError, match="256 levels"):
        Variational()(denoiser, x0, torch.ones(1, dtype=F64), _noise(x0))
    loss = Variational("normal")(denoiser, x0, torch.ones(1, dtype=F64), _noise(x0))
    assert math.isfinite(loss.item())
