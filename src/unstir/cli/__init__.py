"""The command line: each command in its own small file, loaded only when it is run."""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError, Parameter

from unstir import __version__
from unstir.errors import UserError

app = App(
    name="unstir",
    version=__version__,
    help="Train, sample and measure with denoising diffusion models on your own data.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # main says what an interrupt left
)
for _name, _help in (
    ("demo", "Train on handwritten digits, generate, measure: a report in two minutes."),
    ("train", "Train on your data; the same line again continues."),
    ("average", "Make a model with another average of a run's weights, after training."),
    ("sample", "Draw new data from a run."),
    ("film", "Show a run's two processes as they go: data to noise, and noise to data."),
    ("evaluate", "Measure a run: likelihood, quality of samples, copies; with a receipt."),
    ("compare", "Receipts of evaluations side by side, if they compare."),
    ("score", "How strange each item of some data is to a run, as a table."),
    ("report", "One self-contained page about a run."),
    ("reproduce", "Rebuild the papers' experiments: their tables, ours beside theirs."),
    (
        "doctor",
        "Say why samples are noise, black, tinted or copies, and what to do; exit code 0 when healthy, 1 when something was found.",
    ),
    ("inspect", "Show what is in the data, what is wrong with it, what the network will see."),
):
    app.command(f"unstir.cli.{_name}:{_name}_", name=_name, help=_help)
app.command("unstir.cli.bench:app", name="bench", help="Find the way of sampling that suits a run.")
app.command(
    "unstir.cli.edit:app", name="edit", help="Change pictures of your own, or other data, by what a run has learned."
)
app.command("unstir.cli.features:app", name="features", help="Make features for evaluate to compare data in.")


_CONTINUED = (["train"], ["reproduce"], ["demo"])


def main() -> None:
    """Runs a command: exit code 0 when it worked, 2 with one line on stderr for bad input, 130 when interrupted.

    What measures and finds something wrong (doctor; evaluate --check) ends with 1.
    """
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except UserError as error:
        _fail(str(error))
    except CycloptsError as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:
        # A full disk or a folder that vanished: nothing that a traceback would explain better.
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        _fail("not enough memory: choose a smaller --size, --batch or preset")
    except KeyboardInterrupt as stop:
        left = "the same line continues" if sys.argv[1:2] in _CONTINUED else "nothing was written"
        print(f"unstir: stopped; {stop.args[0] if stop.args else left}", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"unstir: {message}", file=sys.stderr)
    sys.exit(2)
