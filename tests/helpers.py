"""What several tests need: evaluating models at points, and covariances implied by them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import xarray as xr

import bayesjoint as bj
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint.problem import build

STEP = 1e-5
STANDARD = bj.Prior(pm.Normal, mu=0.0, sigma=1.0)


def data(values: Any, dims: Any = "station", coords: Any = None, **attrs: Any) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), dims=dims, coords=coords, attrs=attrs)


def evaluator(made: ModelBuild, outputs: Any) -> Callable:
    """Return outputs as a function of the free variables by keyword; those left out are zero."""
    free = made.model.free_RVs
    function = pytensor.function(free, outputs, mode=INTERPRETED, on_unused_input="ignore")

    def at(**point: Any) -> Any:
        unknown = set(point) - {v.name for v in free}
        assert not unknown, f"not free variables: {unknown}"
        return function(*(np.asarray(point.get(v.name, np.zeros(v.type.shape))) for v in free))

    return at


def log_density(model: pm.Model, variables: Sequence | None = None) -> Callable:
    """Return the log-density as a function of the free variables; those left out are zero.

    Of the whole model by default, potentials included.
    """
    compiled = model.compile_logp(vars=variables, mode=INTERPRETED)
    start = {v.name: np.zeros(v.type.shape) for v in model.value_vars}

    def at(**point: Any) -> float:
        unknown = set(point) - set(start)
        assert not unknown, f"not free variables: {unknown}"
        return float(compiled(start | {k: np.asarray(v, dtype=float) for k, v in point.items()}))

    return at


def log_likelihood(problem: bj.JointProblem) -> Callable:
    """Return the joint log-density of all data as a function of the free variables."""
    model = bj.build_model(problem)
    return log_density(model, model.observed_RVs)


def gradient_and_differences(model: pm.Model, **point: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the model's gradient, and central differences of its log-density, at a point."""
    start = {v.name: np.zeros(v.type.shape) for v in model.value_vars}
    point = start | {name: np.asarray(value, dtype=float) for name, value in point.items()}
    density, found = log_density(model), model.compile_dlogp(mode=INTERPRETED)(point)
    differences = []
    for name, value in point.items():
        for unit in STEP * np.eye(value.size).reshape(-1, *value.shape):
            up, down = (density(**(point | {name: value + step})) for step in (unit, -unit))
            differences.append((up - down) / (2 * STEP))
    return found, np.array(differences)


def jacobian_of(made: ModelBuild, output: Any, variable: str, **point: Any) -> np.ndarray:
    """Return the matrix of an output that is affine in one free variable, C order."""
    shape = made.model[variable].type.shape
    size = int(np.prod(shape, dtype=int))
    at = evaluator(made, output)
    zero = at(**point, **{variable: np.zeros(shape)})
    units = np.eye(size).reshape(size, *shape)
    return np.stack([(at(**point, **{variable: u}) - zero).ravel() for u in units], axis=1)


def field_covariance(field: bj.GaussianField, **point: Any) -> np.ndarray:
    """Return the exact covariance ``L L^T`` of a field, at given white hyperparameters."""
    made = build(bj.JointProblem(latents=[field], modalities=[]))
    factor = jacobian_of(made, made.values[field.name], f"{field.name}_white", **point)
    return factor @ factor.T


def correlation_of(covariance: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)
