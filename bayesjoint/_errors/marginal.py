"""The likelihood with the discrepancy integrated out, one observed variable a modality.

With ``y_k = mu_k + B_k (s * w) + e_k`` and white ``w`` the joint density factorises into each
modality given those before it.  What is known about ``w`` after some modalities is Gaussian with
precision ``A`` and information ``b``; each modality adds to both (Woodbury's identity in steps), so
that products over the data are of size data times rank and only rank times rank is factorised.
Data with correlated noise are whitened first, with the inverse of the factor of its correlation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.gradient import DisconnectedType
from pytensor.tensor.linalg import cho_solve, cholesky
from scipy.linalg import solve_triangular

from bayesjoint._errors import marginal_modes as _marginal_modes
from bayesjoint._errors.factors import Factor, ModalFactor, build_matrix
from bayesjoint._graph.build import ModelBuild


def add_observed(
    build: ModelBuild,
    modalities: Mapping[str, Any],
    factors: Sequence[Factor | ModalFactor],
    means: Mapping[str, Any],
) -> None:
    """Add the observed variables of all modalities that have integrated-out discrepancies."""
    rest = dict(means)
    for factor in factors:
        if isinstance(factor, ModalFactor):
            own = {name: rest.pop(name) for name in factor.modalities}
            _marginal_modes.add_observed(build, modalities, factor, own)
    if rest:
        low_rank = [factor for factor in factors if isinstance(factor, Factor)]
        _add_low_rank(build, modalities, low_rank, rest)


def _add_low_rank(
    build: ModelBuild,
    modalities: Mapping[str, Any],
    factors: Sequence[Factor],
    means: Mapping[str, Any],
) -> None:
    scale = pt.concatenate([factor.scale for factor in factors])
    rank = sum(factor.rank for factor in factors)
    precision, information, alone = pt.eye(rank), pt.zeros(rank), pt.zeros(())
    scaled = []  # residual and factor of each modality, in units of the noise
    for name, mean in means.items():
        modality, terms = modalities[name], build.noise[name]
        whitener = _whitener(build, modality)
        basis, gram = _basis_and_gram(build, modality, factors, whitener)
        observed = pm.CustomDist(
            name,
            mean,
            terms.sd,
            basis,
            scale,
            gram,
            precision,
            information,
            *whitener,
            logp=log_density,
            random=draw,
            signature=_signature(modality.data.ndim, len(whitener)),
            observed=modality.observed_data(build),
            dims=modality.data.dims,
        )
        residual = _whitened((observed - mean).ravel(), whitener)
        information = information + _projected(residual, terms.sd, basis, scale)
        precision = precision + scale[:, None] * gram * scale
        alone = alone + _independent(residual, terms.sd, whitener)
        sd = pt.broadcast_to(terms.sd, modality.data.shape).ravel()
        scaled.append((residual / sd, basis * scale / sd[:, None]))
    if rank < sum(modalities[name].data.size for name in means):
        determinant, squared = gaussian_terms(precision, information)
        build.joint_densities[tuple(means)] = alone + 0.5 * (squared - determinant)
    else:
        build.joint_densities[tuple(means)] = alone + _of_dense(scaled)


def _of_dense(scaled: Sequence[tuple[Any, Any]]):
    """Return what a discrepancy of no lower rank than the data adds to the log-density.

    The covariance itself is factorised, ``I + F F^T`` in units of the noise.
    """
    residual, factor = (pt.concatenate(parts) for parts in zip(*scaled, strict=True))
    covariance = pt.eye(residual.shape[0]) + factor @ factor.T
    determinant, squared = gaussian_terms(covariance, residual)
    return 0.5 * ((residual**2).sum() - squared - determinant)


def log_density(value, mean, sd, basis, scale, gram, precision, information, *whitener):
    """Return the log-density of one modality given those before it."""
    residual = _whitened((value - mean).ravel(), whitener)
    after = precision + scale[:, None] * gram * scale
    gained = information + _projected(residual, sd, basis, scale)
    determinant, squared = gaussian_terms(precision, information)
    determinant_after, squared_after = gaussian_terms(after, gained)
    joint = _independent(residual, sd, whitener)
    return joint + 0.5 * (squared_after - squared - determinant_after + determinant)


def gaussian_terms(precision, information):
    """Return tensors of ``log det A`` and ``b^T A^-1 b``.

    Their gradients, ``A^-1``, ``-x x^T`` and ``2 x`` with ``x = A^-1 b``, cost one inverse; through
    the Cholesky factor they would cost several times more.
    """
    matrix, vector = pt.dmatrix("precision"), pt.dvector("information")
    lower = cholesky(matrix)
    determinant = 2.0 * pt.log(pt.diagonal(lower)).sum()
    squared = vector @ cho_solve((lower, True), vector, b_ndim=1)
    terms = OpFromGraph(
        [matrix, vector], [determinant, squared], inline=True, pullback=_pull_back, name="gaussian"
    )
    return terms(precision, information)


def _pull_back(inputs, outputs, cotangents):
    precision, information = inputs
    of_determinant, of_squared = (
        pt.zeros(()) if isinstance(c.type, DisconnectedType) else c for c in cotangents
    )
    lower = cholesky(precision)
    mean = cho_solve((lower, True), information, b_ndim=1)
    inverse = cho_solve((lower, True), pt.eye(precision.shape[0]), b_ndim=2)
    return [
        of_determinant * inverse - of_squared * mean[:, None] * mean[None, :],
        2.0 * of_squared * mean,
    ]


def _whitened(residual, whitener):
    """Return residuals with the correlation of their noise taken out, where there is any."""
    return whitener[0] @ residual if whitener else residual


def _independent(residual, sd, whitener):
    """Return the log-density of whitened residuals under the noise alone."""
    variance = (sd**2).ravel()
    total = -0.5 * (residual**2 / variance + pt.log(2 * np.pi * variance)).sum()
    return total + sum(pt.log(pt.diagonal(matrix)).sum() for matrix in whitener)


def draw(mean, sd, basis, scale, gram, precision, information, *whitener, rng=None, size=None):
    """Return one draw of a modality given those before it."""
    factor = np.linalg.cholesky(precision)
    white = np.linalg.solve(precision, information)
    white = white + np.linalg.solve(factor.T, rng.standard_normal(information.shape))
    errors = basis @ (scale * white) + (sd * rng.standard_normal(mean.shape)).ravel()
    for matrix in whitener:
        errors = np.linalg.solve(matrix, errors)
    return mean + errors.reshape(mean.shape)


def _whitener(build: ModelBuild, modality: Any) -> tuple[Any, ...]:
    """Return the inverse of the factor of the noise's correlation, nothing where there is none."""
    factor = modality.noise.correlation_factor
    if factor is None:
        return ()
    inverse = solve_triangular(factor, np.eye(len(factor)), lower=True)
    return (build.matrix(f"{modality.name}_whitener", inverse),)


