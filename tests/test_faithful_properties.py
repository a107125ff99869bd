"""Random labels, orders, units, types, names and scales: the posterior is that of linear algebra.

Most cases compare what a problem holds inside, without a model; some go through `bj.linearize`.
"""

from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pint
import pymc as pm
import pytest
import xarray as xr
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from scipy import sparse

import bayesjoint as bj
from bayesjoint.noise import sd_of_data
from tests.faithful import closed_form, posterior, require_ours

RTOL = 1e-8
QUIET = {
    "deadline": None, "derandomize": True, "database": None,
    "suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate],
}  # fmt: skip
METRES = {"m": 1.0, "cm": 1e-2, "km": 1e3, "mm": 1e-3, "metre": 1.0}
DENSITIES = {"kg/m3": 1.0, "kg m-3": 1.0, "g/cm3": 1e3, "t m-3": 1e3}
NAMES = ["th", "density", "ρ", "x1", "_a", "lambda_", "mean", "sd", "North", "value", "a" * 40]
DIMS = ["s", "station", "time", "ξ", "x", "index", "level_0", "columns", "dim_0"]


def labels_of(kind: str, size: int) -> Any:
    """Return labels of one kind."""
    return {
        "text": [f"st{7 * i % 11}" for i in range(size)],
        "integer": list(range(3, 3 + 2 * size, 2)),
        "float": list(0.1 * np.arange(size) + 0.3),
        "north": list(4.5e6 + np.arange(size) * 1.0),
        "tiny": list(1e-12 * np.arange(1, size + 1)),
        "date": list(pd.date_range("2020-01-31", periods=size, freq="7h")),
        "none": None,
    }[kind]


@dataclass(frozen=True)
class Case:
    """A linear Gaussian problem in plain numbers, and how it is told."""

    size: int
    count: int
    data: np.ndarray
    matrix: np.ndarray  # data in metres for a unit of the latent in kg/m3
    covariance: np.ndarray
    prior_sd: float
    mean: float
    how: dict[str, Any]

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        return closed_form(self.matrix, self.data, self.covariance, self.prior_sd, self.mean)


@st.composite
def cases(draw: st.DrawFn, widest: int = 30, sharpest: float = 3.0) -> Case:
    size, count = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-widest, widest))  # of the data
    prior = 10.0 ** draw(st.integers(-widest, widest))
    sharp = 10.0 ** draw(st.floats(-2.0, sharpest))  # prior sd of the data over their noise
    matrix = rng.normal(size=(size, count)) * scale / prior
    root = np.tril(rng.normal(size=(size, size)), -1) * 0.3 + np.diag(rng.uniform(0.5, 2, size))
    noise = scale / sharp
    pick = lambda *options: draw(st.sampled_from(options))  # noqa: E731
    how = {
        "sd": pick(
            "number", "array", "list", "series", "labelled", "covariance", "frame", "square"
        ),
        "matrix": pick("bare", "list", "sparse", "frame", "labelled", "turned", "fortran"),
        "dtype": pick("float64", ">f8", "read-only", "dask", "object", "float32"),
        "rows": pick("text", "integer", "float", "north", "tiny", "date", "none"),
        "columns": pick("text", "integer", "float"),
        "data units": pick(None, *METRES), "sd units": pick(None, *METRES),
        "map units": pick(None, *METRES), "latent units": pick(None, *DENSITIES),
        "input units": pick(None, *DENSITIES), "told": pick("at once", "again", "other units"),
        "latent": draw(st.sampled_from(NAMES)), "modality": draw(st.sampled_from(NAMES[::-1])),
        "dim": draw(st.sampled_from(DIMS)), "orders": rng,
    }  # fmt: skip
    covariance = root @ root.T * noise**2
    if how["sd"] in ("number", "array", "list", "series", "labelled"):
        covariance = np.diag(np.diag(covariance))
    if how["sd"] == "number":
        covariance = np.eye(size) * noise**2
    mean = float(rng.normal()) * prior
    data = matrix @ (mean + prior * rng.normal(size=count)) + noise * rng.normal(size=size)
    if how["dtype"] == "float32":
        data = data.astype("float32").astype(float)
    return Case(size, count, data, matrix, covariance, prior, mean, how)


