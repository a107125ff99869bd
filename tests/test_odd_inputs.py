"""Odd values for every argument of every public callable: a number, or an error that says why.

The callables are found by introspection, so that a new one is attacked too; one whose arguments
cannot be guessed from their names needs an entry in ``BASES``.
"""

import ast
import datetime
import decimal
import functools
import inspect
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from odd_taken import allowed
from scipy import sparse

import bayesjoint as bj
from bayesjoint.reports.example import example_fields, example_tree

PACKAGE = str(Path(bj.__file__).parent)
OURS = (ValueError, TypeError, FileNotFoundError)


class Unreadable:
    """What fails in its own way when NumPy reads it."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array")


class Willing:
    """What says that it has every attribute."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self


@functools.cache
def odd_values():
    """Return what no argument takes, with a few that some do."""
    return {
        "none": None,
        "nan": float("nan"),
        "infinite": float("inf"),
        "minus": -1.0,
        "whole beyond doubles": 10**400,
        "complex": 1 + 2j,
        "decimal": decimal.Decimal("NaN"),
        "text": "odd",
        "surrogate": "\ud800",
        "bytes": b"odd",
        "empty list": [],
        "empty dict": {},
        "set": {"a", 1},
        "generator": (x for x in ()),
        "function": odd_values,
        "class": Unreadable,
        "unreadable": Unreadable(),
        "willing": Willing(),
        "ragged": [[1.0], [1.0, 2.0]],
        "names": ["a", "b"],
        "mapping of None": {None: None},
        "mapping of text": {"th": "odd", "m": "odd"},
        "0-d": np.array(1.0),
        "empty array": np.zeros(0),
        "many dims": np.zeros((1,) * 32),
        "objects": np.array([None, 1, "a"], dtype=object),
        "texts": np.array(["a", "b", "c"]),
        "complex array": np.array([1j, 2, 3]),
        "structured": np.zeros(3, dtype=[("a", float)]),
        "dates": np.array(["2020-01-01", "NaT"], dtype="M8[ns]"),
        "months": np.array([1, 2, 3], dtype="m8[M]"),
        "masked": np.ma.array([1.0, 2.0, 3.0], mask=True),
        "date": datetime.datetime(2020, 1, 1),
        "NaT": pd.NaT,
        "NA": pd.NA,
        "series with NA": pd.Series([1, None, 3], dtype="Int64"),
        "series of many levels": pd.Series(
            1.0, index=pd.MultiIndex.from_product([[1, 2], ["a", "b"]])
        ),
        "categories": pd.Series(["a", "b"], dtype="category"),
        "frame": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        "prior": bj.Prior(pm.Normal, mu=0.0, sigma=1.0),
        "prior over several": bj.Prior(pm.Dirichlet, a=np.ones(3)),
        "tensor": pt.scalar("x"),
        "distribution": pm.Normal.dist(),
        "array of texts": xr.DataArray(list("abc"), dims="x"),
        "array of twins": xr.DataArray([1.0, 2.0, 3.0], {"x": list("aab")}, "x"),
        "variable": xr.Variable("x", [1.0, 2.0]),
        "dataset": xr.Dataset({"m": ("x", [1.0, 2.0])}),
        "empty tree": xr.DataTree(),
        "foreign tree": xr.DataTree.from_dict(
            {
                name: xr.Dataset({"q": (("chain", "draw"), np.ones((2, 5)))})
                for name in ("posterior", "linearization")
            }
        ),
        "sparse": sparse.csr_array(np.eye(3)),
        "problem": problem(),
    }


@functools.cache
def problem():
    th = bj.Parameter("th", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))
    data = xr.DataArray([1.0, 2.0], dims="s")
    seen = bj.Modality("m", data, bj.linear_map(np.ones((2, 1)), "th"), bj.GaussianNoise(sd=0.1))
    return bj.JointProblem(latents=[th], modalities=[seen])


