"""The likelihood with a discrepancy at shared places integrated out, mode by mode.

In the modes of the unit process the residuals of p modalities are independent p-vectors.  Each
modality is conditioned on those before it by elimination (``L D L^T`` of p by p matrices), with one
vector over the modes for each entry.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesjoint._build import ModelBuild
from bayesjoint._discrepancy_factors import ModalFactor
from bayesjoint._kernels.modes import Modes


def add_observed(
    build: ModelBuild, modalities: Mapping[str, Any], factor: ModalFactor, means: Mapping[str, Any]
) -> None:
    """Add the observed variables of the modalities that one discrepancy acts on."""
    modes = factor.modes
    matrices = [
        build.matrix(f"{factor.name}_modes_{axis}", matrix)
        for axis, matrix in enumerate(modes.matrices)
        if matrix is not None
    ]
    density = _Density(modes)
    rows: list[list[Any]] = []  # of L, each entry a vector over the modes
    pivots: list[Any] = []
    innovations: list[Any] = []
    total: Any = pt.zeros(())
    for i, (name, mean) in enumerate(means.items()):
        modality, terms = modalities[name], build.noise[name]
        noise = _noise_variance(modes, terms)
        entries = [modes.variances.ravel() * factor.mixing[i, k] for k in range(i + 1)]
        row: list[Any] = []
        for k in range(i):
            known = sum((row[j] * rows[k][j] * pivots[j] for j in range(k)), start=0.0)
            row.append((entries[k] - known) / pivots[k])
        explained = sum((part**2 * pivots[j] for j, part in enumerate(row)), start=0.0)
        expected = sum(
            (part * innovations[j] for j, part in enumerate(row)), start=pt.zeros(modes.size)
        )
        rows.append(row)
        pivots.append(entries[i] + noise - explained)
        parameters = (expected, pivots[i], pt.mean(noise), *matrices)
        observed = pm.CustomDist(
            name,
            mean,
            *parameters,
            logp=density.log_density,
            random=density.draw,
            signature=density.signature(modality.data.ndim),
            observed=modality.observed_data(),
            dims=modality.data.dims,
        )
        innovations.append(density.project((observed - mean).ravel(), matrices) - expected)
        total = total + density.log_density(observed, mean, *parameters)
    build.joint_densities[tuple(means)] = total


def _noise_variance(modes: Modes, terms: Any):
    """Return the variance of the noise, of each mode or common to all."""
    if modes.is_identity:
        return (terms.sd**2).ravel()
    return (terms.scale * terms.stated.flat[0]) ** 2


class _Density:
    """Density and draws of one modality given those before it; holds no tensors."""

    def __init__(self, modes: Modes) -> None:
        self.shapes = (modes.shape, modes.variances.shape)
        self.axes = [i for i, matrix in enumerate(modes.matrices) if matrix is not None]
        self.beside = int(np.prod(modes.shape)) - modes.size

    def signature(self, ndim: int) -> str:
        shape = ",".join("abcdefg"[:ndim])
        matrices = "".join(f",(n{axis},m{axis})" for axis in self.axes)
        return f"({shape}),(m),(m),(){matrices}->({shape})"

    def project(self, vector, matrices):
        """Return ``U^T`` times a tensor of data."""
        return self._times(vector, self.shapes[0], [m.T for m in matrices], pt)

    def log_density(self, value, mean, expected, variance, noise, *matrices):
        """Return the log-density of data, given mean and variance of its modes."""
        residual = (value - mean).ravel()
        modes = self.project(residual, matrices)
        total = -0.5 * ((modes - expected) ** 2 / variance + pt.log(2 * np.pi * variance)).sum()
        if self.beside == 0:
            return total
        rest = ((residual**2).sum() - (modes**2).sum()) / noise
        return total - 0.5 * (rest + self.beside * pt.log(2 * np.pi * noise))

    def draw(self, mean, expected, variance, noise, *matrices, rng=None, size=None):
        """Return a draw of data, given mean and variance of its modes."""
        modes = expected + np.sqrt(variance) * rng.standard_normal(expected.shape)
        residual = np.zeros(mean.size)
        if self.beside:
            residual = np.sqrt(noise) * rng.standard_normal(mean.size)
            modes = modes - self._times(residual, self.shapes[0], [m.T for m in matrices], np)
        residual = residual + self._times(modes, self.shapes[1], matrices, np)
        return mean + residual.reshape(mean.shape)

    def _times(self, vector, shape, matrices, xp):
        if not self.axes:
            return vector
        if len(shape) == 1:
            return matrices[0] @ vector
        array = vector.reshape(shape)
        for axis, matrix in zip(self.axes, matrices, strict=True):
            array = xp.moveaxis(xp.tensordot(matrix, array, [[1], [axis]]), 0, axis)
        return array.ravel()
