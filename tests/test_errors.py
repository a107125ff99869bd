"""Every fault of users that the design lists: the message names the object, the fact and the cure.

Faults that concern one part only are tested beside that part.
"""

import warnings

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from tests.helpers import STANDARD, data

GRID = bj.Grid(depth=[5.0, 15.0], x=[0.0, 10.0, 20.0])
UNIT_NOISE = bj.GaussianNoise(sd=1.0)
SLOPE = bj.Parameter("slope", STANDARD, units="s/m")


def field(name="density", **settings):
    return bj.GaussianField(name, GRID, **({"sd": 1.0, "length_scale": 10.0} | settings))


def modality(name="line", values=(1.0, 2.0, 3.0), forward=None, noise=UNIT_NOISE, **settings):
    observed = values if isinstance(values, xr.DataArray) else data(values)
    forward = forward or bj.linear_map(np.ones((observed.size, 1)), "slope")
    return bj.Modality(name, observed, forward, noise, **settings)


def problem(modalities=None, latents=(SLOPE,), **settings):
    modalities = [modality()] if modalities is None else modalities
    return bj.JointProblem(latents=latents, modalities=modalities, **settings)


# Data.


def test_nan_data():
    message = r"modality 'line': 2 of 3 data are NaN; drop them with data.dropna\('station'\)"
    with pytest.raises(ValueError, match=message):
        modality(values=[1.0, np.nan, np.nan])


def test_infinite_data():
    message = r"'line': 1 of 3 data are infinite; keep the finite ones with data.where\(np.isfinite"
    with pytest.raises(ValueError, match=message):
        modality(values=[1.0, -np.inf, 2.0])


def test_the_cure_for_nan_data_works():
    observed = data([1.0, np.nan, 3.0]).dropna("station")
    problem([modality(values=observed)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), r"the data are a ndarray; give an xarray.DataArray, as in xr.DataArray"),
        ((data([]),), "there are no data"),
        ((data([1.0]), np.eye(1)), "the forward map is a ndarray; make one with bj.linear_map"),
        ((data([1.0]), None, 0.1), "the noise must be one of bj.GaussianNoise, StudentTNoise"),
    ],
)
def test_wrong_kinds_of_arguments(arguments, message):
    parts = [data([1.0]), bj.linear_map(np.ones((1, 1)), "slope"), UNIT_NOISE]
    parts = [
        p if p is not None else default for p, default in zip(arguments, parts, strict=False)
    ] + parts[len(arguments) :]
    with pytest.raises(ValueError, match=f"modality 'line': {message}"):
        bj.Modality("line", *parts)


def test_wrong_kinds_of_latents_and_modalities():
    with pytest.raises(ValueError, match="latents must be made by bj classes, 'slope' given"):
        problem(latents=["slope"])
    with pytest.raises(ValueError, match="modalities must be made by bj classes"):
        problem([np.zeros(3)])
    with pytest.raises(ValueError, match="there are no latents; give at least one GaussianField"):
        problem([], latents=[])


# Shapes and dims.


def test_a_response_of_another_size_than_the_data():
    forward = bj.linear_map(np.ones((4, 1)), "slope")
    message = (
        r"'line': \(4,\) predicted values for data of shape \(3,\); .* \(dims \('station',\)\)"
    )
    with pytest.raises(ValueError, match=message):
        problem([modality(forward=forward)])


def test_a_response_of_another_shape_than_the_data():
    forward = bj.pytensor_map(lambda slope: slope * np.ones((3, 2)), "slope")
    observed = data(np.zeros((2, 3)), ("station", "component"))
    message = r"\(3, 2\) predicted values for data of shape \(2, 3\)"
    with pytest.raises(ValueError, match=message):
        problem([modality(values=observed, forward=forward)])


def test_a_dimension_with_the_name_of_a_latent():
    with pytest.raises(ValueError, match="'slope' is both a dimension and the name of a latent"):
        problem([modality(values=data([1.0, 2.0], "slope"))])