@functools.cache
def bases():
    """Return arguments that are right, or that are refused last, by the name of the callable."""
    grid = bj.Grid(x=np.arange(3.0), y=np.arange(2.0))
    noise, straight = bj.GaussianNoise(sd=0.1), bj.linear_map(np.ones((2, 1)), "th")
    part = problem()
    edges = {"weight": 1.0, "scales": {"f": 1.0}, "form": "forward", "mask": None}
    edges |= {"epsilon": 0.1, "normaliser": None}
    stated = {"name": None, "input_units": None, "output_units": None, "coords": None}
    return {
        "Grid": {"x": np.arange(3.0)},
        "Prior": {"distribution": pm.Normal, "units": None, "mu": 0.0, "sigma": 1.0},
        "Parameter": {"name": "th", "prior": part.latents[0].prior, "units": None, "coords": {}},
        "GaussianField": {
            "name": "f", "grid": grid, "sd": 1.0, "length_scale": 1.0, "mean": 0.0,
            "smoothness": 1.5, "units": None,
        },
        "linear_map": {"matrix": np.ones((2, 1)), "latent": "th", **stated},
        "numpy_map": {
            "function": np.sin, "latents": "th", "finite_differences": True, "jacobian": None,
            "jvp": None, "vjp": None, **stated,
        },
        "pytensor_map": {"function": pt.sin, "latents": "th", **stated},
        "GaussianNoise": {"sd": 0.1, "scale": 1.0},
        "StudentTNoise": {"sd": 0.1, "nu": 4.0, "scale": 1.0},
        "CorrelatedNoise": {"covariance": np.eye(2), "scale": 1.0},
        "PoissonNoise": {},
        "Modality": {
            "name": "m", "data": xr.DataArray([1.0, 2.0], dims="s"), "forward": straight,
            "noise": noise, "observe": None, "power": 1.0, "missing": "raise",
        },
        "CorrelatedFields": {"*names": ("f", "g"), "correlation": 0.5},
        "CrossGradient": {
            "first": "f", "second": "g", "weight": 1.0, "form": "forward", "guide": None,
            "normalisation": "none", "scales": None, "floor": 0.1, "mask": None,
            "normaliser": None,
        },
        "JointTotalVariation": {"*names": ("f", "g"), **edges},
        "JointSparsity": {"*names": ("f", "g"), **edges, "nu": 1.0},
        "PropertyMixture": {
            "name": "rocks", "labels": ["a", "b"], "proportions": [0.5, 0.5],
            "means": {"f": [0.0, 1.0]}, "sds": {"f": 0.1}, "correlation": None,
        },
        "PropertyRelation": {
            "latent": "g", "given": "f", "function": lambda f, a: a * f,
            "coefficients": {"a": 1.0},
        },
        "JointDiscrepancy": {
            "sd": {"m": 1.0, "n": 1.0}, "correlation": 0.3, "loadings": None, "covariance": None,
            "on": "t", "kernel": "matern", "length_scale": 1.0, "smoothness": 1.5, "period": None,
            "origin": None, "form": "auto", "of": None, "grid": None, "rank": None, "name": "d",
        },
        "JointProblem": {
            "latents": part.latents, "modalities": part.modalities, "couplings": (),
            "discrepancy": None,
        },
    }  # fmt: skip


# Where a run begins, or a figure is drawn, for what an argument allows.
LENGTHY = {"sample", "report", "linearize", "tabulate_normaliser", "calibrate_coupling"}
TREES = ("dt", "posterior")


@functools.cache
def tree():
    return example_tree()


@functools.cache
def fields():
    return example_fields(alike=0.5)


def guessed(name, function):
    """Return arguments of a function by their names."""
    values = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind == parameter.VAR_KEYWORD:
            continue
        if key in TREES:
            values[key] = fields() if "alignment" in name else tree()
        elif key == "problem":
            values[key] = problem()
        elif parameter.default is not parameter.empty:
            values[key] = parameter.default
        else:
            values[key] = GUESSES.get(key, xr.Dataset())
    return values


GUESSES = {
    "latent": "gain",
    "into": "gain",
    "source": "gain",
    "prediction": "gain",
    "at": {"t": [0.0]},
    "dim": "s",
    "modality": "m",
    "correlation": [0.0],
    "weights": [1.0],
    "similarity": 0.5,
    "path": "nowhere/page.html",
    "store": "nowhere.zarr",
    "separate": {},
    "values": np.array([1j]),
}


def arguments():
    for name in bj.__all__:
        for argument in bases().get(name, None) or guessed_names(name):
            yield name, argument


def guessed_names(name):
    if name in bases():
        return []
    found = inspect.signature(getattr(bj, name)).parameters
    names = [key for key, p in found.items() if p.kind != p.VAR_KEYWORD]
    return names


def call(name, argument, value):
    function = getattr(bj, name)
    given = dict(bases().get(name) or guessed(name, function)) | {argument: value}
    if name in LENGTHY and argument not in TREES and "problem" in given and argument != "problem":
        given["problem"] = None if runs(argument, value) else given["problem"]
    if "*names" in given:
        names = given.pop("*names")
        names = names if argument != "*names" else ("f", value)
        return on_a_grid(function(*names, **given))
    positional = [
        key
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.kind == parameter.POSITIONAL_ONLY
    ]
    return on_a_grid(function(*(given.pop(key) for key in positional), **given))


