"""Warnings point at the line of the user, wherever in the package they come from."""

import ast
import re
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pymc as pm
import pytest

import bayesjoint as bj
from tests.helpers import STANDARD, data

PACKAGE = Path(bj.__file__).parent


def unreached():
    latents = [bj.Parameter(name, STANDARD) for name in "ab"]
    seen = bj.Modality("m", data([1.0]), bj.linear_map(np.eye(1), "a"), bj.GaussianNoise(sd=1.0))
    return bj.JointProblem(latents=latents, modalities=[seen])


def unknown_units():
    level = bj.Parameter("a", STANDARD)
    forward = bj.linear_map(np.eye(1), "a", output_units="m")
    array = data([1.0]).assign_attrs(units="smoot each")
    with suppress(ValueError):  # nobody can convert them
        seen = bj.Modality("m", array, forward, bj.GaussianNoise(sd=1.0))
        bj.JointProblem(latents=[level], modalities=[seen])


def failing():
    def logarithm(a):
        if a < 0:
            raise ValueError("below zero")
        return np.atleast_1d(np.log(a))

    level = bj.Parameter("a", bj.Prior(pm.Normal, mu=1.0, sigma=1.0))
    forward = bj.numpy_map(logarithm, "a", finite_differences=True)
    seen = bj.Modality("m", data([0.1]), forward, bj.GaussianNoise(sd=1.0))
    return bj.linearize(bj.JointProblem(latents=[level], modalities=[seen]))


def few_draws():
    level = bj.Parameter("a", STANDARD)
    seen = bj.Modality("m", data([1.0]), bj.linear_map(np.eye(1), "a"), bj.GaussianNoise(sd=1.0))
    problem = bj.JointProblem(latents=[level], modalities=[seen])
    settings = {"draws": 4, "tune": 4, "chains": 2, "backend": "interpreted"}
    return bj.sample(problem, random_seed=1, progress=False, **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unreached, r"no modality reaches \['b'\]"),
        (unknown_units, "units 'smoot each' are not known to pint"),
        (failing, "map 'logarithm'.* impossible"),
        (few_draws, "the chains do not agree"),
    ],
)
def test_the_line_of_the_user_is_told(make, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    ours = [w for w in caught if issubclass(w.category, UserWarning)]
    assert {w.filename for w in ours} == {__file__}
    assert any(re.search(message, str(w.message)) for w in ours)


def test_every_warning_goes_through_one_place():
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_warnings.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called != "warnings.warn", f"{path}:{node.lineno}"
