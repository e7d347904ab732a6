"""A run's folder, opened: made, or found to have been asked for the same."""

from __future__ import annotations

import json

import torch

from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.errors import UserError
from unstir.runs import checkpoint as checkpoints
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.runs.config import Config
from unstir.runs.folder import Run
from unstir.training.batches import pieces
from unstir.training.engine import Engine
from unstir.training.loop import Trainer
from unstir.training.processes import Processes


def opened(run: Run, config: Config, dataset: Dataset, denoiser: Denoiser, processes: Processes) -> None:
    """Makes the run, or checks that the one that is there was asked for the same.

    Raises:
        UserError: for another configuration or other data than the run's, for what does not fit each other, and for a place where
            no run can be kept.
    """
    opt = config.optimiser
    pieces(opt.batch, processes.rank, processes.world, opt.micro_batch)
    try:
        if run.config.exists():
            return compare(run, config, dataset)
        rehearse(config, dataset, denoiser)
        if not run.begins:
            raise UserError(f"{run.path} is already there and is not a run: choose another --out")
        run.samples.mkdir(parents=True, exist_ok=True)
        run.write_environment()
        checkpoints.write_aside(run.path / "data.json", json.dumps(dataset.spec.to_json(), indent=1).encode())
        (run.path / "log.txt").unlink(missing_ok=True)
        for sentence in dataset.log:
            run.log(sentence)
        # Last, since its presence says that the run has been opened.
        checkpoints.write_aside(run.config, config.to_toml().encode())
    except OSError as error:
        raise UserError(f"the run cannot be kept in {run.path}: {error}") from None


def compare(run: Run, config: Config, dataset: Dataset) -> None:
    """Checks that a run that is there was asked for the same.

    Raises:
        UserError: for another configuration, or other data.
    """
    if not run.config.exists():
        return
    there = configs.read(run.config)
    changed = run.spec().hash != dataset.spec.hash
    different = configs.differences(there, config)
    # Settings that are measured on the data, such as its size, differ where the data do: then these are what is told of.
    if different and not (changed and there.data == config.data):
        raise UserError(
            f"{run.path} was started with other settings ({'; '.join(different)}): "
            "repeat its line to continue it, or choose another --out"
            + ("; a budget cannot be changed once it has begun" if there.budget != config.budget else "")
        )
    if changed:
        raise UserError(
            f"the data is not what {run.path} was started with: put it back as it was, or choose another --out"
        )


@torch.no_grad()
def rehearse(config: Config, dataset: Dataset, denoiser: Denoiser) -> None:
    """One loss, so that a configuration that does not fit itself or the data is refused before a folder is made."""
    try:
        Trainer(config, denoiser, dataset, Engine(torch.device("cpu"))).loss(0, 2)
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"this configuration cannot learn from this data: {reason}") from error


def initialised(config: Config) -> Denoiser:
    """A denoiser with the weights that its seed begins with."""
    torch.manual_seed(config.seed)
    return denoiser_of(config)
