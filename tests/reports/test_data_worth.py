"""Worth of data for a prediction, against refits in dense algebra and by the package itself."""

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
import bayesjoint.reports as reports
from tests.gaussian import gaussian_case
from tests.helpers import STANDARD, data
from tests.reports import factory
from tests.stations import Case

N = 12


class Dense:
    """Sensitivity, prior and covariance of the errors; and the sd without some of the data."""

    def __init__(self, sensitivity, prior, covariance):
        self.sensitivity, self.prior, self.covariance = sensitivity, prior, covariance

    def posterior(self, kept):
        seen, errors = self.sensitivity[kept], self.covariance[np.ix_(kept, kept)]
        gain = self.prior @ seen.T
        return self.prior - gain @ np.linalg.solve(seen @ gain + errors, gain.T)

    def sd(self, weights, without=()):
        kept = np.setdiff1d(np.arange(len(self.sensitivity)), without)
        return float(np.sqrt(weights @ self.posterior(kept) @ weights))


def three(noise=0.3):
    """Three modalities on two numbers, errors correlated between all of them."""
    rng = np.random.default_rng(6)
    names, count = ("first", "second", "third"), 4
    sensitivity = rng.normal(size=(3 * count, 2))
    correlation = np.array([[1.0, 0.7, 0.2], [0.7, 1.0, -0.3], [0.2, -0.3, 1.0]])
    problem = bj.JointProblem(
        latents=[bj.Parameter(n, STANDARD, units="m") for n in "ab"],
        modalities=[
            bj.Modality(
                name, data(rng.normal(size=count), f"{name}_point"),
                bj.linear_map({n: part[:, [j]] for j, n in enumerate("ab")}),
                bj.GaussianNoise(sd=noise),
            )
            for name, part in zip(names, np.split(sensitivity, 3), strict=True)
        ],
        discrepancy=bj.JointDiscrepancy(sd=dict.fromkeys(names, 0.5), correlation=correlation),
    )  # fmt: skip
    covariance = 0.25 * np.kron(correlation, np.eye(count)) + noise**2 * np.eye(3 * count)
    return problem, Dense(sensitivity, np.eye(2), covariance)


def check(report, dense, weights):
    """Compare with fits without each datum and each modality."""
    size, owner = len(dense.sensitivity), report["modality_of_datum"].values
    np.testing.assert_allclose(report["sd"], dense.sd(weights), rtol=1e-8)
    np.testing.assert_allclose(report["sd_prior"], dense.sd(weights, range(size)), rtol=1e-8)
    expected = [dense.sd(weights, [i]) for i in range(size)]
    np.testing.assert_allclose(report["sd_without_datum"], expected, rtol=1e-8)
    without = {k: dense.sd(weights, np.flatnonzero(owner == k)) for k in report.modality.values}
    np.testing.assert_allclose(report["sd_without_modality"], list(without.values()), rtol=1e-8)
    worth = 1.0 - (dense.sd(weights) / np.array(expected)) ** 2
    np.testing.assert_allclose(report["worth_of_datum"], worth, atol=1e-8)


@pytest.fixture(scope="module")
def correlated():
    problem, dense = three()
    return problem, bj.linearize(problem), dense


def test_of_three_modalities_with_correlated_errors(correlated):
    _, tree, dense = correlated
    for j, name in enumerate("ab"):
        check(reports.data_worth(tree, name), dense, np.eye(2)[j])
    mixed = reports.data_worth(tree, {"a": 1.0, "b": -2.0})
    check(mixed, dense, np.array([1.0, -2.0]))
    assert reports.data_worth(tree, "a")["sd"].attrs["units"] == "m"
    assert list(mixed["index_of_datum"].values) == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("kind", ["correlated noise", "discrepancy"])
def test_of_noise_and_discrepancy_over_shared_places(kind):
    case = Case(kind)
    dense = Dense(case.sensitivity, np.eye(2), case.covariance)
    check(reports.data_worth(bj.linearize(case.problem), "a"), dense, np.eye(2)[0])


def test_a_modality_is_worth_what_a_fit_without_it_loses(correlated):
    problem, tree, _ = correlated
    report = reports.data_worth(tree, "b").sel(modality="second")
    refit = reports.data_worth(bj.linearize(problem.without("second")), "b")
    np.testing.assert_allclose(report["sd_without_modality"], refit["sd"])


@pytest.fixture(scope="module")
def fields():
    case = gaussian_case(shape=(3, 4), n=N)
    return bj.linearize(case.problem), Dense(case.jacobian, case.prior, case.covariance)


def test_of_a_sum_over_a_field_and_of_candidates(fields):
    tree, dense = fields
    rng = np.random.default_rng(2)
    grid = tree["linearization/density"]
    weights = (rng.normal(size=grid.shape) + 0 * grid).rename("density")
    flat = np.concatenate([weights.values.ravel(), np.zeros(12)])
    # The order of dims is that of names.
    report = reports.data_worth(
        tree, weights.transpose(), candidates={
            "density": xr.DataArray(rng.normal(size=(5, 3, 4)), dims=("borehole", "depth", "x")),
            "slowness": xr.DataArray(rng.normal(size=(3, 4, 5)), dims=("depth", "x", "borehole")),
        },
        candidate_sd=0.4,
    )  # fmt: skip
    check(report, dense, flat)
    assert report.attrs["prediction"] == "the sum over density"


