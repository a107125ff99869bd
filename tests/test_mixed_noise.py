"""Likelihoods of data sets with Gaussian, correlated and other noise in one problem."""

import gauges
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import bayesjoint as bj
from bayesjoint._compiled.densities import likelihoods, log_likelihood_at
from bayesjoint._compiled.draws import DrawEvaluator, DrawTable
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._compiled.mahalanobis import mahalanobis, thinning
from bayesjoint._kernels.matern import matern_correlation

SEED = 4
AT = {"level": 0.4, "rate": 11.0, "old_scale": 1.2}


def moved(form):
    """The gauges with data that scatter (seed 4)."""
    problem = gauges.make(form)
    drawn = bj.simulate(problem, truth=AT, random_seed=SEED)
    return problem.with_data(drawn[list(problem.modality)])


def covariance(problem, scale, discrepancy=True):
    """Of both gauges."""
    between = np.array([[1.0, 0.5], [0.5, 1.0]]) * 0.2**2
    process = matern_correlation(np.abs(np.subtract.outer(gauges.TIMES, gauges.TIMES)) / 2.0, 1.5)
    noise = np.zeros((12, 12))
    noise[:6, :6] = np.eye(6) * (0.3 * scale) ** 2
    noise[6:, 6:] = problem.modality["new"].noise.covariance
    return noise + discrepancy * np.kron(between, process)


def brute_force(problem, at, mean):
    """Log-densities of the gauges given all others (12,), and of both, old and new alone."""
    full, value = covariance(problem, at["old_scale"]), both(problem)
    precision = np.linalg.inv(full)
    variance = 1.0 / np.diag(precision)
    gap = variance * (precision @ (value - mean))
    parts = [slice(0, 12), slice(0, 6), slice(6, 12)]
    joint = [stats.multivariate_normal.logpdf(value[p], mean[p], full[p, p]) for p in parts]
    return (
        stats.norm.logpdf(gap, 0.0, np.sqrt(variance)),
        stats.norm.cdf(gap / variance**0.5),
        joint,
    )


def both(problem):
    return np.concatenate([problem.modality[name].data.values for name in ("old", "new")])


def test_discrepancy_of_gaussian_data_is_integrated_out_beside_counts():
    problem = moved("marginal")
    functions = ModelFunctions(problem)
    table = DrawTable(DrawEvaluator(functions), point_of(functions, AT)[None, None])
    found = likelihoods(table)
    pointwise, below, joint = brute_force(problem, AT, np.full(12, AT["level"]))
    counts = stats.poisson.logpmf(problem.modality["counts"].data, AT["rate"])
    for name, where in {"old": slice(0, 6), "new": slice(6, 12)}.items():
        same(found["log_likelihood_conditional"][name], pointwise[where])
        np.testing.assert_allclose(  # stored in single precision
            found["predictive_cdf"][name].values.ravel(), below[where], atol=1e-6
        )
    assert list(found["log_likelihood"]) == ["counts", "joint(old, new)"]
    same(found["log_likelihood"]["counts"], counts)
    same(found["log_likelihood"]["joint(old, new)"], joint[0])
    together = found["log_likelihood_joint"]
    for name, value in zip(("joint", "old", "new"), joint, strict=True):
        same(together[name], value + (counts.sum() if name == "joint" else 0.0))
    same(together["counts"], counts.sum())
    tree = bj.linearize(problem, at=AT)["linearization"]
    assert log_likelihood_at(functions, point_of(functions, AT)) == pytest.approx(
        joint[0] + counts.sum(), rel=1e-10
    )
    assert tree["log_likelihood"].item() == pytest.approx(joint[0] + counts.sum())


