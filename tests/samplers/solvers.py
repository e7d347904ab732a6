"""The solvers of the tests by the names that commands use, variants included: every law that holds for all is tried on these."""

from __future__ import annotations

from unstir.samplers import Sampler, get

DETERMINISTIC: dict[str, Sampler] = {
    name: get(name)
    for name in (
        "ddim",
        "euler",
        "heun",
        "dpm++2s",
        "dpm++3s",
        "dpm++2m",
        "dpm++3m",
        "dpm++3m:published=true",
        "unipc2",
        "unipc3",
        "unipc2:b=1",
        "unipc2:corrector=false",
        "unipc3:corrector=false",
        "pndm",
        "pndm:published=true",
        "deis:order=1",
        "deis:order=2",
        "deis",
        "deis:order=2,space=log-snr",
        "deis:space=log-snr",
    )
}
STOCHASTIC: dict[str, Sampler] = {
    name: get(name)
    for name in (
        "ddim:eta=0.5",
        "ancestral",
        "dpm++sde",
        "dpm++sde:stages=1",
        "dpm++2m-sde",
        "edm:s_churn=8",
    )
}
EVERY: dict[str, Sampler] = DETERMINISTIC | STOCHASTIC | {"adaptive": get("adaptive")}
