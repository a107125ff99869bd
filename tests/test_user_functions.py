"""What functions of users return: a tensor or numbers that are right, or a sentence of ours."""

import decimal
import re
import warnings

import numpy as np
import pint
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy import sparse
from test_odd_inputs import Unreadable, Willing, is_told

import bayesjoint as bj

STRANGER = pt.vector("stranger")
LATENT = bj.Parameter("th", bj.Prior(pm.Normal, mu=0.0, sigma=1.0), coords={"c": [0, 1]})
GRID = bj.Grid(x=np.arange(2.0))
FIELDS = [bj.GaussianField(name, GRID, sd=1.0, length_scale=1.0) for name in "ab"]


def _raised(error):
    raise error


RETURNED = {
    "none": lambda v: None,
    "text": lambda v: "odd",
    "mapping": lambda v: {"a": v},
    "empty list": lambda v: [],
    "empty": lambda v: v[:0],
    "short": lambda v: v[:1],
    "long": lambda v: np.ones(5),
    "sum": lambda v: v.sum(),
    "square": lambda v: v[:, None] * v[None, :],
    "complex": lambda v: v * 1j,
    "whole": lambda v: (v * 3).astype("int64"),
    "truths": lambda v: v > 0,
    "error": lambda v: 1 / 0,
    "error of value": lambda v: _raised(ValueError("odd")),
    "error of key": lambda v: _raised(KeyError("odd")),
    "stranger": lambda v: STRANGER,
    "with a stranger": lambda v: v + STRANGER,
    "random": lambda v: v + pm.Normal.dist(shape=2),
    "willing": lambda v: Willing(),
    "unreadable": lambda v: Unreadable(),
    "module": lambda v: bj,
    "function": lambda v: np.sin,
    "generator": lambda v: (x for x in v),
    "NaN": lambda v: v * np.nan,
    "infinite": lambda v: v * np.inf,
    "objects": lambda v: np.array([None, 1], dtype=object),
    "texts": lambda v: np.array(["a", "b"]),
    "masked": lambda v: np.ma.array([1.0, 2.0], mask=[True, False]),
    "dates": lambda v: np.array(["2020-01-01", "2020-01-02"], dtype="M8[s]"),
    "labelled": lambda v: xr.DataArray(np.ones(2), dims="q"),
    "dataset": lambda v: xr.Dataset(),
    "diagonal": lambda v: sparse.csr_array(np.eye(2)),
    "prior": lambda v: bj.Prior(pm.Normal, mu=0.0, sigma=1.0),
    "no argument": lambda: 1,
    "two arguments": lambda a, b: a,
    "decimal": lambda v: decimal.Decimal(1),
    "ragged": lambda v: [[1.0], [1.0, 2.0]],
    "two of them": lambda v: (v, v),
    "type": lambda v: pt.dvector,
    "constants": lambda v: np.ones(2),
    "list": lambda v: [v[0], v[1]],
    "single": lambda v: v.astype("float32"),
    "quantity": lambda v: pint.Quantity(v, "m"),
}


def made(forward, **settings):
    data = xr.DataArray([1.0, 2.0], dims="s")
    seen = bj.Modality("m", data, forward, bj.GaussianNoise(sd=0.1), **settings)
    return bj.JointProblem(latents=[LATENT], modalities=[seen])


def related(function):
    data = xr.DataArray([1.0, 2.0], dims="s")
    seen = bj.Modality("m", data, bj.linear_map(np.eye(2), "b"), bj.GaussianNoise(sd=0.1))
    relation = bj.PropertyRelation("b", given="a", function=function)
    return bj.JointProblem(latents=FIELDS, modalities=[seen], couplings=[relation])


def doubled(v):
    return v * 1.0


STRAIGHT = bj.linear_map(np.eye(2), "th")
# How a function is used, and what it may return.
USES = {
    "simulator": (
        lambda f: made(bj.numpy_map(f, "th", finite_differences=True)),
        {"list", "single", "quantity"},
    ),
    "simulator with a derivative": (
        lambda f: made(bj.numpy_map(f, "th", jacobian=lambda v: np.eye(2))),
        {"list", "single", "quantity"},
    ),
    "jacobian": (lambda f: made(bj.numpy_map(doubled, "th", jacobian=f)), {"diagonal"}),
    "jvp": (
        lambda f: made(bj.numpy_map(doubled, "th", jvp=lambda v, t: f(t[0]), vjp=lambda v, c: [c])),
        {"list", "single", "quantity"},
    ),
    "vjp": (
        lambda f: made(bj.numpy_map(doubled, "th", jvp=lambda v, t: t[0], vjp=lambda v, c: f(c))),
        {"single", "quantity"},
    ),
    "map": (lambda f: made(bj.pytensor_map(f, "th")), {"list", "single"}),
    "observe": (lambda f: made(STRAIGHT, observe=f), {"list", "single", "constants"}),
    "observe, then a matrix": (
        lambda f: made(STRAIGHT, observe=[f, np.eye(2)]),
        {"list", "single", "constants"},
    ),
    "relation": (related, {"list", "single", "constants"}),
}
PYTENSOR = re.compile("Cannot convert|Unsupported dtype|MissingInput|Incompatible|Backtrace")


@pytest.mark.parametrize("use", USES)
def test_what_functions_return_is_right_or_told(use):
    make, allowed = USES[use]
    taken, raw = set(), {}
    for name, function in RETURNED.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                bj.build_model(make(function))
                taken.add(name)
            except Exception as error:
                if not is_told(error) or PYTENSOR.search(str(error)):
                    raw[name] = f"{type(error).__name__}: {error}"
    assert not raw
    assert taken == allowed


@pytest.mark.parametrize("use", ["simulator", "simulator with a derivative", "map"])
@pytest.mark.parametrize("name", ["empty", "long"])
def test_a_wrong_shape_is_told_before_a_derivative(use, name):
    with pytest.raises(ValueError, match=r"shape \(0,\)|\(5,\) predicted values for data of shape"):
        USES[use][0](RETURNED[name])
