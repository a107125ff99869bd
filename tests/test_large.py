"""Problems above the limit of dense matrices: the same mode and coordinates without a matrix."""

import numpy as np
import pytest

from bayesjoint import _curvature, _mode, _spectrum
from bayesjoint._functions import ModelFunctions
from tests.gaussian import gaussian_case
from tests.test_actions import coupled_problem

PROBLEMS = {
    "coupling and unknown noise": lambda: coupled_problem(shape=(10, 12), n=40, weight=0.01),
    "discrepancy, latent": lambda: gaussian_case("latent").problem,
}


@pytest.fixture(scope="module", params=PROBLEMS.values(), ids=PROBLEMS)
def functions(request):
    return ModelFunctions(request.param())


def test_the_mode_is_that_of_the_dense_search(functions, monkeypatch):
    dense = _mode.maximum_a_posteriori(functions)
    monkeypatch.setattr(_curvature, "DENSE_LIMIT", 10)
    monkeypatch.setattr(_curvature, "sampled_precision", None)  # no matrix is formed
    found = _mode.maximum_a_posteriori(functions)
    assert found.converged
    np.testing.assert_allclose(found.point, dense.point, atol=1e-4)


def test_the_volume_of_a_mode_is_that_of_the_matrix(functions, monkeypatch):
    """Directions that are left alone hold less than a nat of it."""
    dense = _curvature.curvature(functions, functions.initial).log_determinant
    monkeypatch.setattr(_curvature, "DENSE_LIMIT", 10)
    found = _curvature.curvature(functions, functions.initial).log_determinant
    assert abs(dense - found) < 2.0 and dense > 10.0


@pytest.mark.parametrize("count", [1, 3], ids=["one point", "average"])
def test_coordinates_make_the_precision_nearly_the_identity(functions, count, monkeypatch):
    rng = np.random.default_rng(2)
    points = functions.initial + 0.5 * rng.normal(size=(count, functions.size))
    precision = np.mean([_curvature.sampled_precision(functions, p) for p in points], axis=0)
    monkeypatch.setattr(_curvature, "DENSE_LIMIT", 10)
    vectors, stretch = _spectrum.average_coordinates(functions, points)
    scaling = np.eye(functions.size) + (vectors * stretch) @ vectors.T
    assert vectors.shape[1] < functions.size
    assert np.linalg.cond(scaling @ precision @ scaling) < 1.5
