"""The likelihood with the discrepancy integrated out, one observed variable a modality.

With ``y_k = mu_k + B_k (s * w) + e_k`` and white ``w`` the joint density factorises into each
modality given those before it.  What is known about ``w`` after some modalities is Gaussian with
precision ``A`` and information ``b``; each modality adds to both (Woodbury's identity in steps), so
that products over the data are of size data times rank and only rank times rank is factorised.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.tensor.linalg import cholesky, solve_triangular

from bayesjoint._build import ModelBuild
from bayesjoint.discrepancy import Factor, build_matrix


def add_observed(
    build: ModelBuild,
    modalities: Mapping[str, Any],
    factors: Sequence[Factor],
    means: Mapping[str, Any],
) -> None:
    """Add the observed variables of all modalities that share integrated-out discrepancies."""
    scale = pt.concatenate([factor.scale for factor in factors])
    rank = sum(factor.rank for factor in factors)
    precision, information = pt.eye(rank), pt.zeros(rank)
    for name, mean in means.items():
        modality, terms = modalities[name], build.noise[name]
        basis, gram = _basis_and_gram(build, name, terms, factors)
        observed = pm.CustomDist(
            name,
            mean,
            terms.sd,
            basis,
            scale,
            gram,
            precision,
            information,
            logp=log_density,
            random=draw,
            signature=_signature(modality.data.ndim),
            observed=modality.observed_data(),
            dims=modality.data.dims,
        )
        residual = (observed - mean).ravel()
        information = information + _projected(residual, terms.sd, basis, scale)
        precision = precision + scale[:, None] * gram * scale


def log_density(value, mean, sd, basis, scale, gram, precision, information):
    """Return the log-density of one modality given those before it."""
    residual, variance = (value - mean).ravel(), (sd**2).ravel()
    after = precision + scale[:, None] * gram * scale
    gained = information + _projected(residual, sd, basis, scale)
    quadratic = (residual**2 / variance).sum()
    quadratic += _squared(precision, information) - _squared(after, gained)
    determinant = pt.log(variance).sum() + _log_det(after) - _log_det(precision)
    return -0.5 * (quadratic + determinant + residual.shape[0] * np.log(2 * np.pi))


def draw(mean, sd, basis, scale, gram, precision, information, rng=None, size=None):
    """Return one draw of a modality given those before it."""
    factor = np.linalg.cholesky(precision)
    white = np.linalg.solve(precision, information)
    white = white + np.linalg.solve(factor.T, rng.standard_normal(information.shape))
    discrepancy = (basis @ (scale * white)).reshape(mean.shape)
    return mean + discrepancy + sd * rng.standard_normal(mean.shape)


def _basis_and_gram(build: ModelBuild, name: str, terms: Any, factors: Sequence[Factor]):
    rows = terms.stated.size
    bases = [factor.bases.get(name, np.zeros((rows, factor.rank))) for factor in factors]
    weight = 1.0 / terms.stated.ravel() ** 2
    if all(isinstance(basis, np.ndarray) for basis in bases):
        constant = np.concatenate(bases, axis=1)
        basis = build_matrix(build, f"{name}_discrepancy_basis", constant)
        gram = build_matrix(
            build, f"{name}_discrepancy_gram", constant.T @ (weight[:, None] * constant)
        )
    else:
        basis = pt.concatenate([pt.as_tensor(b) for b in bases], axis=1)
        gram = basis.T @ (weight[:, None] * basis)
    return basis, gram / terms.scale**2


def _projected(residual, sd, basis, scale):
    return scale * (basis.T @ (residual / (sd**2).ravel()))


def _squared(precision, vector):
    whitened = solve_triangular(cholesky(precision), vector, lower=True)
    return (whitened**2).sum()


def _log_det(precision):
    return 2.0 * pt.log(pt.diagonal(cholesky(precision))).sum()


def _signature(ndim: int) -> str:
    shape = ",".join("abcdefg"[:ndim])
    return f"({shape}),({shape}),(n,r),(r),(r,r),(r,r),(r)->({shape})"
