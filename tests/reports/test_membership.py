import numpy as np
import pytest
import xarray as xr

from bayesjoint import plots
from bayesjoint.reports import membership
from bayesjoint.reports.example_units import ROCKS, example_units
from tests.reports.test_plots import drawn


@pytest.fixture(scope="module")
def tree():
    return example_units()


def changed(tree, function):
    return xr.DataTree.from_dict({k: function(tree[k].to_dataset()) for k in tree.children})


def test_probabilities_are_means_over_draws(tree):
    report, group = membership(tree), tree["posterior"]
    x = np.stack([group[name].values[:, :, 3, 5].ravel() for name in group], axis=1)
    expected = ROCKS.responsibilities(x).mean(axis=0)
    np.testing.assert_allclose(report["probability"][:, 3, 5], expected, rtol=1e-12)
    assert report["most_likely"][0, 0] == "sediment"
    assert report["most_likely"][-1, 8] == "basement"
    assert float(report["entropy"].min()) >= 0
    assert float(report["entropy"].max()) <= np.log(2)
    assert (report.attrs["at"], report.attrs["local"], report.attrs["draws"]) == ("draws", 0, 80)


def test_unknown_parameters_are_those_of_the_same_draw(tree):
    group = tree["posterior"].to_dataset()
    proportions = np.random.default_rng(0).dirichlet([2.0, 2.0], (2, 40))
    dims = ("chain", "draw", "rocks_unit")
    more = group.assign(
        rocks_proportions=(dims, proportions),
        rocks_mean_velocity=(dims, np.tile([2.0, 4.0], (2, 40, 1))),
        rocks_correlation=(dims[:2], np.full((2, 40), -0.2)),
    )
    linear = tree["linearization"].to_dataset().assign(rocks_proportions=("rocks_unit", [0.5, 0.5]))
    prior = xr.Dataset({"rocks_proportions": (dims, np.full((1, 9, 2), 0.5))})
    report = membership(
        xr.DataTree.from_dict({"posterior": more, "linearization": linear, "prior": prior})
    )
    terms = np.zeros((80, 2))
    x = np.stack([group[name].values[:, :, 6, 2].ravel() for name in group], axis=1)
    for k, mean in enumerate([[2.0, 2150.0], [4.0, 2650.0]]):
        e = (x - mean) / ROCKS.sds[k]
        form = (e[:, 0] ** 2 + e[:, 1] ** 2 + 0.4 * e[:, 0] * e[:, 1]) / (1 - 0.04)
        terms[:, k] = proportions.reshape(80, 2)[:, k] * np.exp(-form / 2) / ROCKS.sds[k].prod()
    expected = (terms / terms.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(report["probability"][:, 6, 2], expected, rtol=1e-10)
    np.testing.assert_allclose(report["prior_probability"], 0.5)


@pytest.mark.filterwarnings("error")
def test_it_is_drawn_in_each_dimension(tree):
    texts = drawn(plots.plot_membership(tree))
    assert {"sediment", "basement"} <= set(texts)
    assert any("Most likely unit" in text for text in texts)
    profile = changed(tree, lambda ds: ds.isel(x=8, drop=True))
    assert "before the data" in drawn(plots.plot_membership(profile))
    wide = xr.concat([tree["posterior"].to_dataset()] * 3, xr.Variable("y", [0.0, 50.0, 100.0]))
    linear = tree["linearization"].to_dataset()
    fields = {n: linear[n].expand_dims(y=wide["y"]) for n in ("velocity", "density")}
    volume = xr.DataTree.from_dict(
        {"posterior": wide.transpose("chain", "draw", ...), "linearization": linear.assign(fields)}
    )
    assert any("y = 50" in text for text in drawn(plots.plot_membership(volume)))


def test_a_preview_is_told_as_local(tree):
    preview = xr.DataTree.from_dict({"linearization": tree["linearization"].to_dataset()})
    assert membership(preview).attrs["local"] == 1
    assert any("at the mode" in text for text in drawn(plots.plot_membership(preview)))


def test_what_cannot_be_told_raises(tree):
    linear = tree["linearization"].to_dataset()
    without = xr.DataTree.from_dict({"linearization": linear.assign_attrs(mixtures=[])})
    with pytest.raises(ValueError, match=r"put a bj\.PropertyMixture"):
        membership(without)
    with pytest.raises(ValueError, match="there is rocks"):
        membership(tree, "stones")
    two = xr.DataTree.from_dict({"linearization": linear.assign_attrs(mixtures=["rocks", "salt"])})
    with pytest.raises(ValueError, match="rocks, salt; name one"):
        membership(two)
