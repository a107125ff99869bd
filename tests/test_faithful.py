"""Labels go before positions, at any scale: the same numbers in another order are the same."""

import warnings

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy import sparse

import bayesjoint as bj
from tests.faithful import RTOL, closed_form, letters, posterior, problem, refused, require, unknown

DATA = np.array([1.0, 2.0, 4.0])
GAIN = DATA[:, None]
SD = np.array([1.0, 2.0, 3.0])
COVARIANCE = np.array([[1.0, 0.5, 0.1], [0.5, 4.0, 1.0], [0.1, 1.0, 9.0]])
LABELS, ORDER = list("abc"), [2, 0, 1]
OTHER = [LABELS[i] for i in ORDER]


def labelled(values, *dims):
    """Return an array in another order of its labels, along dims of three."""
    values = np.asarray(values)
    for axis in range(values.ndim):
        values = np.take(values, ORDER, axis=axis)
    return xr.DataArray(values, {dim: OTHER for dim in dims}, dims)


# ---- data --------------------------------------------------------------------------------------


def test_new_data_go_by_their_labels():
    """0.571 by position."""
    made = problem(letters(), matrix=GAIN)
    found = posterior(made.with_data(letters()[::-1].to_dataset(name="m")))
    require(found, closed_form(GAIN, DATA, 0.01 * np.eye(3)))
    assert found[0] == pytest.approx(0.9995, abs=5e-5)


def test_new_data_go_by_the_names_of_their_dims():
    image = xr.DataArray(np.arange(6.0).reshape(2, 3), {"x": [0, 1], "y": [0, 1, 2]}, ("x", "y"))
    made = problem(image, matrix=np.ones((6, 1)))
    turned = made.with_data({"m": (image + 1).T})
    np.testing.assert_array_equal(turned.modality["m"].data, image + 1)


@pytest.mark.parametrize(
    "new",
    [
        letters().assign_coords(s=list("abd")),
        letters()[:2],
        xr.concat([letters(), letters().assign_coords(s=list("def"))], "s"),
        letters().rename(s="t"),
        letters().assign_coords(s=list("aab")),
        letters().expand_dims(t=2),
        [1.0, 2.0],
        None,
        "abc",
        {"a": 1.0},
    ],
    ids=["foreign", "short", "long", "dim", "twice", "dims", "list", "none", "text", "dict"],
)
def test_new_data_that_do_not_fit_are_refused(new):
    made = problem(letters(), matrix=GAIN)
    refused(lambda: made.with_data({"m": new}), "modality 'm'")


@pytest.mark.parametrize("new", [[letters()], letters(), 3.0, None])
def test_data_are_given_by_the_names_of_modalities(new):
    made = problem(letters(), matrix=GAIN)
    refused(lambda: made.with_data(new), "with_data")


# ---- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sd",
    [pd.Series(SD, LABELS)[OTHER], labelled(SD, "s"), labelled(SD, "s").chunk(), list(SD), SD],
    ids=["series", "array", "dask", "list", "bare"],
)
def test_noise_goes_by_the_labels_of_the_data(sd):
    found = posterior(problem(letters(), bj.GaussianNoise(sd=sd)))
    require(found, closed_form(np.ones(3), DATA, np.diag(SD**2)))


@pytest.mark.parametrize(
    "covariance",
    [
        labelled(COVARIANCE, "s", "s_other"),
        labelled(COVARIANCE, "s_other", "s"),
        pd.DataFrame(COVARIANCE, LABELS, LABELS).loc[OTHER, OTHER],
        pd.DataFrame(COVARIANCE, LABELS, LABELS).loc[OTHER, LABELS],
        COVARIANCE.tolist(),
        sparse.csr_array(COVARIANCE),
        COVARIANCE,
    ],
    ids=["array", "transposed", "frame", "rows", "list", "sparse", "bare"],
)
def test_covariances_go_by_the_labels_of_the_data(covariance):
    """1.953 for 0.824 by position, for another covariance."""
    found = posterior(problem(letters(), bj.CorrelatedNoise(covariance=covariance)))
    require(found, closed_form(np.ones(3), DATA, COVARIANCE))