def test_a_grid_axis_with_the_name_of_a_scalar():
    depth = bj.Parameter("depth", STANDARD)
    with pytest.raises(ValueError, match="'depth' is both a dimension and the name"):
        problem([], latents=[field(), depth])


@pytest.mark.parametrize("name", ["chain", "draw", "__sample__"])
def test_names_that_draws_need(name):
    with pytest.raises(ValueError, match=f"modality 'line': the dimension '{name}' is needed by"):
        problem([modality(values=data([1.0, 2.0], name))])
    with pytest.raises(ValueError, match=f"latent '{name}': the name '{name}' is needed by PyMC"):
        problem([], latents=[bj.Parameter(name, STANDARD)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"x": [0.0, 1.0]}, {"x": [0.0, 2.0]}),
        ({"x": [5.0, 6.0]}, {}),  # without coordinates cells are numbered
        ({"x": ["a", "b"]}, {"x": ["b", "a"]}),
    ],
)
def test_modalities_that_share_a_dimension_with_different_coordinates(first, second):
    parts = [
        modality("p", data([1.0, 2.0], "x", first)),
        modality("q", data([1.0, 2.0], "x", second)),
    ]
    message = (
        "modality 'p' and modality 'q' share the dimension 'x' with different coordinates; "
        r".*data.swap_dims\(x='x_2'\)"
    )
    with pytest.raises(ValueError, match=message):
        problem(parts)


def test_modalities_that_share_a_dimension_with_different_lengths():
    with pytest.raises(ValueError, match="'p' and modality 'q' share the dimension 'station'"):
        problem([modality("p", [1.0, 2.0]), modality("q", [1.0, 2.0, 3.0])])


def test_a_grid_and_data_that_share_a_dimension_with_different_coordinates():
    observed = data([1.0, 2.0], "x", {"x": [0.0, 1.0]})
    gravity = modality("gravity", observed, bj.linear_map(np.ones((2, 6)), "density"))
    with pytest.raises(
        ValueError, match="latent 'density' and modality 'gravity' share the dimension"
    ):
        problem([gravity], latents=[field()])


def test_modalities_may_share_a_dimension_with_the_same_coordinates():
    coords = {"x": [0.0, 1.0]}
    problem([modality(name, data([1.0, 2.0], "x", coords)) for name in "pq"])


# Names.


@pytest.mark.parametrize(
    ("latents", "modalities", "name"),
    [
        ([SLOPE, bj.Parameter("slope", STANDARD)], ["line"], "slope"),
        ([SLOPE], ["line", "line"], "line"),
        ([SLOPE], ["slope"], "slope"),
    ],
)
def test_duplicate_names(latents, modalities, name):
    with pytest.raises(ValueError, match=f"the name '{name}' is used twice; give each its own"):
        problem([modality(m) for m in modalities], latents=latents)


def test_duplicate_names_of_discrepancies():
    twice = [bj.JointDiscrepancy(sd={"line": 1.0})] * 2
    with pytest.raises(ValueError, match="discrepancies: the name 'discrepancy' is used twice"):
        problem(discrepancy=twice)


def test_a_latent_with_the_name_of_an_unknown_noise():
    noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0))
    latents = [SLOPE, bj.Parameter("line_sd", STANDARD)]
    forward = bj.linear_map({"slope": np.ones((3, 1)), "line_sd": np.ones((3, 1))})
    with pytest.raises(
        ValueError, match="'line_sd' is both the name of a latent and an unknown of"
    ):
        problem([modality(noise=noise, forward=forward)], latents=latents)


def test_a_latent_with_the_name_of_an_unknown_of_a_field():
    unknown = bj.Prior(pm.HalfNormal, sigma=1.0)
    latents = [bj.Parameter("density_sd", STANDARD), field(sd=unknown)]
    with pytest.raises(
        ValueError, match="'density_sd' is both the name of a latent and an unknown"
    ):
        problem([], latents=latents)


