"""The derivation's figures are written, and the numbers behind them obey the laws that the text states."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import small
from unstir import reproduce
from unstir.noise import NoiseSource
from unstir.reproduce import derivation
from unstir.reproduce.experiment import Setting, Variant, carry_out, trained

LESS = {"channels": 8, "multipliers": [1], "groups": 4, "middle_attention": False}
FILES = ("film", "reverse-shape", "posterior", "gap")
VARIANTS = derivation.variants


def _small(setting: Setting) -> list[Variant]:
    """The film's model with next to no training, on a chain of 20 steps."""
    (variant,) = VARIANTS(setting)
    config = variant.config | {
        "network": variant.config["network"] | LESS,
        "schedule": small.SCHEDULE | {"T": 20},
        "budget": {"images": 64},
    }
    return [replace(variant, config=config, facts={"steps": 20, "heldout": 2})]


def test_the_command_writes_every_figure_and_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derivation, "variants", _small)
    monkeypatch.setattr(derivation, "LENGTHS", (4, 8, 16))
    monkeypatch.setattr(derivation, "BETWEEN", ())
    assert "derivation" in reproduce.NAMES
    setting = Setting(quick=True, seeds=1)
    table = carry_out("derivation", setting, tmp_path, jobs=1)
    assert table.files == [str(tmp_path / f"derivation-{name}.png") for name in FILES]
    for file in table.files:
        with Image.open(file) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors() or range(256)) > 20  # something is drawn
    rows = {row.name: row.figures for row in table.rows}
    assert rows["gap of the bound, large variance"]["T 8"].mean == pytest.approx(derivation.gap(8, "large"))
    assert math.isfinite(rows["the film's model"]["bits/dim"].mean)

    # The film: pictures at one end of each way, noise at the other, and the same times.
    model = trained(tmp_path, _small(setting)[0])
    pictures = derivation.dataset(setting).heldout.x[:3]
    times, shown = derivation.film(model, pictures, 20)
    assert times == list(range(0, 21, 2))
    assert np.array_equal(shown["q"][:, 0], pictures[..., 0])
    assert np.array_equal(shown["p"][:, 0], model.sample(3, sampler="ancestral", steps=20)[..., 0])
    assert np.isnan(shown["x0"][:, 0]).all()
    # A column's prediction is made about the x_t above it, not about the one before.
    at = torch.full((3,), float(times[-1]), dtype=torch.float64)
    start = model.denoiser.process.prior((3, *model.spec.shape)).draw(NoiseSource(0, range(3)), "prior")
    with torch.no_grad():
        guess = model.outside(model.denoiser.predict(start, at).x0)
    assert np.array_equal(shown["x0"][:, -1], guess[..., 0])
    assert np.array_equal(shown["p"][:, -1], model.outside(start)[..., 0])


def test_short_steps_back_are_nearly_gaussian() -> None:
    """The KL falls with beta, in the end as its cube; the true step is a density with the Gaussian's mean and variance."""
    steps = [derivation.step_back(beta) for beta in derivation.BETAS]
    assert steps[0].nats > steps[1].nats > steps[2].nats > 0
    short = [derivation.step_back(beta).nats for beta in derivation.SHORT]
    assert derivation._slope(derivation.SHORT, short) == pytest.approx(3, abs=0.05)
    for step in steps:
        for power in (0, 1, 2):
            true, model = (torch.trapezoid(d.exp() * step.x**power, step.x) for d in (step.log_density, step.gaussian))
            assert float(true) == pytest.approx(float(model), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("s", [1, 8, 15])
def test_the_posterior_is_the_product_of_the_two_opinions(s: int) -> None:
    from_t, from_0, posterior = derivation.opinions(s)
    product = from_t.times(from_0)
    torch.testing.assert_close(product.mean, posterior.mean)
    torch.testing.assert_close(product.variance, posterior.variance)
    assert float(posterior.variance) < min(float(from_t.variance), float(from_0.variance))


def test_gaps_obey_their_laws() -> None:
    """1/T for large, towards half of Euler's constant and not 0 for small, nothing for the exact variance."""
    lengths = (20, 40, 80)
    large, little = ([derivation.gap(T, rule) for T in lengths] for rule in ("large", "small"))
    assert derivation._slope(lengths, large) == pytest.approx(-1, abs=0.02)
    assert little[0] < little[1] < little[2] < np.euler_gamma / 2
    assert little[2] == pytest.approx(np.euler_gamma / 2, abs=0.06)
    assert derivation.gap(20, "exact") == pytest.approx(0, abs=1e-12)