# ---- how it is told ----------------------------------------------------------------------------


def told(case: Case) -> bj.JointProblem:
    """Return the problem as a user might write it: in any order, units and types."""
    how, dim = case.how, case.how["dim"]
    rows, columns = labels_of(how["rows"], case.size), labels_of(how["columns"], case.count)
    data_size = METRES.get(how["data units"], 1.0)
    latent_size = DENSITIES.get(how["latent units"], 1.0)
    data = in_dtype(case.data / data_size, how["dtype"])
    array = xr.DataArray(data, dims=dim, coords={} if rows is None else {dim: rows})
    if how["data units"]:
        array.attrs["units"] = how["data units"]
    latent = bj.Parameter(
        how["latent"],
        bj.Prior(pm.Normal, mu=case.mean / latent_size, sigma=case.prior_sd / latent_size),
        coords={"channel": columns},
        units=how["latent units"],
    )
    # Where one side does not state its units, nobody converts.
    gives = METRES[how["map units"]] if how["map units"] and how["data units"] else data_size
    both = how["input units"] and how["latent units"]
    reads = DENSITIES[how["input units"]] if both else latent_size
    forward = bj.linear_map(
        matrix_as(case, case.matrix / gives * reads, rows, columns),
        how["latent"], output_units=how["map units"], input_units=how["input units"],
    )  # fmt: skip
    first = array if how["told"] == "at once" else array.copy(data=np.zeros(case.size))
    modality = bj.Modality(how["modality"], first, forward, noise_as(case, data_size, rows))
    problem = bj.JointProblem(latents=[latent], modalities=[modality])
    if how["told"] == "at once":
        return problem
    again = turned(case, array) if rows is not None else array
    if how["told"] == "other units" and how["data units"]:
        values = np.asarray(again.data, dtype=float) * data_size / METRES["km"]
        again = again.copy(data=values).assign_attrs(units="km")
    return problem.with_data({how["modality"]: again})


def in_dtype(values: np.ndarray, kind: str) -> Any:
    if kind == "dask":
        return dask.array.from_array(values, chunks=2)
    if kind == "read-only":
        values = values.copy()
        values.setflags(write=False)
        return values
    if kind == "float32":  # only where nothing is lost
        single = values.astype("float32")
        return single if np.array_equal(single, values) else values
    return values.astype(kind)


def turned(case: Case, array: xr.DataArray) -> xr.DataArray:
    """Return an array in another order of its labels."""
    for dim in array.dims:
        if dim in array.coords:
            array = array.isel({dim: case.how["orders"].permutation(array.sizes[dim])})
    return array


def matrix_as(case: Case, matrix: np.ndarray, rows: Any, columns: Any) -> Any:
    kind, dim = case.how["matrix"], case.how["dim"]
    if kind == "sparse":
        return sparse.coo_array(matrix)
    if kind == "list":
        return matrix.tolist()
    if kind == "fortran":
        return np.asfortranarray(matrix)
    if kind in ("bare", "frame") and (kind == "bare" or rows is None):
        return matrix
    coords = {"channel": columns} | ({} if rows is None else {dim: rows})
    array = turned(case, xr.DataArray(matrix, coords, (dim, "channel")))
    if kind == "frame":
        return array.to_pandas()
    return array.T if kind == "turned" else array


