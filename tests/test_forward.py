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
from tests.helpers import STANDARD, central_gradient, data, evaluator, log_density

GRID = bj.Grid(y=np.arange(2.0), x=np.arange(3.0))
MATRIX = np.random.default_rng(1).normal(size=(5, 6))


# The same physics, tanh(A field) * exp(rate), in every form.
def in_numpy(field, rate):
    assert field.shape == GRID.shape and rate.shape == ()
    return np.tanh(MATRIX @ field.ravel()) * np.exp(rate)


def jacobian(field, rate):
    inner = MATRIX @ field.ravel()
    return [(1 - np.tanh(inner) ** 2)[:, None] * MATRIX * np.exp(rate), in_numpy(field, rate)[:, None]]


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
    model = bj.build_model(problem_of(forward))
    compiled = model.compile_dlogp()
    del compiled
    density, names = log_density(model), ("field_white", "rate_white")

    def at(x):
        return density(field_white=x[:6].reshape(2, 3), rate_white=x[6])

    x = np.concatenate([WHITE["field_white"].ravel(), [WHITE["rate_white"]]])
    gradient = model.compile_dlogp(mode=MODE)(dict(zip(names, (x[:6].reshape(2, 3), x[6]))))
    np.testing.assert_allclose(gradient, central_gradient(at, x), rtol=1e-6, atol=1e-7)
