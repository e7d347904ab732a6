from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unstir.noise import NoiseSource, philox4x32

LAW = settings(deadline=None, derandomize=True, max_examples=40)
ONES = 0xFFFFFFFF
HUGE = (1 << 47) - 1


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_published_words(counter: tuple, key: tuple, words: tuple) -> None:
    """The known-answer vectors that come with Random123 (Salmon et al. 2011)."""
    c0, c1, c2, c3 = (torch.tensor([c]) for c in counter)
    assert tuple(int(w) for w in philox4x32((c0, c1, c2, c3), key)) == words


def _draws(source: NoiseSource, shape: tuple[int, ...] = (3, 5), purpose: str = "step", step: int = 4) -> tuple:
    return (
        source.integers(shape, purpose, step),
        source.uniform(shape, purpose, step),
        source.normal(shape, purpose, step),
        source.normal(shape, purpose, step, dtype=torch.float64),
    )


@LAW
@given(
    st.integers(0, (1 << 64) - 1),
    st.lists(st.one_of(st.integers(0, 100), st.integers(0, HUGE)), min_size=1, max_size=9),
    st.data(),
)
def test_a_row_is_the_same_alone_in_any_batch_and_in_any_order(
    seed: int, indices: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(indices))))
    whole, shuffled = NoiseSource(seed, indices), NoiseSource(seed, [indices[i] for i in order])
    for a, b in zip(_draws(whole), _draws(shuffled)):
        assert torch.equal(a[order], b)
    alone = NoiseSource(seed, [indices[-1]])
    for a, b in zip(_draws(whole), _draws(alone)):
        assert torch.equal(a[-1:], b)


def test_a_draw_does_not_depend_on_what_was_drawn_before() -> None:
    source = NoiseSource(3, [5, 6])
    first = _draws(source)
    source.normal((100,), "else", 7)
    for a, b in zip(first, _draws(source)):
        assert torch.equal(a, b)


def test_steps_of_rows_are_those_of_single_steps() -> None:
    steps = [0, 7, 7, (1 << 32) - 1]
    source = NoiseSource(11, [4, 9, 2, 4])
    for kind in ("integers", "uniform", "normal"):
        by_row = getattr(source, kind)((3, 2), "step", torch.tensor(steps))
        for row, step in enumerate(steps):
            assert torch.equal(by_row[row], getattr(source, kind)((3, 2), "step", step)[row])


def test_every_part_of_the_key_counts() -> None:
    """Distinct words for distinct seeds, indices (also 2^32 apart), steps, purposes and elements."""
    size = 64
    drawn = []
    for seed in (0, 1, 1 << 32, (1 << 32) + 1, (1 << 64) - 1):
        drawn.append(NoiseSource(seed, [0]).integers((size,), "a"))
    for index in (1, 1 << 32, (1 << 32) + 1, 5 << 32, 1 << 46, HUGE):
        drawn.append(NoiseSource(0, [index]).integers((size,), "a"))
    for step in (1, 2, 1 << 16, (1 << 32) - 1):
        drawn.append(NoiseSource(0, [0]).integers((size,), "a", step))
    for purpose in ("", "b", "prior", "step", "bound 0", "bound 1", "bound 10", "time", "ä"):
        drawn.append(NoiseSource(0, [0]).integers((size,), purpose))
    words = torch.cat(drawn).flatten()
    # 24 * 64 words of 32 bits: a chance collision comes once in 3600 such sets, a repeated stream makes 64.
    assert len(words.unique()) == len(words)


def test_shape_only_arranges_the_draws_and_shorter_ones_are_beginnings() -> None:
    source = NoiseSource(0, [0, 3])
    words = source.integers((24,), "p")
    assert torch.equal(source.integers((2, 3, 4), "p").flatten(1), words)
    for size in range(1, 24):
        assert torch.equal(source.integers((size,), "p"), words[:, :size])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9])
def test_odd_sizes_have_their_shapes(size: int) -> None:
    source = NoiseSource(1, [0, 1, 2])
    for a in _draws(source, (size,)):
        assert a.shape == (3, size)
    assert source.normal((), "scalar").shape == (3,)
    assert source.normal((0,), "none").shape == (3, 0)
    assert NoiseSource(1, []).normal((4,), "nobody").shape == (0, 4)


def test_float32_normals_are_the_rounded_float64_ones() -> None:
    source = NoiseSource(5, range(10))
    assert torch.equal(source.normal((33,), "p"), source.normal((33,), "p", dtype=torch.float64).float())