@pytest.mark.parametrize(
    "noise",
    [
        lambda: bj.GaussianNoise(sd=pd.Series(SD, list("abd"))),
        lambda: bj.GaussianNoise(sd=pd.Series(SD[:2], list("ab"))),
        lambda: bj.GaussianNoise(sd=letters(SD).rename(s="t")),
        lambda: bj.GaussianNoise(sd=letters(SD).expand_dims(t=2)),
        lambda: bj.GaussianNoise(sd=SD[:2]),
        lambda: bj.CorrelatedNoise(covariance=pd.DataFrame(COVARIANCE, list("abd"), list("abd"))),
        lambda: bj.CorrelatedNoise(covariance=labelled(COVARIANCE, "t", "u")[:, :2]),
        lambda: bj.CorrelatedNoise(covariance=COVARIANCE[:2, :2]),
        lambda: bj.CorrelatedNoise(covariance=COVARIANCE[0]),
    ],
)
def test_noise_with_other_labels_is_refused(noise):
    refused(lambda: problem(letters(), noise()))


def test_noise_of_more_labels_than_the_data_is_selected():
    sd = pd.Series([*SD, 7.0], [*LABELS, "d"])[::-1]
    np.testing.assert_array_equal(_sd(bj.GaussianNoise(sd=sd)), SD)


def _sd(noise):
    from bayesjoint.noise import sd_of_data

    modality = bj.Modality("m", letters(), bj.linear_map(GAIN, "th"), noise)
    return sd_of_data("m", modality.noise.sd, modality.data)


# ---- matrices ----------------------------------------------------------------------------------

CHANNELS = ["u", "v"]
MATRIX = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.2]])
VECTOR = unknown(coords={"channel": CHANNELS})


@pytest.mark.parametrize(
    "matrix",
    [
        xr.DataArray(MATRIX, {"s": LABELS, "channel": CHANNELS}, ("s", "channel"))[::-1, ::-1],
        xr.DataArray(MATRIX.T, {"s": LABELS, "channel": CHANNELS}, ("channel", "s"))[::-1, ::-1],
        pd.DataFrame(MATRIX, LABELS, CHANNELS).loc[OTHER, CHANNELS[::-1]],
        xr.DataArray(MATRIX[:, ::-1], {"channel": CHANNELS[::-1]}, ("s", "channel")),
        MATRIX,
        sparse.coo_array(MATRIX),
    ],
    ids=["array", "transposed", "frame", "columns", "bare", "sparse"],
)
def test_matrices_go_by_the_labels_of_data_and_latent(matrix):
    found = posterior(problem(letters(), matrix=matrix, latents=[VECTOR]))
    require(found, closed_form(MATRIX, DATA, 0.01 * np.eye(3)))


@pytest.mark.parametrize(
    "matrix",
    [
        pd.DataFrame(MATRIX, list("abd"), CHANNELS),
        pd.DataFrame(MATRIX, LABELS, ["u", "w"]),
        pd.DataFrame(MATRIX.T, CHANNELS, LABELS),
        xr.DataArray(MATRIX, {"s": LABELS, "channel": ["u", "w"]}, ("s", "channel")),
        MATRIX.T,
        MATRIX[:2],
        np.ones((3, 2, 2)),
    ],
    ids=["rows", "columns", "frame", "array", "bare", "short", "cube"],
)
def test_matrices_with_other_labels_are_refused(matrix):
    refused(lambda: problem(letters(), matrix=matrix, latents=[VECTOR]))


FIELD = bj.GaussianField(
    "th", bj.Grid(z=[0.0, 1.0], x=[0.0, 1.0, 2.0]), sd=1.0, length_scale=1.0, mean=0.5
)


