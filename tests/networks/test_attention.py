"""Self-attention against the softmax written out, and its symmetries."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unstir.networks.blocks import SelfAttention, attend


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


def vectors(tokens: int = 7, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, tokens, 8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_it_is_the_softmax_over_the_keys(dtype: torch.dtype, error: float) -> None:
    q, k, v = vectors(dtype=dtype)
    expected = written_out(q.double(), k.double(), v.double())
    torch.testing.assert_close(attend(q, k, v).double(), expected, rtol=0, atol=error)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("tokens", [5, 1025])
def test_rows_sum_to_one(dtype: torch.dtype, error: float, tokens: int) -> None:
    # 1025 tokens take the kernel that builds no table, in bfloat16 too.
    q, k, v = vectors(tokens, dtype)
    torch.testing.assert_close(attend(q, k, torch.ones_like(v)), torch.ones_like(v), rtol=0, atol=error)


def test_permuting_pixels_permutes_the_output() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(16, 2, groups=4, eps=1e-6).double()
    nn.init.normal_(attention.to_out[0].weight)
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    order = torch.randperm(12)

    def permuted(y: torch.Tensor) -> torch.Tensor:
        return y.flatten(2)[..., order].reshape(y.shape)

    with torch.no_grad():
        torch.testing.assert_close(attention(permuted(x)), permuted(attention(x)))
        assert (attention(x) - x).abs().max() > 1e-3
