"""Times are times: data, coordinates, axes and maps are counted in the units that are stated."""

import numpy as np
import pandas as pd
import pint
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint.reports.example import example_fields
from tests.faithful import closed_form, letters, posterior, problem, refused, require, unknown

DAYS = np.array([0.0, 1.0, 3.0, 7.0, 20.0])
START = np.datetime64("2020-02-27T06:00")
DATES = START + (DAYS * 86400).astype("timedelta64[s]")
VALUES = np.array([0.5, -1.0, 2.0, 0.3, 1.1])
LENGTH = 5.0
NOISE = 0.01 * np.eye(5)


def matern(days, length=LENGTH):
    scaled = np.sqrt(3.0) * np.abs(days[:, None] - days) / length
    return (1.0 + scaled) * np.exp(-scaled)


def seen(times, **settings):
    """Return a problem with errors that change with time, and a number beside them."""
    data = xr.DataArray(VALUES, {"time": times}, "time")
    errors = bj.JointDiscrepancy(sd={"m": 0.7}, on="time", **settings)
    return problem(data, discrepancy=errors)


EXPECTED = closed_form(np.ones(5), VALUES, 0.49 * matern(DAYS) + NOISE)
SPANS = {
    "timedelta64": np.timedelta64(5, "D"),
    "hours": np.timedelta64(120, "h"),
    "pandas": pd.Timedelta(days=5),
    "python": pd.Timedelta(days=5).to_pytimedelta(),
    "pint": pint.Quantity(5.0, "day"),
    "weeks": pint.Quantity(5.0 / 7.0, "week"),
    "array": xr.DataArray(LENGTH, attrs={"units": "days"}),
    "seconds": xr.DataArray(432_000.0, attrs={"units": "s"}),
}
TIMES = {
    "dates": DATES,
    "nanoseconds": DATES.astype("datetime64[ns]"),
    "seconds": DATES.astype("datetime64[s]"),
    "spans": DATES - DATES[0],
    "numbers": xr.DataArray(DAYS, dims="time", attrs={"units": "days"}),
    "minutes": xr.DataArray(DAYS * 1440, dims="time", attrs={"units": "min"}),
    "zone": pd.DatetimeIndex(DATES).tz_localize("UTC").tz_convert("Asia/Tokyo"),
}


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_length_scales_along_dates_are_spans_of_time(span):
    """1.712 +- 0.380 for 0.621 +- 0.578 in nanoseconds: the errors became white."""
    require(posterior(seen(DATES, length_scale=span)), EXPECTED)


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_times_of_all_kinds_are_counted_alike(times):
    require(posterior(seen(times, length_scale=SPANS["timedelta64"])), EXPECTED)


@pytest.mark.parametrize("form", ["marginal", "latent"])
def test_dates_do_not_depend_on_the_form(form):
    require(posterior(seen(DATES, length_scale=SPANS["pandas"], form=form)), EXPECTED)


@pytest.mark.parametrize("times", [DATES, DATES - DATES[0]], ids=["dates", "spans"])
@pytest.mark.parametrize(
    "length",
    [LENGTH, bj.Prior(pm.HalfNormal, sigma=5.0), xr.DataArray(LENGTH, attrs={"units": "m"})],
    ids=["number", "prior", "metres"],
)
def test_a_length_along_times_needs_units_of_time(times, length):
    made = seen(DAYS, length_scale=1.0).modalities
    assert made
    refused(lambda: seen(times, length_scale=length), "JointDiscrepancy")


