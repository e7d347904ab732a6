"""The binary heartbeat: its exact ceiling, and what falls short of it."""

from __future__ import annotations

import math

import pytest
import torch

from unstir.bound import variational_bound
from unstir.denoisers import Denoiser, FiniteDenoiser
from unstir.networks import build
from unstir.noise import NoiseSource
from unstir.processes import Binomial
from unstir.reproduce import heartbeat
from unstir.reproduce.experiment import Setting
from unstir.schedules import Cosine, InverseTime

SEQUENCES = torch.tensor([[float(i % 5 == phase) for i in range(20)] for phase in range(5)])


@pytest.mark.parametrize("schedule", [InverseTime(12), Cosine(9)], ids=["inverse-time", "cosine"])
def test_the_ceiling_counted_is_the_ceiling_drawn(schedule: InverseTime) -> None:
    process = Binomial(schedule, heartbeat.PI)
    x0 = SEQUENCES.repeat(1500, 1)
    bound = variational_bound(
        FiniteDenoiser(process, SEQUENCES), x0, decoder="forward", noise=NoiseSource(0, range(len(x0)))
    )
    mean, half = bound.interval(bound.k_bits, z=4)
    assert abs(mean - heartbeat.exact_k_bits(process)) < half


def test_the_ceiling_rises_to_the_truth_with_the_chains_length() -> None:
    """What deciding bits one by one costs falls as 1/T, and so does the edge."""
    truth = math.log2(1 / 5)
    short = [truth - heartbeat.exact_k_bits(Binomial(InverseTime(T), heartbeat.PI)) for T in (8, 32, 128)]
    assert short[0] > short[1] > short[2] > 0
    assert math.log(short[1] / short[2]) / math.log(4) == pytest.approx(1, abs=0.25)


def test_the_exact_denoiser_falls_short_by_nothing_and_an_untrained_one_by_much() -> None:
    process = Binomial(InverseTime(20), heartbeat.PI)
    assert heartbeat.short_of_exact(FiniteDenoiser(process, SEQUENCES), copies=4)[0] == 0
    network = build({"name": "step_mlp", "in_features": 20, "out_features": 20, "steps": 20, "levels": 2})
    short, _ = heartbeat.short_of_exact(Denoiser(network, process, "reverse"), copies=4)
    assert short > 5


def test_the_variants_make_denoisers_of_the_papers_sizes() -> None:
    papers, ours = heartbeat.variants(Setting())
    assert papers.config["schedule"] == ours.config["schedule"] == {"name": "inverse_time", "T": 2000}
    network = build(papers.config["network"])
    assert [layer.out_features for layer in network.hidden] == [50, 50, 50]  # type: ignore[union-attr]
    assert len(network.readout.levels[0].weight) == 2000  # type: ignore[union-attr,index]


def test_the_table_holds_what_was_measured(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_pictures", lambda folder, setting: tmp_path / "none.png")
    monkeypatch.setattr(heartbeat, "exact_k_bits", lambda process: -2.368)
    figures = {heartbeat.SHORT: 0.04, "half width": 0.001, heartbeat.PERFECT: 99.0}
    table = heartbeat.report({"ours": [figures, figures | {heartbeat.SHORT: 0.06}]}, tmp_path, Setting(seeds=2))
    row = next(row for row in table.to_json()["rows"] if row["name"] == "ours")
    assert row["k_bits"] == pytest.approx(-2.418)
    assert row["k_minus_null_bits"] == pytest.approx(-2.418 + 14.4386, abs=1e-3)
    assert row["ci"]["k_bits"] == pytest.approx(12.706 * 0.01, rel=1e-3)
    assert row["seeds"] == 2
