"""What residuals of two modalities have in common: pairs of data, and chi2 under all errors.

Data, posterior and replications are drawn in closed form: one level, seen by two gauges at places
of their own, with errors that are smooth in ``t`` and correlated between the gauges.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from bayesjoint.reports import predictive_check
from bayesjoint.reports._pairing import paired

DRAWS, REPLICATES = 200, 60
WHERE = {"modality": "first", "modality_other": "second"}
TIMES = {"first": np.arange(0.0, 60.0, 1.5), "second": np.arange(0.3, 60.0, 2.0)}


def covariance(correlation):
    """Of the errors of both gauges, the first before the second."""
    times = np.concatenate(list(TIMES.values()))
    kernel = np.exp(-np.abs(np.subtract.outer(times, times)) / 3.0)
    second = np.repeat([0, 1], [t.size for t in TIMES.values()])
    return np.where(np.equal.outer(second, second), 1.0, correlation) * kernel + 0.2 * np.eye(
        times.size
    )


@dataclass(frozen=True, eq=False)
class Model:
    """Gauges whose errors have this correlation, and all that is needed to draw from it."""

    correlation: float

    def __post_init__(self):
        full = covariance(self.correlation)
        parts = {"first": slice(0, TIMES["first"].size), "second": slice(TIMES["first"].size, None)}
        set_ = object.__setattr__
        set_(self, "root", np.linalg.cholesky(full))
        set_(self, "precision", np.linalg.inv(full))
        set_(self, "parts", parts)
        set_(self, "alone", {k: np.linalg.inv(full[p, p]) for k, p in parts.items()})

    def data(self, rng):
        """Return data of a level drawn from its prior, N(0, 1)."""
        return rng.standard_normal() + self.root @ rng.standard_normal(len(self.root))

    def tree(self, data, rng):
        """Return the tree of a run of this model with such data."""
        information = 1.0 + self.precision.sum()
        level = (self.precision @ data).sum() / information
        level = level + rng.standard_normal((2, DRAWS // 2)) / np.sqrt(information)
        response = np.broadcast_to(level[..., None], (*level.shape, data.size))
        fresh = response + rng.standard_normal(response.shape) @ self.root.T
        return xr.DataTree.from_dict(
            {
                "posterior": self.labelled(response, "_response"),
                "posterior_predictive": self.labelled(fresh),
                "observed_data": self.labelled(data),
                **self.mahalanobis(data - response, fresh - response),
            }
        )

    def labelled(self, values, suffix=""):
        lead = ("chain", "draw")[: values.ndim - 1]
        return xr.Dataset(
            {f"{k}{suffix}": ((*lead, f"{k}_shot"), values[..., p]) for k, p in self.parts.items()},
            {f"{k}_t": (f"{k}_shot", times) for k, times in TIMES.items()},
        )

    def mahalanobis(self, *residuals):
        if self.correlation == 0.0:
            return {}
        names, found = list(self.parts), {}
        for side, residual in zip(("observed", "replicated"), residuals, strict=True):
            both = squares(self.precision, residual)
            alone = [squares(self.alone[k], residual[..., p]) for k, p in self.parts.items()]
            table = np.moveaxis(np.array([[alone[0], both], [both, alone[1]]]), (0, 1), (-2, -1))
            found[side] = (("chain", "draw", "modality", "modality_other"), table)
            found[f"{side}_joint"] = (("chain", "draw"), both)
        coords = {"modality": names, "modality_other": names}
        return {"mahalanobis": xr.Dataset(found, coords)}


def squares(precision, residual):
    return np.einsum("...i,ij,...j->...", residual, precision, residual)


def p_values(truth, model, replicates, seed):
    """Return p-values of the joint chi2, the cross chi2 and the correlation of residuals."""
    rng, truth, model = np.random.default_rng(seed), Model(truth), Model(model)
    found = []
    for _ in range(replicates):
        report = predictive_check(model.tree(truth.data(rng), rng))
        found.append(
            [
                report["p_value"].sel(block="joint", quantity="chi2"),
                report["cross_chi2_p_value"].sel(WHERE),
                report["residual_correlation_p_value"].sel(WHERE),
            ]
        )
    return np.array(found, dtype=float).T


def test_p_values_are_uniform_under_the_model():
    # Seed 1. One parameter beside 70 data: p-values of 200 draws are nearly uniform.
    for values in p_values(0.7, 0.7, REPLICATES, 1):
        assert stats.kstest(values, "uniform").pvalue > 0.01


def test_a_sum_of_squares_does_not_know_the_correlation():
    # The same data: without the stored lengths, chi2 is compared with replications all the same,
    # but another quantity.
    rng, model = np.random.default_rng(2), Model(0.7)
    tree = model.tree(model.data(rng), rng)
    report = predictive_check(tree)
    assert report.attrs["chi2"] == "mahalanobis"
    lengths = tree["mahalanobis"].to_dataset()
    joint = report.sel(block="joint", quantity="chi2")
    assert float(joint["observed"]) == pytest.approx(float(lengths["observed_joint"].median()))
    # replicated ones are chi-squared with 70: median 69.3, Monte Carlo error 1.25 * 11.8 / 14
    assert abs(float(joint["replicated"]) - 69.3) < 4 * 1.05
    first = report.sel(block="first", quantity="chi2")["observed"]
    alone = lengths["observed"].sel(modality="first", modality_other="first").median()
    assert float(first) == pytest.approx(float(alone))
    without = xr.DataTree.from_dict(
        {k: node.to_dataset() for k, node in tree.children.items() if k != "mahalanobis"}
    )
    report = predictive_check(without)
    assert report.attrs["chi2"] == "sum of squares"
    assert report["cross_chi2"].isnull().all()


@pytest.mark.parametrize(
    ("correlation", "truth", "side", "words"),
    [
        (0.7, 0.0, 0.0, "weaker, or of another sign or pattern, than"),
        (0.3, 0.95, 1.0, "stronger than"),
    ],
)
def test_a_wrong_cross_correlation_is_noticed(correlation, truth, side, words):
    # Seed 3. chi2 of each gauge alone is right. Of 30 replicates more than half are extreme.
    rng, model, right = np.random.default_rng(3), Model(correlation), Model(truth)
    reports = [predictive_check(model.tree(right.data(rng), rng)) for _ in range(30)]
    cross = np.array([report["cross_chi2_p_value"].sel(WHERE) for report in reports])
    noticed = abs(cross - side) <= 0.025
    assert noticed.mean() > 0.5
    (text,) = reports[int(np.argmax(noticed))].attrs["words"]
    assert f"Their errors in common are {words} the model has them" in text


def test_a_correlation_that_the_model_lacks_is_seen_at_the_nearest_places():
    # Seed 4, 30 replicates of gauges with numbers of data and places of their own.
    cross = p_values(0.9, 0.0, 30, 4)
    assert np.isnan(cross[1]).all()
    assert (cross[2] <= 0.025).mean() > 0.5
    rng = np.random.default_rng(4)
    report = predictive_check(Model(0.0).tree(Model(0.9).data(rng), rng))
    assert report["residual_pairing"].sel(WHERE) == "nearest in t"
    assert report["residual_pairs"].sel(WHERE) == 30
    assert report["residual_correlation"].sel(WHERE) > 0.5
    (text,) = report.attrs["words"]
    assert text.startswith("first and second: r = 0.") and "of 30 pairs" in text
    assert text.endswith("(p < 0.005); they may share errors otherwise than the model has it.")


def data(name, dims, coords, shape):
    return xr.DataArray(np.zeros(shape), coords, dims, name=name)


def test_pairs_are_those_of_a_shared_dim():
    first = data("a", ("station", "component"), {"station": ["u", "v", "w"]}, (3, 2))
    second = data("b", "station", {"station": ["u", "v", "w"]}, 3)
    pairing = paired(first, second)
    assert pairing.how == "by label of station" and pairing.count == 3
    assert pairing.dims == (("station",), ("station",))


def test_pairs_are_the_nearest_where_they_are_near():
    # Three and four data at one coordinate, of which three agree.
    first = data("a", "i", {"a_t": ("i", [0.0, 1.0, 2.0])}, 3)
    second = data("b", "j", {"b_t": ("j", [2.0, 3.0, 0.0, 1.0])}, 4)
    pairing = paired(first, second)
    np.testing.assert_array_equal(pairing.members[0], [0, 1, 2])
    np.testing.assert_array_equal(pairing.members[1], [2, 3, 0])
    # Where the places only overlap in part, the others have no partner.
    far = data("b", "j", {"b_t": ("j", np.arange(7.0, 30.0))}, 23)
    near = data("a", "i", {"a_t": ("i", np.arange(10.0) + 0.25)}, 10)
    pairing = paired(near, far)
    np.testing.assert_array_equal(pairing.members[0], [6, 7, 8, 9])
    np.testing.assert_array_equal(pairing.members[1], [0, 0, 1, 2])


def test_components_at_stations_are_paired_with_the_nearest_pixels():
    east, north = np.array([0.0, 5.0, 9.0]), np.array([0.0, 5.0, 1.0])
    gnss = data(
        "gnss", ("component", "station"),
        {"gnss_x": ("station", east), "gnss_y": ("station", north),
         "gnss_height": ("station", [0.0, 1e3, 5.0])}, (3, 3),
    )  # fmt: skip
    x, y = map(np.ravel, np.meshgrid(np.arange(10.0), np.arange(10.0), indexing="ij"))
    insar = data(
        "insar", "pixel",
        {"insar_x": ("pixel", x), "insar_y": ("pixel", y), "insar_height": ("pixel", 0 * x)}, 100,
    )  # fmt: skip
    pairing = paired(gnss, insar, ["x", "y"])
    assert pairing.how == "nearest in x, y"
    assert pairing.dims == (("station",), ("pixel",))
    np.testing.assert_array_equal(x[pairing.members[1]], east)
    np.testing.assert_array_equal(y[pairing.members[1]], north)


def test_data_without_anything_in_common_are_not_paired():
    first, second = data("a", "i", {}, 4), data("b", "j", {}, 5)
    assert paired(first, second).how == (
        "not applicable: no coordinate in common, and 4 against 5 data"
    )
    assert paired(first, data("b", "j", {}, 4)).how == "by index"
    one = data("a", "i", {"a_t": ("i", [0.0, 1.0])}, 2)
    assert paired(one, data("b", "j", {"b_t": ("j", [0.0, 1.0, 2.0])}, 3)).how == (
        "not applicable: 2 pairs nearest in t, 3 are needed"
    )


def test_of_components_the_most_correlated_counts():
    rng = np.random.default_rng(5)
    shared = rng.standard_normal((1, 60))
    observed = {"gnss": np.stack([rng.standard_normal(60), -shared[0]]), "insar": shared[0]}
    fresh = {
        "gnss": rng.standard_normal((1, 400, 2, 60)),
        "insar": rng.standard_normal((1, 400, 60)),
    }
    dims = {"gnss": ("component", "station"), "insar": ("station",)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {f"{k}_response": (("chain", "draw", *dims[k]), 0 * v) for k, v in fresh.items()}
            ),
            "posterior_predictive": xr.Dataset(
                {k: (("chain", "draw", *dims[k]), v) for k, v in fresh.items()}
            ),
            "observed_data": xr.Dataset({k: (dims[k], v) for k, v in observed.items()}),
        }
    )
    report = predictive_check(tree)
    where = {"modality": "gnss", "modality_other": "insar"}
    assert report["residual_correlation"].sel(where) < -0.98
    assert report["residual_correlation_p_value"].sel(where) > 0.99


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_figure_shows_the_pairs_and_their_p_values(correlation):
    pytest.importorskip("matplotlib")
    from bayesjoint.plots import plot_predictive_check

    rng = np.random.default_rng(6)
    figure = plot_predictive_check(Model(correlation).tree(Model(0.5).data(rng), rng))
    correlations, pairs, p_values = figure.axes[-3:]
    assert [t.get_text() for t in correlations.get_yticklabels()] == ["first\nsecond"]
    assert pairs.get_title(loc="left") == "nearest in t"
    assert pairs.lines[-1].get_xdata().size == 30
    named = [t.get_text() for t in p_values.get_yticklabels()]
    assert named[-2:] == (
        ["correlation", "errors in common"] if correlation else ["χ²", "correlation"]
    )