def test_matrices_may_have_the_dims_of_a_field():
    rng = np.random.default_rng(3)
    dense = rng.normal(size=(3, 2, 3))
    whole = xr.DataArray(
        dense, {"s": LABELS, "z": [0.0, 1.0], "x": [0.0, 1.0, 2.0]}, ("s", "z", "x")
    )
    turned = whole.transpose("x", "s", "z")[::-1, ::-1, ::-1]
    one, other = (posterior(problem(letters(), matrix=m, latents=[FIELD])) for m in (whole, turned))
    bare = posterior(problem(letters(), matrix=dense.reshape(3, 6), latents=[FIELD]))
    require(one, bare)
    require(other, bare)


OBSERVE = np.array([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
NODES = [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize("kind", ["array", "frame", "transposed", "bare", "list"])
def test_observation_operators_go_by_the_labels_of_data_and_map(kind):
    physics = np.array([[1.0], [-2.0], [0.5], [3.0]])
    rows = xr.DataArray(physics, {"node": NODES}, ("node", "th"))[::-1]
    array = xr.DataArray(OBSERVE, {"s": LABELS, "node": NODES}, ("s", "node"))[::-1, [1, 3, 0, 2]]
    given = {
        "array": (array, rows),
        "transposed": (array.T, rows),
        "frame": (array.to_pandas(), rows.to_pandas()),
        "bare": (OBSERVE, physics),
        "list": ([array], rows),
    }
    observe, matrix = given[kind]
    found = posterior(problem(letters(), matrix=matrix, observe=observe))
    require(found, closed_form(OBSERVE @ physics, DATA, 0.01 * np.eye(3)))


def test_operators_that_compose_go_by_each_others_labels():
    first = xr.DataArray(OBSERVE, {"k": [1, 2, 3], "node": NODES}, ("k", "node"))[[2, 0, 1]]
    second = xr.DataArray(COVARIANCE, {"s": LABELS, "k": [1, 2, 3]}, ("s", "k"))[::-1, ::-1]
    physics = np.array([[1.0], [-2.0], [0.5], [3.0]])
    found = posterior(problem(letters(), matrix=physics, observe=[first, second]))
    require(found, closed_form(COVARIANCE @ OBSERVE @ physics, DATA, 0.01 * np.eye(3)))


# ---- latents -----------------------------------------------------------------------------------

AXIS = [0.0, 1.0, 2.0]
LINE = bj.Grid(x=AXIS)
PRECISION = np.array([[2.0, -0.5, 0.0], [-0.5, 1.0, 0.2], [0.0, 0.2, 3.0]])


@pytest.mark.parametrize(
    "precision",
    [
        PRECISION,
        sparse.csc_array(PRECISION),
        PRECISION.tolist(),
        pd.DataFrame(PRECISION, AXIS, AXIS).iloc[ORDER, ORDER],
        xr.DataArray(PRECISION, {"x": AXIS, "y": AXIS}, ("x", "y"))[ORDER, ORDER],
    ],
    ids=["bare", "sparse", "list", "frame", "array"],
)
def test_precisions_go_by_the_labels_of_the_grid(precision):
    field = bj.GaussianField("th", LINE, precision=precision)
    found = posterior(problem(letters(), matrix=np.eye(3), latents=[field]))
    require(found, closed_form(np.eye(3), DATA, 0.01 * np.eye(3), np.linalg.inv(PRECISION)))


@pytest.mark.parametrize(
    "mean",
    [SD, list(SD), pd.Series(SD, AXIS)[::-1], xr.DataArray(SD, {"x": AXIS}, "x")[ORDER]],
    ids=["bare", "list", "series", "array"],
)
def test_means_go_by_the_labels_of_the_grid(mean):
    field = bj.GaussianField("th", LINE, precision=PRECISION, mean=mean)
    found = posterior(problem(letters(), matrix=np.eye(3), latents=[field]))
    expected = closed_form(np.eye(3), DATA, 0.01 * np.eye(3), np.linalg.inv(PRECISION), SD)
    require(found, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"mean": pd.Series(SD, [0.0, 1.0, 3.0])},
        {"mean": SD[:2]},
        {"mean": xr.DataArray(SD, {"y": AXIS}, "y")},
        {"mean": "one"},
        {"precision": pd.DataFrame(PRECISION, [0.0, 1.0, 3.0], [0.0, 1.0, 3.0])},
        {"precision": PRECISION[:2, :2]},
        {"precision": "one"},
    ],
)
def test_settings_of_fields_with_other_labels_are_refused(settings):
    settings = {"precision": PRECISION} | settings
    refused(lambda: bj.GaussianField("th", LINE, **settings), "GaussianField 'th'")


# ---- truths and points -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vector_problem():
    return problem(letters(), bj.GaussianNoise(sd=1e-9), MATRIX, latents=[VECTOR])


VALUES = np.array([0.3, -0.7])


@pytest.mark.parametrize(
    "values",
    [
        VALUES,
        list(VALUES),
        pd.Series(VALUES, CHANNELS)[::-1],
        xr.DataArray(VALUES, {"channel": CHANNELS}, "channel")[::-1],
    ],
    ids=["bare", "list", "series", "array"],
)
def test_truths_and_points_go_by_their_labels(vector_problem, values):
    data = bj.simulate(vector_problem, truth={"th": values}, random_seed=1)
    np.testing.assert_allclose(data["m"], MATRIX @ VALUES, atol=1e-8)
    at = bj.linearize(vector_problem, at={"th": values})["linearization"]
    np.testing.assert_allclose(at["th"], VALUES, rtol=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(VALUES, ["u", "w"]),
        xr.DataArray(VALUES, {"channel": ["u", "w"]}, "channel"),
        xr.DataArray(VALUES, dims="other"),
        1.0,
        [1.0],
        [np.nan, 1.0],
        "one",
        None,
        [1j, 2.0],
    ],
)
def test_truths_with_other_labels_are_refused(vector_problem, values):
    refused(lambda: bj.simulate(vector_problem, truth={"th": values}, random_seed=1))
    refused(lambda: bj.linearize(vector_problem, at={"th": values}))


