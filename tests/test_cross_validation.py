"""Groups of data left out, against dense linear algebra and closed-form Gaussian posteriors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint.studies.cross_validation import _by_position, given_the_rest
from tests.chance import largest_z
from tests.helpers import STANDARD, data
from tests.stations import COMPONENTS, KINDS, SIZE, STATIONS, WITHIN, Case


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    return Case(request.param)


def test_a_group_given_the_rest_is_that_of_dense_algebra(case):
    point = np.array([0.3, -0.4])
    gaps, covariances = given_the_rest(ModelFunctions(case.problem), point, WITHIN)
    residual = case.data - case.sensitivity @ point
    for group, gap, covariance in zip(WITHIN, gaps, covariances, strict=True):
        rest = np.setdiff1d(np.arange(SIZE), group)
        crossed = case.covariance[np.ix_(group, rest)]
        gain = np.linalg.solve(case.covariance[np.ix_(rest, rest)], crossed.T).T
        np.testing.assert_allclose(gap, residual[group] - gain @ residual[rest], atol=1e-7)
        expected = case.covariance[np.ix_(group, group)] - gain @ crossed.T
        np.testing.assert_allclose(covariance, expected, rtol=1e-6, atol=1e-9)


def agrees(case, left_out):
    """Check predictions against the closed form, in Monte Carlo errors that follow from it.

    Of stations with a leverage below 1/4: their weights have a fourth moment, so that errors of
    2,000 draws are nearly Gaussian.  A prediction that is off by a fifth of its sd is noticed.
    """
    some = [s for s in range(STATIONS) if case.leverage(WITHIN[s]) < 0.25]
    assert len(some) >= STATIONS / 2
    largest = largest_z(len(some) * (2 * COMPONENTS + 1))
    for station in some:
        group = WITHIN[station]
        assert left_out["pareto_k"][station] < 0.7
        mean, covariance = case.prediction(group)
        sd = np.sqrt(np.diag(covariance))
        draws = left_out["predicted"].isel(station=station).values
        of_density, of_mean, of_sd = case.errors_left_out(group, len(draws))
        assert np.all(np.abs(draws.mean(axis=0) - mean) < largest * of_mean)
        assert np.all(np.abs(draws.std(axis=0) - sd) < largest * of_sd)
        white = np.linalg.solve(np.linalg.cholesky(covariance), case.data[group] - mean)
        # The region of 4,000 predicted groups, whose mean and covariance have errors of their own:
        # at most 0.011 together, beside that of the posterior's draws in white @ white.
        nearer = stats.chi2.cdf(white @ white, COMPONENTS)
        atol = largest * (0.011 + of_density)
        assert left_out["region_probability"][station] == pytest.approx(nearer, abs=atol)
        expected = -0.5 * (white @ white + np.linalg.slogdet(2 * np.pi * covariance)[1])
        assert abs(float(left_out["log_density"][station]) - expected) < largest * of_density


@pytest.mark.slow
def test_what_the_rest_predicts_is_that_of_a_fit_without_the_group(case):
    left_out = bj.leave_out(
        case.problem, case.draws(2_000), "gnss", "station", draws=2_000, random_seed=0
    )
    agrees(case, left_out)


def test_a_tempered_group_leaves_with_its_power():
    case = Case("independent", power=0.25)
    draws = case.draws(2_000)
    agrees(case, bj.leave_out(case.problem, draws, "gnss", "station", draws=2_000, random_seed=0))


def test_the_result_is_labelled_as_the_data():
    case = Case("independent")
    left_out = bj.leave_out(case.problem, case.draws(50), "gnss", "component", random_seed=0)
    assert left_out["predicted"].dims == ("sample", "station", "component")
    assert left_out["pareto_k"].dims == ("component",)
    xr.testing.assert_equal(left_out["measured"], case.problem.modality["gnss"].data)


def test_a_refit_predicts_without_weights():
    case = Case("discrepancy")
    rest = np.setdiff1d(np.arange(SIZE), WITHIN[3])
    mean, covariance = case.posterior(rest)
    rng = np.random.default_rng(2)
    values = rng.multivariate_normal(mean, covariance, (1, 1_000), method="cholesky")
    alone = {n: (("chain", "draw"), values[..., i]) for i, n in enumerate("ab")}
    refitted = {3: xr.DataTree.from_dict({"posterior": xr.Dataset(alone)})}
    settings = {"draws": 1_000, "random_seed": 0, "refitted": refitted}
    left_out = bj.leave_out(case.problem, case.draws(50), "gnss", "station", **settings)
    assert np.flatnonzero(np.isnan(left_out["pareto_k"])).tolist() == [3]
    expected, covariance = case.prediction(WITHIN[3])
    draws, sd = left_out["predicted"].isel(station=3).values, np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 5 * sd / np.sqrt(1_000))
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=5 / np.sqrt(2 * 1_000))
    with pytest.raises(ValueError, match=r"no station is labelled far; there are"):
        bj.leave_out(case.problem, case.draws(5), "gnss", "station", refitted={"far": refitted[3]})


def test_components_that_are_modalities_leave_together():
    case = Case("discrepancy")
    gnss, draws = case.problem.modality["gnss"], case.draws(200)
    parts = [
        replace(
            gnss,
            name=f"gnss_{i}",
            data=gnss.data.isel(component=i, drop=True),
            forward=bj.linear_map(
                {n: case.sensitivity[WITHIN[:, i], k : k + 1] for k, n in enumerate("ab")}
            ),
        )
        for i in range(COMPONENTS)
    ]
    loadings = {"gnss_0": 0.5, "gnss_1": 0.5, "insar": -0.8}
    apart = case.problem.replace(
        modalities=[*parts, case.problem.modality["insar"]],
        discrepancy=replace(case.problem.discrepancies[0], loadings=loadings),
    )
    settings = {"draws": 200, "random_seed": 0}
    together = bj.leave_out(case.problem, draws, "gnss", "station", **settings)
    by_parts = bj.leave_out(apart, draws, ["gnss_0", "gnss_1"], "station", **settings)
    assert by_parts["predicted"].dims == ("sample", "modality", "station")
    for name in ("log_density", "pareto_k", "region_probability"):
        np.testing.assert_allclose(by_parts[name], together[name], rtol=1e-6)
    np.testing.assert_allclose(
        by_parts["predicted"].transpose("sample", "station", "modality"), together["predicted"],
        rtol=1e-5, atol=1e-8,
    )  # fmt: skip
    np.testing.assert_array_equal(by_parts["measured"].values.T, together["measured"])
    with pytest.raises(ValueError, match="insar differ in dims"):
        bj.leave_out(
            case.problem.replace(modalities=[gnss, replace(gnss, name="insar", power=0.5)]),
            draws, ["gnss", "insar"], "station",
        )  # fmt: skip


def test_a_datum_that_no_unknown_reaches_leaves_without_weights():
    level = bj.Parameter("level", STANDARD)
    seen = bj.linear_map(np.array([[1.0], [0.0]]), "level")
    gauge = bj.Modality("gauge", data([0.3, 0.5], "place"), seen, bj.GaussianNoise(sd=0.5))
    drawn = np.random.default_rng(0).normal(size=(1, 50))
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"level": (("chain", "draw"), drawn)})})
    problem = bj.JointProblem(latents=[level], modalities=[gauge])
    left_out = bj.leave_out(problem, tree, "gauge", "place", random_seed=0).isel(place=1)
    assert float(left_out["pareto_k"]) == 0.0
    assert float(left_out["log_density"]) == pytest.approx(stats.norm.logpdf(0.5, 0.0, 0.5))


@pytest.mark.parametrize(
    ("modality", "dim", "message"),
    [
        ("tilt", "station", r"no modality 'tilt'; there are \['gnss', 'insar'\]"),
        ("gnss", "pixel", "modality 'gnss' has no dim 'pixel'"),
    ],
)
def test_unknown_groups_are_refused(modality, dim, message):
    case = Case("independent")
    with pytest.raises(ValueError, match=message):
        bj.leave_out(case.problem, case.draws(5), modality, dim)


def test_other_noise_is_refused():
    heavy = bj.Modality(
        "line", data([1.0, 2.0]), bj.linear_map(np.ones((2, 1)), "a"), bj.StudentTNoise(sd=1, nu=4)
    )
    problem = bj.JointProblem(latents=[bj.Parameter("a", STANDARD)], modalities=[heavy])
    with pytest.raises(ValueError, match="noise of modality 'line' is not Gaussian"):
        bj.leave_out(problem, Case("independent").draws(5), "line", "station")


def test_a_datum_that_no_unknown_reaches_leaves_the_posterior_as_it_is():
    line = bj.Modality(
        "line", data([1.0, 2.0]), bj.linear_map(np.array([[1.0], [0.0]]), "a"),
        bj.GaussianNoise(sd=0.5),
    )  # fmt: skip
    problem = bj.JointProblem(latents=[bj.Parameter("a", STANDARD)], modalities=[line])
    draws = Case("independent").draws(30)
    left_out = bj.leave_out(problem, draws, "line", "station", random_seed=0)
    assert left_out["pareto_k"][1] == 0.0
    np.testing.assert_allclose(left_out["log_density"][1], stats.norm.logpdf(2.0, 0.0, 0.5))
    with pytest.raises(ValueError, match="leave_out: importance weights need 25 draws.* 5;"):
        bj.leave_out(problem, draws, "line", "station", draws=5)


@pytest.mark.parametrize("key", [np.datetime64("2020-01-02"), pd.Timestamp("2020-01-02")])
def test_refits_are_found_by_their_date(key):
    """Dates were compared as nanoseconds, so that no refit had its label."""
    dates = pd.date_range("2020", periods=3)
    measured = xr.DataArray(np.zeros((1, 3)), {"user:t": dates}, ("modality", "user:t"))
    assert _by_position(measured, "t", {key: "tree"}) == {1: "tree"}
    with pytest.raises(ValueError, match="no t is labelled 2021; there are 2020-01-01"):
        _by_position(measured, "t", {"2021": "tree"})
