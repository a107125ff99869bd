"""Forward maps: every way to give one map agrees with it, and wrong derivatives are found."""

import pickle

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.gradient import pushforward
from scipy import sparse

import bayesjoint as bj
from bayesjoint.problem import build
from tests.helpers import STANDARD, data, evaluator, gradient_and_differences, log_density

GRID = bj.Grid(y=np.arange(2.0), x=np.arange(3.0))
MATRIX = np.random.default_rng(1).normal(size=(5, 6))


# The same physics, tanh(A field) * exp(rate), in every form.
def in_numpy(field, rate):
    assert field.shape == GRID.shape and rate.shape == ()
    return np.tanh(MATRIX @ field.ravel()) * np.exp(rate)


def jacobian(field, rate):
    inner = MATRIX @ field.ravel()
    return [
        (1 - np.tanh(inner) ** 2)[:, None] * MATRIX * np.exp(rate),
        in_numpy(field, rate)[:, None],
    ]


def jvp(values, tangents):
    return sum(block @ t.ravel() for block, t in zip(jacobian(*values), tangents, strict=True))


def vjp(values, cotangent):
    blocks = jacobian(*values)
    return [(b.T @ cotangent).reshape(v.shape) for b, v in zip(blocks, values, strict=True)]


def in_pytensor(field, rate):
    return pt.tanh(MATRIX @ field.ravel()) * pt.exp(rate)


NAMES = ["field", "rate"]
MAPS = {
    "pytensor": bj.pytensor_map(in_pytensor, NAMES),
    "jacobian": bj.numpy_map(in_numpy, NAMES, jacobian=jacobian),
    "jvp and vjp": bj.numpy_map(in_numpy, NAMES, jvp=jvp, vjp=vjp),
    "finite differences": bj.numpy_map(in_numpy, NAMES, finite_differences=True),
}


def latents():
    return [
        bj.GaussianField("field", GRID, sd=1.0, length_scale=1.0),
        bj.Parameter("rate", bj.Prior(pm.Normal, mu=0.2, sigma=0.5)),
    ]


def problem_of(forward, values=(0.3, -0.2, 0.1, 0.5, -0.4), known=None, **settings):
    modality = bj.Modality("m", data(values), forward, bj.GaussianNoise(sd=0.3), **settings)
    return bj.JointProblem(latents=known or latents(), modalities=[modality])


@pytest.fixture(params=MAPS)
def forward(request):
    return MAPS[request.param]


WHITE = {"field_white": np.arange(6.0).reshape(2, 3) / 5 - 0.4, "rate_white": -0.7}


def test_response_is_the_function_of_the_latents(forward):
    made = build(problem_of(forward))
    outputs = [made.values["field"], made.values["rate"], made.responses["m"]]
    field, rate, response = evaluator(made, outputs)(**WHITE)
    assert rate == pytest.approx(0.2 - 0.35)
    np.testing.assert_allclose(response, in_numpy(field, rate), rtol=1e-12)


def test_gradient_of_the_whole_model_agrees_with_finite_differences(forward):
    found, differences = gradient_and_differences(bj.build_model(problem_of(forward)), **WHITE)
    np.testing.assert_allclose(found, differences, rtol=1e-7, atol=1e-7)


