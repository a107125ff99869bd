"""What is known of single numbers beyond the linearisation: prior sds, and quantile functions.

A number that is no linear function of its white variable, as under a uniform prior, is no Gaussian
where that variable is.  Its local posterior stays inside its prior: where all maps are linear, the
prior times a likelihood that is Gaussian in the number itself (exact where it is the only such
unknown); else its quantile function at the Gaussian deviate.
"""

from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._kernels.factors import DiagonalFactor, Factor
from bayesjoint.couplings import CorrelatedFields
from bayesjoint.latents import GaussianField
from bayesjoint.priors import Prior

UPPER = 1.6448536269514722  # standard normal quantile of 0.95, which is one of the nodes
STEPS = 16  # nodes up to that one
NODES = UPPER / STEPS * np.arange(-5 * STEPS, 5 * STEPS + 1)

MOST = 200  # elements of a latent whose densities are looked at
REACH = np.linspace(-10.0, 10.0, 2001)  # sds over which a density is looked at


def mapped(
    space: LatentSpace,
    white: np.ndarray,
    factors: dict[str, Factor],
    sd: np.ndarray,
    linear: bool,
) -> dict[str, Any]:
    """Return values of numbers that are no Gaussians, at nodes of their local posterior.

    Parameters
    ----------
    space : LatentSpace
    white : ndarray, shape (unknown,)
        White coordinates of the point.
    factors : dict of str to Factor
    sd : ndarray, shape (cell,)
        Local posterior sd.
    linear : bool
        Whether all maps are linear.
    """
    cells, values = [np.zeros(0, dtype=int)], [np.zeros((0, NODES.size))]
    for unknown in space.unknowns:
        prior, factor = unknown.prior, factors[unknown.name]
        if prior is None or not unknown.white or prior.is_normal:
            continue
        if not isinstance(factor, DiagonalFactor):
            continue
        where, here = space.unknown_slices[unknown.name], space.cell_slices[unknown.name]
        moves = factor.slope != 0
        slope = np.where(moves, factor.slope, 1.0)
        spread = np.where(moves, np.minimum(sd[here] / np.abs(slope), 1.0), 1.0)
        shape = space.value_shapes[space.names.index(unknown.name)]
        deviates = white[where] + NODES[:, None] * spread
        if linear and unknown.kind == "latent" and slope.size <= MOST:
            deviates = _of_linear_maps(prior, shape, white[where], slope, spread)
        found = prior.values(deviates.reshape((NODES.size, *shape)))
        cells.append(np.arange(here.start, here.stop))
        values.append(found.reshape(NODES.size, -1).T)
    return {
        "mapped_cell": ("mapped", np.concatenate(cells)),
        "mapped_values": (("mapped", "node"), np.concatenate(values)),
        "node": ("node", NODES),
    }


def _of_linear_maps(
    prior: Prior, shape: tuple[int, ...], z: np.ndarray, slope: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Return the white deviates of quantiles (node, element), likelihoods Gaussian in the values.

    In the number m the log-likelihood is ``(z / m') (m - m0) - h (m - m0)^2 / 2`` with ``h m'^2 =
    1 / s^2 - 1``: gradient and curvature of that which makes z, of sd s, the maximum.
    """
    near, far = z + spread * REACH[:, None], np.broadcast_to(REACH[:, None], (REACH.size, z.size))
    grid = np.sort(np.concatenate([near, far]), axis=0)
    values = prior.values(grid.reshape((-1, *shape))).reshape(grid.shape)
    away = (values - prior.values(z.reshape(shape)).ravel()) / slope
    log_density = z * away - 0.5 * (spread**-2 - 1.0) * away**2 - 0.5 * grid**2
    density = np.exp(log_density - log_density.max(axis=0))
    parts = 0.5 * (density[1:] + density[:-1]) * np.diff(grid, axis=0)
    found = np.empty((NODES.size, z.size))
    for i, part in enumerate(parts.T):
        below, above = np.cumsum(part)[:-1], np.cumsum(part[::-1])[::-1][1:]
        total = part.sum()
        deviate = np.where(below < above, norm.ppf(below / total), norm.isf(above / total))
        kept = np.flatnonzero(np.diff(deviate, prepend=-np.inf) > 1e-12)
        kept = kept[np.isfinite(deviate[kept])]
        found[:, i] = PchipInterpolator(deviate[kept], grid[1:-1, i][kept], extrapolate=False)(
            np.clip(NODES, deviate[kept[0]], deviate[kept[-1]])
        )
    return found


def prior_sds(space: LatentSpace, local: np.ndarray) -> np.ndarray:
    """Return the sd of the prior of each cell, whatever all other unknowns; NaN where not known.

    Of numbers in closed form; of fields whose prior no coupling changes from the moments of their
    sd and mean, since every cell has the sd of the field.

    Parameters
    ----------
    space : LatentSpace
    local : ndarray, shape (cell,)
        Prior sd at the point.
    """
    problem, found = space.functions.problem, np.full(local.shape, np.nan)
    potentials = bool(space.functions.build.residuals)
    for unknown in space.unknowns:
        here, latent = space.cell_slices[unknown.name], problem.latent.get(unknown.name)
        if isinstance(latent, GaussianField):
            coupling = space.functions.build.shaping.get(unknown.name)
            if not potentials and isinstance(coupling, CorrelatedFields | None):
                found[here] = _of_field(latent, local[here])
        elif unknown.prior is not None and not (potentials and latent is None):
            variance = unknown.prior.variance
            if variance is not None:
                shape = space.value_shapes[space.names.index(unknown.name)]
                found[here] = np.sqrt(np.broadcast_to(variance, shape)).ravel()
    return found


def _of_field(latent: GaussianField, local: np.ndarray) -> np.ndarray:
    squared = local**2
    if isinstance(latent.sd, Prior):
        mean, variance = latent.sd.mean, latent.sd.variance
        squared = np.full_like(local, np.nan if mean is None else mean**2 + variance)
    if isinstance(latent.mean, Prior):
        variance = latent.mean.variance
        squared = squared + (np.nan if variance is None else variance)
    return np.sqrt(squared)
