"""Twins of the faults of reading data: where labels, units and times also come in."""

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from faithful import closed_form, letters, posterior, problem, unknown

import bayesjoint as bj

pint = pytest.importorskip("pint")
UNITS = pint.UnitRegistry()
RTOL = 1e-8


# ---- labels ------------------------------------------------------------------------------------


def channels(prior: bj.Prior) -> bj.Parameter:
    return bj.Parameter("th", prior, coords={"channel": ["x", "y"]})


@pytest.mark.parametrize(
    "mu",
    [
        pd.Series([1.0, 2.0], index=["y", "x"]),
        xr.DataArray([1.0, 2.0], {"channel": ["y", "x"]}, "channel"),
        xr.DataArray([1.0, 5.0, 2.0], {"channel": ["y", "q", "x"]}, "channel"),
    ],
)
def test_parameters_of_priors_go_by_the_labels_of_the_parameter(mu):
    made = channels(bj.Prior(pm.Normal, mu=mu, sigma=1.0))
    for latent in (made, made.replace(units="m")):
        assert latent.prior.parameters["mu"].tolist() == [2.0, 1.0]


def test_priors_of_rocks_go_by_their_labels():
    labelled = pd.Series([4.5, 2.0], index=["granite", "sand"])
    mixture = bj.PropertyMixture(
        "rock", labels=["sand", "granite"],
        proportions=bj.Prior(pm.Dirichlet, a=pd.Series([7.0, 3.0], index=["granite", "sand"])),
        means={"v": bj.Prior(pm.Normal, mu=labelled, sigma=0.2)}, sds={"v": 0.1},
    )  # fmt: skip
    assert mixture.proportions.parameters["a"].tolist() == [3.0, 7.0]
    assert mixture.means["v"].parameters["mu"].tolist() == [2.0, 4.5]


def test_labels_and_units_of_priors_that_cannot_be_used_are_refused():
    strange = pd.Series([1.0, 2.0], index=["q", "x"])
    with pytest.raises(ValueError, match="labels of the parameter 'th' are not there"):
        channels(bj.Prior(pm.Normal, mu=strange, sigma=1.0))
    with pytest.raises(ValueError, match="has units of its own"):
        bj.Prior(pm.Normal, mu=xr.DataArray(1.0, attrs={"units": "km"}), sigma=1.0)
    noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=pd.Series([3.0], index=["c"])))
    with pytest.raises(ValueError, match=r"m_sd|labels"):
        problem(letters(), noise).hold({})


def test_a_labelled_output_goes_by_the_labels_of_observe():
    order, gain = list("cab"), np.array([[4.0], [1.0], [2.0]])
    forward = bj.numpy_map(
        lambda th: xr.DataArray(gain @ np.atleast_1d(th), {"s": order}, "s"), ["th"],
        jacobian=lambda th: gain,
    )  # fmt: skip
    wanted = closed_form([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 0.01 * np.eye(3))
    for observe in (
        pd.DataFrame(np.eye(3), list("abc"), list("abc")),
        xr.DataArray(np.eye(3), {"s": list("abc"), "of": list("abc")}, ("s", "of")),
    ):
        found = posterior(problem(letters(), forward=forward, observe=observe))
        np.testing.assert_allclose(found, wanted, rtol=RTOL)


@pytest.mark.parametrize("levels", [("y", "x"), ("x", "y")])
def test_stacked_labels_go_by_the_names_of_their_levels(levels):
    image = xr.DataArray(
        np.arange(4.0).reshape(2, 2), {"y": [0.0, 1.0], "x": [0.0, 1.0]}, ("y", "x")
    )
    stacked = image.stack(pixel=("y", "x"))
    made = problem(stacked * 0.0, matrix=np.arange(4.0)[:, None])
    found = posterior(made.with_data({"m": image.stack(pixel=levels)}))
    wanted = closed_form(np.arange(4.0), np.arange(4.0), 0.01 * np.eye(4))
    np.testing.assert_allclose(found, wanted, rtol=RTOL)


# ---- units -------------------------------------------------------------------------------------


def with_unknown_noise() -> Any:
    noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0))
    return problem(letters(units="m"), noise)


