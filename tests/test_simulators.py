"""Black boxes of users: what they return, where they fail, and how often they are asked."""

import warnings
from itertools import cycle

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import pytest
import xarray as xr
from pytensor import wrap_py
from scipy.stats import truncnorm

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from tests.helpers import STANDARD, data

SLOPES = np.arange(1.0, 36.0).reshape(5, 7)
LABELLED = xr.DataArray(
    SLOPES, {"row": list("abcde"), "column": np.arange(7.0)}, ("row", "column"), name="d"
)
THETA = bj.Parameter("theta", STANDARD)
NOISE = bj.GaussianNoise(sd=10.0)


def line(returned, slopes=SLOPES, name="sim"):
    """A map ``theta * slopes`` in the form that ``returned`` gives it."""
    return bj.numpy_map(
        lambda theta: returned(theta * slopes), "theta", name=name,
        jacobian=lambda theta: np.ravel(np.asarray(returned(slopes)))[:, None],
    )  # fmt: skip


def problem_of(forward, seen=LABELLED, noise=NOISE, **settings):
    modality = bj.Modality("m", seen, forward, noise, **settings)
    return bj.JointProblem(latents=[THETA], modalities=[modality])


def closed_form(slopes, seen, sd=10.0):
    """Return mean and sd of theta."""
    precision = 1 + np.sum(slopes**2) / sd**2
    return np.sum(slopes * seen) / sd**2 / precision, precision**-0.5


def mean_of(problem):
    return float(bj.linearize(problem)["linearization/theta"])


# ---- what a map returns -----------------------------------------------------------------------

FORMS = {
    "in its shape": lambda f: f,
    "flat": np.ravel,
    "a nested list": lambda f: np.asarray(f).tolist(),
    "single precision": lambda f: np.asarray(f, dtype="float32"),
    "big-endian": lambda f: np.asarray(f, dtype=">f8"),
    "masked nowhere": np.ma.asarray,
    "a DataFrame without labels": lambda f: pd.DataFrame(f),
    "labelled": lambda f: LABELLED.copy(data=f),
    "labelled, transposed": lambda f: LABELLED.copy(data=f).T,
    "labelled, permuted": lambda f: LABELLED.copy(data=f)[::-1, [3, 1, 2, 0, 6, 5, 4]],
    "labelled, permuted and transposed": lambda f: LABELLED.copy(data=f)[::-1].T,
    "labelled, with more labels than the data": lambda f: LABELLED.copy(data=f).reindex(
        row=list("zabcdye"), fill_value=0.0
    ),
    "a DataFrame, permuted": lambda f: pd.DataFrame(f, list("abcde"), np.arange(7.0))[::-1],
    "dims alone, transposed": lambda f: xr.DataArray(f, dims=("row", "column")).T,
    "with an axis of one": lambda f: np.asarray(f)[:, None, :],
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_meet_the_data_at_their_own_place(form):
    seen = LABELLED.copy(data=SLOPES**1.5)  # no symmetry: any other order gives another mean
    expected = closed_form(SLOPES, seen.values)[0]
    found = mean_of(problem_of(line(FORMS[form]), seen))
    assert found == pytest.approx(expected, rel=1e-6 if form == "single precision" else 1e-8)


def test_labels_that_change_their_order_from_point_to_point_are_followed():
    orders = cycle([slice(None), slice(None, None, -1)])

    def shuffled(theta):
        output = LABELLED.copy(data=theta * SLOPES)[next(orders)]
        return output if output.row[0] == "a" else output.T

    forward = bj.numpy_map(
        shuffled, "theta", name="sim", jacobian=lambda theta: SLOPES.reshape(-1, 1)
    )
    seen = LABELLED.copy(data=SLOPES**1.5)
    expected = closed_form(SLOPES, seen.values)[0]
    assert mean_of(problem_of(forward, seen)) == pytest.approx(expected, rel=1e-8)


def test_a_callable_operator_gets_the_output_in_its_shape():
    seen = data(SLOPES.sum(axis=1))
    found = mean_of(problem_of(line(lambda f: f), seen, observe=lambda f: f.sum(axis=1)))
    slopes = SLOPES.sum(axis=1)
    assert found == pytest.approx(closed_form(slopes, slopes)[0], rel=1e-8)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda f: None, "the function returned None; is a return missing"),
        (lambda f: pt.as_tensor(f), "returned a tensor of PyTensor; make the map with bj.pytensor"),
        (lambda f: f * 1j, "its output: these are complex numbers, whose imaginary part would be"),
        (lambda f: "broken", "its output is str .'broken'.; give real numbers"),
        (lambda f: f.astype(str), "its output is str; give real numbers"),
        (lambda f: {"m": f}, "its output is a dict; give numbers, an array or an xarray.DataArray"),
        (
            lambda f: [[1.0], [2.0, 3.0]],
            "its output is a list, no array of numbers: its rows have different lengths",
        ),
        (lambda f: np.full((5, 7), None), "35 of 35 outputs are not finite at a prior draw"),
        (lambda f: (f * 100).astype("M8[s]"), "its output (holds dates|is no array of numbers)"),
        (lambda f: LABELLED.to_dataset(), "its output is a Dataset; give numbers"),
        (lambda f: pd.DataFrame(f, index=list("abcdx")), "1 of 5 labels of the data are not there"),
        (
            lambda f: LABELLED.copy(data=f).rename(row="line"),
            r"its output: an array with the dims \('line', 'column'\) given for the data",
        ),
        (
            lambda f: LABELLED.copy(data=f).assign_coords(column=np.arange(7) + 4.5),
            "its output along 'column': 7 of 7 labels of the data are not there, the first is 0.0",
        ),
        (lambda f: LABELLED.copy(data=f)[:4], "along 'row': 1 of 5 labels of the data are not"),
        (
            lambda f: xr.concat([LABELLED.copy(data=f)] * 2, "row"),
            "its output along 'row': its label 'a' occurs twice",
        ),
    ],
)
def test_outputs_that_are_refused_by_name(returned, message):
    forward = bj.numpy_map(
        lambda theta: returned(theta * SLOPES), "theta", name="sim", finite_differences=True
    )
    with pytest.raises(ValueError, match=f"map 'sim': .*{message}"):
        problem_of(forward)


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        (SLOPES.T, r"\(7, 5\) predicted values for data of shape \(5, 7\); transpose one of them"),
        (SLOPES[:4], r"\(4, 7\) predicted values for data of shape \(5, 7\); they must agree"),
        (SLOPES.reshape(5, 1, 7)[..., :6], r"\(5, 1, 6\) predicted values for data"),
        (SLOPES.reshape(35, 1).reshape(7, 5), r"\(7, 5\) predicted values"),
    ],
)
def test_outputs_of_another_shape_are_refused(slopes, message):
    with pytest.raises(ValueError, match=f"modality 'm': {message}"):
        problem_of(line(lambda f: f, slopes))


