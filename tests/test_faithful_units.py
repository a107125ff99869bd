"""Units are compared, converted or refused wherever two of them meet."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pint
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy import sparse

import bayesjoint as bj
from bayesjoint import units
from tests.faithful import closed_form, letters, posterior, problem, refused, require, unknown

DATA = np.array([1.0, 2.0, 4.0])
GAIN = np.array([[1.0], [2.0], [4.0]])
COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 4.0, 1.0], [0.1, 1.0, 9.0]])
METRES = letters(DATA, units="m")


def stated(values, unit, *dims):
    """Return an array that states its units."""
    values = np.asarray(values)
    return xr.DataArray(values, {d: list("abc") for d in dims}, dims, attrs={"units": unit})


# ---- spellings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("kg m-3", "kg/m3"), ("kg m**-3", "kg/m^3"), ("m s-1", "m/s"), ("degC", "degree_Celsius"),
        ("1", "dimensionless"), ("%", "percent"), ("mGal", "milligalileo"), ("mGal", "milligal"),
        ("deg", "degrees"),
        ("W m-2 K-1", "W/(m2 K)"), ("m", "metre"), ("s", "seconds"),
    ],
)  # fmt: skip
def test_equal_units_pass_in_any_spelling(first, second):
    change = units.conversion("{} {}", first, second, "")
    assert change.factor == pytest.approx(1.0, rel=1e-15)
    assert change.offset == 0


@pytest.mark.parametrize(
    ("first", "second", "factor"),
    [
        ("g/cm3", "kg/m3", 1000.0), ("%", "1", 0.01), ("km", "m", 1e3), ("mGal", "m/s2", 1e-5),
        ("days", "s", 86400.0), ("ms", "s", 1e-3), ("nT", "T", 1e-9), ("eV", "J", 1.602176634e-19),
        ("deg", "rad", np.pi / 180), ("ppm", "1", 1e-6),
    ],
)  # fmt: skip
def test_units_convert_by_their_factor(first, second, factor):
    change = units.conversion("{} {}", first, second, "")
    np.testing.assert_allclose(change(np.array([2.0])), 2.0 * factor, rtol=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [("m s", "ms"), ("m", "s"), ("kg/m3", "kg/m2"), ("1", "m"), ("degC", "m"), ("foo", "m")],
)
def test_other_units_are_refused(first, second):
    refused(lambda: units.conversion("{} {}", first, second, "convert"), "convert")


def test_unknown_spellings_are_told_once_and_compared_as_text():
    code = (
        "import warnings; from bayesjoint import units\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(3):\n"
        "        units.conversion('{} {}', 'widgets per  foo', 'widgets per foo', '')\n"
        "print(sorted(str(w.message)[:23] for w in told))\n"
    )
    root = Path(bj.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    told = ["units 'widgets per  foo", "units 'widgets per foo'"]
    assert done.stdout.strip() == str(told), done.stderr


def test_units_that_are_alike_are_not_parsed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert units.conversion("{} {}", "zorkmids", "zorkmids", "").is_identity
        assert units.conversion("{} {}", "zorkmids", None, "").is_identity


# ---- noise -------------------------------------------------------------------------------------

SDS = {
    "cm": pint.Quantity(10.0, "cm"),
    "attrs": xr.DataArray(10.0, attrs={"units": "cm"}),
    "each": stated([10.0, 20.0, 30.0], "cm", "s"),
    "array": pint.Quantity(np.array([10.0, 20.0, 30.0]), "cm"),
    "pint-xarray": xr.DataArray(pint.Quantity(np.array([0.1, 0.2, 0.3]), "m"), dims="s"),
    "spelling": xr.DataArray(0.1, attrs={"units": "metre"}),
}


@pytest.mark.parametrize("sd", SDS.values(), ids=SDS)
def test_noise_is_converted_to_the_units_of_the_data(sd):
    size = np.array([0.1, 0.2, 0.3]) if np.ndim(getattr(sd, "magnitude", sd)) else np.full(3, 0.1)
    found = posterior(problem(METRES, bj.GaussianNoise(sd=sd)))
    require(found, closed_form(np.ones(3), DATA, np.diag(size**2)))


@pytest.mark.parametrize("unit", ["cm2", "cm^2", "cm**2", "cm cm"])
def test_covariances_are_converted(unit):
    noise = bj.CorrelatedNoise(covariance=stated(1e4 * COVARIANCE, unit, "s", "t"))
    require(posterior(problem(METRES, noise)), closed_form(np.ones(3), DATA, COVARIANCE))
    noise = bj.CorrelatedNoise(covariance=pint.Quantity(1e4 * COVARIANCE, "cm**2"))
    require(posterior(problem(METRES, noise)), closed_form(np.ones(3), DATA, COVARIANCE))


@pytest.mark.parametrize(
    "noise",
    [
        lambda: bj.GaussianNoise(sd=pint.Quantity(1.0, "s")),
        lambda: bj.GaussianNoise(sd=xr.DataArray(5.0, attrs={"units": "%"})),
        lambda: bj.GaussianNoise(sd=stated(DATA, "kg", "s")),
        lambda: bj.GaussianNoise(sd=0.1, scale=pint.Quantity(1.0, "m")),
        lambda: bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0, units="s")),
        lambda: bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0, units="cm")),
        lambda: bj.CorrelatedNoise(covariance=stated(COVARIANCE, "m", "s", "t")),
        lambda: bj.StudentTNoise(sd=pint.Quantity(1.0, "s"), nu=4),
        lambda: bj.StudentTNoise(sd=1.0, nu=pint.Quantity(4.0, "s")),
    ],
)
def test_noise_in_other_units_is_refused(noise):
    refused(lambda: problem(METRES, noise()))


# ---- maps --------------------------------------------------------------------------------------


def maps(**settings):
    """Return one linear map as a matrix, a sparse one, a graph and a black box."""
    return {
        "linear": bj.linear_map(GAIN, "th", **settings),
        "sparse": bj.linear_map(sparse.csr_array(GAIN), "th", **settings),
        "pytensor": bj.pytensor_map(lambda th: GAIN[:, 0] * th, "th", **settings),
        "numpy": bj.numpy_map(
            lambda th: GAIN[:, 0] * th, "th", jacobian=lambda th: GAIN, **settings
        ),
    }


@pytest.mark.parametrize("kind", maps())
def test_data_and_latents_are_converted_for_every_map(kind):
    """Data in cm of a map in m; a latent in g/cm3 that the map reads in kg/m3."""
    forward = maps(output_units="m")[kind]
    found = posterior(problem(letters(DATA, units="cm"), forward=forward))
    require(found, closed_form(100.0 * GAIN, DATA, 0.01 * np.eye(3)))
    forward = maps(input_units="kg/m3")[kind]
    latent = unknown(units="g/cm3")
    found = posterior(problem(letters(), forward=forward, latents=[latent]))
    require(found, closed_form(1000.0 * GAIN, DATA, 0.01 * np.eye(3)))
    both = maps(input_units="kg m-3", output_units="mGal")[kind]
    data, noise = letters(DATA, units="uGal"), bj.GaussianNoise(sd=1e4)
    found = posterior(problem(data, noise, forward=both, latents=[latent]))
    require(found, closed_form(1e6 * GAIN, DATA, 1e8 * np.eye(3)))


@pytest.mark.parametrize("kind", maps())
def test_temperatures_have_an_offset(kind):
    """Data in degrees of a map in kelvin, and the other way round; an sd has none."""
    forward = maps(output_units="K")[kind]
    latent = unknown(sd=100.0, mean=250.0)
    data = letters(300.0 * GAIN[:, 0] - 273.15 + DATA, units="degC")
    found = posterior(problem(data, bj.GaussianNoise(sd=0.1), forward=forward, latents=[latent]))
    expected = closed_form(GAIN, data.values + 273.15, 0.01 * np.eye(3), 100.0, 250.0)
    require(found, expected)
    forward = maps(input_units="K")[kind]
    latent = unknown(sd=10.0, mean=20.0, units="degC")
    data = letters(293.15 * GAIN[:, 0] + DATA, units="W")
    found = posterior(problem(data, bj.GaussianNoise(sd=0.1), forward=forward, latents=[latent]))
    shifted = data.values - 273.15 * GAIN[:, 0]
    require(found, closed_form(GAIN, shifted, 0.01 * np.eye(3), 10.0, 20.0))


def test_an_sd_takes_no_offset():
    data = letters(DATA, units="K")
    for unit, size in (("degC", 1.0), ("degF", 5 / 9), ("delta_degF", 5 / 9), ("K", 1.0)):
        noise = bj.GaussianNoise(sd=xr.DataArray(1.0, attrs={"units": unit}))
        found = posterior(problem(data, noise))
        require(found, closed_form(np.ones(3), DATA, size**2 * np.eye(3)))


@pytest.mark.parametrize("kind", maps())
def test_maps_in_other_units_are_refused(kind):
    wrong = maps(output_units="s")[kind]
    refused(lambda: problem(METRES, forward=wrong), "modality 'm'")
    latent = unknown(units="m/s")
    wrong = maps(input_units="kg/m3")[kind]
    refused(lambda: problem(letters(), forward=wrong, latents=[latent]), "map '")


def test_matrices_may_state_what_a_unit_of_the_latent_gives():
    matrix = xr.DataArray(GAIN, {"s": list("abc")}, ("s", "th"), attrs={"units": "mGal/(kg/m3)"})
    forward = bj.linear_map(matrix[::-1], "th", output_units="mGal")
    latent = unknown(units="g/cm3")
    data, noise = letters(DATA, units="uGal"), bj.GaussianNoise(sd=1e4)
    found = posterior(problem(data, noise, forward=forward, latents=[latent]))
    require(found, closed_form(1e6 * GAIN, DATA, 1e8 * np.eye(3)))
    refused(lambda: bj.linear_map(matrix, "th"), "output_units")
    refused(
        lambda: bj.linear_map(matrix, "th", output_units="mGal", input_units="m/s"), "input_units"
    )


def test_operators_state_units_or_leave_them():
    operator = np.random.default_rng(0).normal(size=(3, 3))
    data = letters(DATA, units="uGal")
    forward = bj.linear_map(GAIN, "th", output_units="m")
    array = xr.DataArray(
        operator, {"s": list("abc")}, ("s", "row"), attrs={"units": "mGal/m"}
    )  # fmt: skip
    found = posterior(problem(data, forward=forward, observe=array[::-1]))
    require(found, closed_form(1e3 * operator @ GAIN, DATA, 0.01 * np.eye(3)))
    refused(lambda: problem(data, forward=forward, observe=operator), "observe")
    refused(lambda: problem(data, forward=forward, observe=lambda x: x), "observe")
    wrong = array.assign_attrs(units="s/m")
    refused(lambda: problem(data, forward=forward, observe=wrong), "modality 'm'")
    same = problem(METRES, forward=forward, observe=operator)
    require(posterior(same), closed_form(operator @ GAIN, DATA, 0.01 * np.eye(3)))


# ---- latents and grids -------------------------------------------------------------------------


def test_settings_of_fields_are_in_units_of_field_and_grid():
    x = np.array([0.0, 1.0, 2.5])
    plain = bj.GaussianField(
        "th", bj.Grid(x=x), sd=200.0, length_scale=1.5, mean=50.0, units="kg/m3"
    )
    expected = posterior(problem(letters(), matrix=np.eye(3), latents=[plain]))
    kilometres = xr.DataArray(x, dims="x", attrs={"units": "km"})
    for axis, length in (
        (kilometres, pint.Quantity(1500.0, "m")),
        (kilometres, {"x": pint.Quantity(1.5, "km")}),
        (pint.Quantity(x * 1e3, "m"), pint.Quantity(1.5, "km")),
        (kilometres, 1.5),
    ):
        field = bj.GaussianField(
            "th", bj.Grid(x=axis), sd=pint.Quantity(0.2, "g/cm3"), length_scale=length,
            mean=xr.DataArray([0.05, 0.05, 0.05], dims="x", attrs={"units": "g/cm3"}),
            units="kg m-3",
        )  # fmt: skip
        require(posterior(problem(letters(), matrix=np.eye(3), latents=[field])), expected)
    grid = bj.Grid(x=kilometres)
    for wrong in (
        {"sd": pint.Quantity(1.0, "s")},
        {"length_scale": pint.Quantity(1.0, "s")},
        {"length_scale": {"x": pint.Quantity(1.0, "s")}},
        {"mean": pint.Quantity(1.0, "s")},
        {"length_scale": bj.Prior(pm.HalfNormal, sigma=1.0, units="s")},
        {"smoothness": pint.Quantity(1.5, "m")},
    ):
        settings = {"sd": 1.0, "length_scale": 1.0, "units": "kg/m3"} | wrong
        refused(lambda s=settings: bj.GaussianField("th", grid, **s), "GaussianField 'th'")


def test_a_precision_is_in_inverse_squares():
    precision = np.diag([1.0, 4.0, 2.0])
    grid = bj.Grid(x=[0.0, 1.0, 2.0])
    given = pint.Quantity(precision * 1e-4, "1/cm**2")
    field = bj.GaussianField("th", grid, precision=given, units="m")
    found = posterior(problem(letters(), matrix=np.eye(3), latents=[field]))
    require(found, closed_form(np.eye(3), DATA, 0.01 * np.eye(3), np.linalg.inv(precision)))
    wrong = pint.Quantity(precision, "1/m")
    refused(lambda: bj.GaussianField("th", grid, precision=wrong, units="m"), "precision")


def test_axes_in_two_units_need_a_length_each():
    grid = bj.Grid(
        z=xr.DataArray([0.0, 1.0], attrs={"units": "m"}, dims="z"),
        t=xr.DataArray([0.0, 1.0, 2.0], attrs={"units": "s"}, dims="t"),
    )
    refused(lambda: bj.GaussianField("th", grid, sd=1.0, length_scale=1.0), "length_scale")
    lengths = {"z": pint.Quantity(100, "cm"), "t": pint.Quantity(500, "ms")}
    made = bj.GaussianField("th", grid, sd=1.0, length_scale=lengths)
    assert dict(made.length_scale) == pytest.approx({"z": 1.0, "t": 0.5})


def test_a_grid_in_kilometres_beside_data_in_metres():
    x = np.array([0.0, 1.0, 2.0])
    grid = bj.Grid(x=xr.DataArray(x, dims="x", attrs={"units": "km"}))
    field = bj.GaussianField("th", grid, sd=2.0, length_scale=1.5)
    data = xr.DataArray(DATA, {"x": ("x", x * 1e3, {"units": "m"})}, "x")
    plain = bj.GaussianField("th", bj.Grid(x=x), sd=2.0, length_scale=1.5)
    matrix = np.diag([1.0, 2.0, 3.0])
    expected = posterior(problem(letters(), matrix=matrix, latents=[plain]))
    require(posterior(problem(data, matrix=matrix, latents=[field])), expected)
    labelled = xr.DataArray(
        matrix, {"x": ("x", x * 1e3, {"units": "m"}), "cell": x * 1.0}, ("x", "cell")
    )
    turned = problem(data, matrix=labelled[::-1, ::-1], latents=[field])
    require(posterior(turned), expected)
    apart = xr.DataArray(DATA, {"x": ("x", x, {"units": "m"})}, "x")
    refused(lambda: problem(apart, matrix=matrix, latents=[field]), "share the dimension 'x'")
    seconds = xr.DataArray(DATA, {"x": ("x", x, {"units": "s"})}, "x")
    refused(lambda: problem(seconds, matrix=matrix, latents=[field]), "share the dimension 'x'")


def test_coordinates_in_seconds_beside_milliseconds():
    t = np.array([0.0, 0.1, 0.25])
    sd = xr.DataArray([1.0, 2.0, 3.0], {"t": ("t", t * 1e3, {"units": "ms"})}, "t")[::-1]
    data = xr.DataArray(DATA, {"t": ("t", t, {"units": "s"})}, "t")
    found = posterior(problem(data, bj.GaussianNoise(sd=sd)))
    require(found, closed_form(np.ones(3), DATA, np.diag([1.0, 4.0, 9.0])))
    new = xr.DataArray(DATA + 1.0, {"t": ("t", t * 1e3, {"units": "ms"})}, "t")[[2, 0, 1]]
    made = problem(data).with_data({"m": new})
    np.testing.assert_array_equal(made.modality["m"].data, DATA + 1.0)
    wrong = sd.assign_coords(t=("t", t, {"units": "m"}))
    refused(lambda: problem(data, bj.GaussianNoise(sd=wrong)), "modality 'm'")


# ---- data --------------------------------------------------------------------------------------


def test_new_data_are_converted():
    made = problem(METRES)
    centimetres = letters(100.0 * (DATA + 1.0), units="cm")[::-1]
    for new in (centimetres, letters(pint.Quantity(100.0 * (DATA + 1.0), "cm"))):
        other = made.with_data({"m": new})
        np.testing.assert_allclose(other.modality["m"].data, DATA + 1.0, rtol=1e-15)
        assert other.modality["m"].data.attrs["units"] == "m"
    refused(lambda: made.with_data({"m": letters(DATA, units="s")}), "modality 'm'")


def test_quantities_are_data():
    data, sd = letters(pint.Quantity(100.0 * DATA, "cm")), pint.Quantity(0.1, "m")
    forward = bj.linear_map(GAIN, "th", output_units="m")
    found = posterior(problem(data, bj.GaussianNoise(sd=sd), forward=forward))
    require(found, closed_form(GAIN, DATA, 0.01 * np.eye(3)))


def test_attributes_keep_the_spelling_of_the_user():
    modality = problem(letters(DATA, units="m s-1")).modality["m"]
    assert modality.units == "m s-1"
    tree = bj.linearize(problem(letters(), latents=[unknown(units="kg m-3")]))
    assert bj.summary(tree)["units"].item() == "kg m-3"


# ---- truths, points and couplings --------------------------------------------------------------


def test_truths_and_points_are_converted():
    latent = unknown(sd=10.0, units="m")
    made = problem(letters(), bj.GaussianNoise(sd=1e-9), GAIN, latents=[latent])
    for value in (pint.Quantity(250.0, "cm"), xr.DataArray(250.0, attrs={"units": "cm"}), 2.5):
        data = bj.simulate(made, truth={"th": value}, random_seed=1)
        np.testing.assert_allclose(data["m"], 2.5 * GAIN[:, 0], rtol=1e-7)
        at = bj.linearize(made, at={"th": value})["linearization"]
        np.testing.assert_allclose(at["th"], 2.5, rtol=1e-9)
    refused(lambda: bj.simulate(made, truth={"th": pint.Quantity(1.0, "s")}, random_seed=1), "th")
    refused(lambda: bj.linearize(made, at={"th": pint.Quantity(1.0, "s")}), "th")


def test_discrepancies_are_converted():
    x = np.array([0.0, 1.0, 3.0])
    scaled = np.sqrt(3.0) * np.abs(x[:, None] - x) / 1.5
    kernel = (1.0 + scaled) * np.exp(-scaled)
    data = xr.DataArray(DATA, {"x": ("x", x, {"units": "km"})}, "x", attrs={"units": "m"})
    for sd, length in (
        (pint.Quantity(70.0, "cm"), pint.Quantity(1500.0, "m")),
        (0.7, 1.5),
        (xr.DataArray(0.7, attrs={"units": "m"}), xr.DataArray(1.5, attrs={"units": "km"})),
    ):
        errors = bj.JointDiscrepancy(sd={"m": sd}, on="x", length_scale=length)
        expected = closed_form(np.ones(3), DATA, 0.49 * kernel + 0.01 * np.eye(3))
        require(posterior(problem(data, discrepancy=errors)), expected)
    for settings in (
        {"sd": {"m": pint.Quantity(1.0, "s")}, "length_scale": 1.5},
        {"sd": {"m": 1.0}, "length_scale": pint.Quantity(1.5, "s")},
        {"sd": {"m": 1.0}, "length_scale": bj.Prior(pm.HalfNormal, sigma=1.0, units="s")},
        {"sd": {"m": bj.Prior(pm.HalfNormal, sigma=1.0, units="s")}, "length_scale": 1.5},
    ):
        errors = bj.JointDiscrepancy(on="x", **settings)
        refused(lambda e=errors: problem(data, discrepancy=e), "JointDiscrepancy")


def test_loadings_are_converted():
    first, second = METRES, xr.DataArray(DATA[::-1], dims="t", attrs={"units": "s"})

    def made(**settings):
        return bj.JointProblem(
            latents=[unknown()],
            modalities=[
                bj.Modality(n, d, bj.linear_map(np.ones((3, 1)), "th"), bj.GaussianNoise(sd=0.1))
                for n, d in (("a", first), ("b", second))
            ],
            discrepancy=bj.JointDiscrepancy(**settings),
        )

    loadings = np.array([0.5, 2.0])
    covariance = np.kron(4.0 * np.outer(loadings, loadings), np.eye(3)) + 0.01 * np.eye(6)
    expected = closed_form(np.ones(6), np.r_[DATA, DATA[::-1]], covariance)
    require(posterior(made(sd=2.0, loadings={"a": 0.5, "b": 2.0})), expected)
    given = {"a": pint.Quantity(50.0, "cm/K"), "b": pint.Quantity(2000.0, "ms/K")}
    require(posterior(made(sd=pint.Quantity(2.0, "K"), loadings=given)), expected)
    refused(lambda: made(sd=2.0, loadings=given), "loading")
    wrong = given | {"b": pint.Quantity(2.0, "m/K")}
    refused(lambda: made(sd=pint.Quantity(2.0, "K"), loadings=wrong), "loading")


def test_a_function_reads_its_latents_in_its_own_units():
    """Nonlinear: the square of a length that it reads in metres."""
    latent = unknown(sd=100.0, mean=200.0, units="cm")
    forward = bj.pytensor_map(
        lambda th: pt.stack([th**2, th**2, th**2]), "th", input_units="m", output_units="m2"
    )
    made = problem(letters(np.full(3, 9.0), units="m2"), forward=forward, latents=[latent])
    found, _ = posterior(made)
    assert found == pytest.approx(300.0, rel=1e-3)
