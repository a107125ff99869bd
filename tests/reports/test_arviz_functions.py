"""ArviZ's functions on trees of bayesjoint: right, against plain PyMC or closed forms, or refused.

Draws are independent ones of the exact posterior, seeds 1 and 2: nothing is sampled.
"""

import inspect
import re
import warnings
from pathlib import Path

import arviz as az
import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

import bayesjoint as bj
from bayesjoint._compiled.densities import likelihoods
from bayesjoint._compiled.draws import DrawEvaluator
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.compile import INTERPRETED
from tests.chance import largest_z

CHAINS, DRAWS = 4, 500
SIZES = {"first": 2, "second": 2, "gauge": 5}
JOINT = "joint(first, second)"
PARAMETERS = ["level", "rate"]
OF_PARAMETERS = {"var_names": PARAMETERS}
DOCUMENT = Path(__file__).parents[2] / "docs" / "arviz.md"

pytestmark = pytest.mark.filterwarnings("ignore")  # ArviZ's own, of k and of single observations


class Case:
    """Two sensors, their errors correlated or not, and a gauge; all linear and Gaussian."""

    def __init__(self, correlation: float) -> None:
        rng = np.random.default_rng(3)
        self.prior = np.array([0.0, 0.5]), np.diag([1.0, 4.0])
        self.matrix = np.column_stack([np.ones(9), rng.normal(size=9)])
        self.covariance = 0.3**2 * np.eye(9)
        shared = np.array([[1.0, correlation], [correlation, 1.0]])
        self.covariance[:4, :4] += np.kron(shared, np.eye(2))
        truth = rng.normal(size=2)
        errors = np.linalg.cholesky(self.covariance) @ rng.normal(size=9)
        self.data = self.matrix @ truth + errors
        self.correlated = correlation > 0
        self.tree = self._tree()

    def posterior(self, likelihood: float = 1.0, prior: float = 1.0):
        """Return mean and covariance; likelihood and prior to some power."""
        mean, covariance = self.prior
        weighted = self.matrix.T @ np.linalg.inv(self.covariance) * likelihood
        precision = weighted @ self.matrix + np.linalg.inv(covariance) * prior
        right = weighted @ self.data + np.linalg.solve(covariance, mean) * prior
        return np.linalg.solve(precision, right), np.linalg.inv(precision)

    def left_out(self, rows) -> float:
        """Return the log-density of some data given all others."""
        mean, covariance = self.prior
        everything = self.matrix @ covariance @ self.matrix.T + self.covariance
        gap = self.data - self.matrix @ mean
        others = np.delete(np.arange(9), rows)
        kept = everything[np.ix_(others, others)]
        gain = np.linalg.solve(kept, everything[np.ix_(others, rows)]).T
        left = everything[np.ix_(rows, rows)] - gain @ everything[np.ix_(others, rows)]
        return float(stats.multivariate_normal(gain @ gap[others], left).logpdf(gap[rows]))

    @property
    def problem(self) -> bj.JointProblem:
        latents = [
            bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1.0)),
            bj.Parameter("rate", bj.Prior(pm.Normal, mu=0.5, sigma=2.0)),
        ]
        ends = np.cumsum([0, *SIZES.values()])
        parts = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        modalities = [
            bj.Modality(
                name,
                xr.DataArray(self.data[part], {f"{name}_t": np.arange(size)}, f"{name}_t"),
                bj.linear_map({"level": self.matrix[part, :1], "rate": self.matrix[part, 1:]}),
                bj.GaussianNoise(sd=0.3),
            )
            for (name, size), part in zip(SIZES.items(), parts, strict=True)
        ]
        between = 0.95 if self.correlated else None
        discrepancy = bj.JointDiscrepancy(sd={"first": 1.0, "second": 1.0}, correlation=between)
        return bj.JointProblem(latents=latents, modalities=modalities, discrepancy=discrepancy)

    def _tree(self) -> xr.DataTree:
        problem, random = self.problem, np.random.default_rng(1)
        functions = ModelFunctions(problem)
        mean, covariance = self.posterior()
        values = random.multivariate_normal(mean, covariance, (CHAINS, DRAWS), method="cholesky")
        evaluator = functions.once(DrawEvaluator)
        table = evaluator.table((values - self.prior[0]) / np.sqrt(np.diag(self.prior[1])))
        prior = evaluator.table(random.standard_normal((CHAINS, DRAWS, 2)))
        energy = {"energy": (("chain", "draw"), random.standard_normal((CHAINS, DRAWS)))}
        still = np.zeros((CHAINS, DRAWS), dtype=bool)
        groups = {
            "posterior": table.posterior(random, white=True),
            "posterior_predictive": table.posterior_predictive(random),
            "log_prior": table.log_prior(),
            "prior": prior.prior(),
            "observed_data": xr.Dataset(problem.labelled_data),
            "sample_stats": xr.Dataset({**energy, "diverging": (("chain", "draw"), still)}),
            **likelihoods(table),
        }  # fmt: skip
        return xr.DataTree.from_dict(groups)

    def plain(self) -> xr.DataTree:
        """Return the same draws with the likelihoods of a model in plain PyMC."""
        with pm.Model(coords={"gauge_t": np.arange(5)}) as model:
            level, rate = pm.Normal("level", 0.0, 1.0), pm.Normal("rate", 0.5, 2.0)
            mean = self.matrix[:, 0] * level + self.matrix[:, 1] * rate
            if self.correlated:
                pm.MvNormal("pair", mean[:4], cov=self.covariance[:4, :4], observed=self.data[:4])
            else:
                sd = np.sqrt(self.covariance[0, 0])
                pm.Normal("first", mean[:2], sd, observed=self.data[:2])
                pm.Normal("second", mean[2:4], sd, observed=self.data[2:4])
            pm.Normal("gauge", mean[4:], 0.3, observed=self.data[4:], dims="gauge_t")
        given = self.tree["posterior"].to_dataset()[PARAMETERS]
        with model:
            settings = {"progressbar": False, "compile_kwargs": {"mode": INTERPRETED}}
            tree = xr.DataTree.from_dict({"posterior": given})
            found = pm.compute_log_likelihood(tree, extend_inferencedata=False, **settings)
            prior = pm.stats.compute_log_prior(tree, extend_inferencedata=False, **settings)
        ours = self.tree
        # ArviZ takes the effective draws of all that is in the posterior.
        groups = {"posterior": ours["posterior"].to_dataset(), "log_likelihood": found,
                  "log_prior": prior, "prior": ours["prior"].to_dataset()[PARAMETERS],
                  "posterior_predictive": ours["posterior_predictive"].to_dataset(),
                  "observed_data": ours["observed_data"].to_dataset(),
                  "sample_stats": ours["sample_stats"].to_dataset()}  # fmt: skip
        return xr.DataTree.from_dict({k: as_dataset(v) for k, v in groups.items()})