def test_a_transposed_posterior_is_read_by_its_dims():
    made = problem(letters(), matrix=np.ones((3, 6)), latents=[FIELD])
    draws = np.random.default_rng(5).normal(size=(2, 4, 2, 3))
    coords = {"z": [0.0, 1.0], "x": [0.0, 1.0, 2.0]}
    group = xr.Dataset({"th": (("chain", "draw", "z", "x"), draws)}, coords)
    trees = [
        xr.DataTree.from_dict({"posterior": ds})
        for ds in (group, group.transpose("x", "draw", "z", "chain").isel(x=[2, 0, 1]))
    ]
    one, other = (bj.linearize(made, at=tree)["linearization"] for tree in trees)
    np.testing.assert_allclose(one["prior_sd"], other["prior_sd"])
    np.testing.assert_allclose(one["eigenvalues"], other["eigenvalues"])


# ---- couplings ---------------------------------------------------------------------------------


def test_correlations_of_fields_go_by_their_names():
    names = ["one", "two", "three"]
    matrix = pd.DataFrame(COVARIANCE / np.outer(SD, SD), names, names)
    coupling = bj.CorrelatedFields(*names, correlation=matrix.iloc[ORDER, ORDER])
    np.testing.assert_allclose(coupling.correlation, matrix.to_numpy())
    turned = xr.DataArray(matrix.to_numpy(), {"a": names, "b": names}, ("a", "b"))[ORDER, ORDER]
    coupling = bj.CorrelatedFields(*names, correlation=turned)
    np.testing.assert_allclose(coupling.correlation, matrix.to_numpy())
    strange = matrix.rename({"one": "four"}, axis=0)
    refused(lambda: bj.CorrelatedFields(*names, correlation=strange), "CorrelatedFields")


