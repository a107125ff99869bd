"""Observation operators: what an instrument sees of the output of a forward map."""

import numpy as np
import pytensor.tensor as pt
import pytest
from scipy import sparse

import bayesjoint as bj
from bayesjoint.observation import ObservationOperator
from bayesjoint.problem import build
from tests.helpers import STANDARD, data, evaluator, gradient_and_differences

RNG = np.random.default_rng(3)
PHYSICS, SIGHT, MEAN = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 6)), np.full((1, 4), 0.25)
OPERATORS = {
    "none": (None, np.eye(6)),
    "matrix": (SIGHT, SIGHT),
    "sparse": (sparse.csr_array(SIGHT), SIGHT),
    "sparse by coordinates": (sparse.coo_matrix(SIGHT), SIGHT),
    "function": (lambda output: pt.dot(SIGHT, output), SIGHT),
    "list": ([SIGHT, sparse.csr_array(MEAN)], MEAN @ SIGHT),
    "function, then matrix": ([lambda output: 2.0 * output, SIGHT], 2.0 * SIGHT),
}


def problem_of(observe, size, forward=None, **settings):
    forward = forward or bj.linear_map(PHYSICS, "m")
    modality = bj.Modality(
        "y", data(np.zeros(size)), forward, bj.GaussianNoise(sd=1.0), observe=observe, **settings
    )
    latent = bj.Parameter("m", STANDARD, coords={"part": [0, 1, 2]})
    return bj.JointProblem(latents=[latent], modalities=[modality])


@pytest.mark.parametrize("name", OPERATORS)
def test_the_response_is_seen_through_the_operator(name):
    observe, matrix = OPERATORS[name]
    made = build(problem_of(observe, matrix.shape[0]))
    white = np.array([0.3, -1.0, 2.0])
    response = evaluator(made, made.responses["y"])(m_white=white)
    np.testing.assert_allclose(response, matrix @ PHYSICS @ white, rtol=1e-12)
    found, differences = gradient_and_differences(made.model, m_white=white)
    np.testing.assert_allclose(found, differences, rtol=1e-7)


@pytest.mark.parametrize("name", ["none", "matrix", "sparse", "list"])
def test_linear_operators_carry_columns_of_model_space(name):
    observe, matrix = OPERATORS[name]
    operator = ObservationOperator.from_user(observe, "y")
    assert operator.is_linear
    columns = RNG.normal(size=(6, 2))
    found = operator.matrix_times(columns)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, matrix @ columns, rtol=1e-12)


def test_an_operator_with_a_function_is_not_linear():
    assert not ObservationOperator.from_user(OPERATORS["function, then matrix"][0], "y").is_linear


def test_a_matrix_acts_on_the_ravelled_output():
    """Output of shape (point, component), line of sight in each row of the matrix."""
    forward = bj.pytensor_map(lambda m: pt.dot(PHYSICS, m).reshape((3, 2)), "m")
    made = build(problem_of(SIGHT, 4, forward))
    response = evaluator(made, made.responses["y"])(m_white=[1.0, 0.0, 0.0])
    np.testing.assert_allclose(response, SIGHT @ PHYSICS[:, 0], rtol=1e-12)


def test_a_large_matrix_travels_as_data_of_the_model():
    sight = RNG.normal(size=(1_200, 6))
    made = build(problem_of(sight, 1_200))
    assert [v.name for v in made.model.data_vars] == ["y_observe_0"]
    response = evaluator(made, made.responses["y"])(m_white=[1.0, 0.0, 0.0])
    np.testing.assert_allclose(response, sight @ PHYSICS[:, 0], rtol=1e-10)


@pytest.mark.parametrize(
    ("observe", "message"),
    [
        (
            np.ones(6),
            r"modality 'y': observe must be a matrix.* an array of shape \(6,\) was given",
        ),
        (
            np.ones((4, 5)),
            r"'y': observe does not fit the output of the map 'linear_m', shape \(6,\)",
        ),
        (sparse.csr_array(np.ones((4, 5))), "'y': observe does not fit the output of the map"),
        ([SIGHT, SIGHT], "'y': observe does not fit the output of the map"),
        (lambda output: output[:3, None] @ output[None, :5], "'y': .*predicted values for data of"),
        (SIGHT * np.nan, "'y': observe is not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Rewrite failure.*")
def test_errors(observe, message):
    with pytest.raises(ValueError, match=message):
        problem_of(observe, 4)


def test_the_number_of_columns_is_checked_in_model_space():
    operator = ObservationOperator.from_user(np.ones((4, 5)), "y")
    with pytest.raises(ValueError, match="'y': observe has 5 columns, the forward map 6 outputs"):
        operator.matrix_times(np.zeros((6, 1)))