def test_uniforms_are_uniform() -> None:
    u = NoiseSource(0, range(50)).uniform((4000,), "test").flatten().numpy()
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_words_use_all_their_bits_evenly() -> None:
    words = NoiseSource(2, range(20)).integers((5000,), "test").flatten()
    assert int(words.min()) >= 0
    assert int(words.max()) < 1 << 32
    for shift in (0, 8, 16, 24):
        counts = torch.bincount((words >> shift) & 0xFF, minlength=256).numpy()
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("rows", "size", "steps"), [(200, 1000, 1), (200_000, 1, 1), (1, 200_000, 1), (1, 2, 100_000)], ids=str
)
def test_normals_are_normal_along_every_axis_of_the_key(rows: int, size: int, steps: int) -> None:
    if steps > 1:
        source = NoiseSource(0, torch.zeros(steps, dtype=torch.long))
        z = source.normal((size,), "test", torch.arange(steps), dtype=torch.float64)
    else:
        z = NoiseSource(0, range(rows)).normal((size,), "test", dtype=torch.float64)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3


def test_halves_neighbours_purposes_and_steps_do_not_correlate() -> None:
    """Box-Muller pairs an element with the one half a sample further on: these above all must not know each other."""
    source, n = NoiseSource(8, range(100)), 2000
    z = source.normal((n,), "a", dtype=torch.float64)
    others = {
        "halves": (z[:, : n // 2], z[:, n // 2 :]),
        "squared halves": (z[:, : n // 2] ** 2 - 1, z[:, n // 2 :] ** 2 - 1),
        "neighbours": (z[:, :-1], z[:, 1:]),
        "samples": (z[:-1], z[1:]),
        "purposes": (z, source.normal((n,), "b", dtype=torch.float64)),
        "steps": (z, source.normal((n,), "a", 1, dtype=torch.float64)),
        "seeds": (z, NoiseSource(9, range(100)).normal((n,), "a", dtype=torch.float64)),
    }
    for name, (a, b) in others.items():
        r = float(stats.pearsonr(a.flatten().numpy(), b.flatten().numpy()).statistic)
        assert abs(r) < 4 / math.sqrt(a.numel()), name


def test_extreme_words_stay_finite() -> None:
    """The largest radius is sqrt(66 ln 2) = 6.76, from the smallest uniform 2^-33: never infinite."""

    class Extreme(NoiseSource):
        def _words(self, size: int, purpose: str, step: object) -> torch.Tensor:
            return torch.tensor([[0, ONES, ONES, 0] * (size // 4)])

    z = Extreme(0, [0]).normal((8,), "p", dtype=torch.float64)
    assert bool(torch.isfinite(z).all())
    assert float(z.abs().max()) <= math.sqrt(66 * math.log(2)) + 1e-12


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seeds_that_do_not_fit_are_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        NoiseSource(seed, [0])


def test_indices_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B,\)"):
        NoiseSource(0, torch.zeros(2, 2, dtype=torch.long))


def test_steps_that_are_not_whole_are_refused() -> None:
    """A real time as a step would be cut to a whole one, and neighbours would share their noise."""
    with pytest.raises((ValueError, TypeError), match="whole"):
        NoiseSource(0, [0]).normal((2,), "p", torch.tensor([0.5]))


@pytest.mark.parametrize("index", [-1, 1 << 47])
def test_indices_outside_the_counter_are_refused(index: int) -> None:
    """They would be folded onto other samples' draws."""
    with pytest.raises(ValueError, match="indices"):
        NoiseSource(0, [index])


def test_no_call_edits_its_inputs() -> None:
    indices, steps = torch.tensor([1, 2]), torch.tensor([3, 4])
    source = NoiseSource(0, indices)
    _draws(source)
    source.normal((5,), "p", steps)
    source.uniform((5,), "p", steps)
    assert indices.tolist() == [1, 2]
    assert steps.tolist() == [3, 4]


def test_a_wrapped_generator_gives_its_own_stream() -> None:
    def draw() -> torch.Tensor:
        source = NoiseSource.wrap(torch.Generator().manual_seed(3), 40)
        return torch.cat([source.normal((1000,), "a", dtype=torch.float64) for _ in range(2)])

    z = draw()
    assert torch.equal(z, draw())
    assert not torch.equal(z[:40], z[40:])
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
