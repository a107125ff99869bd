import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from tests.reports import factory


@pytest.fixture(scope="module")
def right():
    return factory.tree(factory.make())


def with_data(tree, **changed):
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    groups["observed_data"] = groups["observed_data"].assign(changed)
    return xr.DataTree.from_dict(groups)


def test_a_right_model_is_not_extreme(right):
    report = reports.predictive_check(right)
    assert list(report["block"].values) == ["gravity", "arrivals", "joint"]
    assert ((report["p_value"] > 0.005) & (report["p_value"] < 0.995)).sum() == 14
    assert int(report["p_value"].isnull().sum()) == 1  # autocorrelation of the joint block
    assert report.attrs["draws"] == 800


def test_quantities_by_hand(right):
    report = reports.predictive_check(right)
    predictive = right["posterior_predictive"]["gravity"].values.reshape(-1, 9)[::2]
    response = right["posterior"]["gravity_response"].values.reshape(-1, 9)[::2]
    scale = (predictive - response).std(axis=0)
    seen = (right["observed_data"]["gravity"].values - response) / scale
    fresh = (predictive - response) / scale
    chi2 = (fresh**2).sum(axis=1) >= (seen**2).sum(axis=1)
    row = report.sel(block="gravity")
    np.testing.assert_allclose(row["p_value"].sel(quantity="chi2"), chi2.mean())
    largest = np.median(abs(seen).max(axis=1))
    np.testing.assert_allclose(row["observed"].sel(quantity="largest"), largest)


def test_an_outlier_an_offset_and_a_trend_are_seen(right):
    observed = right["observed_data"]["gravity"]
    response = right["posterior"]["gravity_response"].mean(("chain", "draw"))
    outlier = with_data(right, gravity=observed + 12.0 * (np.arange(9) == 4))
    p = reports.predictive_check(outlier)["p_value"].sel(block="gravity")
    assert p.sel(quantity="largest") < 0.01 and p.sel(quantity="chi2") < 0.01
    offset = with_data(right, gravity=observed + 5.0)
    assert reports.predictive_check(offset)["p_value"].sel(block="gravity", quantity="mean") < 0.01
    trend = with_data(right, gravity=response + np.linspace(-3, 3, 9))
    p = reports.predictive_check(trend)["p_value"].sel(block="gravity")
    assert p.sel(quantity="autocorrelation") < 0.05


def test_residuals_shared_by_two_modalities_are_seen(right):
    means = right["posterior"].to_dataset().mean(("chain", "draw"))
    shared = 3.0 * np.random.default_rng(0).standard_normal(9)
    tree = with_data(
        right,
        gravity=("station", means["gravity_response"].values + shared),
        arrivals=("ray", means["arrivals_response"].values + shared),
    )
    report = reports.predictive_check(tree)
    where = {"modality": "gravity", "modality_other": "arrivals"}
    assert report["residual_correlation"].sel(where) > 0.8
    assert report["residual_correlation_p_value"].sel(where) < 0.01
    assert abs(report["residual_correlation_replicated"].sel(where)) < 0.2


def test_unequal_lengths_have_no_correlation(right):
    groups = {
        name: node.to_dataset().isel(ray=slice(5), missing_dims="ignore")
        for name, node in right.children.items()
    }
    report = reports.predictive_check(xr.DataTree.from_dict(groups))
    assert report["residual_correlation"].isnull().all()


def test_data_of_two_dims(right):
    groups = {}
    for name, node in right.children.items():
        ds = node.to_dataset()
        if "station" in ds.dims:
            pieces = ds[[v for v in ds.data_vars if "station" in ds[v].dims]]
            folded = (
                pieces.assign_coords(
                    line=("station", np.repeat([0, 1, 2], 3)),
                    place=("station", np.tile([0, 1, 2], 3)),
                )
                .set_index(station=("line", "place"))
                .unstack("station")
            )
            ds = (
                ds.drop_vars(list(pieces.data_vars))
                .drop_dims("station", errors="ignore")
                .merge(folded)
            )
        groups[name] = ds
    report = reports.predictive_check(xr.DataTree.from_dict(groups))
    whole = reports.predictive_check(right)
    for quantity in ("mean", "sd", "largest", "chi2"):
        np.testing.assert_allclose(
            report["p_value"].sel(block="gravity", quantity=quantity),
            whole["p_value"].sel(block="gravity", quantity=quantity),
        )


def test_a_preview_can_not_be_checked(preview, right):
    with pytest.raises(ValueError, match="no group 'posterior'.*bj.sample"):
        reports.predictive_check(preview)
    groups = {name: node.to_dataset() for name, node in right.children.items()}
    groups["posterior"] = groups["posterior"].drop_vars(["gravity_response", "arrivals_response"])
    with pytest.raises(ValueError, match="no modality has an observation, a response"):
        reports.predictive_check(xr.DataTree.from_dict(groups))