def _basis_and_gram(
    build: ModelBuild, modality: Any, factors: Sequence[Factor], whitener: tuple[Any, ...]
):
    name, noise, terms = modality.name, modality.noise, build.noise[modality.name]
    rows = terms.stated.size
    bases = [factor.bases.get(name, np.zeros((rows, factor.rank))) for factor in factors]
    weight = 1.0 / terms.stated.ravel() ** 2
    if all(isinstance(basis, np.ndarray) for basis in bases):
        constant = np.concatenate(bases, axis=1)
        if noise.correlation_factor is not None:
            constant = solve_triangular(noise.correlation_factor, constant, lower=True)
        basis = build_matrix(build, f"{name}_discrepancy_basis", constant)
        gram = build_matrix(
            build, f"{name}_discrepancy_gram", constant.T @ (weight[:, None] * constant)
        )
    else:
        basis = _whitened(pt.concatenate([pt.as_tensor(b) for b in bases], axis=1), whitener)
        gram = basis.T @ (weight[:, None] * basis)
    return basis, gram / terms.scale**2


def _projected(residual, sd, basis, scale):
    return scale * (basis.T @ (residual / (sd**2).ravel()))


def _signature(ndim: int, whiteners: int) -> str:
    shape = ",".join("abcdefg"[:ndim])
    return f"({shape}),({shape}),(n,r),(r),(r,r),(r,r),(r){',(n,n)' * whiteners}->({shape})"
