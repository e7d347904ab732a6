"""The Adams family: linear multistep methods on eps, with the coefficients of any grid (PNDM) or of a clock (DEIS)."""

from __future__ import annotations

from typing import Literal

from unstir.samplers.multistep import Multistep


class PNDM(Multistep):
    """``x_s = (alpha_s/alpha_t) x_t + (sigma_s - sigma_t alpha_s/alpha_t) e`` with e the Adams-Bashforth mean of the last four eps.

    In ``x / alpha`` and ``sigma / alpha`` the probability-flow ODE reads ``dy = eps dk``, and these are its Adams-Bashforth methods
    (Liu et al. 2022, eqs. 9, 12). As published the coefficients, 55/24, -59/24, 37/24, -9/24, are those of even steps in
    sigma / alpha, which no grid has: on any other they are second order, whatever the number of answers. Here they are those of
    the steps as they are, and fourth order is reached. The first two steps are DPM-Solver++ (3S).

    Args:
        published: the fixed coefficients, begun with fewer answers (the iPNDM of Zhang & Chen 2023): second order.
    """

    def __init__(self, published: bool = False) -> None:
        self.order = 2 if published else 4
        self.reference = "Liu et al. 2022, eq. 12" + ("" if published else ", for any steps")
        if published:
            super().__init__(4, form="eps", even=True)
        else:
            super().__init__(4, start=3, starts=2, form="eps", clock="ratio")


class DEIS(Multistep):
    """``x_s = (alpha_s/alpha_t) x_t + alpha_s ∫ P d(sigma/alpha)`` with P the polynomial through the last eps (tAB-DEIS).

    Zhang & Chen 2023, eqs. 14, 15. The polynomial is one in t, or in log-SNR, which makes it the multistep form of DPM-Solver (Lu et
    al. 2022a). Order 1 is DDIM. Order 3 starts with one step of Heun's method.

    Args:
        order: 1, 2 or 3: how many answers P goes through.
        space: ``t`` or ``log-snr``. Order 3 in t asks for a schedule that is smooth in t.
    """

    reference = "Zhang & Chen 2023, eqs. 14, 15"

    def __init__(self, order: int = 3, space: Literal["t", "log-snr"] = "t") -> None:
        if order not in (1, 2, 3):
            raise ValueError(f"DEIS has order 1, 2 or 3 here, not {order}")
        if space not in ("t", "log-snr"):
            raise ValueError(f"DEIS is a polynomial in t or log-snr, not {space!r}")
        self.order = order
        super().__init__(order, start=max(1, order - 1), starts=int(order == 3), form="eps", clock=space)