def as_dataset(group):
    return group.to_dataset() if isinstance(group, xr.DataTree) else group


@pytest.fixture(scope="module", params=[0.0, 0.95], ids=["independent", "correlated"])
def case(request):
    return Case(request.param)


@pytest.fixture(scope="module")
def plain(case):
    return case.plain()


# Of the group posterior and of others that hold no likelihood: those of the same draws.
OF_DRAWS = {
    **dict.fromkeys(
        ["ess", "rhat", "mcse", "mean", "median", "mode", "std", "var", "mad", "iqr", "eti", "hdi",
         "qds", "kde", "histogram", "thin"], OF_PARAMETERS,
    ),
    "summary": {**OF_PARAMETERS, "round_to": "none"},
    "rhat_nested": {**OF_PARAMETERS, "superchain_ids": [0, 0, 1, 1]},
    "ci_in_rope": {**OF_PARAMETERS, "rope": (-0.5, 0.5)},
    "bayes_factor": {**OF_PARAMETERS, "ref_vals": [0.0, 0.0]},
    "diagnose": {**OF_PARAMETERS, "show_diagnostics": False},
    "bfmi": {},
    "metrics": {"var_name": "gauge"},
}  # fmt: skip
LEVEL = np.zeros((CHAINS, DRAWS))
# Of likelihoods: arguments with our names, and what they are in plain PyMC.
OF_LIKELIHOODS = {
    "psense": [{**OF_PARAMETERS, "group": group} for group in ("prior", "likelihood")],
    "psense_summary": [OF_PARAMETERS],
    "loo": [{"var_name": "gauge"}],
    "loo_approximate_posterior": [{"var_name": "gauge", "log_p": LEVEL, "log_q": LEVEL}],
    "loo_subsample": [{"var_name": "gauge", "observations": 3}],
    "loo_pit": [{"var_names": "gauge", "random_state": 1}],
    "loo_score": [{"var_name": "gauge"}],
    "loo_expectations": [{"var_name": "gauge"}],
}  # fmt: skip
# Of the names of modalities whose errors are correlated.
REFUSED = {
    "loo_i": {"i": 0, "var_name": "first"},
    "loo_subsample": {"var_name": "first", "observations": 2},
    "loo_pit": {"var_names": "first"},
    "loo_score": {"var_name": "first"},
}
ELSEWHERE = {"loo", "loo_i", "compare", "kl_divergence", "wasserstein", "weight_predictions",
             "residual_r2", "loo_expectations"}  # fmt: skip
