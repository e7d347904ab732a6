"""What the run is."""

from __future__ import annotations

from html import escape

from unstir.evaluation.report.markup import Section, line, table, typed
from unstir.runs import Model, Run


def section(run: Run, model: Model) -> Section:
    config, process = model.config, model.denoiser.process
    facts = {
        "data": f"{model.spec.source}, shape {'×'.join(map(str, model.spec.shape))}; {model.spec.rules}",
        "network": f"{config.network['name']}, {sum(p.numel() for p in model.denoiser.network.parameters()):,} parameters",
        "preset": config.preset or "none",
        "prediction": config.prediction["name"],
        "schedule": f"{config.schedule['name']}, T = {process.T:,}",
        "weights": f"{model.weights}, after {model.images:,} images",
        "seed": str(config.seed),
    }
    body = table("facts about the run", (), [(name, escape(text)) for name, text in facts.items()])
    return Section("What this is", body + typed(line("report", run)))
