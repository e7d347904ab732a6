"""Networks too large for one device: each process keeps a part of every weight, and all of a block's only while it is needed.

The parts are cut along the first dimension as ``torch.chunk`` cuts: n rows among w processes in parts of ``ceil(n / w)``, the
last ones shorter or empty. This is what FSDP2 does (``torch.distributed.fsdp.fully_shard``), and all that a reader needs to know.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from unstir.networks.blocks import ResidualBlock, SelfAttention
from unstir.networks.mlp import MLPBlock

BLOCKS = (ResidualBlock, SelfAttention, MLPBlock)
"""What is gathered one at a time. They are handed tensors and nothing that they change: FSDP2 hands on copies of lists."""


def shard(network: nn.Module, device: torch.device, world: int) -> None:
    """Cuts every parameter among the processes, in place; the parts lie on ``device``, names and values are unchanged.

    The blocks' parts are gathered when they are needed and let go after use; what lies in no block is gathered with the network
    itself.
    """
    # The U-Net's output is a view of a padded one. Nobody writes into it, which is all that this warning is about.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (world,))
    for block in [module for module in network.modules() if isinstance(module, BLOCKS)]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def own(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process keeps, sharing its memory; of a whole one all of it."""
    tensor = tensor.detach()
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def joined(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which each process keeps such a part as of ``like``; all have to ask at once."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()


def part_of(whole: Tensor, rank: int, world: int) -> Tensor:
    """The part of a whole tensor that process ``rank`` of ``world`` keeps."""
    rows = -(-len(whole) // world)
    return whole[rank * rows : (rank + 1) * rows]
