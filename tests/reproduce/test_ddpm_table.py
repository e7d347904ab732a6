from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import small
from tests.reproduce import tiny
from unstir import data
from unstir.bound import variational_bound
from unstir.denoisers import Clipped
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.reproduce import ddpm_table
from unstir.reproduce.experiment import Setting, trained
from unstir.reproduce.table import Figure
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small.pictures(60, 8)
    monkeypatch.setattr(data, "load", lambda source: made)
    monkeypatch.setattr(ddpm_table, "QUICK_T", 10)
    monkeypatch.setattr(ddpm_table, "SAMPLES", 12)
    tiny.shorten(monkeypatch, ddpm_table)


def test_all_rows_differ_in_the_ablation_alone(little: None):
    """The same network but for its second half, the same chain, the same budget."""
    configurations = [v.config for v in ddpm_table.variants(tiny.QUICK)]
    for config in configurations:
        outputs = config["network"].pop("out_channels")
        assert outputs == (2 if config["variance"] == "free" else 1)
    ablated = {"prediction", "objective", "variance"}
    rest = [{k: v for k, v in config.items() if k not in ablated} for config in configurations]
    assert all(other == rest[0] for other in rest)
    told = {(c["prediction"]["name"], c["objective"]["name"], c["variance"]) for c in configurations}
    assert len(told) == 6


@pytest.mark.parametrize("quick", [True, False])
def test_variants_are_denoisers_of_the_data(quick: bool):
    for variant in ddpm_table.variants(Setting(quick=quick)):
        denoiser = denoiser_of(configs.from_dict(variant.config))
        assert len(denoiser.process.schedule.betas) == (100 if quick else 1000)
        assert denoiser.process.schedule.prior_report() is None
        assert denoiser.predict(torch.zeros(2, 1, 8, 8), 3.0).x0.shape == (2, 1, 8, 8)


def test_only_pictures_of_levels(monkeypatch: pytest.MonkeyPatch):
    made = small.pictures()
    for change in ({"eight_bit": False}, {"kind": "points"}):
        other = replace(made, spec=replace(made.spec, **change))
        monkeypatch.setattr(data, "load", lambda source, other=other: other)
        with pytest.raises(UserError, match="pictures of 8 bits"):
            ddpm_table.dataset(tiny.QUICK)


def test_rankings_by_hand():
    theirs = {"a": 1.0, "b": 2.0, "c": 3.0, "d": math.inf, "e": math.inf, "absent": 0.0}
    ours = {"a": Figure(1.0, 0.3), "b": Figure(1.4, 0.4), "c": Figure(0.5, 0.1), "d": Figure(9.0), "e": Figure(0.1)}
    hold, fail, close = ddpm_table.rankings(ours, theirs)
    assert hold == ["a before d", "b before d", "c before d"]
    assert fail == ["a before c", "a before e", "b before c", "b before e", "c before e"]
    assert close == ["a before b"]  # 0.4 apart, and sqrt(0.09 + 0.16) = 0.5


def test_one_seed_ranks_by_its_own_figures():
    assert ddpm_table.rankings({"a": Figure(2.0), "b": Figure(1.0)}, {"a": 1.0, "b": 2.0}) == ([], ["a before b"], [])


def test_from_digits_to_table(little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = tiny.carry_out("ddpm-table", tmp_path)
    assert table.columns[:3] == ("bits/dim", "± over pictures", "distance × 1000")
    rows = {row["name"]: row for row in table.to_json()["rows"]}
    assert list(rows)[:6] == list(ddpm_table.ABLATION)
    for name in ddpm_table.ABLATION:
        assert {"bits_dim", "over_pictures", "distance_1000"} <= rows[name].keys()
    assert rows["eps: squared error (L_simple)"]["paper_fid"] == 3.17
    assert "paper_fid" not in rows["mu: squared error, unweighted"]  # the paper gives none
    assert rows["two halves of the data"]["distance_1000"] > 0
    assert sum("rankings by" in note for note in table.notes) == 2
    assert all(Path(file).stat().st_size for file in table.files)
    tiny.forbid_training(monkeypatch)
    monkeypatch.setattr(ddpm_table, "_figure", lambda *_: table.files[0])
    assert tiny.carry_out("ddpm-table", tmp_path).to_json() == table.to_json()

    # The figure of a run is the bound with the model's own decoder variance and x_0 inside its range.
    model = trained(tmp_path, ddpm_table.variants(tiny.QUICK)[0])
    x0 = model.inside(ddpm_table.dataset(tiny.QUICK).heldout.x)
    bound = variational_bound(
        Clipped(model.denoiser), x0, decoder_variance="reverse", noise=NoiseSource(0, range(len(x0)))
    )
    assert rows["mu: L, learned diagonal variance"]["bits_dim"] == pytest.approx(float(bound.bits_per_dim.mean()))


def test_a_run_that_went_astray_has_no_figure_and_is_named(little: None, tmp_path: Path):
    figures = {"bits": 3.0, "spread": 0.1, "distance": 5.0, "pictures": 6, "terms": 10, "samples": 12}
    measured = {name: [dict(figures), dict(figures)] for name in ddpm_table.ABLATION}
    measured["eps: L, fixed variance"][1] |= {"bits": None, "distance": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ddpm_table, "_figure", lambda *_: "")
        table = ddpm_table.report(measured, tmp_path, replace(tiny.QUICK, seeds=2))
    row = {row.name: row for row in table.rows}["eps: L, fixed variance"]
    assert ddpm_table.BITS not in row.figures
    assert "Went astray, so that a figure is missing: eps: L, fixed variance." in table.notes