NEED_MORE = {"loo_moment_match", "loo_kfold", "lfo_cv", "reloo", "update_subsample", "bayesian_r2",
             "kaplan_meier", "generate_survival_curves", "loo_metrics", "loo_influence",
             "loo_r2"}  # fmt: skip
OF_ARRAYS = {"get_function", "get_log_likelihood", "hexbin", "histogram2d", "kde2d"}
NO_TREES = {"ecdf"}  # says so


def numbers(result) -> np.ndarray:
    """Return all numbers in what a function of ArviZ returns."""
    if isinstance(result, tuple):
        return np.concatenate([numbers(part) for part in result])
    if isinstance(result, xr.DataTree):
        result = result.to_dataset()
    if isinstance(result, xr.DataArray):
        result = result.to_dataset(name="values")
    if isinstance(result, xr.Dataset):
        return np.concatenate([np.ravel(v.values) for _, v in sorted(result.data_vars.items())])
    if hasattr(result, "select_dtypes"):
        return result.select_dtypes("number").to_numpy().ravel()
    if hasattr(result, "elpd"):
        return np.array([result.elpd, result.se, result.p])
    return np.atleast_1d(np.asarray(result, dtype=float))


def same(found, expected):
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=1e-6, atol=1e-9)


def test_factors_add_up_to_the_joint_density(case):
    found = case.tree["log_likelihood"].to_dataset()
    assert set(found) == ({"gauge", JOINT} if case.correlated else set(SIZES))
    total = sum(v.sum([d for d in v.dims if d not in ("chain", "draw")]) for v in found.values())
    joint = case.tree["log_likelihood_joint"]["joint"].transpose(*total.dims)
    np.testing.assert_allclose(total, joint, rtol=1e-10)
    draws = case.tree["posterior"].to_dataset()[PARAMETERS].isel(chain=0, draw=0).to_array()
    exact = stats.multivariate_normal(case.matrix @ draws.values, case.covariance)
    assert float(joint[0, 0]) == pytest.approx(exact.logpdf(case.data), rel=1e-10)
    assert ("log_likelihood_conditional" in case.tree.children) == case.correlated


