"""Grids: shapes, widths and volumes, and what they refuse."""

import pickle

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj


@pytest.fixture
def uneven():
    return bj.Grid(depth=[5.0, 15.0, 40.0], x=np.array([0.0, 1.0, 3.0, 7.0]))


def test_keyword_order_is_axis_order(uneven):
    assert uneven.dims == ("depth", "x")
    assert uneven.shape == (3, 4)
    assert uneven.size == 12


def test_cells_meet_midway_between_centres(uneven):
    depth, x = uneven.widths
    np.testing.assert_allclose(depth, [10.0, 17.5, 25.0])
    np.testing.assert_allclose(x, [1.0, 1.5, 3.0, 4.0])
    assert uneven.extent == (52.5, 9.5)


def test_volumes_are_products_of_widths(uneven):
    assert uneven.volumes.shape == uneven.shape
    assert uneven.volumes[1, 2] == 17.5 * 3.0
    assert uneven.volumes.sum() == pytest.approx(52.5 * 9.5)


def test_one_cell_has_unit_width():
    grid = bj.Grid(x=[3.0])
    assert grid.volumes.tolist() == [1.0]


def test_centres_cannot_be_changed(uneven):
    with pytest.raises(ValueError, match="read-only"):
        uneven.centres["x"][0] = 9.0
    with pytest.raises(TypeError):
        uneven.centres["y"] = np.arange(3.0)


def test_a_grid_does_not_follow_changes_of_what_it_was_made_of():
    x = np.arange(4.0)
    grid = bj.Grid(x=x)
    x[0] = -5.0
    assert grid.centres["x"][0] == 0.0


def test_units_are_read_from_labelled_axes_and_survive_pickling():
    x = xr.DataArray(np.arange(3.0), dims="x", attrs={"units": "m"})
    grid = bj.Grid(x=x, y=np.arange(2.0))
    for copy in (grid, pickle.loads(pickle.dumps(grid))):
        assert dict(copy.units) == {"x": "m"}
        assert copy.dims == ("x", "y")
        np.testing.assert_array_equal(copy.centres["x"], [0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({}, "one to three dimensions are needed, 0 given"),
        (dict.fromkeys("abcd", [0.0, 1.0]), "one to three dimensions are needed, 4 given"),
        ({"x": [0.0, 2.0, 1.0]}, "'x' must be finite and strictly increasing; sort them"),
        ({"x": [0.0, 0.0, 1.0]}, "'x' must be finite and strictly increasing"),
        ({"x": [0.0, np.nan]}, "'x' must be finite"),
        ({"x": []}, "'x' must be a one-dimensional array of cell centres"),
        ({"x": np.zeros((2, 2))}, r"one-dimensional array of cell centres, shape \(2, 2\)"),
        ({"not a name": [0.0]}, "must be a word of letters, digits and underscores"),
    ],
)
def test_errors(axes, message):
    with pytest.raises(ValueError, match=message):
        bj.Grid(**axes)
