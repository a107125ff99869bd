"""Leave-one-out predictions against exact ones of Gaussian linear problems."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import xarray as xr

import bayesjoint.reports as reports
from bayesjoint._compiled.densities import likelihoods
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from tests.chance import CHANCE, uniform
from tests.stations import PIXELS, SIZE, Case

DRAWS = 4000
INSIDE = SIZE - PIXELS


def drawn(sensitivity, covariance, values, draws=DRAWS, seed=1):
    """Return draws of the posterior under a standard normal prior."""
    precision = np.eye(2) + sensitivity.T @ np.linalg.solve(covariance, sensitivity)
    mean = np.linalg.solve(precision, sensitivity.T @ np.linalg.solve(covariance, values))
    random = np.random.default_rng(seed)
    return random.multivariate_normal(mean, np.linalg.inv(precision), draws, method="cholesky")


def tree(sensitivity, covariance, values, **settings):
    """Return conditional densities of draws, as ``bj.sample`` stores them."""
    points = drawn(sensitivity, covariance, values, **settings)
    precision = np.linalg.inv(covariance)
    variance = 1.0 / np.diag(precision)
    gaps = (values - points @ sensitivity.T) @ precision * variance
    log_density = scipy.stats.norm.logpdf(gaps, 0.0, np.sqrt(variance))
    below = scipy.stats.norm.cdf(gaps, 0.0, np.sqrt(variance))

    def group(array):
        parts = {"gnss": array[:, :INSIDE], "insar": array[:, INSIDE:]}
        return xr.Dataset({k: (("chain", "draw", f"{k}_datum"), v[None]) for k, v in parts.items()})

    groups = {"log_likelihood": group(log_density), "predictive_cdf": group(below)}
    return xr.DataTree.from_dict(groups)


def together(report, name):
    return np.concatenate([report[f"{k}_{name}"].values.ravel() for k in ("gnss", "insar")])


@pytest.mark.parametrize("kind", ["independent", "correlated noise", "discrepancy"])
def test_it_is_what_fits_without_each_datum_say(kind):
    case = Case(kind)
    report = reports.leave_one_out(tree(case.sensitivity, case.covariance, case.data))
    expected, densities = [], []
    for i in range(SIZE):
        mean, variance = (np.squeeze(v) for v in case.prediction(np.array([i])))
        expected.append(scipy.stats.norm.cdf(case.data[i], mean, np.sqrt(variance)))
        densities.append(scipy.stats.norm.logpdf(case.data[i], mean, np.sqrt(variance)))
    trusted = together(report, "pareto_k") < 0.7
    assert trusted.sum() > 0.8 * SIZE
    # Probabilities have an sd below 0.5, and weights are worth a hundred draws at least.
    error = 4 * 0.5 / np.sqrt(DRAWS) * np.sqrt(DRAWS / 1000)
    np.testing.assert_allclose(together(report, "pit")[trusted], np.array(expected)[trusted],
                               atol=error)  # fmt: skip
    np.testing.assert_allclose(
        together(report, "elpd")[trusted], np.array(densities)[trusted], atol=2 * error
    )
    np.testing.assert_allclose(report["elpd"].sum(), together(report, "elpd").sum())


@pytest.mark.parametrize("kind", ["independent", "correlated noise", "discrepancy"])
def test_a_model_stores_what_dense_algebra_says(kind):
    case = Case(kind)
    expected = tree(case.sensitivity, case.covariance, case.data, draws=5)
    points = drawn(case.sensitivity, case.covariance, case.data, draws=5)
    table = DrawEvaluator(ModelFunctions(case.problem)).table(points[None])
    groups = likelihoods(table)
    groups["log_likelihood"] = groups["log_likelihood"].merge(
        groups.pop("log_likelihood_conditional", xr.Dataset())
    )
    for name in ("log_likelihood", "predictive_cdf"):
        for modality in ("gnss", "insar"):
            found = groups[name][modality].values.reshape(1, 5, -1)
            np.testing.assert_allclose(found, expected[name][modality], atol=1e-6)


def replicates(count, covariance):
    """Return reports of data drawn under a covariance of the errors, fitted with one or another."""
    case = Case("discrepancy")
    random = np.random.default_rng(8)
    root = np.linalg.cholesky(case.covariance)
    found = []
    for seed in range(count):
        truth = random.standard_normal(2)
        values = case.sensitivity @ truth + root @ random.standard_normal(SIZE)
        found.append(tree(case.sensitivity, covariance, values, draws=400, seed=seed))
    return [reports.leave_one_out(dt) for dt in found]


def test_it_is_uniform_where_the_model_is_right():
    right = replicates(60, Case("discrepancy").covariance)
    # Probabilities of one datum over replicates are independent.
    places = (0, 7, INSIDE + 2)
    assert uniform(*([together(report, "pit")[place] for report in right] for place in places))
    small = np.sum([report["p_value"].values < 0.05 for report in right], axis=0)  # (modality,)
    assert scipy.stats.binom.sf(small - 1, 60, 0.05).min() > CHANCE / 2


def test_errors_taken_as_independent_are_found_out():
    wrong = replicates(20, 0.2**2 * np.eye(SIZE))
    gnss = [report.sel(modality="gnss") for report in wrong]
    # Measured in 80 replicates: 95 %; of right errors it is 1 %.
    assert np.mean([report["p_value"] < 0.01 for report in gnss]) > 0.5
    worst = min(wrong, key=lambda report: float(report["p_value"][0]))
    assert "intervals are too narrow, by a factor of about" in worst.attrs["words"][0]
    right = replicates(20, Case("discrepancy").covariance)
    gains = [float((a["elpd"] - b["elpd"]).sum()) for a, b in zip(right, wrong, strict=True)]
    assert np.sum(np.array(gains) > 0) >= 18  # as many of no gain: 2 in 10,000; the worst of 80: 3


def test_the_shape_of_the_data_is_kept_and_data_that_move_the_posterior_are_counted():
    random = np.random.default_rng(3)
    shape = (2, 200, 3, 2)
    dims = ("chain", "draw", "station", "component")
    density = -0.01 * random.standard_normal(shape) ** 2
    density[..., 0, 0] = 1.25 * np.log(random.uniform(size=shape[:2]))  # weights with k = 1.25
    groups = {
        "log_likelihood": xr.Dataset({"gnss": (dims, density)}, {"component": ["e", "n"]}),
        "predictive_cdf": xr.Dataset({"gnss": (dims, random.uniform(size=shape))}),
    }
    report = reports.leave_one_out(xr.DataTree.from_dict(groups))
    assert report["gnss_pit"].dims == ("station", "component")
    assert list(report["gnss_pit"]["component"].values) == ["e", "n"]
    assert int(report["untrusted"][0]) == 1
    assert "1 datum moves the posterior too far" in report.attrs["words"][0]


def test_intervals_that_are_too_wide_are_called_so():
    random = np.random.default_rng(3)
    shape, dims = (2, 200, 30), ("chain", "draw", "station")
    groups = {
        "log_likelihood": xr.Dataset({"gnss": (dims, np.zeros(shape))}),
        "predictive_cdf": xr.Dataset({"gnss": (dims, random.uniform(0.3, 0.7, shape))}),
    }
    report = reports.leave_one_out(xr.DataTree.from_dict(groups))
    assert "intervals are too wide" in report.attrs["words"][0]


def test_a_tree_without_draws_is_refused():
    with pytest.raises(ValueError, match="no group 'log_likelihood'.*sample the problem"):
        reports.leave_one_out(xr.DataTree())


def densities(*columns):
    """Return a tree with the log-densities of one draw after another, a column for each datum."""
    density = np.stack(columns, axis=-1)[None]
    group = {"gnss": (("chain", "draw", "station"), density)}
    below = {"gnss": (("chain", "draw", "station"), np.full(density.shape, 0.5))}
    return xr.DataTree.from_dict(
        {"log_likelihood": xr.Dataset(group), "predictive_cdf": xr.Dataset(below)}
    )


def test_weights_that_repeat_are_not_trusted():
    random = np.random.default_rng(4)
    moving, unmoved = -0.01 * random.standard_normal(400) ** 2, np.full(400, -1.0)
    stuck, still = moving.copy(), moving.copy()
    stuck[:60] = moving.min() - np.maximum(1.0, np.linspace(1.5, 0.0, 60))  # most of the tail
    still[:80] = moving.min() - 1.0  # all of it
    report = reports.leave_one_out(densities(moving, unmoved, stuck, still))
    assert np.isinf(report["gnss_pareto_k"]).values.tolist() == [False, False, True, True]
    np.testing.assert_allclose(report["gnss_elpd"][1], -1.0)
    expected = -scipy.special.logsumexp(-still, b=1 / still.size)  # the harmonic mean, as it is
    np.testing.assert_allclose(report["gnss_elpd"][3], expected)
    assert int(report["untrusted"][0]) == 2


def test_too_few_draws_for_weights_are_refused():
    with pytest.raises(ValueError, match="leave_one_out: importance weights need 25 draws.* 24"):
        reports.leave_one_out(densities(np.linspace(-1.0, 0.0, 24)))