def test_pushforward_is_the_jacobian_times_a_tangent(forward):
    made = build(problem_of(forward))
    values = [made.values[name] for name in NAMES]
    tangents = [pt.constant(MATRIX[0].reshape(2, 3)), pt.constant(0.4)]
    pushed = pushforward(made.responses["m"], values, tangents)
    *values, found = evaluator(made, [*values, pushed])(**WHITE)
    expected = jvp(values, [MATRIX[0], np.array(0.4)])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_finite_differences_work_at_the_prior_mean_where_values_are_zero():
    forward = MAPS["finite differences"]
    problem_of(forward)  # which learns the steps
    values = [np.zeros((2, 3)), np.zeros(())]
    for found, expected in zip(
        forward.simulator.vjp(values, np.ones(5)), vjp(values, np.ones(5)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_finite_differences_step_in_proportion_to_the_prior():
    """At zero only the prior can tell that a millionth is a large step."""
    forward = bj.numpy_map(lambda rate: np.exp([1e6 * rate]), "rate", finite_differences=True)
    tiny = bj.Parameter("rate", bj.Prior(pm.Normal, mu=0.0, sigma=1e-6))
    problem_of(forward, [1.0], known=[tiny])
    (slope,) = forward.simulator.vjp([np.zeros(())], np.ones(1))
    assert slope == pytest.approx(1e6, rel=1e-6)


@pytest.mark.parametrize("cells", [6, 1_300])  # the larger travels as data of the model
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_linear_map_is_its_matrix(cells, form, rng):
    matrix = rng.normal(size=(5, cells)) * (rng.random((5, cells)) < 0.5)
    field = bj.GaussianField("field", bj.Grid(x=np.arange(float(cells))), sd=1.0, length_scale=2.0)
    made = build(problem_of(bj.linear_map(form(matrix), "field"), known=[field]))
    outputs = [made.values["field"], made.responses["m"]]
    white = rng.normal(size=cells)
    values, response = evaluator(made, outputs)(field_white=white)
    np.testing.assert_allclose(response, matrix @ values, atol=1e-12)
    shared = [v.name for v in made.model.data_vars]
    assert ("linear_field_matrix_field" in shared) == (cells > 6 and form is np.asarray)


def test_linear_map_of_several_latents_adds_their_parts(rng):
    second = rng.normal(size=(5, 1))
    made = build(problem_of(bj.linear_map({"field": MATRIX, "rate": sparse.csr_array(second)})))
    outputs = [made.values["field"], made.values["rate"], made.responses["m"]]
    field, rate, response = evaluator(made, outputs)(**WHITE)
    np.testing.assert_allclose(response, MATRIX @ field.ravel() + second[:, 0] * rate, rtol=1e-12)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_gradient_of_linear_maps(form):
    model = bj.build_model(problem_of(bj.linear_map(form(MATRIX), "field"), known=latents()[:1]))
    found, differences = gradient_and_differences(model, field_white=WHITE["field_white"])
    np.testing.assert_allclose(found, differences, rtol=1e-7, atol=1e-7)


def test_large_maps_of_one_name_keep_their_own_matrices(rng):
    matrices = rng.normal(size=(3, 5, 1_300))
    matrices[2] = matrices[0]
    field = bj.GaussianField("field", bj.Grid(x=np.arange(1_300.0)), sd=1.0, length_scale=2.0)
    modalities = [
        bj.Modality(name, data(np.zeros(5)), bj.linear_map(m, "field"), bj.GaussianNoise(sd=1.0))
        for name, m in zip("abc", matrices, strict=True)
    ]
    made = build(bj.JointProblem(latents=[field], modalities=modalities))
    outputs = [made.values["field"], *(made.responses[name] for name in "abc")]
    values, *responses = evaluator(made, outputs)(field_white=rng.normal(size=1_300))
    for matrix, response in zip(matrices, responses, strict=True):
        np.testing.assert_allclose(response, matrix @ values, atol=1e-10)
    shared = [v.name for v in made.model.data_vars if "matrix" in v.name]
    assert len(shared) == 2  # equal matrices are stored once


def test_a_shared_map_is_evaluated_once():
    calls = []

    def counted(field, rate):
        calls.append(1)
        return in_numpy(field, rate)

    shared = bj.numpy_map(counted, NAMES, jacobian=jacobian)
    noise = bj.GaussianNoise(sd=1.0)
    modalities = [
        bj.Modality("all", data(np.zeros(5)), shared, noise),
        bj.Modality("sums", data(np.zeros(1), "sum"), shared, noise, observe=np.ones((1, 5))),
        bj.Modality("firsts", data(np.zeros(2), "f"), shared, noise, observe=np.eye(2, 5)),
    ]
    model = bj.build_model(bj.JointProblem(latents=latents(), modalities=modalities))
    density = log_density(model)
    calls.clear()
    density(**WHITE)
    assert len(calls) == 1


def test_a_shared_pytensor_function_is_called_once_for_a_model():
    calls = []

    def counted(field, rate):
        calls.append(1)
        return in_pytensor(field, rate)

    shared = bj.pytensor_map(counted, NAMES)
    noise = bj.GaussianNoise(sd=1.0)
    modalities = [bj.Modality(n, data(np.zeros(5)), shared, noise) for n in ("a", "b")]
    problem = bj.JointProblem(latents=latents(), modalities=modalities)
    calls.clear()
    bj.build_model(problem)
    assert len(calls) == 1


def test_black_boxes_of_one_shape_are_not_merged():
    def scaled(factor):
        matrix = factor * np.ones((3, 1))
        return bj.numpy_map(
            lambda rate: factor * rate * np.ones(3),
            "rate",
            jacobian=lambda rate: matrix,
            name="box",
        )

    noise = bj.GaussianNoise(sd=1.0)
    modalities = [
        bj.Modality("double", data(np.zeros(3)), scaled(2.0), noise),
        bj.Modality("triple", data(np.zeros(3)), scaled(3.0), noise),
    ]
    made = build(bj.JointProblem(latents=latents()[1:], modalities=modalities))
    rate, total = made.values["rate"], made.responses["double"] + 10 * made.responses["triple"]
    rate, total, slope = evaluator(made, [rate, total, pt.grad(total.sum(), rate)])(rate_white=1.0)
    np.testing.assert_allclose(total, 32.0 * rate)
    assert slope == pytest.approx(3 * 32.0)


def test_a_vjp_of_one_latent_may_return_a_bare_array():
    square = bj.numpy_map(
        lambda field: field**2,
        "field",
        jvp=lambda values, tangents: 2 * values[0] * tangents[0],
        vjp=lambda values, cotangent: 2 * values[0] * cotangent.reshape(2, 3),
    )
    model = bj.build_model(problem_of(square, np.zeros(6), known=latents()[:1]))
    found, differences = gradient_and_differences(model, field_white=WHITE["field_white"])
    np.testing.assert_allclose(found, differences, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["jacobian", "jvp and vjp", "finite differences", "pytensor"])
def test_maps_of_module_level_functions_pickle(name):
    copy = pickle.loads(pickle.dumps(MAPS[name]))
    density = log_density(bj.build_model(problem_of(copy)))
    assert density(**WHITE) == log_density(bj.build_model(problem_of(MAPS[name])))(**WHITE)


# Wrong derivatives.

RATE = [bj.Parameter("rate", STANDARD)]


def line(values):
    """The map slope * rate, whose derivative is slope."""
    slope = np.asarray(values, dtype=float)
    return lambda rate: slope * rate


def claims(function, slopes, known=RATE, size=None):
    slopes = np.asarray(slopes, dtype=float)
    forward = bj.numpy_map(function, "rate", jacobian=lambda rate: slopes[:, None], name="line")
    return problem_of(forward, np.zeros(slopes.size if size is None else size), known=known)


def test_a_right_derivative_passes():
    claims(line([1.0, 2.0, -3.0]), [1.0, 2.0, -3.0])


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        ([1.0, 2.0, 3.0], "worst entry is datum 2, element 0: 3 given, -3 by finite difference"),
        ([1.1, 2.2, -3.3], "worst entry is datum 2, element 0: -3.3 given, -3 by"),
        ([1.0, 2.5, -3.0], "worst entry is datum 1, element 0: 2.5 given, 2 by finite"),
        ([1.0, np.nan, -3.0], "element 0: nan given"),
        ([0.0, 0.0, 0.0], "the derivative with respect to 'rate' is zero everywhere"),
    ],
)
def test_a_wrong_derivative_is_found_and_its_worst_entry_named(slopes, message):
    with pytest.raises(ValueError, match=f"map 'line': .*{message}"):
        claims(line([1.0, 2.0, -3.0]), slopes)