@pytest.mark.slow
def test_priors_over_lengths_along_dates_state_their_units():
    """The posterior is that of the same problem in days."""
    prior = {"sigma": 5.0}
    plain = bj.linearize(seen(DAYS, length_scale=bj.Prior(pm.HalfNormal, **prior)))
    dated = bj.linearize(seen(DATES, length_scale=bj.Prior(pm.HalfNormal, **prior, units="days")))
    for name in ("th", "discrepancy_length_scale"):
        one, other = (tree["linearization"][name] for tree in (plain, dated))
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_periods_and_origins_along_dates():
    angle = np.pi * (DAYS[:, None] - DAYS) / 3.0
    periodic = 0.49 * np.exp(-2.0 * np.sin(angle) ** 2 / 1.5**2)
    made = seen(DATES, kernel="periodic", period=np.timedelta64(72, "h"), length_scale=1.5)
    require(posterior(made), closed_form(np.ones(5), VALUES, periodic + NOISE))
    made = seen(DATES, kernel="periodic", period=pint.Quantity(3, "day"), length_scale=1.5)
    require(posterior(made), closed_form(np.ones(5), VALUES, periodic + NOISE))
    drift = 0.49 * np.outer(DAYS + 2.0, DAYS + 2.0) / LENGTH**2
    expected = closed_form(np.ones(5), VALUES, drift + NOISE)
    origin = START - np.timedelta64(2, "D")
    for given in (origin, str(origin), pd.Timestamp(origin), pd.Timestamp(origin).to_pydatetime()):
        if isinstance(given, str):
            continue
        made = seen(DATES, kernel="drift", origin=given, length_scale=np.timedelta64(5, "D"))
        require(posterior(made), expected)
    refused(lambda: seen(DATES, kernel="periodic", period=3.0, length_scale=1.5), "period")
    refused(
        lambda: seen(DATES, kernel="drift", origin=3.0, length_scale=np.timedelta64(5, "D")),
        "origin",
    )
    refused(
        lambda: seen(DATES, kernel="drift", origin="long ago", length_scale=np.timedelta64(5, "D")),
        "origin",
    )


def test_products_over_time_and_place():
    place = np.array([0.0, 3.0, 1.0, 4.0, 9.0])
    data = xr.DataArray(VALUES, {"time": DATES, "place": ("time", place)}, "time")
    data["place"].attrs["units"] = "km"
    lengths = {"time": np.timedelta64(5, "D"), "place": pint.Quantity(2000.0, "m")}
    errors = bj.JointDiscrepancy(sd={"m": 0.7}, on=("time", "place"), length_scale=lengths)
    expected = 0.49 * matern(DAYS) * matern(place, 2.0) + NOISE
    found = posterior(problem(data, discrepancy=errors))
    require(found, closed_form(np.ones(5), VALUES, expected))


@pytest.mark.slow
def test_two_modalities_share_a_clock():
    """One in dates, one with a time zone, one second apart from it or not at all."""
    zone = pd.DatetimeIndex(DATES).tz_localize("UTC").tz_convert("America/Lima")
    first = xr.DataArray(VALUES, {"time": DATES}, "time")
    second = xr.DataArray(VALUES[::-1], {"when": zone[::-1], "time": ("when", zone[::-1])}, "when")
    errors = bj.JointDiscrepancy(
        sd={"a": 0.7, "b": 1.4}, correlation=0.5, on="time", length_scale=pd.Timedelta("5D")
    )
    made = bj.JointProblem(
        latents=[unknown()],
        modalities=[
            bj.Modality(n, d, bj.linear_map(np.ones((5, 1)), "th"), bj.GaussianNoise(sd=0.1))
            for n, d in (("a", first), ("b", second))
        ],
        discrepancy=errors,
    )
    days = np.r_[DAYS, DAYS[::-1]]
    sizes = np.kron([[0.49, 0.49], [0.49, 1.96]], np.ones((5, 5)))
    covariance = sizes * matern(days) + 0.01 * np.eye(10)
    require(posterior(made), closed_form(np.ones(10), np.r_[VALUES, VALUES[::-1]], covariance))


def test_missing_times_are_refused():
    dates = DATES.copy()
    dates[2] = np.datetime64("NaT")
    refused(lambda: seen(dates, length_scale=SPANS["pandas"]))
    refused(lambda: bj.Grid(time=dates), "Grid")
    data = letters(np.array([1, "NaT", 3], dtype="timedelta64[s]"))
    refused(lambda: problem(data), "NaN")


