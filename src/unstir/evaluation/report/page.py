"""The report: one self-contained page about a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from unstir.data import Split, contact_sheet
from unstir.evaluation import beside, figures, likelihood
from unstir.runs import Model, Run

PICTURES, POINTS, SEQUENCES = 64, 1000, 32
COLUMNS, ROWS = 20, 8
GENERATED, REAL = "Generated: the first of seed 0, not chosen", "Real: held out, never trained on"


def write(
    run: Run, model: Model, heldout: Split, *, images: int = 256, progress: Callable[[int, int], None] | None = None
) -> None:
    """Samples, measures and writes ``report.html`` into the run.

    Args:
        images: held-out items for the bound.
        progress: called with (network calls of the bound done, all), by far the longest part.
    """
    items = "images" if model.spec.kind == "image" else "items"
    sections = _pictures(run, model, heldout) if model.spec.kind == "image" else [_no_pictures(run, model, heldout)]
    sections.append(
        _section(
            "Loss",
            figures.curves(_losses(run), f"training {items}", "loss (logarithmic)", log_y=True),
            _command("report", run),
        )
    )
    result = likelihood.measure(model, heldout, images=images, progress=progress)
    sections.append(_section("Likelihood", _likelihood(result), _command("evaluate", run, "--images", images)))
    sections.append(_section("What this is", _facts(model), _command("report", run)))
    page = Template(files("unstir.evaluation").joinpath("report.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{run.path.name}: {model.spec.source}"),
        lead=f"A diffusion model trained on {escape(model.spec.source)}, {model.images:,} training {items} seen, "
        f"{result.total:.3f} ± {result.half_width:.3f} {result.unit} on held-out data.",
        sections="\n".join(sections),
    )
    run.report.write_text(page, encoding="utf-8")


def _pictures(run: Run, model: Model, heldout: Split) -> list[str]:
    pair = _by_class(run, model, heldout) or _in_order(run, model, heldout)
    walked, predicted = figures.reverse_film(model)
    again = _command("report", run)
    return [
        f'<h2>Generated beside real</h2><div class="pair">{pair}</div>',
        _section(
            "The forward process: stirring",
            figures.embedded(figures.forward_film(model, heldout), "held-out pictures turning into noise")
            + "<figcaption>Held-out pictures from t = 0 (left) to T (right): x<sub>t</sub> = α<sub>t</sub> x<sub>0</sub> + "
            "σ<sub>t</sub> ε.</figcaption>",
            again,
        ),
        _section(
            "The reverse process: unstirring",
            figures.embedded(walked, "noise turning into pictures")
            + "<figcaption>Samples 0 to 3 of seed 0 from noise (left) to the picture (right), DDIM, 20 steps.</figcaption><br>"
            + figures.embedded(predicted, "predicted clean pictures")
            + "<figcaption>The clean picture that the network predicts from each x<sub>t</sub> above.</figcaption>",
            again,
        ),
    ]


def _no_pictures(run: Run, model: Model, heldout: Split) -> str:
    """Points as two clouds, bits and symbols as rows of colour, as many of each."""
    points = model.spec.kind == "points"
    real = np.asarray(heldout.x[heldout.spread(POINTS if points else SEQUENCES)])
    generated = model.sample(len(real), batch=len(real))
    commands = _command("sample", run, "-n", len(real)), _command("report", run)
    if points:
        seen, what = beside.window(real), _coordinates(real.shape[1])
        drawn = []
        for those, caption, style in ((generated, GENERATED, "b"), (real, REAL, "a")):
            cloud, outside = beside.cloud(those, seen, f"{caption}; {what}", style)
            left_out = f"; {outside} of {len(those)} lie outside these axes" if outside else ""
            drawn.append((cloud, f"{caption}; {what}{left_out}", ""))
    else:
        drawn = []
        for those, caption in ((generated, GENERATED), (real, REAL)):
            caption = f"{caption}; each row is one sequence"
            picture = figures.embedded(beside.raster(those, model.spec.symbols), caption)
            drawn.append((picture, caption, beside.key(model.spec.symbols)))
    pair = "".join(_figure(body, caption, command, key) for (body, caption, key), command in zip(drawn, commands))
    return f'<h2>Generated beside real</h2><div class="pair">{pair}</div>'


def _coordinates(dims: int) -> str:
    if dims == 1:
        return "the share of the values (upwards) up to each value (rightwards)"
    return "the second coordinate (upwards) against the first" + (f", of {dims}" if dims > 2 else "")


def _in_order(run: Run, model: Model, heldout: Split) -> str:
    real = np.asarray(heldout.x[: min(PICTURES, len(heldout))])
    generated = contact_sheet(model.spec.levels(model.sample(PICTURES)))
    return _figure(
        figures.embedded(generated, GENERATED), GENERATED, _command("sample", run, "-n", PICTURES)
    ) + _figure(figures.embedded(contact_sheet(model.spec.levels(real)), REAL), REAL, _command("report", run))


def _by_class(run: Run, model: Model, heldout: Split) -> str:
    """One column a class, where the data has few enough classes and held-out pictures of each; else nothing."""
    classes = len(model.spec.classes)
    if heldout.labels is None or not 4 < classes <= COLUMNS:
        return ""
    of_class = [np.flatnonzero(heldout.labels == k)[:ROWS] for k in range(classes)]
    rows = min(len(found) for found in of_class)
    if rows == 0:
        return ""
    real = np.asarray(heldout.x[np.stack([found[:rows] for found in of_class], axis=1).ravel()])
    generated = contact_sheet(model.spec.levels(model.sample(ROWS * classes, label="each")), classes)
    caption = "Generated, one column a class: the first of seed 0, not chosen"
    return _figure(
        figures.embedded(generated, caption), caption, _command("sample", run, "-n", ROWS * classes, "--label", "each")
    ) + _figure(figures.embedded(contact_sheet(model.spec.levels(real), classes), REAL), REAL, _command("report", run))


def _figure(body: str, caption: str, command: str, key: str = "") -> str:
    """A drawing with what is said of it; the key of its colours is HTML."""
    return (
        f"<figure>{body}<figcaption>{escape(caption)}{'<br>' if key else ''}{key}"
        f'<code class="command">{escape(command)}</code></figcaption></figure>'
    )


def _losses(run: Run) -> dict[str, figures.Points]:
    records = list(run.records())
    training: list[tuple[float, float]] = []
    for r in records:
        if r.get("event") == "resume":
            # What was learned after the checkpoint was lost, and is learned again.
            training = [(x, y) for x, y in training if x <= r["images"]]
        elif "event" not in r and r["loss"] is not None:
            training.append((r["images"], r["loss"]))
    heldout = [(r["images"], sum(r["loss"]) / len(r["loss"])) for r in records if r.get("event") == "held-out"]
    return {"training": training, "held out, averaged weights": heldout}


def _likelihood(result: likelihood.Likelihood) -> str:
    parts = {name: _subscripts(escape(what)) for name, what in likelihood.PARTS.items()}
    last = "the last step, to whole levels" if result.unit == "bits/dim" else "the last step"
    rows = (
        (
            "total",
            result.total,
            f"± {result.half_width:.4f}, 95 % interval over {result.items} held-out items; an upper bound",
        ),
        ("prior", result.prior, f"{parts['prior']}: what the chain does not forget"),
        ("steps", result.steps, f"{parts['steps']} ({result.described}): what the network does not know"),
        ("decoder", result.decoder, f"{parts['decoder']}: {last}"),
    )
    table = "".join(
        f'<tr><th>{name}</th><td class="number">{value:.4f}</td><td>{text}</td></tr>' for name, value, text in rows
    )
    return f"<table><tr><th></th><th>{result.unit}</th><th></th></tr>{table}</table>"


def _subscripts(text: str) -> str:
    """``x0``, ``x_1`` and ``x_T`` as they are printed, and a minus sign for a hyphen before a word."""
    return re.sub(r"\bx_?([0-9T])", r"x<sub>\1</sub>", text).replace("-log", "−log")


def _facts(model: Model) -> str:
    config = model.config
    facts = {
        "data": f"{model.spec.source}, shape {'×'.join(map(str, model.spec.shape))}; {model.spec.rules}",
        "network": f"{config.network['name']}, {sum(p.numel() for p in model.denoiser.network.parameters()):,} parameters",
        "preset": config.preset,
        "prediction": config.prediction["name"],
        "schedule": f"{config.schedule['name']}, T = {model.denoiser.process.T}",
        "weights": f"{model.weights}, after {model.images:,} images",
        "seed": str(config.seed),
    }
    return (
        "<table>"
        + "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
        + "</table>"
    )


def _command(name: str, run: Run, *options: str | int) -> str:
    """The line to type."""
    return shlex.join(["unstir", name, str(run.path), *map(str, options)])


def _section(title: str, body: str, command: str) -> str:
    return f'<h2>{escape(title)}</h2><figure>{body}</figure><code class="command">{escape(command)}</code>'
