"""Who is trained by time_to_quality.py: ours, and the peers with their own settings, each asked in the same way."""

from __future__ import annotations

import argparse
import math
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from train_step import lucidrains_module

from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.processes import Gaussian
from unstir.runs import Model
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of, rms
from unstir.runs.config import Config
from unstir.schedules import FromBetas
from unstir.training import engine as engines
from unstir.training import presets
from unstir.training.choosing import chosen
from unstir.training.loop import Trainer

DDIM_STEPS = 50


class Contender(ABC):
    """Something that is trained, and then measured with its averaged weights.

    Attributes:
        anneals: whether its rate depends on the budget, so that each budget is a run of its own.
        samples, bound: how many samples are drawn; held-out pictures and terms of the bound (all as time allows).
    """

    anneals: ClassVar[bool]
    samples: ClassVar[int]
    bound: ClassVar[tuple[int, int]]
    described: str
    batch: int
    network: nn.Module

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        self.dataset, self.seed = dataset, asked.seed
        self.order = np.random.default_rng(asked.seed)
        self.left = np.empty(0, np.int64)

    @abstractmethod
    def update(self, share: float) -> None:
        """One step of the optimizer, when this share of the budget is spent."""

    @abstractmethod
    def averaged(self) -> dict[str, Tensor]:
        """The weights that samples are drawn from, as the network's state dict."""

    @abstractmethod
    def model(self) -> Model:
        """Its network, as our bound reads it."""

    @abstractmethod
    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        """The ways in which samples are drawn: each gives n pictures, uint8 (n, 28, 28, 1)."""

    def pictures(self) -> Tensor:
        """The next batch in -1 … 1, in a random order, each picture once an epoch."""
        if len(self.left) < self.batch:
            self.left = np.concatenate([self.left, self.order.permutation(len(self.dataset.train))])
        rows, self.left = self.left[: self.batch], self.left[self.batch :]
        return self.dataset.train.batch(rows)[0]


class Ours(Contender):
    anneals, samples, bound = True, 5_000, (256, 100)

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        base = presets.get(asked.preset, dataset.spec, rms(dataset.train))
        self.config: Config = replace(configs.from_dict(overrides(asked.set), base), seed=asked.seed)
        self.how = {"sampler": asked.sampler, "steps": asked.steps, "spacing": asked.spacing}
        self.described = f"{asked.sampler}, {asked.steps} steps, {asked.spacing}"
        self.batch = self.config.optimiser.batch
        torch.manual_seed(asked.seed)
        self.denoiser = denoiser_of(self.config)
        self.network = self.denoiser.network
        self.trainer: Trainer | None = None

    def _start(self) -> Trainer:
        engines.keep_memory()
        engine, milliseconds = chosen(self.config, self.denoiser, self.dataset)
        print(f"a step takes {engines.measured(milliseconds)}; using {engine.name}")
        engine.settle()
        engine.place(self.denoiser)
        return Trainer(self.config, self.denoiser, self.dataset, engine)

    def update(self, share: float) -> None:
        if self.trainer is None:
            self.trainer = self._start()
        progress = self.trainer.progress
        # The budget in pictures, as `unstir train --minutes` finds it, but anew at each step, so that it ends on time.
        progress.total = round(progress.images / share) if share > 0.01 else 0
        self.trainer.update()

    def averaged(self) -> dict[str, Tensor]:
        assert self.trainer is not None
        return {n: v.clone() for n, v in zip(self.trainer.names, self.trainer.ema.values, strict=True)}

    def model(self) -> Model:
        return Model(self.denoiser.eval(), self.dataset.spec, self.config)

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        ways: dict[str, Callable[[int], np.ndarray]] = {"without labels": self._plain}
        return ({"with labels": self._labelled} | ways) if self.dataset.spec.classes else ways

    def _plain(self, n: int) -> np.ndarray:
        return self.model().sample(n, batch=250, seed=1, **self.how)

    def _labelled(self, n: int) -> np.ndarray:
        """Each class as often as in the training data, mixed."""
        assert self.dataset.train.labels is not None
        shares = np.cumsum(np.bincount(self.dataset.train.labels)) / len(self.dataset.train)
        ends = np.round(shares * n).astype(int)
        parts, begin = [], 0
        for label, end in enumerate(ends):
            parts.append(
                self.model().sample(end - begin, indices=range(begin, end), batch=250, label=label, **self.how)
            )
            begin = end
        return np.concatenate(parts)[np.random.default_rng(0).permutation(n)]