def test_the_model_of_pymc_has_the_same_sum(case):
    few = case.tree["posterior"].to_dataset().isel(draw=slice(0, 20))
    tree = xr.DataTree.from_dict({"posterior": few})
    found = pm.compute_log_likelihood(
        tree, model=bj.build_model(case.problem), extend_inferencedata=False, progressbar=False,
        compile_kwargs={"mode": INTERPRETED},
    )  # fmt: skip
    each = as_dataset(found).data_vars.values()
    total = sum(v.sum([d for d in v.dims if d not in ("chain", "draw")]) for v in each)
    joint = case.tree["log_likelihood_joint"]["joint"].isel(draw=slice(0, 20))
    np.testing.assert_allclose(total.transpose("chain", "draw"), joint.transpose("chain", "draw"))


@pytest.mark.parametrize("name", sorted(OF_DRAWS))
def test_functions_of_draws_are_those_of_plain_pymc(name, case, plain):
    function = getattr(az, name)
    same(function(case.tree, **OF_DRAWS[name]), function(plain, **OF_DRAWS[name]))


@pytest.mark.parametrize("name", sorted(OF_LIKELIHOODS))
def test_functions_of_likelihoods_are_those_of_plain_pymc(name, case, plain):
    for settings in OF_LIKELIHOODS[name]:
        results = []
        for tree in (case.tree, plain):
            np.random.seed(0)  # ArviZ's own
            results.append(getattr(az, name)(tree, **settings))
        same(*results)


def test_one_factor_is_scaled_by_its_name(case, plain):
    """The likelihood's share of the gauge, and of what is correlated."""
    parts = {"gauge": "gauge"}
    parts |= {JOINT: "pair"} if case.correlated else {"first": "first"}
    for ours, theirs in parts.items():
        found, expected = (
            az.psense(tree, **OF_PARAMETERS, group="likelihood", group_var_names=name)
            for tree, name in ((case.tree, ours), (plain, theirs))
        )
        same(found, expected)


@pytest.mark.parametrize("group", ["prior", "likelihood"])
def test_weights_of_power_scaling_are_those_of_the_scaled_posterior(group, case):
    """Means of draws reweighted to the power 1.1, in their Monte Carlo errors."""
    name = {"prior": "log_prior", "likelihood": "log_likelihood"}[group]
    each = case.tree[name].to_dataset().to_stacked_array("all", ["chain", "draw"]).sum("all")
    weights = np.exp(0.1 * (each - each.max()))
    weights = (weights / weights.sum()).transpose("chain", "draw").values
    mean, covariance = case.posterior(**{group: 1.1})
    for i, parameter in enumerate(PARAMETERS):
        draws = case.tree["posterior"][parameter].transpose("chain", "draw").values
        gaps = {"mean": draws - mean[i], "variance": (draws - mean[i]) ** 2 - covariance[i, i]}
        for gap in gaps.values():
            z = np.sum(weights * gap) / np.sqrt(np.sum(weights**2 * gap**2))
            assert abs(z) < largest_z(8)