@pytest.mark.parametrize("name", ["two words", "1st", "", "a-b", 3])
def test_names_must_be_words(name):
    with pytest.raises(ValueError, match="must be a word of letters, digits and underscores"):
        modality(name)


# What reaches what.


def test_a_map_that_names_an_unknown_latent():
    forward = bj.linear_map(np.ones((3, 1)), "slop")
    message = "'line': its map 'linear_slop' reads the latent 'slop', which is not in the problem; "
    with pytest.raises(ValueError, match=message):
        problem([modality(forward=forward)])


def test_a_modality_that_no_latent_reaches():
    forward = bj.pytensor_map(lambda: np.ones(3), [], name="constant")
    with pytest.raises(ValueError, match="'line': its map 'constant' reads no latent"):
        problem([modality(forward=forward)])


def test_a_latent_that_no_modality_reaches_is_a_warning_at_the_users_line():
    with pytest.warns(
        UserWarning, match=r"no modality reaches \['density'\]: .* the prior only"
    ) as caught:
        problem(latents=[SLOPE, field()])
    (warning,) = caught
    assert warning.filename == __file__


def test_parts_of_a_problem_do_not_warn_again():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = problem([modality("p"), modality("q", [1.0, 2.0, 3.0])])
        whole.without("p")
        whole.separate()
        whole.without_data()


# Units.


@pytest.mark.parametrize(
    ("latent", "expected", "agree"),
    [
        ("s/m", "s/m", True),
        ("s/m", "s / m", True),
        ("s/m", "km/s", False),
        (None, "km/s", True),
        ("s/m", None, True),
    ],
)
def test_units_of_a_latent_and_the_input_of_a_map(latent, expected, agree):
    slope = bj.Parameter("slope", STANDARD, units=latent)
    forward = bj.linear_map(np.ones((3, 1)), "slope", input_units=expected)
    if agree:
        problem([modality(forward=forward)], latents=[slope])
        return
    message = "map 'linear_slope': expects 'slope' in 'km/s', the latent is in 's/m'; convert one"
    with pytest.raises(ValueError, match=message):
        problem([modality(forward=forward)], latents=[slope])


def test_units_of_data_and_the_output_of_a_map():
    forward = bj.linear_map(np.ones((2, 1)), "slope", output_units="m")
    message = "'line': the data are in 'mGal', the map 'linear_slope' gives 'm'; convert one"
    with pytest.raises(ValueError, match=message):
        modality(values=data([1.0, 2.0], units="mGal"), forward=forward)


@pytest.mark.parametrize("observe", [2.0 * np.eye(2), lambda output: output])
def test_nobody_can_see_whether_an_operator_converts_units(observe):
    forward = bj.linear_map(np.ones((2, 1)), "slope", output_units="m/s2")
    values = data([1.0, 2.0], units="mGal")
    message = "the data are in 'mGal', the map 'linear_slope' gives 'm/s2', seen through observe"
    with pytest.raises(ValueError, match=message):
        modality(values=values, forward=forward, observe=observe)
    stating = xr.DataArray(1e5 * np.eye(2), dims=("station", "i"), attrs={"units": "mGal s2 m-1"})
    assert modality(values=values, forward=forward, observe=stating).from_response.is_identity


def test_units_of_a_latent_that_the_map_does_not_read():
    forward = bj.linear_map(np.ones((3, 1)), "slope", input_units={"density": "kg/m3"})
    with pytest.raises(ValueError, match="input_units names 'density', which it does not read"):
        problem([modality(forward=forward)], latents=[SLOPE])


# Covariances: negative sd and matrices that are not positive definite, wherever one can be given.

