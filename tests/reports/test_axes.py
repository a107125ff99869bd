"""What stands on axes: dates, time spans, names and numbers as they are, never their indices."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.dates import ConciseDateFormatter, date2num

import bayesjoint as bj
from bayesjoint.plots import _axes, _data
from bayesjoint.reports import alignment, point_spread
from bayesjoint.reports._pairing import paired
from bayesjoint.reports.example import example_fields, example_tree

COUNT = 8  # data of gravity in the example
DATES = np.datetime64("2020-02-27", "s") + np.timedelta64(7, "D") * np.arange(COUNT)
NAMES = ["Zürich", "$x_{$", "a_b", "d", "e", "f", "g", "h"]
ZONED = pd.date_range("2020-01-01T05:00", periods=COUNT, freq="6h", tz="Asia/Tokyo")

# coordinate, its attributes, label, positions, ticks or None
AXES = {
    "dates": (DATES, {}, "station", date2num(DATES), None),
    "shuffled dates": (DATES[::-1], {}, "station", date2num(DATES[::-1]), None),
    "zoned dates": (
        ZONED, {}, "station [Asia/Tokyo]", date2num(ZONED.tz_convert(None).to_numpy()), None
    ),
    "days": (DATES - DATES[0], {}, "station [days]", 7.0 * np.arange(COUNT), None),
    "hours": (
        (90 * np.arange(COUNT)).astype("timedelta64[m]"), {}, "station [h]",
        1.5 * np.arange(COUNT), None,
    ),
    "milliseconds": (
        (250 * np.arange(COUNT)).astype("timedelta64[ms]"), {}, "station [ms]",
        250.0 * np.arange(COUNT), None,
    ),
    "names": (NAMES, {}, "station", np.arange(COUNT), NAMES),
    "falling": (np.arange(80.0, 0.0, -10.0), {"units": "m"}, "station [m]",
                np.arange(80.0, 0.0, -10.0), None),
    "years": (np.arange(1990, 1998), {}, "station", np.arange(1990.0, 1998.0), None),
    "formula": (np.arange(COUNT) / 2.0, {"units": "$x_{$"}, "station [$x_{$]",
                np.arange(COUNT) / 2.0, None),
}  # fmt: skip


def along(tree, dim, values, attrs=None):
    """Return the tree with other coordinates along a dim."""
    coordinate = xr.DataArray(values, dims=dim, attrs=attrs or {})
    return tree.map_over_datasets(
        lambda ds: ds.assign_coords({dim: coordinate}) if dim in ds.dims else ds
    )


def written(ax):
    return [tick.get_text() for tick in ax.get_xticklabels()]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("which", AXES)
@pytest.mark.parametrize("name", ["fit", "predictive_check", "discrepancy"])
def test_data_stand_at_their_coordinates(which, name):
    values, attrs, label, wanted, ticks = AXES[which]
    tree = along(example_tree(discrepancy=0.4), "station", values, attrs)
    figure = getattr(bj, f"plot_{name}")(tree)
    figure.canvas.draw()
    axes = [ax for ax in figure.axes if ax.get_xlabel() == label]
    assert axes
    for ax in axes:
        low, high = ax.get_xlim()
        assert low <= wanted.min() and wanted.max() <= high
        assert high - low < 1.3 * np.ptp(wanted)
        if ticks is not None:
            assert written(ax) == ticks
        concise = isinstance(ax.xaxis.get_major_formatter(), ConciseDateFormatter)
        assert concise == ("dates" in which)
    if name != "discrepancy":
        points = [line.get_xdata() for ax in axes for line in ax.lines if line.get_marker() == "o"]
        assert points and all(np.allclose(x, wanted, rtol=1e-12) for x in points)


@pytest.mark.parametrize("which", ["dates", "days"])
@pytest.mark.parametrize("plot", ["posterior", "resolution", "point_spread", "balance"])
def test_fields_stand_on_dates_and_time_spans(which, plot):
    values, _, label, wanted, _ = AXES[which]
    tree = along(example_tree(), "x", values[:4])
    place = {"depth": 200.0, "x": values[2]}
    arguments = {"point_spread": ("density",)}.get(plot, ())
    figure = getattr(bj, f"plot_{plot}")(tree, *arguments, **(place if arguments else {}))
    figure.canvas.draw()
    images = [ax for ax in figure.axes if ax.get_xlabel() == label.replace("station", "x")]
    assert images
    half = np.diff(wanted)[0] / 2
    for ax in images:
        np.testing.assert_allclose(ax.get_xlim(), (wanted[0] - half, wanted[3] + half))
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # depth points down


@pytest.mark.parametrize("which", ["dates", "days"])
def test_a_cell_is_named_by_its_time(which):
    values = AXES[which][0][:4]
    tree = along(example_tree(), "x", values)
    by_place = point_spread(example_tree(), "density", depth=200.0, x=300.0)
    third = {"dates": "2020-03-12", "days": "14 days 00:00:00"}[which]
    for x in (values[2], values[2] + np.timedelta64(1, "D"), third):
        report = point_spread(tree, "density", depth=200.0, x=x)
        np.testing.assert_array_equal(report["density"], by_place["density"])
        assert report.attrs["cell"] == f"density at depth = 200, x = {third}"
        assert isinstance(report.attrs["chosen_x"], str)
    with pytest.raises(ValueError, match=r"lies outside the grid, which reaches from .* to "):
        point_spread(tree, "density", depth=200.0, x=values[3] + np.timedelta64(30, "D"))


def test_cells_at_map_coordinates_are_told_apart():
    tree = along(example_tree(), "x", 4_500_000.0 + np.arange(4.0))
    labels = bj.summary(tree)["parameter"].values.tolist()
    assert len(set(labels)) == len(labels) and "density[100, 4500003]" in labels
    tree = along(example_tree(), "x", 1.0 + 1e-9 * np.arange(4.0))
    assert len(set(bj.summary(tree)["parameter"].values)) == 13


def image(stacked=False, rows=9, columns=12):
    """Return an image, north up, that grows to the north-east and has a hole."""
    y, x = 4.5e6 + 250.0 * np.arange(rows)[::-1], 5e5 + 250.0 * np.arange(columns)
    values = np.add.outer(y - y.min(), x - x.min())
    values[2, 3] = np.nan
    metres = {"units": "m"}
    coords = {"northing": ("northing", y, metres), "easting": ("easting", x, metres)}
    data = xr.DataArray(values, coords, ("northing", "easting"), name="insar")
    return data.stack(pixel=("northing", "easting")) if stacked else data


@pytest.mark.parametrize("kind", ["dims", "stacked", "levels of a file"])
def test_an_image_is_a_map_with_the_north_up(kind):
    data = image(kind != "dims")
    if kind == "levels of a file":
        names = {"northing": "pixel_northing", "easting": "pixel_easting"}
        data = data.reset_index("pixel").rename(names)
    chart = _data.chart_of(data)
    assert (chart.across.label, chart.upright.label) == ("easting [m]", "northing [m]")
    assert chart.to_scale and not chart.downwards
    x, y, cells = chart.image(data.values.ravel())
    assert (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
    np.testing.assert_array_equal(cells, image().values[::-1])


def test_images_over_time_have_it_to_the_right():
    depth = xr.DataArray(np.arange(10.0), dims="depth", attrs={"units": "m"})
    data = xr.DataArray(np.zeros((8, 10)), {"day": DATES, "depth": depth}, ("day", "depth"))
    for turned in (data, data.T):
        chart = _data.chart_of(turned)
        assert (chart.across.label, chart.upright.label) == ("day", "depth [m]")
        assert chart.across.kind == "dates" and chart.downwards and not chart.to_scale


@pytest.mark.parametrize("stacked", [False, True])
def test_parts_of_complex_data_have_a_panel_each_along_the_frequency(stacked):
    f = xr.DataArray([0.1, 0.3, 1.0, 3.0, 10.0], dims="f", attrs={"units": "Hz"})
    spectrum = xr.DataArray(1.0 / (1.0 + 1j * f.values), {"f": f}, "f")
    data = bj.real_and_imaginary(spectrum)
    data = data.stack(datum=("part", "f")) if stacked else data
    curves = _data.curves_of(data)
    assert [curve.title for curve in curves] == ["real", "imaginary"]
    for curve, part in zip(curves, (spectrum.real, spectrum.imag), strict=True):
        np.testing.assert_array_equal(data.values.ravel()[curve.members], part)
        np.testing.assert_array_equal(curve.where, f)
        assert curve.axis.label == "f [Hz]" and curve.axis.logarithmic and curve.continuous


def test_panels_of_few_dates_are_titled_with_them():
    data = xr.DataArray(np.zeros((40, 2)), {"d": DATES[:2]}, ("site", "d"))
    assert [c.title for c in _data.curves_of(data)] == ["d 2020-02-27", "d 2020-03-05"]


def test_many_names_are_thinned_and_long_ones_cut():
    names = [f"observatory number {i}" for i in range(60)]
    data = xr.DataArray(np.zeros(60), {"site": names}, "site")
    (curve,) = _data.curves_of(data)
    assert curve.axis.names[10] == "observato… number 10"
    assert len(set(curve.axis.names)) == 60
    figure = bj.plots._style.new_figure(3.0)
    ax = figure.subplots()
    _axes.dress(ax.xaxis, curve.axis)
    assert len(ax.get_xticks()) == 20 and ax.get_xticks()[1] == 3.0


@pytest.mark.parametrize(
    "first, second",
    [
        (DATES, DATES.astype("datetime64[ns]")),
        (ZONED, ZONED.tz_convert("UTC")),
        (ZONED, ZONED.tz_convert(None)),
        (DATES - DATES[0], xr.DataArray(168.0 * np.arange(COUNT), dims="j", attrs={"units": "h"})),
        (xr.DataArray(np.arange(8.0), dims="i", attrs={"units": "km"}),
         xr.DataArray(1e3 * np.arange(8.0), dims="j", attrs={"units": "m"})),
    ],
    ids=["resolutions", "zones", "naive", "spans and hours", "lengths"],
)  # fmt: skip
def test_places_in_other_units_are_the_same_places(first, second):
    """Residuals were paired as if kilometres were metres, and seconds nanoseconds."""
    make = [
        xr.DataArray(np.zeros(n), {f"{name}_t": (dim, getattr(v, "values", v)[-n:] if not
                     isinstance(v, pd.DatetimeIndex) else v[-n:], getattr(v, "attrs", {}))},
                     dim, name=name)
        for name, dim, v, n in (("a", "i", first, 8), ("b", "j", second, 6))
    ]  # fmt: skip
    pairing = paired(*make)
    assert pairing.how == "nearest in t"
    np.testing.assert_array_equal(pairing.members[0], pairing.members[1] + 2)


def test_dates_and_numbers_are_not_paired():
    one = xr.DataArray(np.zeros(8), {"a_t": ("i", DATES)}, "i", name="a")
    two = xr.DataArray(np.zeros(6), {"b_t": ("j", np.arange(6.0))}, "j", name="b")
    assert paired(one, two).how.startswith("not applicable")


def test_gradients_need_axes_in_one_unit():
    """Depth in m and x in km: angles are those of metres; depth in m and dates: refused."""
    fields = example_fields()
    metres = fields["posterior"]["x"].values
    kilometres = along(fields, "x", metres / 1e3, {"units": "km"})
    for name in ("density_slowness_angle", "similarity", "flat_share"):
        one, other = alignment(fields)[name], alignment(kilometres)[name]
        np.testing.assert_allclose(one.values, other.values, rtol=1e-8, atol=1e-12)
    dates = DATES[0] + np.arange(16).astype("timedelta64[D]")
    with pytest.raises(ValueError, match="'density' and 'slowness' are in .*cannot be compared"):
        alignment(along(fields, "x", dates))
