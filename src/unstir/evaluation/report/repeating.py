"""The receipt: all that is needed to measure these numbers again."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from unstir.evaluation import receipt
from unstir.evaluation.report import markup
from unstir.evaluation.report.markup import Section, line, table, typed
from unstir.evaluation.report.measured import Measured
from unstir.runs import Run


def section(run: Run, measured: Measured) -> Section:
    made = measured.receipt
    kept, elsewhere = str(receipt.place(run.path, made)), ("--data", measured.data) if measured.data else ()
    text = json.dumps(made, indent=1, ensure_ascii=False)
    rests = (
        "the likelihood, the distances at the usual number of steps and the copies"
        if measured.sampled
        else "the likelihood"
    )
    body = (
        markup.said(f"What the numbers of {rests} rest on.")
        + table("what is needed to repeat the numbers", (), [(name, escape(value)) for name, value in _facts(made)])
        + f"<details><summary>The receipt as JSON</summary><pre>{escape(text)}</pre></details>"
        + "<p>The first line measures these numbers anew, the second measures what the receipt beside this report says "
        "and tells whether they agree.</p>"
        + typed(measured.command(run))
        + typed(line("evaluate", run, "--check", kept, *elsewhere))
    )  # fmt: skip
    return Section("Receipt", body)


def _facts(made: dict[str, Any]) -> list[tuple[str, str]]:
    data, model, how, asked = made["data"], made["model"], made["made"], made["asked"]
    facts = [
        ("data", f"{data['source']}: {data['training']:,} to learn from, {data['heldout']:,} held out; {data['rules']}"),
        ("data's hash", data["hash"]),
        ("weights", f"{model['weights']}, after {model['images']:,} images, {model['dtype']}"),
        ("model's hash", model["hash"]),
        ("measured", f"{', '.join(asked['metrics'])}, on {asked['images']:,} held-out items at most, seed {asked['seed']}"),
    ]  # fmt: skip
    if made["sampling"]:
        s, e = made["sampling"], made["extractor"]
        spread = (
            f"{s['sampler']}, {s['steps']:,} steps spread {s['spacing']}, guidance {s['guidance']:g}, seed {s['seed']}"
        )
        facts += [
            ("samples", f"{s['number']:,}: {spread}"),
            ("features", f"{e['name']}: {e['rule']}"),
            ("features' hash", e["hash"]),
        ]
    versions = ", ".join(f"{name} {version}" for name, version in how["versions"].items())
    return [
        *facts,
        ("versions", versions),
        ("machine", f"{how['device']}, {how['machine']}, {how['threads']} threads"),
        ("measured at", f"{how['time']}, in {how['seconds']:g} s"),
        ("command", how["command"]),
    ]