NOT_POSITIVE = np.array([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: field(sd=-1.0),
        lambda: bj.GaussianNoise(sd=-1.0),
        lambda: bj.StudentTNoise(sd=[1.0, -1.0], nu=4),
        lambda: bj.JointDiscrepancy(sd={"line": -1.0}),
        lambda: modality(power=-1.0),
    ],
)
def test_negative_scales(make):
    with pytest.raises(ValueError, match="must be positive, the smallest given is -1"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: bj.CorrelatedNoise(covariance=NOT_POSITIVE),
        lambda: bj.GaussianField("f", bj.Grid(x=[0.0, 1.0]), precision=NOT_POSITIVE),
        lambda: bj.JointDiscrepancy(sd={"p": 1.0, "q": 1.0}, correlation=NOT_POSITIVE),
    ],
)
def test_matrices_that_are_not_positive_definite(make):
    with pytest.raises(
        ValueError, match="not positive (semi-)?definite, its smallest eigenvalue is -1; "
    ):
        make()


# Couplings with unknowns.


def test_an_unknown_weight_of_a_coupling():
    with pytest.raises(ValueError, match="an unknown weight needs the normaliser of the coupled"):
        bj.CrossGradient("a", "b", weight=bj.Prior(pm.HalfNormal, sigma=1.0))


def test_an_unknown_length_scale_of_a_coupled_field():
    first = field("a", length_scale=bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0))
    coupling = bj.CrossGradient("a", "b", weight=1.0)
    message = "an unknown length_scale of 'a' needs the normaliser of the coupled prior"
    with pytest.raises(ValueError, match=f"cross_gradient_a_b: {message}"):
        problem([], latents=[first, field("b")], couplings=[coupling])


def test_an_unknown_sd_of_a_field_that_is_not_divided_by_it():
    first = field("a", sd=bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0))
    scaled = {"normalisation": "range", "scales": {"a": 1.0, "b": 1.0}}
    coupling = bj.CrossGradient("a", "b", weight=1.0, **scaled)
    with pytest.raises(ValueError, match="an unknown sd of 'a' needs the normaliser"):
        problem([], latents=[first, field("b")], couplings=[coupling])


def test_an_unknown_mean_of_a_coupled_field_changes_no_gradient():
    latents = [field("a", mean=STANDARD), field("b")]
    problem([], latents=latents, couplings=[bj.CrossGradient("a", "b", weight=1.0)])


# Discrepancies.

