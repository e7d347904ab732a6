"""unstir score"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unstir.data import Split
    from unstir.evaluation.score import Scores
    from unstir.sets.auroc import Auroc


def score_(
    run: Path,
    data: str,
    *,
    out: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    scores: str = "bits,typicality,reconstruction",
    strange: str | None = None,
    terms: int = 10,
    draws: int | None = None,
    steps: int = 1,
    training: str | None = None,
    reference: int = 256,
    limit: int | None = None,
    seed: int = 0,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Say of each item how strange it is to a run: a table (CSV) with a row for each. Higher is always stranger.

    Examples:

        unstir score runs/digits photos/

        unstir score runs/digits photos/ --strange broken,scratched --out photos.csv

        unstir score runs/points new.csv --scores reconstruction --draws 32 --out -

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    data: str
        The items: pictures are made the run's size and colour.
    out: str
        The table, x.csv, or - for stdout; by default scores.csv in the run's folder.
    scores: str
        With commas between. bits: the bound on -log p, which alone takes simple pictures for familiar, whatever they show; and
        bits_less_png, what is left of it once what PNG needs is taken off. typicality: how far the bits are from those of
        training items, on either side. reconstruction: how wrong the model is about an item that it sees through noise, in
        spreads of training items' errors. Look at it first: bits mislead where things are simple, bits_less_png where they are
        like noise. It is made from error_t… for three times t, little, half and much noise: how far off an item is that is
        rebuilt from its version at time t (mean square error of numbers, bits a value of bits and symbols).
    strange: str
        Which of the data's classes are strange, with commas between: each score is then told how well it finds them, as the
        area under the ROC curve (0.5 is luck, 1 perfect; below 0.5 the strange ones score lower).
    terms: int
        About how many terms of the bound are looked at in each draw, for an unbiased estimate; 0 for all of them, once.
    draws: int
        How often noise is drawn for each term and each level: more is more precise. By default 2, and up to 16 for items of fewer
        than 128 values.
    steps: int
        Rebuild in so many steps of DDIM instead of in one look; not for bits and symbols.
    training: str
        Data whose training part the others are beside; by default the run's own.
    reference: int
        How many training items.
    limit: int
        At most so many items, spread evenly over the data.
    seed: int
        Of the noise. An item scores the same alone and among any others.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time; memory, not results, depends on it.
    json: bool
        A summary as JSON on stdout, with the areas under the curve.
    """
    import io
    import time

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model, own_data
    from unstir.errors import UserError
    from unstir.evaluation import score
    from unstir.runs.checkpoint import write_aside

    if (
        batch < 1
        or terms < 0
        or (draws is not None and draws < 2)
        or reference < 2
        or (limit is not None and limit < 1)
    ):
        raise UserError("--batch and --limit must be at least 1, --terms 0, --draws and --reference 2")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed}")
    wanted = [name.strip() for name in scores.split(",")]
    target = None if out == "-" else Path(out) if out else (run if run.is_dir() else run.parent) / "scores.csv"
    if target is None and json:
        raise UserError("--out - and --json both write to stdout: leave one out")
    model = open_model(run, weights=weights)
    score.check(model, wanted, steps)
    if target is not None:
        _check(target, data, model.config.data.source)
    items = runs.everything(model, data)
    labelled = items.train.labels is not None
    classes = _listed(strange, items.spec.classes if labelled else ()) if strange is not None else []
    if classes:
        score.check_apart(items, classes, limit)
    for sentence in items.log:
        console.say(sentence)
    began = time.monotonic()

    usual: Split | None = None
    unit = "items"
    if set(wanted) != {"bits"}:
        usual = own_data(model, training, option="--training").train
        unit = f"items, {len(usual.spread(reference)):,} of them training items"

    def beside() -> Split:
        assert usual is not None  # bits alone are beside nothing
        return usual

    with console.bar("scoring", unit) as update:
        result = score.measure(
            model, items, beside, scores=wanted, terms=terms or None, draws=draws, steps=steps,
            reference=reference, limit=limit, seed=seed, batch=batch, progress=update,
        )  # fmt: skip
    areas = result.apart(classes) if classes else {}
    text = io.StringIO()
    result.write(text)
    if target is None:
        print(text.getvalue(), end="", flush=True)
    else:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_aside(target, text.getvalue().encode())
        except OSError as error:
            raise UserError(f"the scores could not be written to {target}: {error.strerror}") from None
        console.say(f"{len(result.names):,} items in {target}")
    if result.reference:
        console.say(f"typicality and reconstruction are beside {result.reference:,} training items")
    if areas:
        console.say(_table(areas, classes))
    if not json:
        console.say(_strangest(result))
    if json:
        console.give(
            {
                "out": str(target),
                "items": len(result.names),
                "scores": result.scores,
                "reference": result.reference,
                "strange": classes,
                "auroc": {name: area._asdict() for name, area in areas.items()},
                "seed": seed,
                "weights": model.weights,
                "seconds": round(time.monotonic() - began, 1),
            }
        )


def _check(target: Path, data: str, source: str) -> None:
    """Refuses a target that could not be written, or is anything but scores of an earlier time."""
    from unstir import runs
    from unstir.errors import UserError

    if target.suffix.lower() != ".csv":
        raise UserError(f"scores are written as a table, and {target} is not called so: give x.csv, or - for stdout")
    if target.is_dir():
        raise UserError(f"{target} is a folder: give the name of a file in it")
    runs.check_apart(target, data, "the data that is to be scored")
    runs.check_apart(target, source, "the data that this run was trained on")
    runs.check_place(target)
    if target.exists():
        with target.open("rb") as file:
            first = file.readline(1000)
        if first.strip() and not first.startswith(b"name,"):
            raise UserError(f"{target} is already there, and holds no scores: choose another --out")


def _listed(strange: str, classes: Sequence[str]) -> list[str]:
    from unstir.evaluation import score

    # A class may have a comma in its name.
    names = [strange] if strange in classes else [name.strip() for name in strange.split(",")]
    score.check_strange(names, classes)
    return names


def _strangest(result: Scores) -> str:
    """The strangest items, and which column to trust."""
    named = result.strangest()
    width = max(len(name) for name, _ in named)
    lines = [f"the strangest by {result.telling}:", *(f"  {name:<{width}}  {value:.4g}" for name, value in named)]
    says = {
        "reconstruction": "look at reconstruction first",
        "typicality": "typicality alone does not see what is strange and yet as long as training items are",
    }.get(result.telling, "reconstruction, which was not measured, would tell more")
    misled = [
        f"{name} mislead{'s' if name == 'bits_less_png' else ''} {where}"
        for name, where in (
            ("bits_per_dim", "where things are simple"),
            ("bits_per_item", "where things are simple"),
            ("bits_less_png", "where they are like noise"),
        )
        if name in result.columns
    ]
    return "\n".join([*lines, f"{says}{': ' if misled else ''}{', '.join(misled)}"])


def _table(areas: dict[str, Auroc], classes: Sequence[str]) -> str:
    width = max(map(len, areas))
    lines = [f"how well each score finds {', '.join(classes)}: area under the ROC curve and its 95 % interval"]
    for name, area in areas.items():
        turned = "  below 0.5 it points the other way: these score lower than the others" if area.value < 0.5 else ""
        lines.append(f"  {name:<{width}}  {area.value:.3f}  {area.low:.3f} … {area.high:.3f}{turned}")
    return "\n".join(lines)
