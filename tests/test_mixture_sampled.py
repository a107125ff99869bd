"""Mixtures of rock units with unknown settings: calibrated ranks, and a sampled section."""

from functools import cache

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.stats import binom, norm

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.compile import flatten, over_rows
from tests.chance import CHANCE, uniform
from tests.mixtures import LABELS, field, problem, rocks, searched

PAIR = bj.Grid(x=np.array([0.0, 1.0]))
FREE = {
    "proportions": bj.Prior(pm.Dirichlet, a=[3.0, 2.0]),
    "means": {"a": bj.Prior(pm.Normal, mu=[0.0, 3.0], sigma=0.5), "b": [1.0, -1.0]},
    "sds": {"a": 0.8, "b": 0.6},
    "correlation": [0.5, -0.3],
}
ERROR = 1.0  # sd of data, which are both properties of both cells
SPREAD = 1.15  # of the points


def truth_of(rng):
    """Return unknowns and properties drawn without the package: unit by unit, cell by cell."""
    proportions = rng.dirichlet([3.0, 2.0])
    means = np.stack([rng.normal([0.0, 3.0], 0.5), [1.0, -1.0]], axis=1)
    sds, rho = np.array([0.8, 0.6]), np.array([0.5, -0.3])
    root = field("a", PAIR, length_scale=1.0).factor({}).times(np.eye(2))
    u, x = root @ rng.standard_normal((2, 2)), np.zeros((2, 2))  # (cell, property)
    for cell in range(2):
        x[cell, 0] = searched(u[cell, 0], proportions, means[:, 0], np.full(2, sds[0]))
        shares = proportions * norm.pdf(x[cell, 0], means[:, 0], sds[0])
        given = means[:, 1] + rho * sds[1] / sds[0] * (x[cell, 0] - means[:, 0])
        spread = sds[1] * np.sqrt(1.0 - rho**2)
        x[cell, 1] = searched(u[cell, 1], shares / shares.sum(), given, spread)
    return {"rocks_proportions": proportions[0], "rocks_mean_a": means[1, 0], "x": x}


@cache
def weighted_pool(count=30_000, seed=2):
    """Return unknowns and properties at points of a wide normal distribution, and log weights.

    Weighted by the density of the model, they stand for its prior.
    """
    fields = [field(n, PAIR, length_scale=1.0) for n in "ab"]
    functions = ModelFunctions(problem(rocks(**FREE), grid=PAIR, fields=fields).without_data())
    model, made = functions.build.model, functions.build
    inputs, graphs = flatten([model.logp()], functions.variables, functions.shapes)
    points = SPREAD * np.random.default_rng(seed).standard_normal((count, functions.size))
    told = over_rows(graphs, inputs)(points)[0]
    weights = told - norm.logpdf(points, scale=SPREAD).sum(axis=1)
    names = ["rocks_proportions", "rocks_mean_a", "a", "b"]
    proportions, means, *x = functions.over_draws([made.values[n] for n in names])(points)
    return proportions[:, 0], means[:, 1], np.stack(x, axis=-1), weights


@pytest.mark.slow  # half a minute: many truths, each against the same weighted points
def test_ranks_of_unknown_proportions_and_means_are_uniform():
    """Of truths that are drawn without the package, in the posterior of the model's density."""
    proportions, means, x, prior = weighted_pool()
    rng, ranks = np.random.default_rng(4), []
    for _ in range(300):
        truth = truth_of(rng)
        data = truth["x"] + ERROR * rng.standard_normal((2, 2))
        logs = prior - 0.5 * (((x - data) / ERROR) ** 2).sum(axis=(1, 2))
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        assert 1.0 / (weights**2).sum() > 50  # effective points: errors of ranks below 0.08
        below = [
            proportions < truth["rocks_proportions"], means < truth["rocks_mean_a"],
            x[:, 0, 0] < truth["x"][0, 0], x[:, 1, 1] < truth["x"][1, 1],
        ]  # fmt: skip
        ranks.append([weights @ each for each in below])
    assert uniform(*np.array(ranks).T)  # 300 replicates, seeds 2 and 4


SECTION = bj.Grid(depth=np.arange(4) + 0.5, x=np.arange(6) + 0.5)


def section():
    """Return two units over two fields, with averages of the first one as data, and a truth."""
    rng = np.random.default_rng(3)
    rays = (rng.random((12, SECTION.size)) < 0.2).astype(float)
    rays /= rays.sum(axis=1, keepdims=True)
    coupling = rocks(
        proportions=bj.Prior(pm.Dirichlet, a=[4.0, 4.0]), correlation=0.3,
        means={"a": [0.0, 4.0], "b": [0.0, 4.0]}, sds={"a": 1.0, "b": 1.0},
    )  # fmt: skip
    seen = bj.Modality(
        "seen", xr.DataArray(np.zeros(12), dims="ray"), bj.linear_map(rays, "a"),
        bj.GaussianNoise(sd=0.2),
    )  # fmt: skip
    made = bj.JointProblem(
        latents=[field(n, SECTION, length_scale=2.0) for n in "ab"],
        modalities=[seen], couplings=[coupling],
    )  # fmt: skip
    drawn = bj.simulate(made, random_seed=8)
    return made.with_data(drawn[["seen"]]), drawn


@pytest.mark.slow  # a minute: sampled, linearised at draws, and drawn as a page
def test_a_sampled_section_finds_its_units(tmp_path):
    made, truth = section()
    posterior = bj.sample(made, draws=1000, chains=2, random_seed=1)
    draws = posterior["posterior"]
    assert draws["rocks_proportions"].dims == ("chain", "draw", "rocks_unit")
    assert list(draws["rocks_unit"].values) == LABELS
    # One draw in 1,000 may diverge, and that number may scatter.
    diverging = posterior["sample_stats"]["diverging"]
    assert int(diverging.sum()) <= binom.isf(CHANCE, diverging.size, 1e-3)
    report = bj.membership(posterior)
    np.testing.assert_allclose(report["probability"].sum("unit"), 1.0)
    np.testing.assert_allclose(report["prior_probability"], 0.5, atol=0.06)  # of prior draws
    values = {name: truth[name].values for name in ("rocks_proportions",)}
    x = np.stack([truth[n].values.ravel() for n in "ab"], axis=1)
    units = made.couplings[0].numbers(values).responsibilities(x).T
    found = report["probability"].values.reshape(units.shape)
    assert (found * units).sum(axis=0).mean() > 0.8  # probability of the truth; 0.5 a priori
    covered = []
    for name in "ab":
        low, high = np.quantile(draws[name], [0.05, 0.95], axis=(0, 1))
        covered.append(np.mean((truth[name] > low) & (truth[name] < high)))
    assert min(covered) > 0.7  # of one data set: 24 cells are some ten independent ones
    # The second field is seen through its unit alone.
    spread = draws["b"].std(("chain", "draw")).mean() / posterior["prior"]["b"].std()
    assert 0.3 < float(spread) < 0.9
    points = bj.membership(bj.linearize(made, at=posterior))
    assert np.abs(points["probability"] - report["probability"]).mean() < 0.1  # 20 draws
    bj.report(posterior, tmp_path / "page.html")
    assert "Units of rocks" in (tmp_path / "page.html").read_text()