@pytest.mark.parametrize(
    "value", [UNITS.Quantity(1.0, "cm"), xr.DataArray(10.0, attrs={"units": "mm"}), 0.01]
)
def test_values_held_are_converted(value):
    held = with_unknown_noise().hold({"m_sd": value})
    assert held.modality["m"].noise.sd == pytest.approx(0.01, rel=RTOL)


@pytest.mark.parametrize("value", [UNITS.Quantity(1.0, "s"), "1", [1.0, 2.0], 1j])
def test_values_held_that_do_not_fit_are_refused(value):
    with pytest.raises(ValueError, match="hold: m_sd"):
        with_unknown_noise().hold({"m_sd": value})


def beside_a_grid(length: Any) -> Any:
    """Return a problem of data in metres on a grid in kilometres, with errors along it."""
    axis = xr.DataArray(np.arange(4.0), dims="x", attrs={"units": "km"})
    field = bj.GaussianField("th", bj.Grid(x=axis), sd=1.0, length_scale=1.0)
    at = ("x", 1000.0 * np.arange(4.0), {"units": "m"})
    data = xr.DataArray([1.0, 2.0, 3.0, 4.0], {"x": at}, "x")
    errors = bj.JointDiscrepancy(sd={"m": 0.5}, on="x", length_scale=length)
    return problem(data, latents=[field], matrix=np.eye(4), discrepancy=errors)


def test_a_plain_length_along_a_converted_coordinate_is_refused():
    with pytest.raises(ValueError, match="length scale or period needs units"):
        beside_a_grid(2000.0)
    one, other = (posterior(beside_a_grid(UNITS.Quantity(*q))) for q in ((2.0, "km"), (2e3, "m")))
    np.testing.assert_allclose(one, other, rtol=RTOL)


@pytest.mark.parametrize("given", [UNITS.Quantity(50, "%"), xr.DataArray(0.5)])
def test_correlations_are_plain_numbers(given):
    assert bj.CorrelatedFields("a", "b", correlation=given).correlation == pytest.approx(0.5)
    shared = bj.JointDiscrepancy(sd={"a": 1.0, "b": 1.0}, correlation=given)
    assert shared.correlation == pytest.approx(0.5)


# ---- studies -----------------------------------------------------------------------------------

DAYS = 3.0 * np.arange(8)
DATES = np.datetime64("2020-01-01", "ns") + np.arange(8) * np.timedelta64(3, "D")


def along(times: Any, length: Any) -> Any:
    data = xr.DataArray(np.cos(np.arange(8.0)), {"time": times}, "time")
    errors = bj.JointDiscrepancy(sd={"m": 0.5}, on="time", length_scale=length)
    return problem(data, discrepancy=errors)


def test_length_scales_along_dates_are_swept_as_time_spans():
    dates, days = along(DATES, np.timedelta64(10, "D")), along(DAYS, 10.0)
    wanted = bj.discrepancy_sweep(days, length_scale=[5.0, 20.0])
    for spans in (np.array([5, 20], "timedelta64[D]"), [pd.Timedelta("5D"), pd.Timedelta("20D")]):
        found = bj.discrepancy_sweep(dates, length_scale=spans)
        np.testing.assert_allclose(found["posterior_sd"], wanted["posterior_sd"], rtol=RTOL)
        assert found["length_scale"].attrs["units"] == "s"
    with pytest.raises(ValueError, match="it needs units"):
        bj.discrepancy_sweep(dates, length_scale=[5.0, 20.0])


def test_factors_in_percent_are_swept_as_fractions():
    days = along(DAYS, 10.0)
    wanted = bj.discrepancy_sweep(days, sd_factor=[0.5, 2.0])
    percent = xr.DataArray([50.0, 200.0], dims="f", attrs={"units": "%"})
    found = bj.discrepancy_sweep(days, sd_factor=percent)
    np.testing.assert_allclose(found["posterior_sd"], wanted["posterior_sd"], rtol=RTOL)


@pytest.mark.parametrize("values", [0.5, "a", ["a"], [1j, 2.0], None, {"a": 1.0}])
def test_what_is_no_list_of_numbers_is_not_swept(values):
    if values is None:
        values = [None]
    with pytest.raises(ValueError, match="discrepancy_sweep: sd_factor"):
        bj.discrepancy_sweep(along(DAYS, 10.0), sd_factor=values)


