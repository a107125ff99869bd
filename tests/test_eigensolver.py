"""Leading eigenpairs by block Lanczos against dense linear algebra."""

import numpy as np
import pytest

from bayesjoint._kernels.eigensolver import leading_pairs

SPECTRA = {
    "decaying": 1e4 * 0.8 ** np.arange(150.0),
    "rank-deficient": np.r_[np.linspace(50.0, 1.0, 20), np.zeros(180)],
    "flat": np.full(60, 2.0),
    "multiplicity above the block": np.r_[np.full(50, 5.0), np.full(70, 0.01)],
    "both signs": np.r_[np.geomspace(100.0, 0.001, 60), -np.geomspace(3.0, 0.001, 60)],
    "smaller than a block": np.array([3.0, 1.0, 0.5, 0.05, 0.0]),
    "nothing beyond": np.full(40, 0.01),
}


def symmetric(values, seed=0):
    normal = np.random.default_rng(seed).normal(size=(values.size, values.size))
    basis = np.linalg.qr(normal)[0]
    return (basis * values) @ basis.T


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_pairs_beyond_the_threshold_match_dense_algebra(values):
    matrix = symmetric(values)
    pairs = leading_pairs(lambda rows: rows @ matrix, values.size, 0.1)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    expected = expected[np.abs(expected) > 0.1]
    assert pairs.converged
    np.testing.assert_allclose(pairs.values, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(expected.size), atol=1e-9)
    off = np.linalg.norm(matrix @ pairs.vectors - pairs.vectors * pairs.values, axis=0)
    assert np.all(off <= 2e-3 * (1 + np.abs(expected)))


def test_what_is_left_out_is_estimated():
    values = 100.0 * 0.93 ** np.arange(400.0)
    matrix = symmetric(values)
    pairs = leading_pairs(lambda rows: rows @ matrix, values.size, 0.1)
    left = values[values <= 0.1]
    assert left.max() <= pairs.largest_left_out * 1.01 and pairs.largest_left_out < 0.15
    assert pairs.left_out_trace == pytest.approx(left.sum(), rel=0.1)


def test_a_space_that_is_too_small_is_told():
    matrix = symmetric(np.linspace(10.0, 1.0, 200))
    assert not leading_pairs(lambda rows: rows @ matrix, 200, 0.1, most=40).converged