def test_two_sensors_of_the_issue():
    """Errors of sd 1, correlation 0.95: 0.08, where conditional densities gave 0.005."""
    covariance = np.array([[1.0, 0.95], [0.95, 1.0]])
    data, prior = np.array([1.2, 0.9]), 1.0
    precision = np.linalg.inv(covariance).sum() + 1 / prior
    mean = (np.linalg.inv(covariance) @ data).sum() / precision
    theta = np.random.default_rng(2).normal(mean, precision**-0.5, (4, 500))
    sensors = [
        bj.Modality(name, xr.DataArray([value], dims=f"{name}_t"),
                    bj.linear_map(np.ones((1, 1)), "theta"), bj.GaussianNoise(sd=0.05**0.5))
        for name, value in zip(("first", "second"), data, strict=True)
    ]  # fmt: skip
    problem = bj.JointProblem(
        latents=[bj.Parameter("theta", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))],
        modalities=sensors,
        discrepancy=bj.JointDiscrepancy(
            sd={"first": 0.95**0.5, "second": 0.95**0.5}, correlation=1.0
        ),
    )
    table = ModelFunctions(problem).once(DrawEvaluator).table(theta[..., None])
    tree = xr.DataTree.from_dict(
        {"posterior": table.posterior(np.random.default_rng(0)), **likelihoods(table)}
    )
    exact = stats.multivariate_normal(cov=covariance).logpdf(data - theta[..., None])
    plain = xr.DataTree.from_dict({
        "posterior": tree["posterior"].to_dataset()[["theta"]],
        "log_likelihood": xr.Dataset({"pair": (("chain", "draw"), exact)}),
    })  # fmt: skip
    found, expected = (
        float(az.psense(t, var_names=["theta"], group="likelihood")["theta"]) for t in (tree, plain)
    )
    assert found == pytest.approx(expected, rel=1e-8)
    conditional = tree.copy()
    conditional["log_likelihood"] = conditional["log_likelihood_conditional"]
    wrong = float(az.psense(conditional, var_names=["theta"], group="likelihood")["theta"])
    assert wrong < 0.2 * found


def test_loo_is_that_of_each_factor(case):
    """Weights of 2,000 draws: what is left out of nine data moves the posterior little."""
    gauge = az.loo(case.tree, var_name="gauge", pointwise=True)
    exact = [case.left_out([4 + i]) for i in range(5)]
    np.testing.assert_allclose(gauge.elpd_i, exact, atol=0.05)
    if case.correlated:
        with pytest.warns(UserWarning, match="same with the sum LOO"):
            block = az.loo(case.tree, var_name=JOINT)
        assert block.elpd == pytest.approx(case.left_out(np.arange(4)), abs=0.1)
        compared = az.compare({"a": case.tree, "b": case.tree}, var_name=JOINT, round_to="none")
        assert compared["elpd"].iloc[0] == pytest.approx(block.elpd)
    own = bj.leave_one_out(case.tree)
    for name, first in (("first", 0), ("second", 2), ("gauge", 4)):
        exact = [case.left_out([first + i]) for i in range(SIZES[name])]
        np.testing.assert_allclose(own[f"{name}_elpd"], exact, atol=0.1)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_single_data_of_correlated_errors_are_refused(name, case):
    settings = dict(REFUSED[name])
    first = (settings.pop("i"),) if "i" in settings else ()
    if not case.correlated:
        assert np.isfinite(numbers(getattr(az, name)(*first, case.tree, **settings))).all()
        return
    with pytest.raises((KeyError, TypeError), match="first"):
        getattr(az, name)(*first, case.tree, **settings)


def test_expectations_without_a_factor_bear_its_name(case):
    if not case.correlated:
        return
    found = az.loo_expectations(case.tree, var_name="first")[0]
    mean, covariance = case.prior
    kept = np.arange(4, 9)
    everything = case.matrix @ covariance @ case.matrix.T + case.covariance
    gain = everything[:4, kept] @ np.linalg.inv(everything[np.ix_(kept, kept)])
    exact = case.matrix[:4] @ mean + gain @ (case.data[kept] - case.matrix[kept] @ mean)
    # Of each gauge reading left out, or of the factor of this name, whose axis is the sensor's own.
    without = found[JOINT].isel(gauge_t=0)
    np.testing.assert_allclose(without, exact[:2], atol=0.15)  # sd 1 of some 500 draws


