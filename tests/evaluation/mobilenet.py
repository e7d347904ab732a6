"""MobileNetV1 (Howard et al. 2017) up to its 1,024 features, from arrays: a network that comes from elsewhere, to try out what
takes features with any.

The arrays are Google's, of its 8-bit network decoded to float, norms folded into the convolutions: see ``shared/data/DATA.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILE = Path(__file__).parents[3] / "shared" / "data" / "extractors" / "mobilenet_v1_1.0_224_dequantised_features.npz"


class MobileNet(nn.Module):
    """Pictures (N, 3, 224, 224) in -1…1 to the last layer, (N, 1024, 7, 7); every layer is ``clip(W * x + b, 0, 6)``."""

    def __init__(self, path: Path = FILE) -> None:
        super().__init__()
        arrays = np.load(path)
        self.layers = json.loads(str(arrays["meta_json"]))["layers"]
        for name in arrays.files:
            if name != "meta_json":
                self.register_buffer(name, torch.from_numpy(arrays[name]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            weight, bias = (self.get_buffer(f"{letter}{layer['i']:02d}") for letter in "wb")
            if layer["kernel"] == 3:  # TensorFlow pads an even picture on the far sides alone where it is halved
                x = F.pad(x, (0, 1, 0, 1) if layer["stride"] == 2 else (1, 1, 1, 1))
            groups = len(weight) if layer["depthwise"] else 1
            x = F.conv2d(x, weight, bias, layer["stride"], groups=groups).clamp(*layer["clamp"])
        return x