@pytest.mark.slow
def test_data_of_time_spans_are_seconds():
    spans = np.array([1, 2, 4], dtype="timedelta64[D]")
    expected = closed_form(
        np.full(3, 86400.0), np.array([1, 2, 4]) * 86400.0, 3600.0**2 * np.eye(3)
    )
    for values in (spans, spans.astype("timedelta64[ns]"), spans.astype("timedelta64[s]")):
        for sd in (3600.0, np.timedelta64(1, "h"), pint.Quantity(1.0, "hour")):
            noise = bj.GaussianNoise(sd=sd)
            made = problem(letters(values), noise, np.full((3, 1), 86400.0))
            require(posterior(made), expected)
    dates = letters(np.datetime64("2020-01-01", "ns") + spans.astype("timedelta64[ns]"))
    refused(lambda: problem(dates), "subtract")
    sd = np.array([1, 2, 3], dtype="timedelta64[h]")
    found = posterior(problem(letters(spans), bj.GaussianNoise(sd=sd), np.full((3, 1), 86400.0)))
    covariance = np.diag((np.arange(1, 4) * 3600.0) ** 2)
    require(found, closed_form(np.full(3, 86400.0), np.array([1, 2, 4]) * 86400.0, covariance))
    refused(lambda: problem(letters(), bj.GaussianNoise(sd=np.array([1, 2, 3], "timedelta64[M]"))))


# ---- fields along times ------------------------------------------------------------------------

AXES = {
    "dates": DATES,
    "spans": DATES - DATES[0],
    "units": xr.DataArray(DAYS, dims="time", attrs={"units": "days"}),
    "pint": pint.Quantity(DAYS * 24.0, "hour"),
    "index": pd.DatetimeIndex(DATES),
    "stamps": [pd.Timestamp(d) for d in DATES],
}
MATRIX = np.random.default_rng(1).normal(size=(3, 5))


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_fields_along_times_are_those_along_days(axis):
    plain = bj.GaussianField("th", bj.Grid(time=DAYS), sd=2.0, length_scale=LENGTH)
    timed = bj.GaussianField(
        "th", bj.Grid(time=axis), sd=2.0, length_scale=np.timedelta64(5, "D")
    )  # fmt: skip
    one, other = (posterior(problem(letters(), matrix=MATRIX, latents=[f])) for f in (plain, timed))
    require(other, one)


@pytest.mark.slow
def test_fields_along_dates_need_lengths_with_units():
    grid = bj.Grid(time=DATES)
    prior = bj.Prior(pm.HalfNormal, sigma=5.0)
    for length in (5.0, prior, {"time": 5.0}, pint.Quantity(5.0, "m")):
        refused(
            lambda v=length: bj.GaussianField("th", grid, sd=1.0, length_scale=v), "length_scale"
        )
    plain = bj.GaussianField("th", bj.Grid(time=DAYS), sd=2.0, length_scale=prior)
    dated = bj.GaussianField(
        "th", grid, sd=2.0, length_scale=bj.Prior(pm.HalfNormal, sigma=5.0, units="days")
    )
    trees = [bj.linearize(problem(letters(), matrix=MATRIX, latents=[f])) for f in (plain, dated)]
    one, other = (tree["linearization"].to_dataset() for tree in trees)
    np.testing.assert_allclose(other["th"], one["th"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(other["th_length_scale"], one["th_length_scale"], rtol=1e-6)


def test_dates_of_fields_and_data_are_kept_in_reports():
    field = bj.GaussianField("th", bj.Grid(time=DATES), sd=2.0, length_scale=pd.Timedelta("5D"))
    tree = bj.linearize(problem(letters(), matrix=MATRIX, latents=[field]))
    np.testing.assert_array_equal(tree["linearization"]["time"], DATES)


def test_maps_in_model_space_may_state_dates():
    covariance = 0.49 * matern(DAYS)
    operator = np.random.default_rng(2).normal(size=(3, 5))
    expected = closed_form(
        operator @ np.ones(5),
        [1.0, 2.0, 4.0],
        operator @ covariance @ operator.T + 0.01 * np.eye(3),
    )
    for times in (DATES, TIMES["zone"], DATES - DATES[0], TIMES["minutes"]):
        shared = bj.linear_map(np.ones((5, 1)), "th", coords={"time": times})
        errors = bj.JointDiscrepancy(
            of=shared, sd=0.7, on="time", length_scale=np.timedelta64(5, "D")
        )
        found = posterior(problem(letters(), forward=shared, observe=operator, discrepancy=errors))
        require(found, expected)


def test_labels_that_are_dates_are_matched_in_any_zone():
    zone = pd.DatetimeIndex(DATES).tz_localize("UTC").tz_convert("Asia/Tokyo")
    sd = np.arange(1.0, 6.0)
    data = xr.DataArray(VALUES, {"time": DATES}, "time")
    for index in (pd.DatetimeIndex(DATES), zone, zone.as_unit("s")):
        series = pd.Series(sd, index)[::-1]
        found = posterior(problem(data, bj.GaussianNoise(sd=series)))
        require(found, closed_form(np.ones(5), VALUES, np.diag(sd**2)))
    late = pd.Series(sd, pd.DatetimeIndex(DATES) + pd.Timedelta("1s"))
    refused(lambda: problem(data, bj.GaussianNoise(sd=late)), "modality 'm'")


# ---- dates in reports and studies ---------------------------------------------------------------


def dated_errors(origin=None):
    times = pd.date_range("2020-01-01", periods=3, freq="2D")
    data = xr.DataArray([0.1, -0.2, 0.3], {"time": times}, "time")
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))
    gauge = bj.Modality(
        "gauge", data, bj.linear_map(np.ones((3, 1)), "level"), bj.GaussianNoise(sd=0.1)
    )
    settings = {"kernel": "drift", "origin": origin} if origin is not None else {}
    errors = bj.JointDiscrepancy(
        sd={"gauge": 0.3}, on="time", length_scale=np.timedelta64(3, "D"), **settings
    )
    return bj.JointProblem(latents=[level], modalities=[gauge], discrepancy=errors)


