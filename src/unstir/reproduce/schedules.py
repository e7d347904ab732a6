"""How fast each schedule forgets: signal, log-SNR and beta against time."""

from __future__ import annotations

from pathlib import Path

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.reproduce.experiment import Measured, Setting, Variant
from unstir.reproduce.plots import figure
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.schedules import Schedule, from_description, schedule_curves

TITLE = "Schedules: what each leaves behind at T, and where it spends its steps"

SHOWN = {
    "linear [HO20]": {"name": "linear_beta"},
    "cosine": {"name": "cosine"},
    "1/(T-t+1) [SD15]": {"name": "inverse_time", "T": 1000},
    "quadratic": {"name": "quadratic"},
    "constant": {"name": "constant"},
    "sigmoid in beta": {"name": "sigmoid_beta"},
    "sigmoid in alpha_bar": {"name": "sigmoid_alpha_bar"},
    "EDM's sigmas": {"name": "edm_sigma"},
}


def variants(setting: Setting) -> list[Variant]:
    return []


def dataset(setting: Setting) -> Dataset:
    raise UserError("schedules are compared without data")


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    return {}


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    schedules: dict[str, Schedule] = {name: from_description(given) for name, given in SHOWN.items()}
    curves = schedule_curves(schedules)
    path = folder / "schedules.png"
    with figure(path, 1, 3, size=(4.2, 3.4)) as axes:
        signal, snr, beta = axes[0]
        for name, curve in curves.items():
            signal.plot(curve.place, curve.signal, label=name)
            snr.plot(curve.place, curve.log_snr)
            beta.plot(curve.step, curve.beta)
        signal.set(title=r"signal $\sqrt{\bar\alpha_t}$", xlabel="t / T")
        snr.set(title="log-SNR", xlabel="t / T", ylim=(-15, 15))
        beta.set(title=r"$\beta_t$", xlabel="t / T", yscale="log")
        signal.legend(fontsize=6)
    rows = [
        Row(
            name,
            {"prior KL (bits/dim)": Figure(s.prior_kl_bits()), "log-SNR at T/2": Figure(float(s.log_snr(s.T / 2)))},
        )
        for name, s in schedules.items()
    ]
    return Table(
        "schedules", TITLE, ("prior KL (bits/dim)", "log-SNR at T/2"), rows,
        ["The prior KL is that of data with mean square 1; above 0.001 bits/dim a run says so."], [str(path)], digits=5,
    )  # fmt: skip