def test_functions_of_several_trees(case):
    some = {**OF_PARAMETERS, "num_samples": 200}
    assert az.kl_divergence(case.tree, case.tree, **some) == pytest.approx(0.0, abs=1e-6)
    apart = az.wasserstein(case.tree, case.tree, **some, joint=False)
    assert apart == pytest.approx(0.0, abs=1e-9)
    mixed = az.weight_predictions([case.tree, case.tree], weights=[0.5, 0.5], random_seed=1)
    assert set(mixed["posterior_predictive"].data_vars) >= set(SIZES)
    found = az.residual_r2(case.tree, pred_mean="gauge_response", obs_name="gauge")
    response = case.tree["posterior"]["gauge_response"]
    gap = case.tree["observed_data"]["gauge"] - response
    spread, left = response.var("gauge_t", ddof=1), gap.var("gauge_t", ddof=1)
    assert found.mean == pytest.approx(float((spread / (spread + left)).mean()), abs=0.02)


def test_thinned_likelihoods_are_not_taken_for_all(case):
    table = ModelFunctions(case.problem).once(DrawEvaluator)
    white = case.tree["posterior"].to_dataset()[[f"{n}_white" for n in PARAMETERS]]
    points = white.to_array().transpose("chain", "draw", "variable").values
    thinned = case.tree.copy()
    for name, group in likelihoods(table.table(points), step=3).items():
        thinned[name] = xr.DataTree(group)
    settings = {**OF_PARAMETERS, "group": "likelihood"}
    assert np.isnan(numbers(az.psense(thinned, **settings))).all()
    kept = thinned["log_likelihood"]["draw"]
    alike = thinned.map_over_datasets(lambda ds: ds.sel(draw=kept) if "draw" in ds.dims else ds)
    every_third = xr.DataTree.from_dict(
        {k: case.tree[k].to_dataset().isel(draw=slice(None, None, 3))
         for k in ("posterior", "log_likelihood")}
    )  # fmt: skip
    same(az.psense(alike, **settings), az.psense(every_third, **settings))


def test_no_function_that_takes_a_tree_is_forgotten():
    functions = {
        name
        for name in dir(arviz_stats)
        if inspect.isfunction(getattr(arviz_stats, name)) and not name.startswith("_")
    }
    told = set(OF_DRAWS) | set(OF_LIKELIHOODS) | set(REFUSED) | ELSEWHERE | NEED_MORE
    assert functions == told | OF_ARRAYS | NO_TREES
    rows = re.findall(r"^\| (`.*?) \|.*\| (right|refused) \| (right|refused) \|$",
                      DOCUMENT.read_text(), re.M)  # fmt: skip
    documented = {n: row[1:] for row in rows for n in re.findall(r"`(\w+)`", row[0])}
    assert set(documented) == told - NEED_MORE
    assert {n for n, (_, correlated) in documented.items() if correlated == "refused"} == set(
        REFUSED
    )
    assert all(name in DOCUMENT.read_text() for name in NEED_MORE)


# Arguments of the plots that need some, and those that need other data.
PLOTTED = {
    "plot_energy": {},
    "plot_bf": {**OF_PARAMETERS, "ref_val": 0.0},
    "plot_pair_focus": {"focus_var": "level", **OF_PARAMETERS},
    "plot_lm": None, "plot_ecdf_pit": None, "plot_ppc_rootogram": None, "plot_compare": None,
    "plot_khat": None, "plot_ppc_pava_residuals": None,
}  # fmt: skip
PLOTS = sorted(
    n for n in dir(arviz_plots) if n.startswith("plot_") and inspect.isfunction(getattr(az, n))
)


@pytest.mark.parametrize("name", [n for n in PLOTS if PLOTTED.get(n, {}) is not None])
def test_plots_draw_or_refuse(name, case):
    of_data = "loo" in name or "ppc" in name
    settings = PLOTTED.get(name, {} if of_data else OF_PARAMETERS)
    refused = case.correlated and name in ("plot_loo_pit", "plot_loo_pava")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if refused:
            with pytest.raises((KeyError, TypeError), match="first"):
                getattr(az, name)(case.tree, backend="matplotlib", **settings)
            settings = {"var_names": "gauge"}
        assert getattr(az, name)(case.tree, backend="matplotlib", **settings) is not None
    plt.close("all")