class Lucidrains(Contender):
    anneals, samples, bound, batch = False, 500, (64, 30), 16
    described = f"its ddim_sample, {DDIM_STEPS} steps"

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        theirs = lucidrains_module()
        theirs.tqdm = lambda steps, **_: steps
        torch.manual_seed(asked.seed)
        channels, side, _ = dataset.spec.shape
        self.network = theirs.Unet(64, dim_mults=(1, 2, 4), channels=channels)
        self.diffusion = theirs.GaussianDiffusion(self.network, image_size=side, sampling_timesteps=DDIM_STEPS)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        self.ema = theirs.EMA(self.diffusion, beta=0.995, update_every=10)

    def update(self, share: float) -> None:
        self.diffusion.train()
        self.diffusion((self.pictures() + 1) / 2).backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def averaged(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.ema.ema_model.model.state_dict().items()}

    def model(self) -> Model:
        schedule = FromBetas(self.diffusion.betas.double())
        network = Called(lambda x, time: self.network(x, time))
        return Model(Denoiser(network, Gaussian(schedule), "v").eval(), self.dataset.spec, Config())

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        def drawn(n: int) -> np.ndarray:
            torch.manual_seed(1)
            parts = [self.diffusion.eval().sample(min(100, n - first)) for first in range(0, n, 100)]
            return self.dataset.spec.outside(torch.cat(parts) * 2 - 1)

        return {"without labels": drawn}


class Diffusers(Contender):
    anneals, samples, bound, batch = True, 1_500, (256, 50), 16
    described = f"its DDIMPipeline, {DDIM_STEPS} steps"

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        import diffusers
        from diffusers.training_utils import EMAModel

        torch.manual_seed(asked.seed)
        channels, side, _ = dataset.spec.shape
        self.network = diffusers.UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.schedule = diffusers.DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.steps = 0

    def update(self, share: float) -> None:
        self.network.train()
        clean = self.pictures()
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),))
        noised = self.schedule.add_noise(clean, noise, t)
        torch.nn.functional.mse_loss(self.network(noised, t).sample.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        # Its cosine of steps with 500 of warm-up, told by the share of the budget; where 500 are too many, a twentieth of it.
        warm = min(1.0, max((self.steps + 1) / 500, share / 0.05))
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-4 * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        self.steps += 1

    def averaged(self) -> dict[str, Tensor]:
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.ema.restore(self.network.parameters())
        return weights

    def model(self) -> Model:
        schedule = FromBetas(self.schedule.betas.double())
        network = Called(lambda x, time: self.network(x, time).sample)
        return Model(Denoiser(network, Gaussian(schedule), "eps").eval(), self.dataset.spec, Config())

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(self.network.eval(), DDIMScheduler.from_config(self.schedule.config))
        pipeline.set_progress_bar_config(disable=True)

        def drawn(n: int) -> np.ndarray:
            generator = torch.Generator().manual_seed(1)
            parts = [
                pipeline(
                    batch_size=min(100, n - first),
                    generator=generator,
                    num_inference_steps=DDIM_STEPS,
                    output_type="np",
                ).images
                for first in range(0, n, 100)
            ]
            return np.round(255 * np.concatenate(parts)).astype(np.uint8)

        return {"without labels": drawn}


class Called(nn.Module):
    """A network of theirs, called as ours are."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.place = nn.Parameter(torch.zeros(()))  # says on which device it is

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        return self.call(x, time)


CONTENDERS: dict[str, type[Contender]] = {"ours": Ours, "lucidrains": Lucidrains, "diffusers": Diffusers}


def overrides(settings: list[str]) -> dict[str, Any]:
    """``a.b=1`` as nested dicts; values as TOML writes them, and what is not TOML is a text."""
    tree: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            parsed = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            parsed = value
        *path, last = key.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[last] = parsed
    return tree
