"""Which modalities have errors in common, so that their likelihood has no factor for each datum."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._kernels.joined_errors import JoinedErrors
from bayesjoint._kernels.modal_errors import ModalErrors

SEED = 0  # of a point where no correlation is zero by chance, as it may be at a prior's median


@dataclass(frozen=True)
class Blocks:
    """Modalities with Gaussian noise by what their errors have in common.

    Attributes
    ----------
    correlated : tuple of tuple of int
        Modalities whose errors are correlated, within one or between several; ascending.
    rotated : bool
        Whether some noise is correlated by itself.
    together : bool
        Whether there is any discrepancy or correlated noise.
    """

    correlated: tuple[tuple[int, ...], ...]
    rotated: bool
    together: bool


def blocks_of(functions: ModelFunctions, normal: Sequence[int], integrated: bool) -> Blocks:
    """Return the correlated blocks among modalities with Gaussian noise.

    Parameters
    ----------
    functions : ModelFunctions
    normal : sequence of int
        These modalities.
    integrated : bool
        Whether discrepancies that are sampled count as known.
    """
    modalities = functions.problem.modalities
    turned = np.array([m.noise.correlation_factor is not None for m in modalities], dtype=bool)
    rotated = bool(turned.any())
    if not (rotated or functions.build.factors):
        return Blocks((), rotated, together=False)
    tied = _tied(functions, integrated) | np.diag(turned)
    found: list[tuple[int, ...]] = []
    left = [index for index in normal if tied[index].any()]
    while left:
        block = _reached(tied, left[0])
        found.append(tuple(index for index in left if index in block))
        left = [index for index in left if index not in block]
    return Blocks(tuple(found), rotated, together=True)


def _reached(tied: np.ndarray, first: int) -> set[int]:
    """Return all modalities that are tied to one, directly or through others."""
    block, new = {first}, {first}
    while new:
        new = {int(j) for i in new for j in np.flatnonzero(tied[i])} - block
        block |= new
    return block


def _tied(functions: ModelFunctions, integrated: bool) -> np.ndarray:
    """Return which modalities share errors, (modality, modality); itself: several of its data."""
    white = np.random.default_rng(SEED).standard_normal(functions.size)
    errors = functions.errors(functions.initial + white, integrated=integrated)
    count = len(functions.data_slices)
    parts = errors.parts if isinstance(errors, JoinedErrors) else ((tuple(range(count)), errors),)
    tied = np.zeros((count, count), dtype=bool)
    for members, part in parts:
        tied[np.ix_(members, members)] |= _between(part)
    return tied


def _between(part) -> np.ndarray:
    """Return which modalities of one covariance share errors."""
    if isinstance(part, ModalErrors):
        tied = part.mixing != 0.0
        return tied & ~np.eye(len(tied), dtype=bool) if part.modes.is_identity else tied
    count = len(part.sizes)
    if part.factor is None:
        return np.zeros((count, count), dtype=bool)
    ends = np.cumsum(part.sizes)[:-1]
    seen = np.stack([np.sum(rows != 0.0, axis=0) for rows in np.split(part.factor, ends)])
    several = (seen @ seen.T > 0) & ~np.eye(count, dtype=bool)
    return several | np.diag(np.any(seen > 1, axis=1))
