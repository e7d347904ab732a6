"""Readouts in time: a layer for each step, and weights that glide between bumps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unstir.networks.readouts import NestedReadout, StepReadout, TemporalReadout, temporal_basis

STEPS = 7


def awake(readout: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in readout.parameters():
        nn.init.normal_(parameter)
    return readout.double()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
class TestStepReadout:
    @pytest.mark.parametrize("times", [[3.0, 0, 6, 3], [5.0] * 4], ids=["mixed", "one for all"])
    def test_each_row_meets_the_matrix_of_its_time(self, bias: bool, times: list[float]) -> None:
        readout = awake(StepReadout(STEPS, 5, 2, bias=bias))
        h = numbers(4, 5)
        output = readout(h, torch.tensor(times))
        for row, t in enumerate(int(t) for t in times):
            expected = h[row] @ readout.weight[t] + (readout.bias[t] if bias else 0)  # type: ignore[index]
            torch.testing.assert_close(output[row], expected)

    @pytest.mark.parametrize("times", [[3.0, 0, 6, 3], [5.0] * 4], ids=["mixed", "one for all"])
    def test_a_time_teaches_its_own_readout_alone(self, bias: bool, times: list[float]) -> None:
        readout = awake(StepReadout(STEPS, 5, 2, bias=bias))
        readout(numbers(4, 5), torch.tensor(times)).square().sum().backward()
        for parameter in readout.parameters():
            assert parameter.grad is not None
            taught = parameter.grad.flatten(1).any(1).nonzero().squeeze(1)
            assert taught.tolist() == sorted({int(t) for t in times})

    def test_both_ways_have_the_gradients_of_finite_differences(self, bias: bool) -> None:
        readout = awake(StepReadout(3, 4, 2, bias=bias))
        parameters = tuple(readout.parameters())
        names = [name for name, _ in readout.named_parameters()]
        for time in (torch.tensor([2.0, 0, 2]), torch.full((3,), 1.0)):

            def output(h: Tensor, *values: Tensor, time: Tensor = time) -> Tensor:
                return torch.func.functional_call(readout, dict(zip(names, values)), (h, time))

            assert torch.autograd.gradcheck(output, (numbers(3, 4).requires_grad_(), *parameters))

    def test_times_between_and_beyond_are_read_at_the_nearest(self, bias: bool) -> None:
        readout = awake(StepReadout(STEPS, 5, 2, bias=bias))
        h = numbers(1, 5).expand(5, 5)
        near = readout(h, torch.tensor([-3.0, 0.4, 2.6, 6.3, 99.0]))
        torch.testing.assert_close(near, readout(h, torch.tensor([0.0, 0, 3, 6, 6])), rtol=0, atol=0)

    def test_an_empty_batch_is_empty(self, bias: bool) -> None:
        assert StepReadout(STEPS, 5, 2, bias=bias)(torch.zeros(0, 5), torch.zeros(0)).shape == (0, 2)


@given(st.integers(1, 2000), st.data())
@settings(deadline=None, derandomize=True, max_examples=60)
def test_the_temporal_basis_sums_to_one_and_is_the_bumps_written_out(steps: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(steps, 12)))
    time = torch.tensor(data.draw(st.lists(st.floats(0, steps - 1), min_size=1, max_size=5)), dtype=torch.float64)
    basis = temporal_basis(time, steps, count)
    assert basis.shape == (len(time), count)
    torch.testing.assert_close(basis.sum(1), torch.ones_like(time), rtol=0, atol=1e-14)
    width = steps / count
    centres = torch.tensor([(j + 0.5) * width - 0.5 for j in range(count)], dtype=torch.float64)
    bumps = torch.exp(-((time[:, None] - centres) ** 2) / (2 * width**2))
    torch.testing.assert_close(basis, bumps / bumps.sum(1, keepdim=True), rtol=1e-9, atol=1e-14)


class TestTemporalBasis:
    @given(st.integers(2, 500), st.data())
    @settings(deadline=None, derandomize=True, max_examples=40)
    def test_the_last_times_mirror_the_first(self, steps: int, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, min(steps, 12)))
        time = torch.arange(steps, dtype=torch.float64)
        basis = temporal_basis(time, steps, count)
        torch.testing.assert_close(basis, basis.flip(0, 1), rtol=1e-9, atol=1e-13)

    def test_away_from_the_ends_it_interpolates_straight_lines(self) -> None:
        # Bumps one spacing wide, at equal spacings: by Poisson's sum what is left of the ripple is about exp(-2 pi²) = 3e-9.
        steps, count = 1000, 40
        width = steps / count
        centres = (torch.arange(count, dtype=torch.float64) + 0.5) * width - 0.5
        time = torch.linspace(8 * width, steps - 8 * width, 301, dtype=torch.float64)
        line = temporal_basis(time, steps, count) @ centres
        torch.testing.assert_close(line, time, rtol=0, atol=1e-6 * width)

    def test_with_a_bump_for_each_time_the_bumps_stand_on_the_times(self) -> None:
        basis = temporal_basis(torch.arange(9, dtype=torch.float64), 9, 9)
        assert basis[1:-1].argmax(1).tolist() == list(range(1, 8))
        torch.testing.assert_close(basis[4], basis[4].flip(0), rtol=0, atol=1e-15)


def test_the_temporal_readout_is_the_sum_over_all_its_coefficients() -> None:
    readout = awake(TemporalReadout(100, 6, 5, 4))
    assert isinstance(readout, TemporalReadout)
    h, time = numbers(3, 5, 2, 7), torch.tensor([0.0, 31.5, 99.0], dtype=torch.float64)
    y = torch.einsum("jof,bfhw->bojhw", readout.weight, h) + readout.bias.t()[None, :, :, None, None]
    expected = torch.einsum("bojhw,bj->bohw", y, temporal_basis(time, 100, 6))
    torch.testing.assert_close(readout(h, time), expected)


def test_neighbouring_times_stay_apart_in_low_precision() -> None:
    readout = awake(TemporalReadout(1000, 10, 5, 4)).bfloat16()
    basis = temporal_basis(torch.tensor([900.0, 901.0]), 1000, 10)
    assert (basis[0] - basis[1]).abs().max() > 1e-3
    h = numbers(1, 5, 2, 2).bfloat16().expand(2, 5, 2, 2)
    with torch.no_grad():
        first, second = readout(h, torch.tensor([900.0, 903.0]))
    assert (first - second).abs().max() > 0


class TestNestedReadout:
    def test_it_is_a_step_readout_with_the_blocks_added_up(self) -> None:
        """Whatever its levels say, one matrix a time says the same: the sum of those of the blocks the time lies in."""
        nested = awake(NestedReadout(21, 5, 2, levels=3))
        plain = StepReadout(21, 5, 2).double()
        with torch.no_grad():
            for t in range(21):
                plain.weight[t] = sum(level.weight[t // 4**k] for k, level in enumerate(nested.levels))
                plain.bias[t] = sum(level.bias[t // 4**k] for k, level in enumerate(nested.levels))  # type: ignore[index]
        h = numbers(23, 5)
        times = torch.cat([torch.arange(21.0), torch.tensor([-3.0, 99.0])])
        torch.testing.assert_close(nested(h, times), plain(h, times))
        torch.testing.assert_close(nested(h, torch.full((23,), 7.4)), plain(h, torch.full((23,), 7.4)))

    def test_a_time_teaches_the_blocks_it_lies_in_alone(self) -> None:
        nested = awake(NestedReadout(21, 5, 2, levels=3))
        nested(numbers(1, 5), torch.tensor([13.0])).square().sum().backward()
        for k, level in enumerate(nested.levels):
            taught = level.weight.grad.flatten(1).any(1).nonzero().squeeze(1)  # type: ignore[union-attr]
            assert taught.tolist() == [13 // 4**k]
