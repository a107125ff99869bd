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

from bayesjoint._errors.factors import ModalFactor
from bayesjoint._graph.build import ModelBuild
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
    observed = {name: modalities[name].observed_data(build) for name in means}
    residuals = pt.stack([(observed[n] - mean).ravel() for n, mean in means.items()], axis=1)
    projected = density.project(residuals, matrices)  # at once: the matrices are read once
    rows: list[list[Any]] = []  # of L, each entry a vector over the modes
    pivots: list[Any] = []
    innovations: list[Any] = []
    total: Any = pt.zeros(())
    for i, (name, mean) in enumerate(means.items()):
        noise = _noise_variance(modes, build.noise[name])
        row, variance = _eliminated(factor, rows, pivots, noise)
        expected = sum(
            (part * innovations[j] for j, part in enumerate(row)), start=pt.zeros(modes.size)
        )
        rows.append(row)
        pivots.append(variance)
        innovations.append(projected[:, i] - expected)
        rest = (residuals[:, i] ** 2).sum() - (projected[:, i] ** 2).sum()
        total = total + density.of_modes(innovations[i], variance, rest, pt.mean(noise))
        pm.CustomDist(
            name,
            mean,
            expected,
            variance,
            pt.mean(noise),
            *matrices,
            logp=density.log_density,
            random=density.draw,
            signature=density.signature(mean.ndim),
            observed=observed[name],
            dims=modalities[name].data.dims,
        )
    build.joint_densities[tuple(means)] = total


def _eliminated(factor: ModalFactor, rows: list, pivots: list, noise: Any):
    """Return the next row of L, and the variance of the next modality given those before it."""
    variances, i = factor.modes.variances.ravel(), len(rows)
    row: list[Any] = []
    for k in range(i):
        known = sum((row[j] * rows[k][j] * pivots[j] for j in range(k)), start=0.0)
        row.append((variances * factor.mixing[i, k] - known) / pivots[k])
    explained = sum((part**2 * pivots[j] for j, part in enumerate(row)), start=0.0)
    return row, variances * factor.mixing[i, i] + noise - explained


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

    def project(self, columns, matrices):
        """Return ``U^T`` times columns of data, (n, k) -> (m, k)."""
        return self._times(columns, self.shapes[0], [m.T for m in matrices], pt)

    def log_density(self, value, mean, expected, variance, noise, *matrices):
        """Return the log-density of data, given mean and variance of its modes."""
        residual = (value - mean).ravel()
        modes = self.project(residual[:, None], matrices)[:, 0]
        rest = (residual**2).sum() - (modes**2).sum()
        return self.of_modes(modes - expected, variance, rest, noise)

    def of_modes(self, innovation, variance, rest, noise):
        """Return the log-density, given the squares that no mode reaches."""
        total = -0.5 * (innovation**2 / variance + pt.log(2 * np.pi * variance)).sum()
        if self.beside == 0:
            return total
        return total - 0.5 * (rest / noise + self.beside * pt.log(2 * np.pi * noise))

    def draw(self, mean, expected, variance, noise, *matrices, rng=None, size=None):
        """Return a draw of data, given mean and variance of its modes."""
        modes = expected + np.sqrt(variance) * rng.standard_normal(expected.shape)
        residual = np.zeros((mean.size, 1))
        if self.beside:
            residual = np.sqrt(noise) * rng.standard_normal((mean.size, 1))
            turned = [m.T for m in matrices]
            modes = modes - self._times(residual, self.shapes[0], turned, np)[:, 0]
        residual = residual + self._times(modes[:, None], self.shapes[1], matrices, np)
        return mean + residual.reshape(mean.shape)

    def _times(self, columns, shape, matrices, xp):
        if not self.axes:
            return columns
        if len(shape) == 1:
            return matrices[0] @ columns
        array = columns.reshape((*shape, -1))
        for axis, matrix in zip(self.axes, matrices, strict=True):
            array = xp.moveaxis(xp.tensordot(matrix, array, [[1], [axis]]), 0, axis)
        return array.reshape((-1, columns.shape[1]))