def test_places_of_quantities_keep_their_units():
    from bayesjoint.studies.discrepancy_prediction import _template

    hours = UNITS.Quantity(np.array([24.0, 48.0]), "h")
    labelled = xr.DataArray([24.0, 48.0], dims="time", attrs={"units": "h"})
    for at in ({"time": hours}, {"time": ("time", hours)}, {"time": labelled}):
        places = _template(at)
        assert places["time"].attrs["units"] == "h"
        assert places["time"].values.tolist() == [24.0, 48.0]
    with pytest.raises(ValueError, match="give the coordinates of the new places by name"):
        _template([1.0])


def test_the_cell_of_a_point_spread_is_found_in_any_units():
    axis = xr.DataArray(np.arange(4.0), dims="x", attrs={"units": "km"})
    field = bj.GaussianField("th", bj.Grid(x=axis), sd=1.0, length_scale=1.0)
    data = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="q")
    tree = bj.linearize(problem(data, latents=[field], matrix=np.eye(4)))
    wanted = bj.point_spread(tree, "th", x=2.0)["th"].values
    for at in (UNITS.Quantity(2000.0, "m"), xr.DataArray(2000.0, attrs={"units": "m"}), 2.3):
        np.testing.assert_array_equal(bj.point_spread(tree, "th", x=at)["th"].values, wanted)
    for at, fault in ((600.0, "outside the grid"), (UNITS.Quantity(1.0, "s"), "is in 's'")):
        with pytest.raises(ValueError, match=fault):
            bj.point_spread(tree, "th", x=at)


@pytest.fixture(scope="module")
def tree():
    """Return a problem of one number in kilometres, linearised."""
    made = problem(letters(), latents=[unknown(units="km")])
    return bj.linearize(made)


def test_the_noise_of_candidates_is_in_their_units(tree):
    plain = {"th": xr.DataArray([1.0, 2.0], dims="c")}
    wanted = bj.data_worth(tree, "th", candidates=plain, candidate_sd=0.03)["sd_with_candidate"]
    with_units = {"th": plain["th"].assign_attrs(units="m/km")}
    for sd in (UNITS.Quantity(3.0, "cm"), xr.DataArray(30.0, attrs={"units": "mm"}), 0.03):
        found = bj.data_worth(tree, "th", candidates=with_units, candidate_sd=sd)
        np.testing.assert_allclose(found["sd_with_candidate"], wanted, rtol=RTOL)
    for candidates, sd, fault in (
        (with_units, UNITS.Quantity(3.0, "s"), "candidate_sd is in 's'"),
        (plain, UNITS.Quantity(3.0, "cm"), "units of the candidates are not known"),
    ):
        with pytest.raises(ValueError, match=fault):
            bj.data_worth(tree, "th", candidates=candidates, candidate_sd=sd)


# ---- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda tree: bj.tension(tree, [1]),
        lambda tree: bj.simulate(problem(letters()), truth=[1.0]),
        lambda tree: bj.JointDiscrepancy(sd=1.0, loadings=pd.Series({"a": 1.0})),
        lambda tree: bj.JointDiscrepancy(sd=1.0, loadings={"a": "one"}),
    ],
)
def test_what_is_given_by_name_is_a_mapping_of_numbers(tree, make):
    with pytest.raises(ValueError, match="give (them|a mapping|values|real numbers|trees)"):
        make(tree)


def test_loadings_may_be_quantities():
    shared = bj.JointDiscrepancy(sd=1.0, loadings={"a": UNITS.Quantity(50, "%"), "b": 1.0})
    assert set(shared.loadings) == {"a", "b"}


def test_a_store_is_a_path():
    with pytest.raises(TypeError, match="sample: store is 3"):
        bj.sample(problem(letters()), store=3)
    with pytest.raises(TypeError, match="open_store: store is None"):
        bj.open_store(None)


@pytest.mark.parametrize("setting", ["latents", "modalities", "couplings"])
def test_nothing_is_no_list_of_parts(setting):
    settings = {"latents": [unknown()], "modalities": problem(letters()).modalities}
    with pytest.raises(ValueError, match=f"JointProblem: {setting} is of type NoneType"):
        bj.JointProblem(**{**settings, setting: None})
