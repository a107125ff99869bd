import numpy as np
from scipy.stats import norm

from bayesjoint.reports import summary
from tests.reports import factory


def test_draws(dense, sampled):
    table = summary(sampled)
    draws = sampled["posterior"]["depth_to_top"]
    row = table.sel(parameter="depth_to_top")
    np.testing.assert_allclose(row["mean"], draws.mean())
    np.testing.assert_allclose(row["eti_lower"], np.quantile(draws, 0.05))
    assert str(row["units"].values) == "m" and row["ess_bulk"] > 1000
    assert table.attrs["source"] == "draws" and table.attrs["probability"] == 0.9


def test_preview(dense, preview):
    row = summary(preview).sel(parameter="depth_to_top")
    sd = 25.0 * np.sqrt(dense.posterior[12, 12])
    np.testing.assert_allclose(row["sd"], sd)
    np.testing.assert_allclose(row["mean"], 500 + 25.0 * dense.best[12])
    np.testing.assert_allclose(row["eti_upper"] - row["mean"], norm.ppf(0.95) * sd)


def test_large_fields_are_left_out(sampled, preview, monkeypatch):
    monkeypatch.setattr("bayesjoint.reports._rows.LARGEST_LISTED", 5)
    for tree in (sampled, preview):
        assert list(summary(tree)["parameter"].values) == ["depth_to_top", "density_sd"]


def test_points_are_averaged(pair):
    table = summary(factory.at_points(pair))
    each = [summary(factory.preview(dense)) for dense in pair]
    np.testing.assert_allclose(table["mean"], (each[0]["mean"] + each[1]["mean"]) / 2)