def test_one_wrong_row_among_three_thousand_is_found():
    slopes = np.ones(3_000)
    slopes[2_123] = 2.0
    with pytest.raises(ValueError, match="worst entry is datum 2123, element 0: 2 given, 1 by"):
        claims(line(np.ones(3_000)), slopes)


def test_wrong_derivatives_of_tiny_outputs_are_found():
    with pytest.raises(ValueError, match="3e-21 given, 1e-21 by finite difference"):
        claims(line([1e-21, 1e-21]), [3e-21, 1e-21])


def test_a_right_derivative_passes_beside_a_large_offset_and_a_large_value():
    """A time of 1.7e9 s known to a second, seen by a wave with a period of ten."""
    time = bj.Parameter("rate", bj.Prior(pm.Normal, mu=1.7e9, sigma=1.0))
    forward = bj.numpy_map(
        lambda t: 1e6 + np.sin((t - 1.7e9) / np.array([10.0, 9.0])),
        "rate",
        jacobian=lambda t: (np.cos((t - 1.7e9) / np.array([10.0, 9.0])) / [10.0, 9.0])[:, None],
    )
    problem_of(forward, np.zeros(2), known=[time])


def test_a_pytensor_map_that_ignores_a_latent_is_refused():
    forward = bj.pytensor_map(lambda field, rate: field.ravel(), NAMES, name="lazy")
    with pytest.raises(ValueError, match="map 'lazy': .* 'rate' is zero everywhere; mend the"):
        problem_of(forward, np.zeros(6))