def test_settings_of_mixtures_go_by_the_units_of_rock():
    rocks = ["clay", "sand", "salt"]
    settings = {
        "proportions": pd.Series([0.5, 0.3, 0.2], rocks),
        "means": {"density": pd.Series([2.0, 2.2, 2.6], rocks)},
        "sds": {"density": pd.Series([0.1, 0.2, 0.3], rocks)},
    }
    plain = bj.PropertyMixture(
        "rock", labels=rocks, proportions=[0.5, 0.3, 0.2], means={"density": [2.0, 2.2, 2.6]},
        sds={"density": [0.1, 0.2, 0.3]},
    )  # fmt: skip
    turned = bj.PropertyMixture(
        "rock",
        labels=rocks,
        proportions=settings["proportions"][::-1],
        means={"density": settings["means"]["density"].iloc[ORDER]},
        sds={"density": settings["sds"]["density"].to_xarray()[ORDER]},
    )
    np.testing.assert_array_equal(turned.proportions, plain.proportions)
    np.testing.assert_array_equal(turned.means["density"], plain.means["density"])
    np.testing.assert_array_equal(turned.sds["density"], plain.sds["density"])
    strange = settings["proportions"].rename({"clay": "till"})
    refused(lambda: turned.replace(proportions=strange), "PropertyMixture")


# ---- discrepancies -----------------------------------------------------------------------------


def two(first, second, discrepancy):
    """Return a problem of two modalities of one number; the errors of the physics are shared."""
    return bj.JointProblem(
        latents=[unknown()],
        modalities=[
            bj.Modality("a", first, bj.linear_map(np.ones((3, 1)), "th"), bj.GaussianNoise(sd=0.1)),
            bj.Modality("b", second, bj.linear_map(GAIN, "th"), bj.GaussianNoise(sd=0.2)),
        ],
        discrepancy=discrepancy,
    )


@pytest.mark.parametrize("form", ["marginal", "latent"])
def test_paired_errors_do_not_depend_on_the_order_of_one_data_set(form):
    """-0.035 +- 0.470 became -0.549 +- 0.097."""
    second = xr.DataArray([0.5, -2.0, 1.0], {"t": [0, 1, 2], "s": ("t", LABELS)}, "t")
    errors = bj.JointDiscrepancy(sd={"a": 1.0, "b": 2.0}, correlation=0.9, form=form)
    expected = closed_form(
        np.r_[np.ones(3), DATA],
        np.r_[DATA, second.values],
        np.kron([[1.0, 1.8], [1.8, 4.0]], np.eye(3)) + np.diag(np.repeat([0.01, 0.04], 3)),
    )
    require(posterior(two(letters(), second, errors)), expected)
    turned = second[ORDER].assign_coords(t=[0, 1, 2])
    gain = xr.DataArray(GAIN, {"t": [0, 1, 2]}, ("t", "th"))[ORDER].assign_coords(t=[0, 1, 2])
    other = two(letters(), turned, errors)
    modality = other.modality["b"].replace(forward=bj.linear_map(gain, "th"))
    other = other.replace(modalities=[other.modality["a"], modality])
    require(posterior(other), expected)


def test_blocks_of_a_covariance_go_by_the_labels_of_the_data():
    rng = np.random.default_rng(8)
    root = rng.normal(size=(6, 6))
    whole = root @ root.T
    places = ["p", "q", "r"]
    labels = {"a": LABELS, "b": places}
    second = xr.DataArray([0.5, -2.0, 1.0], {"t": places}, "t")
    where = {"a": slice(0, 3), "b": slice(3, 6)}
    blocks = {
        (i, j): pd.DataFrame(whole[where[i], where[j]], labels[i], labels[j]).iloc[ORDER, ::-1]
        for i, j in (("a", "a"), ("a", "b"), ("b", "b"))
    }
    found = posterior(two(letters(), second, bj.JointDiscrepancy(covariance=blocks)))
    covariance = whole + np.diag(np.repeat([0.01, 0.04], 3))
    require(found, closed_form(np.r_[np.ones(3), DATA], np.r_[DATA, 0.5, -2.0, 1.0], covariance))
    strange = blocks | {("a", "b"): blocks["a", "b"].rename({"a": "z"})}
    refused(
        lambda: two(letters(), second, bj.JointDiscrepancy(covariance=strange)).discrepancies,
        "JointDiscrepancy",
    )