PAIR = {"p": 1.0, "q": 2.0}
UNKNOWN_LENGTH = bj.Prior(pm.LogNormal, mu=0.0, sigma=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "sd is not given; state how large the model's errors may be"),
        ({"sd": 1.0}, "give sd as {modality: sd}, or loadings, or of= for model space"),
        ({"sd": {"p": [1.0, 2.0]}}, "sd must be one number or a prior"),
        ({"sd": PAIR, "on": "time"}, "length_scale is not given; state over what distance in time"),
        ({"sd": PAIR, "length_scale": 1.0}, "length_scale and grid need on=, the coordinates"),
        ({"sd": PAIR, "on": "time", "length_scale": -1.0}, "length_scale must be positive"),
        (
            {"sd": PAIR, "form": "other"},
            r"form 'other' is unknown; use one of \('auto', 'latent', 'marginal'\)",
        ),
        ({"sd": PAIR, "smoothness": 1.0}, r"smoothness 1.0 is not one of \(0.5, 1.5, 2.5\)"),
        ({"sd": PAIR, "rank": 5}, "rank counts modes in coordinates; give on="),
        (
            {"sd": PAIR, "rank": 5, "on": "time", "length_scale": UNKNOWN_LENGTH},
            "the leading modes change with an unknown length_scale; give grid=",
        ),
        (
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "kernel": "wave"},
            r"kernel 'wave' is unknown; use one of \('matern', 'periodic', 'drift'\)",
        ),
        (
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "kernel": "periodic"},
            "a periodic kernel needs period=, the one after which it repeats",
        ),
        (
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "kernel": "drift"},
            "a drift kernel needs origin=, the one at which it is zero",
        ),
        (
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "period": 2.0},
            "period belongs to a periodic kernel; leave it out",
        ),
        (
            {
                "sd": PAIR,
                "on": "time",
                "length_scale": UNKNOWN_LENGTH,
                "kernel": "drift",
                "origin": 0.0,
            },
            "of a drift only sd over length_scale can be known",
        ),
        (
            {"sd": PAIR, "on": ("x", "y"), "length_scale": 1.0, "kernel": {"x": "matern"}},
            r"kernel names \['x'\], on= names \['x', 'y'\]; one for each",
        ),
        (
            {
                "sd": PAIR,
                "on": ("x", "y"),
                "length_scale": 1.0,
                "period": 1.0,
                "kernel": "periodic",
            },
            "a product of functions needs one length_scale for each coordinate",
        ),
        (
            {"covariance": {("p", "p"): np.eye(2)}, "on": "time"},
            "the covariance is given, on has no meaning beside it",
        ),
        ({"covariance": {"p": np.eye(2)}}, "give the covariance by pairs of modalities"),
        (
            {"covariance": {("p", "q"): np.eye(2), ("q", "p"): np.eye(2)}},
            r"names the pair \('p', 'q'\) twice",
        ),
        ({"sd": PAIR, "correlation": 1.01}, "not positive semi-definite"),
        ({"sd": {"p": 1.0}, "correlation": 0.5}, "needs two modalities, sd names"),
        ({"sd": PAIR, "correlation": np.eye(3)}, "must be a number or a 2 by 2 matrix with ones"),
        ({"sd": PAIR, "correlation": [0.5, 0.5]}, "must be a number or a 2 by 2 matrix with ones"),
        ({"sd": PAIR, "loadings": {"p": 1.0}}, "with loadings give one sd, of the common cause"),
        ({"sd": PAIR | {"r": 1.0}, "correlation": -0.6}, "not positive semi-definite"),
        ({"sd": PAIR, "name": "my drift"}, "must be a word of letters"),
        (
            {
                "sd": PAIR | {"r": 1.0},
                "correlation": bj.Prior(pm.Uniform, lower=-1.0, upper=1.0),
            },
            r"reaches \[-1, 1\]; .* common to 3 modalities must lie between -0.5 and 1",
        ),
        (
            {"sd": PAIR, "correlation": bj.Prior(pm.Normal, mu=0.0, sigma=0.5)},
            r"reaches \[-4, 4\]; .* common to 2 modalities must lie between -1 and 1",
        ),
        (
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "grid": bj.Grid(t=[0.0, 1.0])},
            r"the grid has dims \('t',\), on= names \('time',\)",
        ),
    ],
)
def test_errors_when_a_discrepancy_is_made(settings, message):
    with pytest.raises(ValueError, match=f"JointDiscrepancy '.*': .*{message}"):
        bj.JointDiscrepancy(**settings)


PLAIN = bj.linear_map(np.ones((4, 1)), "slope", name="plain")
PLACED = bj.linear_map(np.ones((4, 1)), "slope", name="placed", coords={"x": np.arange(4.0)})
SHORT = bj.linear_map(np.ones((4, 1)), "slope", name="short", coords={"x": np.arange(3.0)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"of": PLACED, "sd": {"p": 1.0}, "on": "x"}, "with of= give one sd, and neither"),
        ({"of": PLACED, "sd": 1.0, "length_scale": None}, "with of= give on=, the coordinates of"),
        (
            {"of": PLAIN, "sd": 1.0, "on": "x"},
            r"map 'plain' states no coordinates \['x'\]; make it",
        ),
        (
            {"of": PLACED, "sd": 1.0, "on": "x", "length_scale": UNKNOWN_LENGTH},
            "an unknown length_scale in model space needs grid=",
        ),
    ],
)
def test_errors_of_a_discrepancy_in_model_space(settings, message):
    with pytest.raises(ValueError, match=message):
        bj.JointDiscrepancy(**({"length_scale": 1.0} | settings))


