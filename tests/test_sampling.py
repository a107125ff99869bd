"""Posteriors against closed forms, in units of their Monte Carlo errors."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

import bayesjoint as bj
from tests.chance import largest_z
from tests.gaussian import gaussian_case
from tests.test_linearization import two_sensors

GROUPS = {
    "posterior",
    "sample_stats",
    "posterior_predictive",
    "prior",
    "prior_predictive",
    "log_likelihood",
    "log_likelihood_conditional",  # errors are correlated
    "log_likelihood_joint",
    "mahalanobis",  # errors are correlated
    "predictive_cdf",
    "log_prior",
    "slopes",
    "observed_data",
    "constant_data",
    "linearization",
}


@pytest.fixture(scope="module")
def case():
    return gaussian_case()


@pytest.fixture(scope="module")
def tree(case):
    return bj.sample(case.problem, draws=1500, tune=500, chains=4, random_seed=1, progress=False)


def scores(tree, exact_mean, exact_sd, names):
    """Return z-scores of means and standard deviations in Monte Carlo errors.

    Errors are those of a Gaussian of the exact sd: with the sample's own sd, a sample that lacks
    tails would seem more accurate than it is, and its score would be too large.  Draws here are
    antithetic, with about 1.7 effective ones a draw; where the estimate of that number scatters
    above twice the draws, twice is taken.
    """
    posterior = tree["posterior"].to_dataset()[names]
    most = 2 * posterior.sizes["chain"] * posterior.sizes["draw"]
    of_means, of_sds = [], []
    for name in names:
        draws = posterior[[name]]
        of_mean, of_square = (
            np.minimum(az.ess(d, method="mean")[name].values, most)
            for d in (draws, (draws - exact_mean[name]) ** 2)
        )
        mean, sd = (f(draws[name].values, axis=(0, 1)) for f in (np.mean, np.std))
        of_means.append((mean - exact_mean[name]) / (exact_sd[name] / np.sqrt(of_mean)))
        of_sds.append((sd - exact_sd[name]) / (exact_sd[name] / np.sqrt(2 * of_square)))
    return [np.concatenate([z.ravel() for z in part]) for part in (of_means, of_sds)]


def scatter_by_chance(z, correlation):
    """Whether z-scores of this correlation are standard normal: chance fails it 3 in 10,000 times.

    Their largest, and their mean square: nearly chi-squared, with the degrees of freedom that give
    it its variance (Satterthwaite 1946).  Estimated numbers of effective draws, within some 5 %,
    may move it by 0.1.  Of 200 scores that are all off by 0.8, or one by 6, hardly any set passes.
    """
    dofs = z.size**2 / np.sum(correlation**2)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], dofs) / dofs
    spread = np.mean(z**2)
    return np.abs(z).max() < largest_z(z.size, 1e-4) and low - 0.1 < spread < high + 0.1


def test_joint_problem_of_200_unknowns_agrees_with_the_closed_form(case, tree):
    mean, covariance = case.posterior()
    sd = np.sqrt(np.diag(covariance))
    names = ["density", "slowness"]
    exact_mean = {n: m.reshape(10, 10) for n, m in zip(names, np.split(mean, 2), strict=True)}
    exact_sd = {n: s.reshape(10, 10) for n, s in zip(names, np.split(sd, 2), strict=True)}
    correlation = covariance / np.outer(sd, sd)
    of_means, of_sds = scores(tree, exact_mean, exact_sd, names)
    assert scatter_by_chance(of_means, correlation)
    assert scatter_by_chance(of_sds, correlation**2)


def test_covariance_agrees_with_the_closed_form(case, tree):
    """Mean products of 200 random pairs of cells (seed 0), in their Monte Carlo errors.

    Products of Gaussians a b and c d covary by ``C_ac C_bd + C_ad C_bc``.
    """
    mean, covariance = case.posterior()
    stacked = [tree["posterior"][n].values.reshape(4, 1500, -1) for n in ("density", "slowness")]
    deviation = np.concatenate(stacked, axis=2) - mean
    a, b = np.random.default_rng(0).integers(200, size=(2, 200))
    products = xr.Dataset(
        {"product": (("chain", "draw", "pair"), deviation[..., a] * deviation[..., b])}
    )
    exact = covariance[np.ix_(a, a)] * covariance[np.ix_(b, b)]
    exact += covariance[np.ix_(a, b)] * covariance[np.ix_(b, a)]
    sd = np.sqrt(np.diag(exact))
    draws = az.ess(products, method="mean")["product"].values
    z = (
        (products["product"].mean(("chain", "draw")).values - covariance[a, b])
        * np.sqrt(draws)
        / sd
    )
    assert scatter_by_chance(z, exact / np.outer(sd, sd))


def test_tree_has_all_groups_and_labels(case, tree):
    assert set(tree.children) == GROUPS
    posterior = tree["posterior"]
    assert posterior["density"].dims == ("chain", "draw", "depth", "x")
    assert posterior["gravity_response"].dims == ("chain", "draw", "station")
    assert posterior.attrs["tuning_steps"] == 500 and posterior.attrs["sampling_time"] > 0
    assert {"n_steps", "diverging"} <= set(tree["sample_stats"].data_vars)
    assert tree["log_prior"]["density"].dims == ("chain", "draw")


def test_preconditioned_steps_are_few(tree):
    assert tree["sample_stats"]["n_steps"].mean() < 12
    assert (
        float(az.ess(tree["posterior"].to_dataset()[["density", "slowness"]]).to_array().min())
        > 3000
    )


def test_joint_log_likelihood_is_the_gaussian_density(case, tree):
    from scipy import stats

    draw = {"chain": 1, "draw": 7}
    response = np.concatenate(
        [tree["posterior"][f"{m}_response"].isel(draw).values for m in ("gravity", "arrivals")]
    )
    exact = stats.multivariate_normal(response, case.covariance).logpdf(case.data)
    assert tree["log_likelihood_joint"]["joint"].isel(draw).item() == pytest.approx(exact, rel=1e-9)
    block = stats.multivariate_normal(response[:40], case.covariance[:40, :40])
    assert tree["log_likelihood_joint"]["gravity"].isel(draw).item() == pytest.approx(
        block.logpdf(case.data[:40]), rel=1e-9
    )


def test_pointwise_log_likelihood_is_conditional_on_all_other_data(case, tree):
    from scipy import stats

    draw = {"chain": 0, "draw": 3}
    response = np.concatenate(
        [tree["posterior"][f"{m}_response"].isel(draw).values for m in ("gravity", "arrivals")]
    )
    residual, index = case.data - response, 5
    others = np.delete(np.arange(80), index)
    weights = np.linalg.solve(
        case.covariance[np.ix_(others, others)], case.covariance[others, index]
    )
    mean = response[index] + weights @ residual[others]
    variance = case.covariance[index, index] - weights @ case.covariance[others, index]
    exact = stats.norm.logpdf(case.data[index], mean, np.sqrt(variance))
    found = tree["log_likelihood_conditional"]["gravity"].isel(draw).values[index]
    assert found == pytest.approx(exact, rel=1e-9)


def test_discrepancy_draws_have_the_mean_of_the_closed_form(case, tree):
    mean, _ = case.posterior()
    shared = case.covariance - np.diag(np.repeat([0.1**2, 0.05**2], 40))
    exact = shared @ np.linalg.solve(case.covariance, case.data - case.jacobian @ mean)
    z = []
    for name, part in zip(("gravity", "arrivals"), np.split(exact, 2), strict=True):
        draws = tree["posterior"][f"{name}_discrepancy"]
        error = az.mcse(draws.to_dataset(name="d"), method="mean")["d"].values
        z.append((draws.mean(("chain", "draw")).values - part) / error)
    assert np.abs(np.concatenate(z)).max() < 4.5  # 80 scores: chance fails it once in 1,800 times


def test_arviz_reads_the_tree(tree):
    summary = az.summary(tree, var_names=["density"])
    assert len(summary) == 100
    assert az.psense(tree, var_names=["density"], group="likelihood")["density"].max() > 0.0


@pytest.mark.slow
def test_latent_and_marginal_form_have_one_posterior():
    """Small problem, both forms by NUTS, in the Monte Carlo errors of both (seed 5).

    Errors are 2 % of an sd: a mean that is off by 15 % of its sd, or such an sd, is noticed.
    """
    runs = [
        bj.sample(
            gaussian_case(form, shape=(3, 3), n=8).problem,
            draws=1000,
            tune=500,
            chains=4,
            random_seed=5,
            progress=False,
            backend="numba",
        )["posterior"].to_dataset()  # fmt: skip
        for form in ("latent", "marginal")
    ]
    names = ["density", "slowness", "gravity_discrepancy", "arrivals_discrepancy"]
    z = []
    for method, moment in (("mean", "mean"), ("sd", "std")):
        found = [getattr(run[names], moment)(("chain", "draw")) for run in runs]
        errors = [az.mcse(run[names], method=method) for run in runs]
        z += [(found[0][n] - found[1][n]) / np.hypot(errors[0][n], errors[1][n]) for n in names]
    z = np.concatenate([np.ravel(score) for score in z])
    assert np.abs(z).max() < largest_z(z.size)


@pytest.fixture(scope="module")
def sensor_model():
    """One compiled density of the two-sensor problem serves all its settings."""
    return lambda *settings: bj.sample(
        two_sensors(*settings), draws=1500, tune=300, chains=2, random_seed=3, progress=False,
        backend="interpreted", prior_draws=10,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("signs", [(1.0, 1.0), (1.0, -1.0)], ids=["aligned", "opposed"])
@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.5, 0.9])
def test_two_sensors_have_the_posterior_sd_of_the_closed_form(sensor_model, signs, correlation):
    h1, h2, k1, k2, r1, r2 = signs[0], 2.0 * signs[1], 0.5, 0.8, 0.1, 0.2
    tree = sensor_model(h1, h2, k1, k2, r1, r2, correlation)
    a, b, c = k1**2 + r1**2, k2**2 + r2**2, correlation * k1 * k2
    information = (b * h1**2 + a * h2**2 - 2 * c * h1 * h2) / (a * b - c**2)
    exact = (1.0 + information) ** -0.5
    theta = tree["posterior"].to_dataset()[["theta"]]
    error = az.mcse(theta, method="sd")["theta"].item()
    assert abs(theta["theta"].std(ddof=1).item() - exact) < 4.5 * error


@pytest.mark.slow
def test_plain_pymc_samples_the_model_unchanged():
    """Both forms of the coordinates have the same posterior (seed 2, 4.5 Monte Carlo errors)."""
    problem = two_sensors(1.0, 2.0, 0.5, 0.8, 0.1, 0.2, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = pm.sample(
            model=bj.build_model(problem),
            draws=1000,
            tune=500,
            chains=2,
            random_seed=2,
            progressbar=False,
        )
    ours = bj.sample(problem, draws=1000, tune=300, chains=2, random_seed=2, progress=False)
    both = [t["posterior"].to_dataset()[["theta"]] for t in (plain, ours)]
    errors = [az.mcse(t, method="mean")["theta"].item() for t in both]
    gap = abs(both[0]["theta"].mean().item() - both[1]["theta"].mean().item())
    assert gap < 4.5 * np.hypot(*errors)


@pytest.mark.slow
def test_student_t_and_poisson_noise_sample():
    """A level seen by counts and by heavy-tailed data, against quadrature (seed 4)."""
    from scipy import stats

    rng = np.random.default_rng(4)
    counts = xr.DataArray(rng.poisson(7.0, size=12), dims="bin")
    values = xr.DataArray(7.0 + rng.standard_t(4, size=10), dims="t")
    problem = bj.JointProblem(
        latents=[bj.Parameter("level", bj.Prior(pm.LogNormal, mu=2.0, sigma=0.5))],
        modalities=[
            bj.Modality(
                "counts", counts, bj.linear_map(np.ones((12, 1)), "level"), bj.PoissonNoise()
            ),
            bj.Modality(
                "values",
                values,
                bj.linear_map(np.ones((10, 1)), "level"),
                bj.StudentTNoise(sd=1.0, nu=4),
            ),
        ],
    )
    tree = bj.sample(
        problem,
        draws=1500,
        tune=400,
        chains=2,
        random_seed=4,
        progress=False,
        backend="interpreted",
    )
    level = np.linspace(3.0, 12.0, 4001)
    density = stats.lognorm.logpdf(level, 0.5, scale=np.exp(2.0))
    density += stats.poisson.logpmf(counts.values[:, None], level).sum(0)
    density += stats.t.logpdf(values.values[:, None], 4, level).sum(0)
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    exact = np.sum(weight * level)
    posterior = tree["posterior"].to_dataset()[["level"]]
    error = az.mcse(posterior, method="mean")["level"].item()
    assert abs(posterior["level"].mean().item() - exact) < 4.5 * error
    assert tree["posterior_predictive"]["counts"].min() >= 0


@pytest.mark.slow
def test_coupled_prior_is_drawn_with_its_coupling():
    """The cross-gradient must lower the structural misfit of prior draws (seed 6)."""
    grid = bj.Grid(depth=np.arange(4.0), x=np.arange(5.0))
    fields = [bj.GaussianField(n, grid, sd=1.0, length_scale=1.5) for n in ("first", "second")]
    data = xr.DataArray(np.zeros(3), dims="t")
    forward = bj.linear_map(np.eye(3, 20), "first")
    second = bj.linear_map(np.eye(3, 20), "second")
    noise = bj.GaussianNoise(sd=1.0)

    def misfit(weight):
        problem = bj.JointProblem(
            latents=fields,
            modalities=[
                bj.Modality("a", data, forward, noise),
                bj.Modality("b", data.rename(t="s"), second, noise),
            ],
            couplings=[bj.CrossGradient("first", "second", weight=weight)],
        )
        tree = bj.sample(
            problem, draws=100, tune=200, chains=2, random_seed=6, progress=False, backend="numba",
            prior_draws=400,
        )  # fmt: skip
        prior = tree["prior"]
        gradients = [np.gradient(prior[n].values, axis=(2, 3)) for n in ("first", "second")]
        cross = gradients[0][0] * gradients[1][1] - gradients[0][1] * gradients[1][0]
        assert "cross_gradient_first_second" in tree["log_prior"]
        return float(np.mean(cross**2))

    assert misfit(20.0) < 0.5 * misfit(1e-6)


@pytest.mark.slow  # starts two processes
def test_chains_of_a_black_box_in_processes_are_those_of_threads(monkeypatch):
    forward = bj.numpy_map(
        lambda v: np.array([v**2, v + 1.0]), "speed", jacobian=lambda v: np.array([[2 * v], [1.0]])
    )
    data = xr.DataArray([1.2, 2.1], dims="t")
    problem = bj.JointProblem(
        latents=[bj.Parameter("speed", bj.Prior(pm.Normal, mu=1, sigma=0.5))],
        modalities=[bj.Modality("line", data, forward, bj.GaussianNoise(sd=0.1))],
    )
    runs = []
    for worth in (1e9, 0.0):
        monkeypatch.setattr("bayesjoint._sampler.chains.WORTH", worth)
        tree = bj.sample(problem, draws=100, tune=100, chains=2, random_seed=1, progress=False)
        runs.append(tree["posterior"])
    np.testing.assert_array_equal(*[run["speed"].values for run in runs])
    assert runs[0].attrs["warm_up_steps"] == runs[1].attrs["warm_up_steps"]


def test_bad_settings_raise():
    problem = two_sensors(1.0, 2.0, 0.5, 0.8, 0.1, 0.2, 0.5)
    with pytest.raises(ValueError, match="draws must be a positive whole number"):
        bj.sample(problem, draws=0)
    for seed in (-1, 1.5, "1", True):
        with pytest.raises(ValueError, match="random_seed must be a whole number, not negative"):
            bj.sample(problem, random_seed=seed)
    with pytest.raises(ValueError, match='backend must be "numba" or "interpreted", .torch. given'):
        bj.sample(problem, backend="torch")


def test_tree_is_written_and_read_again(tmp_path):
    problem = two_sensors(1.0, 2.0, 0.5, 0.8, 0.1, 0.2, 0.5)
    tree = bj.sample(
        problem, draws=50, tune=50, chains=1, random_seed=1, progress=False, backend="interpreted",
        store=tmp_path / "run.zarr",
    )  # fmt: skip
    again = xr.open_datatree(tmp_path / "run.zarr", engine="zarr", consolidated=False)
    for name in tree.children:  # plain xarray reads the values, and what they are called
        xr.testing.assert_equal(again[name].to_dataset().load(), tree[name].to_dataset())


@pytest.mark.slow
def test_tempering_multiplies_the_log_likelihood():
    """Power 1/4 doubles the sd of a measured level (seed 8); stored densities stay untempered."""
    data = xr.DataArray(np.zeros(16), dims="t")

    def level(power):
        problem = bj.JointProblem(
            latents=[bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=100.0))],
            modalities=[
                bj.Modality(
                    "line",
                    data,
                    bj.linear_map(np.ones((16, 1)), "level"),
                    bj.GaussianNoise(sd=1.0),
                    power=power,
                )
            ],
        )
        return bj.sample(
            problem,
            draws=2000,
            tune=300,
            chains=2,
            random_seed=8,
            progress=False,
            backend="interpreted",
        )

    tempered = level(0.25)
    sd = tempered["posterior"]["level"].std(ddof=1).item()
    error = az.mcse(tempered["posterior"].to_dataset()[["level"]], method="sd")["level"].item()
    assert abs(sd - 0.5) < 4.5 * error
    draw = tempered["posterior"]["level"].isel(chain=0, draw=0).item()
    exact = -0.5 * 16 * (draw**2 + np.log(2 * np.pi))
    joint = tempered["log_likelihood_joint"]["joint"].isel(chain=0, draw=0).item()
    assert joint == pytest.approx(exact)


@pytest.mark.slow
def test_a_density_from_the_cache_rounds_as_when_it_was_compiled(tmp_path):
    """Two processes, the first with an empty cache: one run must be repeated to the last bit."""
    code = """
import numpy as np
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions
from tests.chance import largest_z
from tests.gaussian import gaussian_case
functions = ModelFunctions(gaussian_case(n=12, shape=(4, 4)).problem)
density = CompiledDensity(functions)
points = np.random.default_rng(0).normal(size=(50, functions.size))
print(b"".join(np.append(*density(point)[::-1]).tobytes() for point in points).hex())
"""
    flags = {"PYTENSOR_FLAGS": f"base_compiledir={tmp_path}"}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1], env=os.environ | flags, capture_output=True, check=True,
        ).stdout
        for _ in range(2)
    )  # fmt: skip
    assert first == second
