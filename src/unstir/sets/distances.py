"""How far two sets of features lie apart: the Fréchet and the kernel distance, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unstir.sets.resampling import shuffled

BLOCK = 1 << 20
"""Pairs held at once: 8 MB in float64, which is quickest, and 10,000 × 10,000 fit anywhere."""

Moments = tuple[Tensor, Tensor]
"""Mean (F,) and covariance (F, F)."""


def checked(features: Tensor, least: int = 2) -> Tensor:
    """The features as float64 (N, F).

    Raises:
        ValueError: of another shape, of fewer than ``least`` rows, or with numbers that are not finite.
    """
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"features have shape (N, F), not {tuple(features.shape)}: flatten what each picture has")
    if len(features) < least:
        raise ValueError(f"this takes at least {least} samples, and here are {len(features)}")
    features = features.double()
    if not bool(features.isfinite().all()):
        raise ValueError("some features are not finite, so there is no distance to them")
    return features


def alike(a: Tensor, b: Tensor) -> None:
    """Raises ValueError where two sets, or their moments, are of different numbers of features."""
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"sets of {a.shape[-1]} and {b.shape[-1]} features cannot be compared: use one extractor for both"
        )


def moments(features: Tensor) -> Moments:
    """Mean (F,) and covariance (F, F) with divisor N - 1 of (N, F), float64."""
    features = checked(features)
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1)


def frechet_distance(a: Tensor | Moments, b: Tensor | Moments) -> float:
    """``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)``: between Gaussians of the sets' means and covariances, float64.

    The closed form is Dowson & Landau's (1982); of Inception's features it is the FID of Heusel et al. (2017). With
    ``C = RᵀR`` the trace of the root is the sum of the singular values of ``R1 R2ᵀ``. Features give R without squaring them
    first, so directions without width (fewer samples than features) add no square roots of rounding errors.

    It is biased upwards, by about a constant over the number of samples: compare numbers of equal counts, beside the distance
    of two :func:`~unstir.sets.resampling.halves` of the data.

    Args:
        a, b: features (N, F), two rows at least, or their mean (F,) and covariance (F, F).
    """
    return frechet_from(a)(b)


def frechet_from(reference: Tensor | Moments) -> Callable[[Tensor | Moments], float]:
    """:func:`frechet_distance` from one reference, whose root is taken once, to any number of sets."""
    whole = _rooted(reference)
    return lambda features: _between(whole, _rooted(features))


def extrapolated_frechet(
    reference: Tensor | Moments,
    generated: Tensor,
    *,
    points: int = 15,
    smallest: int | None = None,
    both: bool = False,
    seed: int = 0,
) -> float:
    """``a`` of the line ``a + b / N`` through the Fréchet distances of N generated samples, from few to all.

    FD∞ of Chong & Forsyth (2020): the distance's bias is b/N and smaller, and the line takes it away. It can be below 0. As in
    the paper the reference stays whole, and what its own finite count adds stays in the number; ``both`` takes as large a part
    of the reference as of the samples, so that the bias of both goes.

    Args:
        reference: features (N, F), or mean (F,) and covariance (F, F).
        generated: (M, F).
        points: on the line, evenly spaced in N, three at least.
        smallest: the first N; by default a tenth of M, or twice the number of features where that is more, since the bias is
            not yet a line where the covariance is singular; half of M at most.
        both: let the reference grow too.
        seed: which samples are in a part.
    """
    generated = checked(generated, 4)
    m, features = generated.shape
    first = min(max(m // 10, 2 * features), m // 2) if smallest is None else smallest
    if points < 3 or not 2 <= first < m:
        raise ValueError(
            f"a line takes three points or more, from at least 2 samples to {m}: not {points} from {first}"
        )
    if both and not isinstance(reference, Tensor):
        raise ValueError("moments have no parts: for both=True the reference is features")
    whole = _rooted(reference)
    counts = torch.linspace(first, m, points, dtype=torch.float64).round()
    distances = []
    for point, n in enumerate(counts.tolist()):
        beside = whole
        if both and isinstance(reference, Tensor):
            some = max(round(len(reference) * n / m), 2)
            beside = _rooted(shuffled(reference, seed, "part of reference", point)[:some])
        distances.append(_between(beside, _rooted(shuffled(generated, seed, "part", point)[: int(n)])))
    line = torch.stack([torch.ones_like(counts), 1 / counts], dim=1)
    return float(torch.linalg.lstsq(line, torch.tensor(distances, dtype=torch.float64)[:, None]).solution[0])


def _between(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    (m1, r1), (m2, r2) = one, other
    alike(m1, m2)
    shared = torch.linalg.svdvals(r1 @ r2.T).sum()
    # Of equal sets nothing is left but rounding, of either sign.
    return max(float((m1 - m2).square().sum() + r1.square().sum() + r2.square().sum() - 2 * shared), 0.0)


def _rooted(of: Tensor | Moments) -> tuple[Tensor, Tensor]:
    """Mean (F,) and R (≤ F, F) with ``RᵀR`` the covariance."""
    if isinstance(of, Tensor):
        features = checked(of)
        mean = features.mean(0)
        return mean, torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r")[1]
    mean, covariance = (part.double() for part in of)
    if covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"a mean of {len(mean)} features has a covariance of as many, not {tuple(covariance.shape)}")
    if not bool(mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError("some moments are not finite, so there is no distance to them")
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(mean) * torch.finfo(torch.float64).eps * values.abs().max()
    if bool(values[0] < -1e-3 * values.abs().max()):
        raise ValueError(f"a covariance has no negative eigenvalues, and this one has {float(values[0]):.3g}")
    # What cannot be told from rounding is no width: its root would be 1e8 times as large.
    return mean, torch.where(values > rounding, values, 0).sqrt()[:, None] * vectors.T


def kernel_distance(
    a: Tensor, b: Tensor, *, subsets: int | None = None, size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """``E k(x, x') + E k(y, y') - 2 E k(x, y)`` with ``k(x, y) = (x·y / F + 1)³``, and its standard error, float64.

    The squared maximum mean discrepancy without bias (Gretton et al. 2012, lemma 6) and the cubic kernel of KID (Bińkowski et
    al. 2018). Having no bias it can be below 0, and is the measure for few samples.

    By default every pair counts, each sample's with itself apart, and the error is the U-statistic's own. With features
    centred in the kernel's space, covariances P and Q there, and ``d`` the difference of the means, for all n and m

        ``Var = 4 dᵀP d / n + 4 dᵀQ d / m + 2 tr P² / (n (n-1)) + 2 tr Q² / (m (m-1)) + 4 tr PQ / (n m)``

    Each part is estimated without bias from sums of the kernel; the first two together are not let below 0. Near 0, where
    they vanish, the error is therefore on the wide side.

    With ``subsets`` or ``size`` the value is the mean of that many random disjoint subsets, and the error that of the mean of
    independent values: quicker, and less precise where the distance is small. Subsets that shared samples would make the
    error look smaller than it is.

    Args:
        a, b: features (N, F) and (M, F), four rows at least.
        subsets: how many, two at least; by default as many as there are.
        size: of each, two at least; by default the largest that there is.
        seed: which samples stand together.

    Raises:
        ValueError: where the subsets need more samples than there are.
    """
    a, b = checked(a, 4), checked(b, 4)
    alike(a, b)
    if subsets is None and size is None:
        value, slope, spread = discrepancy(a, b)
        return value, math.sqrt(max(slope, 0.0) + spread)
    least = min(len(a), len(b))
    subsets = least // max(size or 1, 1) if subsets is None else subsets
    size = least // max(subsets, 1) if size is None else size
    if subsets < 2 or size < 2 or subsets * size > least:
        raise ValueError(
            f"{subsets} disjoint subsets of {size} do not come out of {least} samples: at least two of two, and no more than fit"
        )
    first, second = (shuffled(x, seed, f"kernel subsets {side}") for x, side in ((a, "a"), (b, "b")))
    parts = zip(first[: subsets * size].split(size), second[: subsets * size].split(size))
    values = torch.tensor([discrepancy(x, y)[0] for x, y in parts], dtype=torch.float64)
    return float(values.mean()), float(values.std()) / math.sqrt(subsets)


def discrepancy(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """The kernel distance of all pairs, and two parts of its variance, all without bias (the parts nan below four rows).

    The first part is that of :func:`kernel_distance` with ``d``, which can come out below 0; the second, with the traces, not.
    """
    n, m = len(x), len(y)
    # Neither depends on a constant added to the kernel; without its bulk less is lost to rounding.
    bulk = float((x.mean(0) @ y.mean(0) / x.shape[1] + 1) ** 3)
    (rows_x, _, squares_x), (rows_y, _, squares_y) = _sums(x, None, bulk), _sums(y, None, bulk)
    rows, columns, squares = _sums(x, y, bulk)
    total = float(rows.sum())
    value = float(rows_x.sum()) / (n * (n - 1)) + float(rows_y.sum()) / (m * (m - 1)) - 2 * total / (n * m)
    if min(n, m) < 4:
        return value, math.nan, math.nan
    # tr PQ is what an analysis of variance calls interaction; tr P² and tr Q² are the U-centred sums of Székely & Rizzo (2014).
    within = squares - float(rows.square().sum()) / m - float(columns.square().sum()) / n + total**2 / (n * m)
    between = max(within, 0.0) / ((n - 1) * (m - 1))
    traces = [_trace_of_square(rows_x, squares_x), _trace_of_square(rows_y, squares_y)]
    spread = 4 * between / (n * m)
    slope = -8 * between / (n * m)
    for each, other, trace in ((rows_x, rows / m, traces[0]), (rows_y, columns / n, traces[1])):
        k = len(each)
        # Differences of these are differences of leaving one sample out; their own noise has the traces for its mean.
        slope += 4 * float((each / (k - 2) - other).var()) / k - 4 * trace / (k * (k - 2))
        spread += 2 * trace / (k * (k - 1))
    return value, slope, spread


def _trace_of_square(rows: Tensor, squares: float) -> float:
    n, total = len(rows), float(rows.sum())
    centred = squares + total**2 / ((n - 1) * (n - 2)) - 2 * float(rows.square().sum()) / (n - 2)
    return max(centred, 0.0) / (n * (n - 3))


def _sums(x: Tensor, y: Tensor | None, bulk: float) -> tuple[Tensor, Tensor, float]:
    """Sums of the kernel, less its bulk, over rows (N,) and columns (M,), and of its squares; without y of x's other samples."""
    other = x if y is None else y
    rows, columns, squares = [], torch.zeros(len(other), dtype=x.dtype, device=x.device), 0.0
    step, one = max(BLOCK // len(other), 1), torch.ones((), dtype=x.dtype, device=x.device)
    for start in range(0, len(x), step):
        kernel = torch.addmm(one, x[start : start + step], other.T, alpha=1 / x.shape[1])
        kernel = kernel.mul_(kernel.square()).sub_(bulk)
        if y is None:
            kernel.diagonal(start).zero_()
        rows.append(kernel.sum(1))
        columns += kernel.sum(0)
        squares += float(kernel.flatten() @ kernel.flatten())
    return torch.cat(rows), columns, squares
