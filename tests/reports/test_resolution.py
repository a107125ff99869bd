import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from tests.reports import factory


def test_diagonal_is_that_of_the_dense_resolution_matrix(dense, preview):
    report = reports.resolution(preview)
    for name in factory.SIZES:
        expected = dense.r_physical.diagonal()[dense.at(name)]
        np.testing.assert_allclose(report[name].values.ravel(), expected, rtol=0, atol=1e-10)
    assert report["density"].dims == ("depth", "x")
    np.testing.assert_array_equal(report["density"]["depth"], factory.DEPTH)


def test_degrees_of_freedom_are_the_trace_and_add_up(dense, preview):
    report = reports.resolution(preview)
    np.testing.assert_allclose(report["dofs"], np.trace(dense.r_physical), atol=1e-10)
    np.testing.assert_allclose(report["dofs_latent"].sum(), report["dofs"], atol=1e-10)
    np.testing.assert_allclose(report["partial_dofs"].sum(), report["dofs"], atol=1e-10)
    for k in dense.jacobian:
        expected = np.trace(np.linalg.solve(dense.metric + dense.h(), dense.h(k)))
        np.testing.assert_allclose(report["partial_dofs"].sel(modality=k), expected, atol=1e-10)
    for name in factory.SIZES:
        block = dense.r_white[np.ix_(dense.at(name), dense.at(name))]
        found = report["dofs_latent"].sel(latent=name)
        np.testing.assert_allclose(found, np.trace(block), atol=1e-10)


@pytest.mark.parametrize("into", list(factory.SIZES))
@pytest.mark.parametrize("source", list(factory.SIZES))
def test_blocks_are_those_of_the_dense_matrix(dense, preview, into, source):
    block = reports.resolution_matrix(preview, into=into, source=source)
    expected = dense.r_physical[np.ix_(dense.at(into), dense.at(source))]
    np.testing.assert_allclose(block.values.reshape(expected.shape), expected, atol=1e-10)


def test_block_labels_and_units(preview):
    block = reports.resolution_matrix(preview, into="density", source="density")
    assert block.dims == ("depth", "x", "depth_source", "x_source")
    assert block.attrs["units"] == "1"
    block = reports.resolution_matrix(preview, into="density", source="depth_to_top")
    assert block.dims == ("depth", "x")
    assert block.attrs["units"] == "kg/m3 per m"


def test_estimate_follows_the_resolution_matrix(dense, preview):
    """Noise-free data of a true model give the model seen through R_m."""
    truth = np.random.default_rng(3).standard_normal(dense.size)
    gradient = sum(j.T @ j @ truth for j in dense.jacobian.values())
    estimate = (dense.scale @ dense.posterior @ gradient)[dense.at("density")]
    physical = dense.scale @ truth
    total = 0.0
    for source in factory.SIZES:
        block = reports.resolution_matrix(preview, into="density", source=source)
        total = total + block.values.reshape(12, -1) @ physical[dense.at(source)]
    np.testing.assert_allclose(total, estimate, atol=1e-8)


def test_point_spread_is_a_column(dense, preview):
    spread = reports.point_spread(preview, "density", depth=160.0, x=-30.0)
    column = dense.r_physical[:, 1 * 4 + 0]
    for name in factory.SIZES:
        np.testing.assert_allclose(spread[name].values.ravel(), column[dense.at(name)], atol=1e-10)
    assert spread.attrs["cell"] == "density at depth = 150, x = 0"
    assert spread.attrs["chosen_depth"] == 150.0
    assert spread["depth_to_top"].attrs["units"] == "m per kg/m3"


def test_point_spread_of_a_scalar(dense, preview):
    spread = reports.point_spread(preview, "depth_to_top")
    expected = dense.r_physical[:12, 12].reshape(3, 4)
    np.testing.assert_allclose(spread["density"], expected, atol=1e-10)
    assert spread.attrs["cell"] == "depth_to_top"


def test_labels_that_are_no_numbers_match_exactly(dense):
    tree = factory.preview(dense)
    ds = tree["linearization"].to_dataset().assign_coords(depth=["top", "middle", "bottom"])
    tree = xr.DataTree.from_dict({"linearization": ds})
    assert (
        reports.point_spread(tree, "density", depth="middle", x=0).attrs["chosen_depth"] == "middle"
    )
    with pytest.raises(ValueError, match="no label 'deep'; it has top, middle, bottom"):
        reports.point_spread(tree, "density", depth="deep", x=0)


def test_faults_name_what_exists(preview):
    with pytest.raises(
        ValueError, match="no latent 'slowness'; this problem has density, depth_to"
    ):
        reports.resolution_matrix(preview, into="slowness", source="density")
    with pytest.raises(ValueError, match="no latent 'slowness'"):
        reports.point_spread(preview, "slowness", x=1.0)
    with pytest.raises(ValueError, match="coordinates: depth, x; given: z, x"):
        reports.point_spread(preview, "density", z=1.0, x=1.0)
    with pytest.raises(ValueError, match="coordinates: none, it is a scalar; given: x"):
        reports.point_spread(preview, "depth_to_top", x=1.0)


def test_a_missing_group_says_the_cure():
    with pytest.raises(ValueError, match="no group 'linearization' .groups: none.; make one with"):
        reports.resolution(xr.DataTree())
    with pytest.raises(ValueError, match="expected an xarray.DataTree, got dict"):
        reports.resolution({})


def test_every_point_by_itself(pair):
    tree = factory.at_points(pair)
    report = reports.resolution(tree)
    block = reports.resolution_matrix(tree, into="density", source="depth_to_top")
    spread = reports.point_spread(tree, "depth_to_top")
    assert report["density"].dims == ("point", "depth", "x")
    for i, dense in enumerate(pair):
        alone = reports.resolution(factory.preview(dense))
        xr.testing.assert_allclose(report.isel(point=i), alone)
        expected = dense.r_physical[:12, 12]
        np.testing.assert_allclose(block.isel(point=i).values.ravel(), expected, atol=1e-10)
        np.testing.assert_allclose(
            spread["density"].isel(point=i).values.ravel(), expected, atol=1e-10
        )


def test_settings_and_tempering_are_marked(dense):
    tree = factory.preview(dense, powers=[1.0, 1 / 6], errors="correlated", truncation_bound=0.02)
    attrs = reports.resolution(tree).attrs
    assert attrs["tempered"] == ["arrivals: power 0.1667"]
    assert attrs["truncation_bound"] == 0.02
    assert "not unique" in attrs["split"]
    assert reports.resolution(factory.preview(dense)).attrs["tempered"] == []