def noise_as(case: Case, data_size: float, rows: Any) -> Any:
    how, dim = case.how, case.how["dim"]
    stated = how["sd units"] if how["data units"] else None
    size = METRES[stated] if stated else data_size
    if how["sd"] in ("covariance", "frame", "square"):
        covariance = case.covariance / size**2
        if how["sd"] == "covariance" or rows is None:
            return bj.CorrelatedNoise(
                covariance=pint.Quantity(covariance, f"{stated}**2") if stated else covariance
            )
        array = xr.DataArray(covariance, {dim: rows, "other": rows}, (dim, "other"))
        array = turned(case, array)
        if how["sd"] == "frame" and not stated:
            return bj.CorrelatedNoise(covariance=array.to_pandas())
        attrs = {"units": f"{stated}^2"} if stated else {}
        return bj.CorrelatedNoise(covariance=array.assign_attrs(attrs))
    sd = np.sqrt(np.diag(case.covariance)) / size
    if how["sd"] == "number":
        return bj.GaussianNoise(sd=pint.Quantity(float(sd[0]), stated) if stated else float(sd[0]))
    if how["sd"] == "array" or rows is None:
        return bj.GaussianNoise(sd=pint.Quantity(sd, stated) if stated else sd)
    array = turned(case, xr.DataArray(sd, {dim: rows}, dim))
    if stated:
        return bj.GaussianNoise(sd=array.assign_attrs(units=stated))
    if how["sd"] == "list":
        return bj.GaussianNoise(sd=list(sd))
    return bj.GaussianNoise(sd=array.to_series() if how["sd"] == "series" else array)


# ---- what is held inside -----------------------------------------------------------------------


def held(problem: bj.JointProblem) -> tuple[np.ndarray, np.ndarray]:
    """Return posterior mean and sd by the plain matrices that a problem holds."""
    (latent,), (modality,) = problem.latents, problem.modalities
    forward, response = modality.forward, modality.from_response
    matrix = forward.matrices[0]
    matrix = matrix.toarray() if sparse.issparse(matrix) else matrix
    change = forward.conversions.get(latent.name)
    factor = response.factor * (1.0 if change is None else change.factor)
    noise = modality.noise
    if isinstance(noise, bj.CorrelatedNoise):
        covariance = noise.correlation_factor @ noise.correlation_factor.T
    else:
        covariance = np.diag(sd_of_data("m", noise.sd, modality.data) ** 2)
    prior = latent.prior.parameters
    data = modality.numbers()
    return closed_form(factor * matrix, data, covariance, prior["sigma"], prior["mu"])


def compare(case: Case, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Compare with linear algebra in plain numbers, relative to the mean and to the sd."""
    size = DENSITIES.get(case.how["latent units"], 1.0)
    mean, sd = case.expected()
    scale = np.maximum(np.abs(mean), sd)
    assert np.all(np.abs(found[0] * size - mean) <= RTOL * scale)
    np.testing.assert_allclose(found[1] * size, sd, rtol=RTOL)


def told_or_refused(case: Case) -> bj.JointProblem | None:
    try:
        return told(case)
    except (ValueError, TypeError) as error:
        require_ours(error)
        names = (case.how["latent"], case.how["modality"], case.how["dim"])
        known = len(set(names)) < 3 or any(name in str(error) for name in names)
        assert known and "name" in str(error), error
        event("refused for a name")
        return None


def compare_held(case: Case) -> None:
    if (problem := told_or_refused(case)) is not None:
        compare(case, held(problem))


@settings(max_examples=250, **QUIET)
@given(cases())
def test_what_a_problem_holds_is_what_was_told(case):
    compare_held(case)


@pytest.mark.slow  # 100 seconds
@settings(max_examples=2000, **QUIET)
@given(cases())
def test_two_thousand_problems_hold_what_was_told(case):
    compare_held(case)


@settings(max_examples=12, **QUIET)
@given(cases(sharpest=6.0))
def test_posteriors_are_those_of_linear_algebra(case):
    if (problem := told_or_refused(case)) is not None:
        compare(case, posterior(problem, case.how["latent"]))
