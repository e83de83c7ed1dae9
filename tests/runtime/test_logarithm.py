"""The logarithm of matrices: by eigenvalues and by products the same, numbers and NaN, near the truth."""

import numpy as np
import pytest
import torch

from rtserve.runtime import logarithm
from rtserve.runtime.logarithm import LARGEST_INVERSE, log_by_eigenvalues, log_by_products, log_matrix


def unit(n):
    return torch.eye(n, dtype=torch.float64)


def matrix(g, values):
    """Return a symmetric matrix with these eigenvalues, and its logarithm."""
    q = np.linalg.qr(g.standard_normal((len(values), len(values))))[0]
    a = (q * values) @ q.T
    return torch.from_numpy((a + a.T) / 2), (q * np.log(values)) @ q.T


@pytest.mark.parametrize(
    "way", [log_by_eigenvalues, lambda a: log_by_products(a, unit(a.shape[-1]))], ids=["eigen", "products"]
)
def test_logarithms_are_as_near_as_rounding_allows(way):
    g = np.random.default_rng(0)
    for n in (1, 2, 9, 24):
        for digits in (0, 3, 6, 9, 10):
            a, truth = matrix(g, 10.0 ** (-digits * np.linspace(0, 1, n)))
            got = way(1e-10 * a[None])[0].numpy() - np.log(1e-10) * np.eye(n)
            assert np.abs(got - truth).max() <= 1e-12 + 20 * 2.0**-53 * 10.0**digits, (n, digits)


def test_both_ways_have_a_number_for_the_same_matrices():
    g, kept = np.random.default_rng(1), 0
    for n in (2, 5, 22):
        for smallest in (1e-3, 1.1e-12, 0.9e-12, 1e-14, 0.0, -1e-14, -1e-3):
            values = g.uniform(0.5, 1, n)
            values[0] = 0.0
            values *= (1 - smallest) / values.sum()
            values[0] = smallest
            a = torch.stack([matrix(g, values)[0] if smallest > 0 else like(g, values) for _ in range(4)])
            eigen, product = log_by_eigenvalues(a), log_by_products(a, unit(n))
            assert torch.equal(torch.isnan(eigen), torch.isnan(product)), (n, smallest)
            regular = smallest > 0 and n / smallest < n * LARGEST_INVERSE
            assert torch.isfinite(eigen).all() if regular else torch.isnan(eigen).all(), (n, smallest)
            kept += int(regular)
    assert kept == 6


def like(g, values):
    q = np.linalg.qr(g.standard_normal((len(values), len(values))))[0]
    return torch.from_numpy((q * values) @ q.T)


def test_one_matrix_without_a_number_leaves_the_others_theirs():
    good = torch.from_numpy(np.diag([1.0, 2.0, 3.0]))
    odd = [torch.zeros(3, 3), -torch.eye(3), torch.full((3, 3), torch.nan), torch.full((3, 3), torch.inf)]
    a = torch.stack([good, *(one.double() for one in odd), good])
    for y in (log_matrix(a), log_by_products(a, unit(3))):
        assert torch.isfinite(y[[0, 5]]).all()
        assert torch.isnan(y[1:5]).all()
    assert log_matrix(a[:0]).shape == (0, 3, 3)
    assert log_matrix(a.reshape(2, 3, 3, 3)).shape == (2, 3, 3, 3)


def test_where_lapack_gives_up_products_do_not(monkeypatch):
    a = matrix(np.random.default_rng(2), np.array([0.1, 0.5, 2.0]))[0][None]
    before = log_matrix(a)

    def fails(_):
        raise torch.linalg.LinAlgError("the algorithm failed to converge")

    monkeypatch.setattr(logarithm.torch.linalg, "eigh", fails)
    after = log_matrix(a)
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, rtol=0, atol=1e-13)