def test_correlations_go_by_the_names_of_modalities():
    matrix = pd.DataFrame([[1.0, 0.3, 0.1], [0.3, 1.0, 0.5], [0.1, 0.5, 1.0]], LABELS, LABELS)
    sd = dict.fromkeys(LABELS, 1.0)
    made = bj.JointDiscrepancy(sd=sd, correlation=matrix.iloc[ORDER, ::-1])
    np.testing.assert_array_equal(made.correlation, matrix)
    refused(
        lambda: bj.JointDiscrepancy(sd=sd, correlation=matrix.rename({"a": "z"})),
        "JointDiscrepancy",
    )


# ---- tolerances --------------------------------------------------------------------------------

NORTHING = 4.5e6


@pytest.mark.parametrize("shift", [4.0, 1.0, 0.5, 1e-3])
def test_places_are_compared_with_the_distance_to_the_next(shift):
    """A relative tolerance takes four cells for none at a northing of 4.5 million."""
    north = NORTHING + np.arange(3.0)
    data = xr.DataArray(DATA, {"north": north}, "north")
    near = xr.DataArray(SD, {"north": north + 1e-9}, "north")
    made = problem(data, bj.GaussianNoise(sd=near))
    require(posterior(made), closed_form(np.ones(3), DATA, np.diag(SD**2)))
    far = near.assign_coords(north=north + shift)
    refused(lambda: problem(data, bj.GaussianNoise(sd=far)), "modality 'm'")
    refused(lambda: made.with_data({"m": data.assign_coords(north=north + shift)}), "modality 'm'")


def test_masks_and_weights_at_a_northing_go_by_their_places():
    grid = bj.Grid(north=NORTHING + np.arange(4.0), east=np.arange(3.0))
    fields = [bj.GaussianField(n, grid, sd=1.0, length_scale=2.0) for n in ("one", "two")]
    whole = xr.DataArray(
        np.arange(12).reshape(4, 3) > 2,
        {"north": NORTHING + np.arange(4.0), "east": np.arange(3.0)}, ("north", "east"),
    )  # fmt: skip

    def coupled(**settings):
        coupling = bj.CrossGradient("one", "two", **{"weight": 1.0} | settings)
        made = bj.JointProblem(latents=fields, modalities=[], couplings=[coupling])
        model = bj.build_model(made)
        rng = np.random.default_rng(2)
        point = {v.name: rng.normal(size=v.type.shape) for v in model.value_vars}
        return float(model.compile_logp(mode="FAST_COMPILE")(point))

    plain, turned = (coupled(mask=mask) for mask in (whole, whole[::-1].T))
    assert plain == turned
    weights = whole * 2.0 + 1.0
    assert coupled(weight=weights) == coupled(weight=weights.T[:, ::-1])
    assert coupled(weight=weights) != plain
    shifted = whole.assign_coords(north=whole["north"] + 4.0)
    refused(lambda: coupled(mask=shifted), "mask")
    refused(lambda: coupled(weight=shifted * 1.0 + 1.0), "weight")


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1.0, 1e12, 1e30])
def test_symmetry_is_measured_by_the_entries(scale):
    """Absolute tolerances accept any matrix of size 1e-10 and refuse one times 1e12."""
    rounding = COVARIANCE * scale
    rounding[0, 1] *= 1 + 1e-12
    assert bj.CorrelatedNoise(covariance=rounding).matrix.shape == (3, 3)
    skew = COVARIANCE * scale
    skew[0, 1] *= 1.5
    refused(lambda: bj.CorrelatedNoise(covariance=skew), "not symmetric")
    refused(lambda: bj.GaussianField("th", LINE, precision=skew), "not symmetric")


# ---- reports -----------------------------------------------------------------------------------


