"""What two processes do together, for test_processes.py: run by torchrun, results into a folder.

torchrun --standalone --nproc-per-node 2 -m tests.training.together FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import small
from unstir.denoisers import Denoiser
from unstir.runs import Run
from unstir.runs import checkpoint as checkpoints
from unstir.runs.build import denoiser_of
from unstir.runs.checkpoint import Keep
from unstir.runs.config import Config
from unstir.training.engine import Engine
from unstir.training.loop import Trainer
from unstir.training.processes import Processes, join, leave
from unstir.training.resolve import resolve
from unstir.training.saving import Saving
from unstir.training.session import Session
from unstir.training.sharding import joined, shard

UPDATES = 4
SESSION = {"budget": {"images": 96}, "data": {"source": "digits"}}


def settings(batch: int = 6, micro: int = 0, dropout: float = 0.0) -> Config:
    network = {"dropout": dropout, "multipliers": [1, 2], "middle_attention": True}
    return small.config(network=network, optimiser={"batch": batch, "micro_batch": micro}, data={"flip": True})


CASES = {
    "plain": settings(),
    "pieces of two": settings(micro=2),
    "pieces of one": settings(micro=1),
    "shares that differ": settings(batch=5),
}


def trainer(config: Config, processes: Processes, *, cut: bool = False) -> Trainer:
    engine = Engine(torch.device("cpu"))
    torch.manual_seed(config.seed)
    denoiser: Denoiser = denoiser_of(config)
    if cut:
        shard(denoiser.network, engine.device, processes.world)
    made = Trainer(config, denoiser, small.pictures(), engine, processes)
    made.progress.total = config.budget.images
    return made


def whole(made: Trainer) -> dict[str, Tensor]:
    """The weights and their average, whole in every process."""
    tensors = {}
    for name, parameter, value, average in zip(made.names, made.parameters, made.own, made.ema.values, strict=True):
        tensors[f"model/{name}"] = joined(value, parameter).detach().clone()
        tensors[f"ema/{name}"] = joined(average, parameter).detach().clone()
    return tensors


def outcome(made: Trainer, updates: int = UPDATES) -> tuple[dict[str, Any], dict[str, Tensor]]:
    steps = [made.update() for _ in range(updates)]
    facts = {
        "losses": [step.loss for step in steps],
        "norms": [step.gradient_norm for step in steps],
        "rates": [step.learning_rate for step in steps],
        "skipped": [step.skipped for step in steps],
        "averaged": made.ema.updates,
        "images": made.progress.images,
    }
    return facts, whole(made)


def same_everywhere(processes: Processes, tensors: dict[str, Tensor]) -> bool:
    return len(set(processes.gathered(checksum(tensors)))) == 1


def checksum(tensors: dict[str, Tensor]) -> bytes:
    return b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))


def broken(made: Trainer, processes: Processes) -> None:
    """The last process's third batch has no finite loss."""
    inner, calls = made.objective, iter(range(1000))

    def objective(*args: Any) -> Tensor:
        loss = inner(*args)
        return loss * float("nan") if next(calls) == 2 and processes.rank == processes.world - 1 else loss

    made.objective = objective  # type: ignore[assignment]


def shards(folder: Path, processes: Processes) -> dict[str, Any]:
    """A network that is cut: four updates at once, and two, saved, taken up by others, and two more."""
    config = settings(dropout=0.2)
    at_once, tensors = outcome(trainer(config, processes, cut=True))
    first = trainer(config, processes, cut=True)
    outcome(first, 2)
    Saving(Run(folder / "cut"), first, Keep()).save()
    second = trainer(config, processes, cut=True)
    state, passed = checkpoints.newest(folder / "cut" / "checkpoints")
    assert state is not None
    second.restore(state)
    later, resumed = outcome(second, 2)
    kept = sum(value.numel() for value in second.own) / sum(parameter.numel() for parameter in second.parameters)
    return {
        "passed": passed,
        "bit for bit": checksum(tensors) == checksum(resumed) and at_once["losses"][2:] == later["losses"],
        "moments": sum(
            value.numel() for name, value in second.checkpoint().parts["optimizer"].items() if "exp_avg." in name
        ),
        "kept": kept,
    }


def stopping(folder: Path, processes: Processes) -> dict[str, Any]:
    """The second process alone is asked to stop, after its second update."""
    session = sitting(folder, processes)
    events = []
    for event in session.events():
        events.append(event.kind)
        if events.count("step") == 2 and processes.rank == 1:
            session._ask_to_stop(0, None)
    return {"events": processes.gathered(events), "images": processes.gathered(session.trainer.progress.images)}


def sitting(folder: Path, processes: Processes) -> Session:
    file = folder.parent / "small.toml"
    if processes.first:
        file.write_text(small.TOML)
    processes.wait()
    config, dataset = processes.in_turn(lambda: resolve(SESSION, file, Run(folder)))
    return Session(Run(folder), config, dataset, checkpoint_seconds=0, processes=processes)


def main(folder: Path) -> None:
    processes = join()
    facts: dict[str, Any] = {}
    for name, config in CASES.items():
        facts[name], tensors = outcome(trainer(config, processes))
        facts[name]["same"] = same_everywhere(processes, tensors)
        if processes.first:
            save_file(tensors, folder / f"{name}.safetensors")
    facts["cut"], tensors = outcome(trainer(settings(micro=2), processes, cut=True))
    if processes.first:
        save_file(tensors, folder / "cut.safetensors")
    made = trainer(settings(), processes)
    broken(made, processes)
    facts["broken"], tensors = outcome(made)
    facts["broken"]["same"] = same_everywhere(processes, tensors)
    facts["shards"] = shards(folder, processes)
    facts["stopping"] = stopping(folder / "stopped", processes)
    for event in sitting(folder / "whole", processes).events():
        del event
    if processes.first:
        (folder / "facts.json").write_text(json.dumps(facts))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