@functools.cache
def fields_of_couplings():
    grid = bj.Grid(x=np.arange(3.0), y=np.arange(2.0))
    return {n: bj.GaussianField(n, grid, sd=1.0, length_scale=1.0) for n in ("f", "g")}


def on_a_grid(made):
    """Check a coupling on fields: masks and maps of weights wait for these."""
    latents = getattr(made, "latents", ())
    if hasattr(made, "shapes") and latents and set(latents) <= set(fields_of_couplings()):
        made.check(fields_of_couplings())
    return made


def runs(argument, value):
    """Return whether a value lets a long computation begin: then it is refused at its door."""
    return value is None or argument in ("at", "store", "backend")


@functools.cache
def attacked():
    """Return the methods of a problem and what makes a mixture, as functions of one odd value."""
    part = problem_to_hold()
    calls = {
        "without": lambda value: part.without(value),
        "replace": lambda value: part.replace(**{"couplings": value}),
        "hold": lambda value: part.hold(value),
        "hold a value": lambda value: part.hold({"m_sd": value}),
        "with_data": lambda value: part.with_data(value),
        "with_data of a modality": lambda value: part.with_data({"m": value}),
    }
    bounds = {"a": {"f": (0.0, 1.0)}, "b": {"f": (2.0, 3.0)}}
    mixed = {"name": "rocks", "bounds": bounds, "proportions": [0.5, 0.5], "inside": 0.9}
    mixed["correlation"] = None
    for key in mixed:
        calls[f"from_bounds {key}"] = lambda value, key=key: bj.PropertyMixture.from_bounds(
            **mixed | {key: value}
        )
    calls["from_bounds of a unit"] = lambda value: bj.PropertyMixture.from_bounds(
        **mixed | {"bounds": bounds | {"a": value}}
    )
    return calls


WITHOUT_ARGUMENTS = {"without_data", "split", "separate"}
NOT_OF_USERS = {"derived"}


def test_no_method_of_a_problem_is_forgotten():
    methods = {name for name, _ in inspect.getmembers(bj.JointProblem, inspect.isfunction)}
    methods = {name for name in methods if not name.startswith("_")}
    named = {name.split(" ")[0] for name in attacked()} - {"from_bounds"}
    assert methods == named | WITHOUT_ARGUMENTS | NOT_OF_USERS
    for name in WITHOUT_ARGUMENTS:
        assert list(inspect.signature(getattr(bj.JointProblem, name)).parameters) == ["self"]


@functools.cache
def problem_to_hold():
    seen = problem().modality["m"]
    noise = bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=1.0))
    return problem().replace(modalities=[seen.replace(noise=noise)])


@functools.cache
def raise_statements(path):
    nodes = ast.walk(ast.parse(Path(path).read_text()))
    return [(n.lineno, n.end_lineno) for n in nodes if isinstance(n, ast.Raise)]


def is_told(error):
    """Return whether an error was raised by a sentence of this package."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith(PACKAGE) and isinstance(error, OURS)
    return ours and any(a <= last.lineno <= b for a, b in raise_statements(last.filename))


def outcomes(attack):
    """Return which odd values are taken, and the errors that are not told in our words."""
    plt = pytest.importorskip("matplotlib.pyplot")
    taken, raw = [], {}
    for label, value in odd_values().items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                attack(value)
                taken.append(label)
            except Exception as error:
                if not is_told(error):
                    raw[label] = f"{type(error).__name__}: {str(error)[:100]}"
            finally:
                plt.close("all")
    return taken, raw


@pytest.mark.parametrize(("name", "argument"), list(arguments()), ids=str)
def test_odd_values_give_a_result_or_a_sentence(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken, raw = outcomes(lambda value: call(name, argument, value))
    assert not raw
    parameter = inspect.signature(getattr(bj, name)).parameters.get(argument)
    default = getattr(parameter, "default", "none")
    base = bases().get(name, {}).get(argument, default)
    assert not set(taken) - allowed(name, argument, base, base is None or default is None)


@pytest.mark.parametrize("method", list(attacked()))
def test_odd_values_of_methods_give_a_result_or_a_sentence(method):
    _, raw = outcomes(attacked()[method])
    assert not raw