@pytest.mark.parametrize("zero", [np.zeros((5, 1)), sparse.csr_array((5, 1))])
def test_a_linear_map_that_ignores_a_latent_is_refused(zero):
    with pytest.raises(ValueError, match="map 'linear_field_rate': the matrix for 'rate' is zero"):
        problem_of(bj.linear_map({"field": MATRIX, "rate": zero}))


def test_jvp_and_vjp_must_be_adjoint():
    forward = bj.numpy_map(
        in_numpy,
        NAMES,
        jvp=lambda values, tangents: 1.01 * jvp(values, tangents),
        vjp=vjp,
        name="f",
    )
    with pytest.raises(ValueError, match="map 'f': jvp and vjp for 'field' are not adjoint: w"):
        problem_of(forward)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda rate: np.ones((4, 1)), "has 4 rows, the output 3 elements; one row each"),
        (lambda rate: np.ones((3, 2)), r"has shape \(3, 2\); \(data, 1\) is needed, one column"),
        (lambda rate: [np.ones((3, 1))] * 2, r"has 2 blocks for the latents \('rate',\)"),
    ],
)
def test_a_jacobian_of_wrong_shape_is_refused(given, message):
    forward = bj.numpy_map(line(np.ones(3)), "rate", jacobian=given, name="line")
    with pytest.raises(ValueError, match=f"map 'line': the Jacobian .*{message}"):
        problem_of(forward, np.zeros(3), known=RATE)


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(
        ValueError, match="map 'line': 1 of 2 outputs are not finite at a prior draw"
    ):
        claims(lambda rate: np.array([rate, np.nan]), [1.0, 1.0])


def test_an_error_inside_a_users_function_says_which_map():
    forward = bj.numpy_map(lambda rate: rate[3], "rate", jacobian=np.ones_like, name="broken")
    with pytest.raises(ValueError, match="map 'broken': it fails at 20 of 20 prior") as caught:
        problem_of(forward, known=RATE)
    assert isinstance(caught.value.__cause__, IndexError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.numpy_map(in_numpy, NAMES), "map 'in_numpy': a derivative is needed; give"),
        (lambda: bj.numpy_map(in_numpy, NAMES, jvp=jvp), "a derivative is needed"),
        (lambda: bj.linear_map(MATRIX), "name the latent, as in bj.linear_map"),
        (lambda: bj.linear_map(MATRIX[0], "field"), r"has shape \(6,\); \(data, cells\) is"),
        (lambda: bj.linear_map(MATRIX * np.inf, "field"), "the matrix for 'field' is not finite"),
        (
            lambda: bj.linear_map({"field": MATRIX, "rate": np.ones((4, 1))}),
            r"the matrices have \[4, 5\] rows; all must predict the same data",
        ),
        (
            lambda: bj.linear_map(MATRIX, "field", coords={"e": np.zeros(5), "n": np.zeros(4)}),
            "each needs one value for each row of the output",
        ),
    ],
)
def test_errors_when_a_map_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_number_of_columns_must_be_that_of_the_cells():
    with pytest.raises(ValueError, match=r"has 4 columns, the latent 6 elements \(2, 3\); one"):
        problem_of(bj.linear_map(np.ones((5, 4)), "field"), known=latents()[:1])
