import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from tests.reports import factory


def by_definition(dense, groups):
    """Straight from R_m, each block scaled by the blocks of L."""
    at = [np.concatenate([dense.at(name) for name in held]) for held in groups]
    energy = np.zeros((len(groups), len(groups)))
    for i, a in enumerate(at):
        for j, b in enumerate(at):
            block = dense.r_physical[np.ix_(a, b)]
            scaled = np.linalg.solve(dense.scale[np.ix_(a, a)], block) @ dense.scale[np.ix_(b, b)]
            energy[i, j] = (scaled**2).sum()
    return energy / energy.sum(axis=1, keepdims=True)


def test_every_latent_by_itself(dense, preview):
    report = reports.leakage(preview)
    assert list(report["into"].values) == factory.LATENTS
    expected = by_definition(dense, [["density"], ["depth_to_top"]])
    np.testing.assert_allclose(report, expected, atol=1e-10)
    assert report.dims == ("into", "source")


@pytest.mark.parametrize(
    ("groups", "held"),
    [
        ({"state": ["density", "depth_to_top"], "rest": "density_sd"}, None),
        (["density", "density_sd"], [["density"], ["density_sd"]]),
    ],
)
def test_named_groups(dense, preview, groups, held):
    report = reports.leakage(preview, groups)
    held = held or [["density", "depth_to_top"], ["density_sd"]]
    np.testing.assert_allclose(report, by_definition(dense, held), atol=1e-10)


def test_many_more_unknowns_than_modes(dense):
    """The triangular factors and the full blocks are the same numbers."""
    ds = factory.linearization(dense).isel(mode=slice(0, 4))
    report = reports.leakage(xr.DataTree.from_dict({"linearization": ds}))
    share = (ds.eigenvalues / (1 + ds.eigenvalues)).values
    r = ds.eigenvectors.values * share @ ds.dual_vectors.values.T
    energy = [(r[:12, :12] ** 2).sum(), (r[:12, 12:13] ** 2).sum()]
    np.testing.assert_allclose(report.sel(into="density"), energy / np.sum(energy), atol=1e-12)


def test_no_response_is_nan_and_named(dense):
    ds = factory.linearization(dense)
    ds["eigenvectors"] = ds["eigenvectors"].where(ds["latent_of_unknown"] != "depth_to_top", 0.0)
    report = reports.leakage(xr.DataTree.from_dict({"linearization": ds}))
    assert report.sel(into="depth_to_top").isnull().all()
    assert report.sel(into="density").notnull().all()
    assert report.attrs["no_response"] == ["depth_to_top"]


def test_every_point_by_itself(pair):
    report = reports.leakage(factory.at_points(pair))
    assert report.dims == ("point", "into", "source")
    for i, dense in enumerate(pair):
        expected = by_definition(dense, [["density"], ["depth_to_top"]])
        np.testing.assert_allclose(report.isel(point=i), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["nothing"]}, "no latent 'nothing'; this problem has density"),
        ({"a": ["density"], "b": ["density"]}, "'density' stands in group 'a' and in 'b'"),
        ({"a": []}, "group 'a' is empty"),
        ("density", "mapping of name to latents"),
    ],
)
def test_faults(preview, groups, message):
    with pytest.raises(ValueError, match=message):
        reports.leakage(preview, groups)