def test_candidates_are_worth_what_a_fit_with_them_gains(fields):
    tree, dense = fields
    rng = np.random.default_rng(2)
    seen = rng.normal(size=(24, 5))
    sds = xr.DataArray(rng.uniform(0.2, 0.6, 5), dims="borehole")
    dims = ("depth", "x", "borehole")
    parts = {
        name: xr.DataArray(part.reshape(3, 4, 5), dims=dims)
        for name, part in zip(("density", "slowness"), np.split(seen, 2), strict=True)
    }
    weights = xr.ones_like(tree["linearization/density"]).rename("density")
    report = reports.data_worth(tree, weights, candidates=parts, candidate_sd=sds)
    flat = np.repeat([1.0, 0.0], 12)
    for i in range(5):
        more = Dense(
            np.vstack([dense.sensitivity, seen[:, i]]),
            dense.prior,
            np.pad(dense.covariance, ((0, 1), (0, 1))),
        )
        more.covariance[-1, -1] = float(sds[i]) ** 2
        np.testing.assert_allclose(report["sd_with_candidate"][i], more.sd(flat), rtol=1e-8)
    np.testing.assert_allclose(
        report["worth_of_candidate"], 1 - (report["sd_with_candidate"] / report["sd"]) ** 2
    )
    assert "The best candidate would remove" in report.attrs["words"][-1]


def leading(tree, modes):
    """Return the tree as where unknowns are many: without the directions that data do not see."""
    ds = tree["linearization"].to_dataset().isel(mode=slice(modes), leading_mode=slice(modes))
    return tree.assign({"linearization": xr.DataTree(ds)})


def test_above_two_thousand_unknowns_a_sum_is_taken_from_draws():
    dense = factory.make(strength=0.7)
    dense = type(dense)(
        {"gravity": dense.jacobian["gravity"]}, dense.gamma, dense.scale, dense.data
    )
    whole = factory.tree(dense, draws=2000)
    few = leading(whole, 9)  # of nine data
    weights = {"density": xr.ones_like(whole["linearization/density"])}
    candidates = {"density": whole["linearization/density"].expand_dims(site=2)}
    settings = {"candidates": candidates, "candidate_sd": 1.0}
    full = reports.data_worth(whole, weights, **settings)
    cut = reports.data_worth(few, weights, **settings)
    error = 4 / np.sqrt(2 * 8000)  # of the sd of 8,000 draws
    for name in ("sd", "sd_prior", "sd_without_datum", "sd_with_candidate"):
        np.testing.assert_allclose(cut[name], full[name], rtol=2 * error)
    # Of one cell the prior sd is stored.
    one = [reports.data_worth(t, "depth_to_top") for t in (whole, few)]
    np.testing.assert_allclose(one[1]["sd_without_datum"], one[0]["sd_without_datum"], rtol=1e-10)
    with pytest.raises(ValueError, match="not stored above 2,000 unknowns, or draws: sample"):
        preview = xr.DataTree.from_dict({"linearization": few["linearization"].to_dataset()})
        reports.data_worth(preview, weights)


def test_words(correlated):
    first, *rest = reports.data_worth(correlated[1], "a").attrs["words"]
    assert first.startswith("a: sd ") and " m, 1 before the data." in first
    assert any(text.startswith("Without second it would be ") for text in rest)
    assert rest[-1].startswith("The datum worth most is number ")


@pytest.mark.parametrize(
    ("prediction", "settings", "message"),
    [
        ("depth", {}, "there is no latent 'depth'; this problem has density, depth_to_top"),
        ("density", {}, "'density' is a field; give weights on its dims"),
        (xr.DataArray(1.0), {}, "the weights have no name"),
        ({"density": np.ones(3)}, {}, r"weights of 'density': an array of shape \(3,\) given"),
        ({"density": xr.DataArray(np.ones(4), dims="x")}, {}, r"lack the dims \['depth'\]"),
        (
            {"density": xr.DataArray(np.ones((3, 4)), {"x": np.arange(4.0)}, ("depth", "x"))}, {},
            "along 'x': 3 of 4 labels of the latent 'density' are not there",
        ),
        ({"density": np.full((3, 4), np.nan)}, {}, "weights of 'density' are not finite"),
        ("depth_to_top", {"candidates": {"depth_to_top": 1.0}}, "candidates need candidate_sd="),
        (
            "depth_to_top", {"candidates": {"depth_to_top": 1.0}, "candidate_sd": 0.0},
            "candidate_sd must be positive",
        ),
    ],
)  # fmt: skip
def test_faults(prediction, settings, message):
    with pytest.raises(ValueError, match=message):
        reports.data_worth(factory.preview(factory.make()), prediction, **settings)


def test_points_and_trees_of_earlier_versions_are_refused(pair):
    with pytest.raises(ValueError, match="linearized at draws; data_worth needs one point"):
        reports.data_worth(factory.at_points(pair), "depth_to_top")
    old = factory.preview(factory.make())["linearization"].to_dataset().drop_vars("data_rows")
    with pytest.raises(ValueError, match="lacks data_rows: an earlier version stored it"):
        reports.data_worth(xr.DataTree.from_dict({"linearization": old}), "depth_to_top")
