"""Problems above the limit of dense matrices: the same mode and coordinates without a matrix."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint._local import coupled_prior as _coupled_prior
from bayesjoint._local import curvature as _curvature
from bayesjoint._local import informed as _informed
from bayesjoint._local import mode as _mode
from bayesjoint._sampler import spectrum as _spectrum
from tests.gaussian import gaussian_case
from tests.helpers import STANDARD, data
from tests.test_actions import coupled_problem

PROBLEMS = {
    "coupling and unknown noise": lambda: coupled_problem(shape=(10, 12), n=40, weight=0.01),
    "discrepancy, latent": lambda: gaussian_case("latent").problem,
}


@pytest.fixture(scope="module", params=PROBLEMS.values(), ids=PROBLEMS)
def functions(request):
    return ModelFunctions(request.param())


@pytest.mark.slow
def test_the_mode_is_that_of_the_dense_search(functions, monkeypatch):
    dense = _mode.maximum_a_posteriori(functions)
    monkeypatch.setattr(_curvature, "DENSE_LIMIT", 10)
    monkeypatch.setattr(_curvature, "sampled_precision", None)  # no matrix is formed
    found = _mode.maximum_a_posteriori(functions)
    assert found.converged
    np.testing.assert_allclose(found.point, dense.point, atol=1e-4)


@pytest.mark.slow
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


LIMITS = {"rows of the data": (10, 2_000), "actions": (10, 10)}


@pytest.fixture(scope="module", params=LIMITS)
def pair(request, functions):
    """Linearizations of one problem: complete, and as it is done beyond the limits."""
    problem = functions.problem
    point = functions.initial + 0.5 * np.random.default_rng(3).normal(size=functions.size)
    space = LatentSpace(functions)
    values = dict(zip(space.names, space.values(point), strict=True))
    complete = bj.linearize(problem, at=values)
    with pytest.MonkeyPatch.context() as patch:
        unknowns, data = LIMITS[request.param]
        patch.setattr(_curvature, "DENSE_LIMIT", unknowns)
        patch.setattr(_informed, "DATA_LIMIT", data)
        patch.setattr(_coupled_prior, "THRESHOLD", 1e-4)
        patch.setattr(_curvature, "sampled_precision", None)
        large = bj.linearize(problem, at=values, threshold=1e-3)
    assert large["linearization"].attrs["method"] == request.param
    return complete, large


@pytest.mark.slow
def test_pairs_are_those_of_the_complete_spectrum(pair):
    complete, large = (tree["linearization"].to_dataset() for tree in pair)
    rank = large.attrs["rank"]
    assert rank == large.sizes["mode"] < complete.sizes["mode"]
    values = complete["eigenvalues"].values
    assert values[rank] <= large.attrs["largest_left_out"] * (1 + 1e-6) + 1e-12
    np.testing.assert_allclose(large["eigenvalues"], values[:rank], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        large.attrs["truncation_bound"], values[rank:].sum(), rtol=0.3, atol=1e-8
    )
    vectors, duals = large["eigenvectors"].values, large["dual_vectors"].values
    np.testing.assert_allclose(vectors.T @ duals, np.eye(rank), atol=1e-8)
    np.testing.assert_allclose(large["prior_sd"], complete["prior_sd"], rtol=1e-3)
    np.testing.assert_allclose(
        large["prior_precision_diagonal"], complete["prior_precision_diagonal"], atol=2e-3
    )


@pytest.mark.slow
def test_reports_are_those_of_the_complete_spectrum(pair):
    complete, large = pair
    for report in (bj.resolution, bj.information, bj.identifiability, bj.leakage):
        full, truncated = report(complete), report(large)
        if report is bj.leakage:
            full, truncated = full.to_dataset(), truncated.to_dataset()
        for name in set(full.data_vars) - {"eigenvalues", "collinearity", "weak_directions"}:
            if full[name].dtype.kind == "f":
                np.testing.assert_allclose(truncated[name], full[name], atol=5e-3, err_msg=name)
    for name in ("data_importance", "prior_distance"):
        np.testing.assert_allclose(
            large["linearization"][name], complete["linearization"][name], atol=2e-3
        )


def test_factors_of_the_modalities_are_those_of_the_complete_spectrum(pair):
    complete, large = (tree["linearization"].to_dataset() for tree in pair)
    turned = complete["dual_vectors"].values.T @ large["eigenvectors"].values
    for k in range(large.sizes["modality"]):
        expected = complete["modality_factor"].values[k] @ turned
        found = large["modality_factor"].values[k]
        scale = np.abs(expected.T @ expected).max()
        np.testing.assert_allclose(found.T @ found, expected.T @ expected, atol=1e-5 * scale)
        slopes = complete["chi2_slope"].values[k] @ turned
        np.testing.assert_allclose(
            large["chi2_slope"].values[k], slopes, atol=1e-5 * abs(slopes).max()
        )


def test_a_sum_of_many_terms_is_split():
    """Interpreted, PyTensor adds no more than 31 at once."""
    terms = pt.vector("terms", shape=(700,))
    total = pytensor.function([terms], pt.add(*terms), mode=INTERPRETED)
    assert total(np.arange(700.0)) == pytest.approx(700 * 699 / 2)


@pytest.mark.slow
def test_forty_latents():
    """Each with its own prior and its own column: the information of direct algebra."""
    rng = np.random.default_rng(1)
    columns = {f"p{i}": rng.normal(size=(5, 1)) for i in range(40)}
    latents = [bj.Parameter(name, STANDARD) for name in columns]
    seen = bj.Modality("seen", data(np.zeros(5)), bj.linear_map(columns), bj.GaussianNoise(sd=1.0))
    tree = bj.linearize(bj.JointProblem(latents=latents, modalities=[seen]))
    design = np.concatenate(list(columns.values()), axis=1)
    expected = np.linalg.eigvalsh(design @ design.T)
    np.testing.assert_allclose(np.sort(tree["linearization/eigenvalues"])[-5:], expected)