@pytest.mark.parametrize("form", ["marginal", "latent"])
def test_chi2_is_under_the_covariance_of_all_errors(form):
    problem = moved(form)
    functions = ModelFunctions(problem)
    table = DrawTable(DrawEvaluator(functions), point_of(functions, AT)[None, None])
    replicated = table.posterior_predictive(np.random.default_rng(SEED))
    found = mahalanobis(table, replicated)["mahalanobis"].isel(chain=0, draw=0)
    full = covariance(problem, AT["old_scale"])
    names = ("old", "new")
    sides = {"observed": {k: m.data.values for k, m in problem.modality.items()},
             "replicated": {k: replicated[k].values[0, 0] for k in problem.modality}}  # fmt: skip
    for side, values in sides.items():
        gap = np.concatenate([values[name] for name in names]) - AT["level"]
        both = gap @ np.linalg.solve(full, gap)
        alone = [gap[p] @ np.linalg.solve(full[p, p], gap[p]) for p in (slice(6), slice(6, 12))]
        counts = np.sum((values["counts"] - AT["rate"]) ** 2) / AT["rate"]
        expected = np.full((3, 3), np.nan)  # no error in common with the counts
        expected[:2, :2] = [[alone[0], both], [both, alone[1]]]
        expected[2, 2] = counts
        np.testing.assert_allclose(found[side], expected, rtol=1e-8)
        np.testing.assert_allclose(found[f"{side}_joint"], both + counts, rtol=1e-8)


def test_chi2_of_every_second_draw_is_that_of_these_draws():
    functions = ModelFunctions(moved("marginal"))
    points = point_of(functions, AT) + 0.1 * np.arange(4.0)[:, None]
    table = DrawTable(DrawEvaluator(functions), np.stack([points, -points]))
    replicated = table.posterior_predictive(np.random.default_rng(SEED))
    whole = mahalanobis(table, replicated, first=3)["mahalanobis"]
    some = mahalanobis(table, replicated, step=2, first=3)["mahalanobis"]
    assert some["draw"].values.tolist() == [4, 6] and some.attrs["thinned"] == 2
    xr.testing.assert_allclose(some.drop_attrs(), whole.sel(draw=[4, 6]).drop_attrs())
    assert mahalanobis(table, replicated, step=9, first=1) == {}
    assert (thinning(800), thinning(4000)) == (1, 8)


def test_sampled_discrepancy_stays_sampled_beside_counts():
    problem = moved("latent")
    functions = ModelFunctions(problem)
    point = functions.initial + np.random.default_rng(SEED).normal(size=functions.size)
    table = DrawTable(DrawEvaluator(functions), point[None, None])
    values, drawn = table.values, table.sampled_discrepancies
    mean = values["level"][0] + np.concatenate([drawn["old"][0], drawn["new"][0]])
    found, noise = likelihoods(table), covariance(problem, values["old_scale"][0], False)
    same(found["log_likelihood_joint"]["new"],
         stats.multivariate_normal.logpdf(both(problem)[6:], mean[6:], noise[6:, 6:]))  # fmt: skip
    assert list(found["log_likelihood_conditional"]) == ["new"]  # its noise is correlated
    same(found["log_likelihood"]["joint(new)"], found["log_likelihood_joint"]["new"].values)
    same(found["log_likelihood"]["old"],
         stats.norm.logpdf(both(problem)[:6], mean[:6], np.sqrt(np.diag(noise)[:6])))  # fmt: skip
    assert np.isnan(log_likelihood_at(functions, point))


@pytest.mark.slow
def test_they_are_sampled_and_reported():
    tree = bj.sample(moved("marginal"), draws=200, tune=200, chains=2, random_seed=SEED,
                     progress=False, backend="interpreted")  # fmt: skip
    assert np.isfinite(tree["log_likelihood_joint"]["joint"]).all()
    assert float(bj.leave_one_out(tree)["elpd"].sum()) < 0.0


def point_of(functions, values):
    return LatentSpace(functions).point_of_values(values)


def same(found, expected):
    np.testing.assert_allclose(found.values.ravel(), np.ravel(expected), rtol=1e-10)