def timed(name, times, **settings):
    values = data(np.arange(float(len(times))), f"i_{name}", {"time": (f"i_{name}", times)})
    return modality(name, values, **settings)


FIRST, SECOND = timed("p", [0.0, 1.0, 2.0]), timed("q", [0.5, 1.5])


@pytest.mark.parametrize(
    ("modalities", "settings", "message"),
    [
        (
            [FIRST, SECOND],
            {"sd": {"r": 1.0}},
            r"there is no modality \['r'\]; there are \['p', 'q'\]",
        ),
        (
            [FIRST, SECOND],
            {"sd": PAIR},
            "paired by index, but the modalities have .*'p': 3, 'q': 2.* data; give on= a",
        ),
        (
            [FIRST, SECOND],
            {"sd": PAIR, "on": "day", "length_scale": 1.0},
            r"modality 'p' has no coordinate 'day'; there are \['time'\]",
        ),
        (
            [timed("p", ["a", "b"]), SECOND],
            {"sd": PAIR, "on": "time", "length_scale": 1.0},
            "modality 'p': the coordinate 'time' is not numeric; give numbers or times",
        ),
        (
            [timed("p", [0.0, np.nan]), SECOND],
            {"sd": PAIR, "on": "time", "length_scale": 1.0},
            "modality 'p': the coordinate 'time' is not finite; drop those data",
        ),
        (
            [FIRST, SECOND],
            {"sd": PAIR, "on": "time", "length_scale": 1.0, "grid": bj.Grid(time=np.arange(2.0))},
            r"the grid time \[0, 1\] does not cover the data \[0, 2\]; widen it",
        ),
        (
            [timed("p", np.arange(501.0)), timed("q", np.arange(500.0) + 0.5)],
            {"sd": PAIR, "on": "time", "length_scale": 1.0},
            "1001 distinct points make the exact covariance too large; give rank=, or grid=bj.Grid",
        ),
        (
            [FIRST, SECOND],
            {"covariance": {("p", "p"): np.eye(3), ("p", "q"): np.eye(3)}},
            r"the covariance of 'p' and 'q': an array of shape",
        ),
        (
            [FIRST],
            {"covariance": {("p", "p"): np.diag([1.0, 1.0, -1.0])}},
            "not symmetric and positive semi-definite; its smallest eigenvalue is -1",
        ),
        (
            [timed("p", [0.0, 1.0], noise=bj.StudentTNoise(sd=1.0, nu=4))],
            {"sd": {"p": 1.0}, "form": "marginal"},
            "the marginal form needs Gaussian noise, 'p' has another; use form='latent'",
        ),
        (
            [timed("p", [0.0, 1.0], power=0.5)],
            {"sd": {"p": 1.0}, "form": "marginal"},
            "'p' is tempered, which has no meaning with a marginal discrepancy",
        ),
        (
            [FIRST],
            {"of": PLACED, "sd": 1.0, "on": "x", "length_scale": 1.0},
            "there is no modality with this map",
        ),
        (
            [modality(values=np.zeros(4), forward=SHORT)],
            {"of": SHORT, "sd": 1.0, "on": "x", "length_scale": 1.0},
            "modality 'line' observes 4 outputs of the map, its coordinates are 3; one",
        ),
        (
            [modality(values=np.zeros(4), forward=PLACED, observe=lambda output: output)],
            {"of": PLACED, "sd": 1.0, "on": "x", "length_scale": 1.0},
            "modality 'line' observes through a function; model space needs matrices",
        ),
    ],
)
def test_errors_where_a_discrepancy_does_not_fit(modalities, settings, message):
    with pytest.raises(ValueError, match=f"JointDiscrepancy 'discrepancy': .*{message}"):
        problem(modalities, discrepancy=bj.JointDiscrepancy(**settings))
