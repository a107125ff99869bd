"""Groups of data left out, against dense linear algebra and closed-form Gaussian posteriors."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._functions import ModelFunctions
from bayesjoint.cross_validation import given_the_rest
from tests.helpers import STANDARD, data

STATIONS, COMPONENTS, PIXELS = 8, 2, 5
SIZE = STATIONS * COMPONENTS + PIXELS
WITHIN = np.arange(STATIONS * COMPONENTS).reshape(STATIONS, COMPONENTS)


class Case:
    """Two unknowns, stations with components and pixels, all in closed form."""

    def __init__(self, kind, power=1.0):
        rng = np.random.default_rng(5)
        self.sensitivity = 0.3 * rng.standard_normal((SIZE, 2))
        root = np.eye(PIXELS) + 0.3 * np.tri(PIXELS)
        self.covariance = 0.2**2 * np.eye(SIZE)
        noise = bj.GaussianNoise(sd=0.2)
        if kind == "correlated noise":
            self.covariance[-PIXELS:, -PIXELS:] = root @ root.T
            noise = bj.CorrelatedNoise(covariance=root @ root.T)
        shared = None
        if kind == "discrepancy":
            loading = np.repeat([0.5, -0.8], [SIZE - PIXELS, PIXELS])
            at = rng.uniform(0, 3, SIZE)
            distance = np.abs(at[:, None] - at)
            self.covariance += np.outer(loading, loading) * np.exp(-distance / 0.7)
            shared = bj.JointDiscrepancy(
                sd=1.0, loadings={"gnss": 0.5, "insar": -0.8}, on="t", length_scale=0.7,
                smoothness=0.5,
            )  # fmt: skip
        else:
            at = np.zeros(SIZE)
        truth = self.sensitivity @ [0.5, -1.0]
        self.data = truth + np.linalg.cholesky(self.covariance) @ rng.standard_normal(SIZE)
        inside = STATIONS * COMPONENTS
        dims = ("station", "component")
        first = data(
            self.data[:inside].reshape(WITHIN.shape), dims,
            {"t": (dims, at[:inside].reshape(WITHIN.shape))},
        )  # fmt: skip
        second = data(self.data[inside:], "pixel", {"t": ("pixel", at[inside:])})
        parts = {"gnss": (first, slice(0, inside)), "insar": (second, slice(inside, SIZE))}
        self.problem = bj.JointProblem(
            latents=[bj.Parameter(name, STANDARD) for name in ("a", "b")],
            modalities=[
                bj.Modality(
                    name,
                    observed,
                    bj.linear_map({"a": self.sensitivity[w, :1], "b": self.sensitivity[w, 1:]}),
                    noise if name == "insar" else bj.GaussianNoise(sd=0.2),
                    power=power,
                )
                for name, (observed, w) in parts.items()
            ],
            discrepancy=shared,
        )
        self.power = power

    def posterior(self, kept):
        """Return mean and covariance given some of the data."""
        sensitivity = self.sensitivity[kept]
        errors = self.covariance[np.ix_(kept, kept)] / self.power
        precision = np.eye(2) + sensitivity.T @ np.linalg.solve(errors, sensitivity)
        information = sensitivity.T @ np.linalg.solve(errors, self.data[kept])
        return np.linalg.solve(precision, information), np.linalg.inv(precision)

    def draws(self, count):
        mean, covariance = self.posterior(np.arange(SIZE))
        values = np.random.default_rng(1).multivariate_normal(mean, covariance, (1, count))
        draws = {n: (("chain", "draw"), values[..., i]) for i, n in enumerate("ab")}
        return xr.DataTree.from_dict({"posterior": xr.Dataset(draws)})

    def prediction(self, group):
        """Return mean and covariance of a group given all other data, unknowns integrated out."""
        rest = np.setdiff1d(np.arange(SIZE), group)
        gain = np.linalg.solve(
            self.covariance[np.ix_(rest, rest)], self.covariance[np.ix_(rest, group)]
        ).T
        mean, covariance = self.posterior(rest)
        sensitivity = self.sensitivity[group] - gain @ self.sensitivity[rest]
        errors = self.covariance[np.ix_(group, group)] - gain @ self.covariance[np.ix_(rest, group)]
        return (
            gain @ self.data[rest] + sensitivity @ mean,
            errors + sensitivity @ covariance @ sensitivity.T,
        )


KINDS = ["independent", "correlated noise", "discrepancy"]


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
    """Check predictions that are to be trusted against the closed form, within sampling error."""
    trusted = np.flatnonzero(left_out["pareto_k"] < 0.7)
    assert trusted.size > STATIONS / 2
    for station in trusted:
        group = WITHIN[station]
        mean, covariance = case.prediction(group)
        sd = np.sqrt(np.diag(covariance))
        draws = left_out["predicted"].isel(station=station).values
        np.testing.assert_allclose(draws.mean(axis=0), mean, atol=5 * sd.max() / np.sqrt(1_000))
        np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.15)
        white = np.linalg.solve(np.linalg.cholesky(covariance), case.data[group] - mean)
        expected = -0.5 * (white @ white + np.linalg.slogdet(2 * np.pi * covariance)[1])
        assert float(left_out["log_density"][station]) == pytest.approx(expected, abs=0.1)


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
    values = np.random.default_rng(2).multivariate_normal(mean, covariance, (1, 1_000))
    alone = {n: (("chain", "draw"), values[..., i]) for i, n in enumerate("ab")}
    refitted = {3: xr.DataTree.from_dict({"posterior": xr.Dataset(alone)})}
    settings = {"draws": 1_000, "random_seed": 0, "refitted": refitted}
    left_out = bj.leave_out(case.problem, case.draws(50), "gnss", "station", **settings)
    assert np.flatnonzero(np.isnan(left_out["pareto_k"])).tolist() == [3]
    expected, covariance = case.prediction(WITHIN[3])
    draws, sd = left_out["predicted"].isel(station=3).values, np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(axis=0) - expected) < 5 * sd / np.sqrt(1_000))
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=5 / np.sqrt(2 * 1_000))
    with pytest.raises(ValueError, match=r"no station is labelled \['far'\]"):
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
    for name in ("log_density", "pareto_k"):
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
