"""Small linear Gaussian problems and their closed forms, for tests of how data are read."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj

PACKAGE = Path(bj.__file__).parent
RTOL = 1e-8


def unknown(name: str = "th", sd: float = 1.0, mean: float = 0.0, **settings: Any) -> bj.Parameter:
    return bj.Parameter(name, bj.Prior(pm.Normal, mu=mean, sigma=sd), **settings)


def letters(values: Any = (1.0, 2.0, 4.0), **attrs: Any) -> xr.DataArray:
    """Return three data labelled a, b and c."""
    values = values if hasattr(values, "units") else np.asarray(values)
    return xr.DataArray(values, {"s": list("abc")}, "s", attrs=attrs)


def problem(data: xr.DataArray, noise: Any = None, matrix: Any = None, **settings: Any) -> Any:
    """Return a problem of one modality ``m`` that sees one number ``th``, or those given."""
    latents = settings.pop("latents", [unknown()])
    observe = settings.pop("observe", None)
    forward = settings.pop("forward", None)
    matrix = np.ones((data.size, 1)) if matrix is None else matrix
    forward = bj.linear_map(matrix, latents[0].name) if forward is None else forward
    noise = bj.GaussianNoise(sd=0.1) if noise is None else noise
    modality = bj.Modality("m", data, forward, noise, observe=observe)
    return bj.JointProblem(latents=latents, modalities=[modality], **settings)


def posterior(problem: Any, name: str = "th") -> tuple[np.ndarray, np.ndarray]:
    """Return posterior mean and sd of a latent: exact where all is linear and Gaussian."""
    tree = bj.linearize(problem)
    table = bj.summary(tree)
    own = [str(p).split("[")[0] == name for p in table["parameter"].values]
    return tree["linearization"][name].values.ravel(), table["sd"].values[own]


def closed_form(
    matrix: Any, data: Any, covariance: Any, prior_sd: Any = 1.0, mean: Any = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return posterior mean and sd by linear algebra, from singular values: nothing cancels."""
    a = np.asarray(matrix, dtype=float).reshape(len(data), -1)
    size = a.shape[1]
    root = prior_sd * np.eye(size) if np.ndim(prior_sd) < 2 else np.linalg.cholesky(prior_sd)
    center = np.broadcast_to(np.asarray(mean, dtype=float), size)
    lower = np.linalg.cholesky(covariance)
    white = np.linalg.solve(lower, np.column_stack([a @ root, data - a @ center]))
    u, found, vt = np.linalg.svd(white[:, :-1])
    values = np.concatenate([found, np.zeros(size - len(found))])
    step = found / (1.0 + found**2) * (u.T @ white[:, -1])[: len(found)]
    spread = (root @ vt.T) ** 2 @ (1.0 / (1.0 + values**2))
    return center + root @ vt.T[:, : len(found)] @ step, np.sqrt(spread)


def require(found: tuple, expected: tuple) -> None:
    """Assert that a posterior is the one expected."""
    np.testing.assert_allclose(found[0], expected[0], rtol=RTOL, atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=RTOL)


def refused(make: Callable[[], Any], match: str | None = None) -> None:
    """Assert that something is refused by a sentence of ours, raised in our code."""
    with pytest.raises((ValueError, TypeError), match=match) as caught:
        make()
    require_ours(caught.value)


def require_ours(error: BaseException) -> None:
    """Assert that an error was raised by this package, not by something below it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert PACKAGE in Path(last.filename).parents, f"{last.filename}:{last.lineno}: {error}"
    assert str(error), "an error without a sentence"