WRITTEN = ["2020-01-02", "2020-01-04T12:00"]


def test_discrepancies_are_predicted_at_dates_written_as_text():
    made = dated_errors()
    tree = bj.sample(
        made, draws=20, tune=20, chains=1, random_seed=1, progress=False, backend="interpreted"
    )
    one, other = (
        bj.predict_discrepancy(made, tree, {"time": at}, random_seed=1)
        for at in (np.array(WRITTEN, dtype="M8[ns]"), WRITTEN)
    )
    np.testing.assert_array_equal(
        one["gauge_discrepancy"].values, other["gauge_discrepancy"].values
    )
    refused(lambda: bj.predict_discrepancy(made, tree, {"time": ["soon"]}), "text that is no date")


def test_origins_may_be_dates_written_as_text():
    one, other = (
        posterior(dated_errors(origin), "level")
        for origin in (np.datetime64("2019-12-30"), "2019-12-30")
    )
    require(other, one)


@pytest.mark.parametrize("axis", [DATES, DATES - DATES[0]], ids=["dates", "spans"])
def test_point_spreads_are_found_by_times(axis):
    field = bj.GaussianField("th", bj.Grid(time=axis), sd=2.0, length_scale=pd.Timedelta("5D"))
    tree = bj.linearize(problem(letters(), matrix=MATRIX, latents=[field]))
    wanted = bj.point_spread(tree, "th", time=axis[1])
    near = axis[1] + np.timedelta64(1, "h")
    for at in (near, str(near)) if np.asarray(axis).dtype.kind == "M" else (near,):
        found = bj.point_spread(tree, "th", time=at)
        np.testing.assert_array_equal(found["th"], wanted["th"])
        assert found.attrs["cell"] == wanted.attrs["cell"]
    refused(lambda: bj.point_spread(tree, "th", time=axis[0] - np.timedelta64(999, "D")), "outside")
    refused(lambda: bj.point_spread(tree, "th", time=3.0 if axis is DATES else "soon"), "time")


def along(tree, dim, labels):
    """Return a tree with other labels along a dim."""
    return xr.DataTree.from_dict(
        {
            name: ds.assign_coords({dim: labels}) if dim in ds.dims else ds
            for name, ds in ((name, group.to_dataset()) for name, group in tree.children.items())
        }
    )


def test_fields_along_dates_are_aligned():
    whole = example_fields(alike=0.5)
    depth, dim = (str(d) for d in whole["posterior"]["density"].dims[-2:])
    tree = xr.DataTree.from_dict(
        {
            name: whole[name].to_dataset().isel({depth: 0}, drop=True)
            for name in ("posterior", "prior")
        }
    )
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(tree["posterior"][dim].values, unit="s")
    expected, found = bj.alignment(tree), bj.alignment(along(tree, dim, days))
    with pytest.raises(ValueError, match="gradients along them cannot be compared"):
        bj.alignment(along(whole, dim, days))  # beside a depth in metres
    numbers = [n for n, v in expected.items() if v.dtype.kind == "f" and "units" not in v.attrs]
    assert numbers
    for name in numbers:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
