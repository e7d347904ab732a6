"""Samplers: walks over a grid of times, from the prior to the data."""

from unstir.samplers.adams import DEIS, PNDM
from unstir.samplers.adaptive import Adaptive
from unstir.samplers.ancestral import Ancestral
from unstir.samplers.base import Sampler, State
from unstir.samplers.ddim import DDIM
from unstir.samplers.dpm_sde import DPMSDE, DPMMultistepSDE
from unstir.samplers.edm import EDM
from unstir.samplers.euler import Euler
from unstir.samplers.grid import SPACINGS, Grid
from unstir.samplers.heun import Heun
from unstir.samplers.multistep import DPMMultistep
from unstir.samplers.registry import NAMES, get
from unstir.samplers.singlestep import DPMSinglestep
from unstir.samplers.tau import TauLeaping
from unstir.samplers.unipc import UniPC
from unstir.samplers.walk import Edit, check_suits, sample, walk

__all__ = [
    "DDIM",
    "DEIS",
    "DPMSDE",
    "EDM",
    "NAMES",
    "PNDM",
    "SPACINGS",
    "Adaptive",
    "Ancestral",
    "DPMMultistep",
    "DPMMultistepSDE",
    "DPMSinglestep",
    "Edit",
    "Euler",
    "Grid",
    "Heun",
    "Sampler",
    "State",
    "TauLeaping",
    "UniPC",
    "check_suits",
    "get",
    "sample",
    "walk",
]