def test_outputs_in_other_units_are_converted_or_refused():
    seen = LABELLED.copy(data=SLOPES**1.5).assign_attrs(units="m")
    forward = line(lambda f: LABELLED.copy(data=f).assign_attrs(units="km"))
    expected = closed_form(1_000 * SLOPES, seen.values)[0]
    assert mean_of(problem_of(forward, seen)) == pytest.approx(expected, rel=1e-8)
    forward = line(lambda f: LABELLED.copy(data=f).assign_attrs(units="s"))
    with pytest.raises(ValueError, match="map 'sim' returns 's', but 'm' is needed; convert"):
        problem_of(forward, seen)


def test_a_map_that_works_in_place_changes_nothing():
    def in_place(theta):
        theta *= 2.0
        return theta * SLOPES

    forward = bj.numpy_map(
        in_place, "theta", name="sim", jacobian=lambda theta: 2 * SLOPES.reshape(-1, 1)
    )
    seen = LABELLED.copy(data=SLOPES)
    expected = closed_form(2 * SLOPES, seen.values)[0]
    assert mean_of(problem_of(forward, seen)) == pytest.approx(expected, rel=1e-8)


# ---- how often a map is asked -----------------------------------------------------------------


def test_two_modalities_with_one_map_evaluate_it_once_for_each_point():
    calls = {"value": 0, "jacobian": 0}

    def function(theta):
        calls["value"] += 1
        return theta * SLOPES

    def jacobian(theta):
        calls["jacobian"] += 1
        return SLOPES.reshape(-1, 1)

    forward = bj.numpy_map(function, "theta", jacobian=jacobian)
    other = LABELLED.rename(row="row_2", column="column_2")
    modalities = [
        bj.Modality("a", LABELLED, forward, NOISE),
        bj.Modality("b", other, forward, NOISE),
    ]
    functions = ModelFunctions(bj.JointProblem(latents=[THETA], modalities=modalities))
    points = np.linspace(-1, 1, 10)[:, None]
    functions.density(points[0] + 0.05), functions.jacobian(points[0] + 0.05)
    calls.update(value=0, jacobian=0)
    for point in points:
        functions.density(point)
        functions.outputs(point)
        functions.noise_sds(point)
        functions.jacobian(point)
        functions.vjp(np.eye(70), point)
    assert calls == {"value": 10, "jacobian": 10}