def test_candidates_and_their_sds_go_by_labels():
    tree = bj.linearize(problem(letters(), bj.GaussianNoise(sd=1.0), MATRIX, latents=[VECTOR]))
    rows = xr.DataArray(
        [[1.0, 0.0], [0.5, 1.0], [2.0, 3.0]],
        {"candidate": LABELS, "channel": CHANNELS}, ("candidate", "channel"),
    )  # fmt: skip
    sd = pd.Series(SD, LABELS).rename_axis("candidate").to_xarray()
    weights = xr.DataArray([1.0, -2.0], {"channel": CHANNELS}, "channel", "th")
    settings = {"candidates": {"th": rows}, "candidate_sd": sd}
    plain = bj.data_worth(tree, weights, **settings)["sd_with_candidate"]
    precision = np.eye(2) + MATRIX.T @ MATRIX
    for label, sensitivity, noise in zip(LABELS, rows.values, SD, strict=True):
        left = np.linalg.inv(precision + np.outer(sensitivity, sensitivity) / noise**2)
        expected = np.sqrt(weights.values @ left @ weights.values)
        np.testing.assert_allclose(plain.sel(candidate=label), expected, rtol=RTOL)
    settings = {"candidates": {"th": rows[::-1, ::-1].T}, "candidate_sd": sd[ORDER]}
    turned = bj.data_worth(tree, weights[::-1], **settings)["sd_with_candidate"]
    xr.testing.assert_allclose(turned.sel(candidate=plain["candidate"]), plain, rtol=1e-12)
    for changed in (
        {"candidate_sd": sd.assign_coords(candidate=list("abd"))},
        {"candidate_sd": sd[:2]},
        {"candidate_sd": SD[:2]},
        {"candidate_sd": 1j},
        {"candidates": {"th": rows.assign_coords(channel=["u", "w"])}},
        {"candidates": {"th": rows[:, :1]}},
        {"candidates": rows},
    ):
        refused(lambda s=settings | changed: bj.data_worth(tree, weights, **s))


def test_candidates_of_several_latents_go_by_their_labels():
    """By position, the sensitivity of one station was added to that of another."""
    latents = [unknown(name) for name in ("a", "b")]
    forward = bj.linear_map({"a": np.ones((3, 1)), "b": np.arange(3.0)[:, None]})
    noise = bj.GaussianNoise(sd=1.0)
    tree = bj.linearize(problem(letters(), noise, forward=forward, latents=latents))
    one, other = (
        xr.DataArray(values, {"candidate": LABELS}, "candidate")
        for values in ([1.0, 2.0, 3.0], [5.0, -1.0, 0.5])
    )
    settings = {"candidate_sd": 1.0}
    plain = bj.data_worth(tree, "a", candidates={"a": one, "b": other}, **settings)
    turned = bj.data_worth(tree, "a", candidates={"a": one, "b": other[::-1]}, **settings)
    xr.testing.assert_identical(turned["sd_with_candidate"], plain["sd_with_candidate"])
    design = np.column_stack([np.ones(3), np.arange(3.0)])
    for label, row in zip(LABELS, np.column_stack([one, other]), strict=True):
        left = np.linalg.inv(np.eye(2) + design.T @ design + np.outer(row, row))
        found = turned["sd_with_candidate"].sel(candidate=label)
        np.testing.assert_allclose(found, np.sqrt(left[0, 0]), rtol=RTOL)
    twins = other[[0, 0, 1]]
    for strange in (other.assign_coords(candidate=list("abd")), other[:2], twins):
        given = {"a": one, "b": strange}
        refused(lambda c=given: bj.data_worth(tree, "a", candidates=c, **settings), "candidates")


LATENT_PRIOR = bj.Prior(pm.Normal, mu=0.0, sigma=1.0)


@pytest.mark.parametrize(
    "labels", [["a", "a"], [1.0, np.nan], [0, 1, 0], np.array(["NaT"], "M8[s]")]
)
def test_labels_of_a_parameter_name_each_element_once(labels):
    refused(lambda: bj.Parameter("v", LATENT_PRIOR, coords={"c": labels}), "label")


