"""Classifier guidance against Bayes' rule on a Gaussian mixture, where denoiser and classifier are known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unstir.denoisers import ClassifierGuided, Condition, Denoiser, DenoiserBase, GaussianMixtureDenoiser, Prediction
from unstir.processes import Binomial, Gaussian
from unstir.samplers import DDIM, Grid, sample
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
PROCESS = Gaussian(Cosine(T=100))
PRIOR = torch.tensor([0.3, 0.7], dtype=F64)
G = torch.Generator().manual_seed(0)
MEANS = torch.randn(2, 2, 3, generator=G, dtype=F64)  # two classes of two components each
ROOTS = 0.4 * torch.randn(2, 2, 3, 3, generator=G, dtype=F64)
COVARIANCES = ROOTS @ ROOTS.mT + 0.05 * torch.eye(3, dtype=F64)
SHARES = torch.tensor([[0.5, 0.5], [0.2, 0.8]], dtype=F64)
CLASSES = [GaussianMixtureDenoiser(PROCESS, SHARES[k], MEANS[k], COVARIANCES[k]) for k in range(2)]
ALL = GaussianMixtureDenoiser(
    PROCESS, (PRIOR[:, None] * SHARES).flatten(), MEANS.flatten(0, 1), COVARIANCES.flatten(0, 1)
)


def classifier(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
    """``log p(y | x_t)`` by Bayes' rule."""
    joint = torch.stack([PRIOR[k].log() + CLASSES[k].log_prob(x_t, t) for k in range(2)], 1)
    return joint.log_softmax(1)[torch.arange(len(x_t)), label]


class Said(DenoiserBase):
    """The mixture's denoiser, giving what it says in one form."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.process, self.form = PROCESS, form
        self.seen: list[Condition | None] = []

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        self.seen.append(condition)
        exact = ALL.predict(x_t, t)
        return Prediction(
            PROCESS, exact.x_t, exact.t, exact.variance, **{f"given_{self.form}": getattr(exact, self.form)}
        )


X = torch.randn(6, 3, generator=G, dtype=F64)
T = torch.tensor([99.0, 70.0, 40.5, 20.0, 5.0, 1.0], dtype=F64)
LABEL = torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("form", ["x0", "eps", "v"])
def test_the_exact_classifier_makes_the_exact_denoiser_of_a_class(form: str) -> None:
    found = ClassifierGuided(Said(form), classifier).predict(X, T, Condition(label=LABEL))
    by_class = [each.predict(X, T) for each in CLASSES]
    for name in ("x0", "eps", "v", "score"):
        exact = torch.stack([getattr(by_class[k], name)[i] for i, k in enumerate(LABEL.tolist())])
        torch.testing.assert_close(getattr(found, name), exact, rtol=1e-7, atol=1e-7)


def test_the_scale_is_each_samples_own_and_0_leaves_bits_alone() -> None:
    w = torch.tensor([0.0, 1.0, 2.0, 0.0, 3.5, 0.5], dtype=F64)
    found = ClassifierGuided(Said("eps"), classifier, w).predict(X, T, Condition(label=LABEL))
    plain = ALL.predict(X, T)
    unit = ClassifierGuided(Said("eps"), classifier).predict(X, T, Condition(label=LABEL))
    torch.testing.assert_close(found.eps, plain.eps + w[:, None] * (unit.eps - plain.eps))
    assert torch.equal(found.eps[w == 0], plain.eps[w == 0])


def test_rows_without_a_label_or_outside_the_interval_are_the_denoisers_own() -> None:
    null = torch.tensor([True, False, False, False, False, True])
    levels = PROCESS.schedule.sigma(T) / PROCESS.schedule.alpha(T)
    asked: list[int] = []

    def counting(x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        asked.append(len(x_t))
        return classifier(x_t, t, label)

    guided = ClassifierGuided(Said("eps"), counting, interval=(float(levels[4]), float(levels[1])))
    found, plain = guided.predict(X, T, Condition(label=LABEL, null=null)), ALL.predict(X, T)
    assert (found.eps != plain.eps).any(1).tolist() == [False, True, True, True, False, False]
    for condition in (None, Condition(vector=torch.zeros(6, 2)), Condition(label=LABEL, null=torch.ones_like(null))):
        assert torch.equal(guided.predict(X, T, condition).eps, plain.eps)
    assert asked == [3]


def test_the_denoiser_itself_sees_the_label_only_where_that_is_asked() -> None:
    for conditional in (False, True):
        inner = Said("eps")
        vector = torch.zeros(6, 2)
        ClassifierGuided(inner, classifier, conditional=conditional).predict(X, T, Condition(LABEL, vector))
        (seen,) = inner.seen
        assert seen is not None
        absent = seen.absent("label")
        assert (absent is None) if conditional else (absent is not None and bool(absent.all()))
        assert seen.vector is vector
        assert conditional or not bool(seen.absent("vector").any())


def test_a_deterministic_sampler_follows_it_to_the_class() -> None:
    """DDIM draws from no reverse step, so a shift of the steps' means would not reach it."""
    grid, shape = Grid.uniform(PROCESS.schedule, 50), (200, 3)
    label = torch.arange(200) % 2
    found = sample(
        ClassifierGuided(Said("eps"), classifier), DDIM(), grid, shape, condition=Condition(label), dtype=F64
    )
    for k in range(2):
        exact = sample(CLASSES[k], DDIM(), grid, shape, dtype=F64)
        torch.testing.assert_close(found[label == k], exact[label == k], rtol=1e-5, atol=1e-5)


def test_what_has_no_gradient_is_refused() -> None:
    condition = Condition(label=LABEL)
    with pytest.raises(ValueError, match="differentiable"):
        ClassifierGuided(Said("x0"), lambda x, t, y: torch.zeros(len(x))).predict(X, T, condition)
    bits = Denoiser(nn.Identity(), Binomial(InverseTime(10)))
    bits.network.forward = lambda x, time, condition: x
    with pytest.raises(ValueError, match="no gradient"):
        ClassifierGuided(bits, classifier).predict(torch.ones(6, 3), torch.full((6,), 3.0), condition)
