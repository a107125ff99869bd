"""The linearised spectrum against direct linear algebra."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy.linalg import block_diag

import bayesjoint as bj
from bayesjoint._graph.compile import INTERPRETED
from tests.gaussian import gaussian_case
from tests.helpers import log_likelihood


@pytest.fixture(scope="module")
def case():
    return gaussian_case()


@pytest.fixture(scope="module")
def tree(case):
    return bj.linearize(case.problem)


def test_mode_is_the_posterior_mean(case, tree):
    ds = tree["linearization"]
    mean, _ = case.posterior()
    found = np.concatenate([ds["density"].values.ravel(), ds["slowness"].values.ravel()])
    np.testing.assert_allclose(found, mean, atol=1e-8)
    assert ds.attrs["converged"] == 1 and ds.attrs["local"] == 0


def test_resolution_matches_direct_algebra(case, tree):
    resolution = bj.resolution(tree)
    direct = case.resolution()
    diagonal = np.concatenate([resolution[n].values.ravel() for n in ("density", "slowness")])
    np.testing.assert_allclose(diagonal, np.diag(direct), atol=1e-6)
    np.testing.assert_allclose(resolution["dofs"], np.trace(direct), atol=1e-6)
    block = bj.resolution_matrix(tree, into="density", source="slowness")
    size = direct.shape[0] // 2
    np.testing.assert_allclose(block.values.reshape(size, size), direct[:size, size:], atol=1e-6)


def test_leakage_matches_direct_algebra(case, tree):
    factors = list(case.prior_factors.values())
    scale = block_diag(*factors)
    white = np.linalg.solve(scale, case.resolution() @ scale)
    size = factors[0].shape[0]
    parts = np.array(
        [
            [
                np.sum(white[i * size : (i + 1) * size, j * size : (j + 1) * size] ** 2)
                for j in (0, 1)
            ]
            for i in (0, 1)
        ]
    )
    expected = parts / parts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bj.leakage(tree).values, expected, atol=1e-6)


def test_information_gain_matches_direct_algebra(case, tree):
    def gain(rows):
        signal = case.jacobian[rows] @ case.prior @ case.jacobian[rows].T
        errors = case.covariance[np.ix_(rows, rows)]
        return 0.5 * (np.linalg.slogdet(signal + errors)[1] - np.linalg.slogdet(errors)[1])

    information = bj.information(tree)
    rows = np.arange(80)
    assert information["eig"].item() == pytest.approx(gain(rows), abs=1e-6)
    alone = information["eig_alone"].sel(modality="gravity").item()
    assert alone == pytest.approx(gain(rows[:40]), abs=1e-6)
    added = information["eig_conditional"].sel(modality="gravity").item()
    assert added == pytest.approx(gain(rows) - gain(rows[40:]), abs=1e-6)


def test_partial_dofs_add_up_and_say_that_their_split_is_not_unique(tree):
    resolution = bj.resolution(tree)
    np.testing.assert_allclose(resolution["partial_dofs"].sum(), resolution["dofs"], rtol=1e-8)
    assert tree["linearization"].attrs["errors"] == "correlated"


def test_latent_and_marginal_form_have_one_linearization(tree):
    other = bj.linearize(gaussian_case("latent").problem)
    for name in ("eigenvalues", "density", "prior_sd", "data_importance", "eig_alone"):
        np.testing.assert_allclose(
            other["linearization"][name], tree["linearization"][name], atol=1e-6, rtol=1e-6
        )


def test_prior_sd_is_the_stated_one(tree):
    ds = tree["linearization"]
    np.testing.assert_allclose(ds["prior_sd"].values[:100], 2.0, rtol=1e-8)
    np.testing.assert_allclose(ds["prior_sd"].values[100:], 0.5, rtol=1e-8)


@pytest.mark.parametrize("signs", [(1.0, 1.0), (1.0, -1.0)], ids=["aligned", "opposed"])
@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 0.9])
def test_two_sensors_have_the_information_of_the_closed_form(signs, correlation):
    h1, h2 = signs[0] * 1.0, signs[1] * 2.0
    k1, k2, r1, r2 = 0.5, 0.8, 0.1, 0.2
    tree = bj.linearize(two_sensors(h1, h2, k1, k2, r1, r2, correlation))
    a, b, c = k1**2 + r1**2, k2**2 + r2**2, correlation * k1 * k2
    expected = (b * h1**2 + a * h2**2 - 2 * c * h1 * h2) / (a * b - c**2)
    assert tree["linearization"]["eigenvalues"].values[0] == pytest.approx(expected, rel=1e-9)


def two_sensors(h1, h2, k1, k2, r1, r2, correlation, form="auto"):
    sensors = [
        bj.Modality(
            name,
            xr.DataArray([value], dims=f"{name}_time"),
            bj.linear_map(np.array([[h]]), "theta"),
            bj.GaussianNoise(sd=r),
        )
        for name, value, h, r in (("first", 0.4, h1, r1), ("second", 0.7, h2, r2))
    ]
    return bj.JointProblem(
        latents=[bj.Parameter("theta", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))],
        modalities=sensors,
        discrepancy=bj.JointDiscrepancy(
            sd={"first": k1, "second": k2}, correlation=correlation, form=form
        ),
    )


def test_unknown_noise_scale_carries_information():
    data = xr.DataArray(np.random.default_rng(0).normal(size=50), dims="t")
    problem = bj.JointProblem(
        latents=[bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))],
        modalities=[
            bj.Modality(
                "line",
                data,
                bj.linear_map(np.ones((50, 1)), "level"),
                bj.GaussianNoise(sd=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.7)),
            )
        ],
    )
    ds = bj.linearize(problem)["linearization"]
    # Fisher information of log sd is 2 a datum; the white coordinate is log sd / 0.7.
    scale = ds["line_sd"].item()
    np.testing.assert_allclose(
        np.sort(ds["eigenvalues"].values), np.sort([50 / scale**2, 2 * 50 * 0.7**2]), rtol=1e-6
    )


def test_at_values_and_at_draws():
    case = gaussian_case(shape=(3, 4), n=5)
    at_map = bj.linearize(case.problem)["linearization"]
    values = {"density": at_map["density"].values, "slowness": at_map["slowness"].values}
    there = bj.linearize(case.problem, at=values)["linearization"]
    np.testing.assert_allclose(there["white_point"], at_map["white_point"], atol=1e-7)
    np.testing.assert_allclose(there["eigenvalues"], at_map["eigenvalues"], atol=1e-8)
    posterior = xr.Dataset(
        {
            k: (("chain", "draw", "depth", "x"), np.stack([v, 2 * v])[None])
            for k, v in values.items()
        }
    )
    draws = bj.linearize(case.problem, at=xr.DataTree.from_dict({"posterior": posterior}))
    assert draws["linearization"].sizes["point"] == 2
    np.testing.assert_allclose(
        draws["linearization"]["white_point"][1], 2 * at_map["white_point"], atol=1e-7
    )
    with pytest.raises(ValueError, match=r"no value for \['slowness'\]"):
        bj.linearize(case.problem, at={"density": values["density"]})


def test_a_variable_without_white_form_enters_with_the_hessian_of_its_prior():
    proportions = bj.Parameter(
        "share",
        bj.Prior(pm.Dirichlet, a=np.array([2.0, 3.0, 4.0])),
        coords={"rock": ["a", "b", "c"]},
    )
    assert not proportions.prior.is_white
    data = xr.DataArray([0.3, 0.4], dims="t")
    problem = bj.JointProblem(
        latents=[proportions],
        modalities=[
            bj.Modality(
                "sums",
                data,
                bj.linear_map(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), "share"),
                bj.GaussianNoise(sd=0.05),
            )
        ],
    )
    ds = bj.linearize(problem)["linearization"]
    assert ds.sizes["unknown"] == 2 and ds.sizes["cell"] == 3
    assert ds.attrs["converged"] == 1
    assert np.all(ds["eigenvalues"] > 1)
    np.testing.assert_allclose(ds["share"].sum(), 1.0)
    np.testing.assert_allclose(ds["share"][:2], data, atol=0.05)


def test_a_power_weakens_the_information_on_an_unknown_noise_scale_too():
    values = xr.DataArray(np.random.default_rng(0).normal(size=50), dims="t")
    line = bj.Modality(
        "line",
        values,
        bj.linear_map(np.ones((50, 1)), "level"),
        bj.GaussianNoise(sd=bj.Prior(pm.LogNormal, mu=0.0, sigma=0.7)),
        power=0.25,
    )
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=1))
    ds = bj.linearize(bj.JointProblem(latents=[level], modalities=[line]))["linearization"]
    expected = [0.25 * 50 / ds["line_sd"].item() ** 2, 0.25 * 2 * 50 * 0.7**2]
    np.testing.assert_allclose(np.sort(ds["eigenvalues"]), np.sort(expected), rtol=1e-6)


def test_factors_of_the_modalities_are_those_of_each_by_itself(case, tree):
    ds = tree["linearization"].to_dataset()
    physical = ds["physical_vectors"].values
    for k, rows in enumerate((slice(0, 40), slice(40, 80))):
        factor = ds["modality_factor"].values[k]
        errors = np.linalg.inv(case.covariance[rows, rows])
        moved = case.jacobian[rows] @ physical
        np.testing.assert_allclose(factor.T @ factor, moved.T @ errors @ moved, atol=1e-6)


def test_misfits_nearby_follow_from_their_slopes(case, tree):
    ds = tree["linearization"].to_dataset()
    step = 0.01 * np.random.default_rng(1).normal(size=ds.sizes["mode"])
    there = np.concatenate([ds["density"].values.ravel(), ds["slowness"].values.ravel()])
    there = there + ds["physical_vectors"].values @ step
    for k, rows in enumerate((slice(0, 40), slice(40, 80))):
        residual = case.data[rows] - case.jacobian[rows] @ there
        expected = residual @ np.linalg.solve(case.covariance[rows, rows], residual)
        at = ds.isel(modality=k)
        curved = np.sum((at["modality_factor"].values @ step) ** 2)
        found = float(at["chi2"]) + 2 * at["chi2_slope"].values @ step + curved
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "student"])
def test_the_likelihood_at_the_point_is_that_of_the_model(noise):
    rng = np.random.default_rng(3)
    scale = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)
    kinds = {
        "gaussian": bj.GaussianNoise(sd=0.4, scale=scale),
        "student": bj.StudentTNoise(sd=0.4, nu=4, scale=scale),
    }
    problem = bj.JointProblem(
        latents=[bj.Parameter(n, bj.Prior(pm.Normal, mu=0, sigma=1)) for n in "ab"],
        modalities=[
            bj.Modality(
                "line", xr.DataArray(rng.normal(size=9), dims="x"),
                bj.linear_map({n: rng.normal(size=(9, 1)) for n in "ab"}), kinds[noise],
            )
        ],
    )  # fmt: skip
    ds = bj.linearize(problem)["linearization"].to_dataset()
    whites = [f"{name}_white" for name in ("a", "b", "line_scale")]
    point = dict(zip(whites, ds["white_point"].values, strict=True))
    expected = log_likelihood(problem)(**point)
    assert float(ds["log_likelihood"]) == pytest.approx(expected, rel=1e-9)
    if noise == "gaussian":  # where the likelihood pulls as much as the prior
        pull = ds["dual_vectors"].values.T @ ds["white_point"].values
        np.testing.assert_allclose(ds["log_likelihood_slope"], pull, atol=1e-4)


def test_sums_of_many_terms_do_not_need_a_compiler():
    # PyTensor's interpreted elementwise operations take 32 terms: priors of more parameters add up.
    terms = [pt.scalar(f"term_{i}") for i in range(70)]
    function = pytensor.function(terms, [pt.add(*terms), pt.mul(*terms)], mode=INTERPRETED)
    values = np.linspace(0.9, 1.1, 70)
    np.testing.assert_allclose(function(*values), [values.sum(), values.prod()])