def test_places_of_data_may_repeat_but_are_not_matched_then():
    """Two measurements in one place are data; which sd belongs to which nobody can tell."""
    data = xr.DataArray([1.0, 2.0, 4.0], {"s": list("aab")}, "s")
    same = pd.Series(SD, list("aab"))
    found = posterior(problem(data, bj.GaussianNoise(sd=same)))
    require(found, closed_form(np.ones(3), DATA, np.diag(np.square(SD))))
    refused(lambda: problem(data, bj.GaussianNoise(sd=same[::-1])), "occurs twice")
    refused(lambda: problem(data).with_data({"m": data[::-1]}), "occurs twice")


FIELD_GRID = bj.Grid(x=np.arange(3.0))


@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e200])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: bj.GaussianNoise(sd=s),
        lambda s: bj.GaussianNoise(sd=[1.0, s]),
        lambda s: bj.StudentTNoise(sd=s, nu=4.0),
        lambda s: bj.GaussianNoise(sd=1.0, scale=s),
        lambda s: bj.JointDiscrepancy(sd={"m": s}),
        lambda s: bj.JointDiscrepancy(sd={"m": 1.0}, on="t", length_scale=s),
        lambda s: bj.GaussianField("f", FIELD_GRID, sd=s, length_scale=1.0),
        lambda s: bj.GaussianField("f", FIELD_GRID, sd=1.0, length_scale=s),
        lambda s: bj.PropertyMixture(
            "r", labels=["a", "b"], proportions=[0.5, 0.5], means={"f": [0.0, 1.0]}, sds={"f": s}
        ),
        lambda s: bj.JointTotalVariation("f", "g", weight=1.0, epsilon=0.1, scales={"f": s}),
        lambda s: bj.Prior(pm.Normal, mu=0.0, sigma=s),
        lambda s: bj.Prior(pm.HalfNormal, sigma=[1.0, s]),
        lambda s: bj.Prior(pm.Uniform, lower=0.0, upper=s),
    ],
)  # fmt: skip
def test_scales_whose_square_a_computer_cannot_hold_are_refused(make, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        refused(lambda: make(size), "units|computer")


@pytest.mark.parametrize("variance", [5e-324, 1e-310, 1e305])
def test_variances_that_a_computer_cannot_hold_are_refused(variance):
    refused(lambda: bj.CorrelatedNoise(covariance=np.eye(2) * variance), "units|computer")


def test_candidates_without_labels_are_kept():
    tree = bj.linearize(problem(letters(), bj.GaussianNoise(sd=1.0), MATRIX, latents=[VECTOR]))
    bare = xr.DataArray(np.ones((4, 2)), dims=("candidate", "channel"))
    report = bj.data_worth(tree, bare[0].rename("th"), candidates={"th": bare}, candidate_sd=1.0)
    assert report["sd_with_candidate"].sizes == {"candidate": 4}


def test_masks_of_alignment_go_by_their_places():
    rng = np.random.default_rng(4)
    coords = {"north": NORTHING + np.arange(4.0), "east": np.arange(3.0)}
    groups = {
        group: xr.Dataset(
            {n: (("chain", "draw", *coords), rng.normal(size=(1, 20, 4, 3))) for n in ("u", "v")},
            coords,
        )
        for group in ("posterior", "prior")
    }
    tree = xr.DataTree.from_dict(groups)
    whole = xr.DataArray(np.arange(12).reshape(4, 3) > 2, coords, ("north", "east"))
    bare = bj.alignment(tree, mask=whole.values)
    xr.testing.assert_identical(bj.alignment(tree, mask=whole[::-1].T), bare)
    shifted = whole.assign_coords(north=whole["north"] + 4.0)
    refused(lambda: bj.alignment(tree, mask=shifted), "mask")
    refused(lambda: bj.alignment(tree, mask=whole * 1.0), "mask")
