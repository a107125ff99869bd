"""Draws of the coupled prior: what has a normaliser first, then all else given it.

The prior of an unknown weight or length scale is the stated one, that is what the normaliser is
for.  A chain over it and the fields together would mix slowly: fields narrow as it grows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import norm

from bayesjoint._compiled.density import CompiledDensity, default_backend
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._sampler.run import prior_points
from bayesjoint.couplings._group import tabulated
from bayesjoint.priors import Prior
from bayesjoint.problem import JointProblem

MIXING_DRAWS = 100  # of the coupled prior, of which the last is the draw
BLOCKS = 20  # of draws at one value of what has a normaliser


def normalised(problem: JointProblem, unknown: set[str]) -> tuple[str, ...]:
    """Return the unknown weights and length scales that a normaliser is for."""
    names: list[str] = []
    for coupling in problem.couplings:
        if coupling.shapes:
            continue
        if isinstance(coupling.weight, Prior):
            names += [f"{coupling.name}_weight"]
        for field in tabulated(coupling):
            if isinstance(problem.latent[field].length_scale, Prior):
                names += [f"{field}_length_scale"]
    return tuple(name for name in dict.fromkeys(names) if name in unknown)


def joint_draw(
    functions: ModelFunctions,
    backend: str,
    rng: np.random.Generator,
    stated: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Return a draw of the coupled prior in flat coordinates.

    Parameters
    ----------
    functions : ModelFunctions
    backend : str
    rng : Generator
    stated : mapping of name to array
        White coordinates of what `normalised` names, where they are not to be drawn.
    """
    names = normalised(functions.problem, set(functions.build.values))
    given = functions.once(_Given, names, backend)
    whites = {name: stated.get(name, rng.standard_normal()) for name in names}
    return _points_given(functions, given, whites, rng, MIXING_DRAWS)[-1, -1]


def joint_points(
    functions: ModelFunctions, density: CompiledDensity, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Return draws of the coupled prior in flat coordinates, shape (chain, draw, n).

    What has a normaliser takes on values spread evenly over its prior, in random order, each for a
    block of draws.
    """
    names = normalised(functions.problem, set(functions.build.values))
    if not names:
        return prior_points(functions, density, rng, count)
    given = functions.once(_Given, names, default_backend(functions.problem))
    half = -(-count // 2)
    blocks = min(BLOCKS, half)
    share = [(rng.permutation(blocks) + rng.random(blocks)) / blocks for _ in names]
    parts = []
    for size, whites in zip(_sizes(half, blocks), norm.ppf(np.transpose(share)), strict=True):
        held = dict(zip(names, whites, strict=True))
        parts.append(_points_given(functions, given, held, rng, 2 * size))
    return np.concatenate(parts, axis=1)


def _sizes(total: int, blocks: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(total), blocks)]


def _points_given(
    functions: ModelFunctions,
    given: "_Given",
    whites: Mapping[str, Any],
    rng: np.random.Generator,
    count: int,
) -> np.ndarray:
    """Return draws at values of what is held, shape (chain, draw, n)."""
    for name, white in whites.items():
        given.functions.held[f"{name}_white"].set_value(float(np.squeeze(white)))
    drawn = prior_points(given.functions, given.density, rng, count)
    points = np.zeros((*drawn.shape[:2], functions.size))
    for name, white in whites.items():
        points[..., functions.slices[f"{name}_white"]] = np.squeeze(white)
    for name, where in given.functions.slices.items():
        points[..., functions.slices[name]] = drawn[..., where]
    return points


class _Given:
    """The model with some unknowns held, of which only the prior is asked."""

    def __init__(self, functions: ModelFunctions, names: tuple[str, ...], backend: str) -> None:
        held = [f"{name}_white" for name in names]
        self.functions = ModelFunctions(functions.problem, held) if held else functions
        self.density = (
            CompiledDensity(self.functions, backend)
            if held
            else functions.once(CompiledDensity, backend)
        )