def test_a_jacobian_by_differences_takes_two_evaluations_an_element_and_point():
    calls = []

    def function(theta):
        calls.append(1)
        return theta * SLOPES

    forward = bj.numpy_map(function, "theta", finite_differences=True)
    functions = ModelFunctions(problem_of(forward))
    functions.jacobian(np.full(1, 0.05))
    calls.clear()
    functions.density(np.full(1, 0.3))
    functions.jacobian(np.full(1, 0.3))
    assert len(calls) == 3


# ---- where a map fails ------------------------------------------------------------------------

LIMIT = 0.3
SEEN = data([0.5, 0.7])


def failing(how, beyond=LIMIT):
    """The map (theta, theta) that cannot be evaluated beyond a limit."""

    def function(theta):
        if theta > beyond:
            return how(theta)
        return np.array([theta, theta])

    return bj.numpy_map(function, "theta", jacobian=lambda theta: np.ones((2, 1)), name="sim")


def raises(theta):
    raise RuntimeError("the solver did not converge")


FAILURES = {
    "raises": (raises, "RuntimeError: the solver did not converge"),
    "nan": (lambda theta: np.array([np.nan, 0.0]), "1 of 2 outputs are not finite"),
    "infinite": (lambda theta: np.array([np.inf, 0.0]), "1 of 2 outputs are not finite"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_prior_draws_at_which_a_map_fails_are_told(how):
    function, told = FAILURES[how]
    with pytest.warns(
        UserWarning, match=rf"map 'sim' fails at [0-9]+ of [0-9]+ prior draws.*{told}"
    ):
        problem_of(failing(function), SEEN)


@pytest.mark.parametrize("how", FAILURES)
def test_a_map_that_fails_at_all_prior_draws_is_refused(how):
    function, told = FAILURES[how]
    with pytest.raises(ValueError, match=f"map 'sim': .*{told}.*") as caught:
        problem_of(failing(function, -np.inf), SEEN)
    assert isinstance(caught.value.__cause__, RuntimeError) == (how == "raises")


def quiet(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make()


@pytest.fixture(scope="module", params=["raises", "nan"])
def drawn(request):
    """The posterior of a normal cut off where the map fails, and what was told of it."""
    forward = failing(FAILURES[request.param][0])
    problem = quiet(lambda: problem_of(forward, SEEN, bj.GaussianNoise(sd=1.0)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tree = bj.sample(
            problem, draws=1_000, tune=200, chains=2, random_seed=3, progress=False, prior_draws=200
        )
    return request.param, tree, [str(warning.message) for warning in told]


def test_failures_are_impossible_points(drawn):
    """The posterior is a normal cut off at the limit (seed 3)."""
    _, tree, _ = drawn
    mean, sd = closed_form(np.ones(2), SEEN.values, 1.0)
    law = truncnorm(-np.inf, (LIMIT - mean) / sd, mean, sd)
    draws = tree["posterior/theta"].values
    assert draws.max() <= LIMIT
    error = law.std() / np.sqrt(tree["posterior"].attrs["ess_bulk"])
    assert draws.mean() == pytest.approx(law.mean(), abs=4 * error)
    assert draws.std() == pytest.approx(law.std(), abs=4 * error)


def test_failures_are_told_with_their_share_and_the_first_traceback(drawn):
    how, tree, told = drawn
    attrs = tree["posterior"].attrs
    assert 0 < attrs["failed_evaluations"] < attrs["evaluations"]
    (message,) = [m for m in told if m.startswith("map 'sim'")]
    assert f"{attrs['failed_evaluations']:,} of {attrs['evaluations']:,} evaluations" in message
    if how == "raises":
        assert attrs["first_failure"].endswith("RuntimeError: the solver did not converge")
        assert attrs["first_failure"] in message
        assert "in raises" in attrs["first_failure"] and "bayesjoint/_graph" not in message
    else:
        assert "first_failure" not in attrs and "gave NaN or infinity" in message
    assert not any("raise target_accept" in m for m in told)


def test_prior_draws_at_which_the_map_fails_are_left_out(drawn):
    _, tree, _ = drawn
    assert 50 < tree["prior"].sizes["draw"] < 200
    assert tree["prior/theta"].values.max() <= LIMIT
    assert np.all(np.isfinite(tree["prior_predictive/m"].values))


@pytest.mark.parametrize("how", FAILURES)
def test_a_search_without_any_possible_start_stops_with_the_first_traceback(how):
    switched = []
    function = FAILURES[how][0]
    forward = bj.numpy_map(
        lambda theta: function(theta) if switched else np.array([theta, theta]), "theta",
        jacobian=lambda theta: np.ones((2, 1)), name="sim",
    )  # fmt: skip
    problem = problem_of(forward, SEEN)
    switched.append(1)
    with pytest.raises(ValueError, match="not finite at any of the 16 starts.*map 'sim'") as caught:
        bj.sample(problem, progress=False)
    assert isinstance(caught.value.__cause__, RuntimeError) == (how == "raises")
    assert ("RuntimeError: the solver did" in str(caught.value)) == (how == "raises")


def test_a_derivative_that_raises_is_a_failure_too():
    def jacobian(theta):
        if abs(theta - 0.1) > 3.0:
            raise RuntimeError("no adjoint")
        return np.ones((2, 1))

    forward = bj.numpy_map(lambda t: np.array([t, t]), "theta", jacobian=jacobian, name="sim")
    functions = ModelFunctions(problem_of(forward, SEEN))
    value, gradient = functions.density(np.full(1, 5.0))
    assert not np.isfinite(gradient).any()
    (counted, _) = functions.counts
    assert counted.raised == 1 and counted.evaluations == 1
    assert "RuntimeError: no adjoint" in counted.first
    assert np.isfinite(functions.density(np.full(1, 0.5))[0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_failure_of_a_point_is_not_swallowed(error):
    def stop(theta):
        raise error("stop")

    problem = quiet(lambda: problem_of(failing(stop, 3.5), SEEN))
    functions = ModelFunctions(problem)
    with pytest.raises(error, match="stop"):
        functions.density(np.full(1, 4.0))


@pytest.mark.parametrize("error", [SystemExit, MemoryError])
def test_what_stops_a_run_is_raised_as_it_was(error):
    asked = []

    def function(theta):
        asked.append(1)
        if len(asked) > limit:
            raise error("stop")
        return np.array([theta, theta])

    limit = 10**9
    forward = bj.numpy_map(function, "theta", jacobian=lambda theta: np.ones((2, 1)), name="sim")
    problem = problem_of(forward, SEEN)
    bj.linearize(problem)
    limit = len(asked) + 400  # within the warm-up
    with pytest.raises(error, match="stop"):
        bj.sample(problem, draws=5_000, tune=500, chains=1, random_seed=1, progress=False)


def test_linearizing_where_a_map_fails_says_so():
    problem = quiet(lambda: problem_of(failing(raises), SEEN))
    with pytest.raises(ValueError, match="modality 'm': its map 'sim' gives no finite numbers at"):
        quiet(lambda: bj.linearize(problem, at={"theta": 1.0}))


def test_a_truth_at_which_a_map_fails():
    problem = quiet(lambda: problem_of(failing(raises), SEEN))
    with pytest.raises(ValueError, match="gives no finite numbers at the truth") as caught:
        bj.simulate(problem, truth={"theta": 1.0})
    assert isinstance(caught.value.__cause__, RuntimeError)
    truths = [float(bj.simulate(problem, random_seed=seed).theta) for seed in range(10)]
    assert max(truths) <= LIMIT


def fails_in_a_worker(theta):
    if theta > LIMIT:
        raise RuntimeError("the solver did not converge")
    return np.array([theta, theta])


@pytest.mark.slow  # starts two processes
def test_failures_in_processes_are_counted(monkeypatch):
    forward = bj.numpy_map(
        fails_in_a_worker, "theta", jacobian=lambda theta: np.ones((2, 1)), name="sim"
    )
    problem = quiet(lambda: problem_of(forward, SEEN, bj.GaussianNoise(sd=1.0)))
    counted = []
    for worth in (1e9, 0.0):
        monkeypatch.setattr("bayesjoint._sampler.chains.WORTH", worth)
        tree = quiet(
            lambda: bj.sample(
                problem, draws=100, tune=100, chains=2, random_seed=1, progress=False, cores=2
            )
        )
        attrs = tree["posterior"].attrs
        counted.append(attrs["failed_evaluations"])
        assert "RuntimeError: the solver did not converge" in attrs["first_failure"]
    # Chains are the same; a point that two chains share is asked once where they share memory.
    assert counted[1] == pytest.approx(counted[0], rel=0.05)


def test_an_operation_of_the_user_that_raises_is_an_impossible_point_too():
    """Code of users inside a PyTensor map is guarded with the density."""

    @wrap_py(itypes=[pt.dscalar], otypes=[pt.dvector])
    def raising(theta):
        if theta > 3.5:
            raise RuntimeError("no operation")
        return np.array([theta, theta])

    raising.pullback = lambda inputs, outputs, cotangents: [cotangents[0].sum()]
    forward = bj.pytensor_map(raising, "theta", name="op")
    functions = ModelFunctions(problem_of(forward, SEEN))
    assert np.isnan(functions.density(np.full(1, 4.0))[0])
    assert "RuntimeError: no operation" in functions.failures.first
