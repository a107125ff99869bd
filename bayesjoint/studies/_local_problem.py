"""A problem linearised at a point as matrices: sensitivities, prior, and rows of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint._graph.compile import threads_for
from bayesjoint._local import mode as _mode
from bayesjoint._local.actions import LocalActions
from bayesjoint._local.coupled_prior import coupled_prior
from bayesjoint._local.curvature import DENSE_LIMIT
from bayesjoint._names import user
from bayesjoint.latents import GaussianField
from bayesjoint.linearization import default_starts, is_gaussian
from bayesjoint.problem import JointProblem
from bayesjoint.reports._rows import rows


@dataclass(frozen=True, eq=False)
class Row:
    """One parameter: a number, or a field as a whole.

    Attributes
    ----------
    label, latent, units : str
    cells : ndarray
        Which of the ravelled values of its latent.
    where : ndarray
        Its white coordinates.
    physical : ndarray, shape (cell, coordinate)
        ``L``: physical values of its cells per white coordinate.
    whole : bool
        Whether it is a field, or a latent without white form, taken as a whole.
    """

    label: str
    latent: str
    units: str
    cells: np.ndarray
    where: np.ndarray
    physical: np.ndarray
    whole: bool

    @cached_property
    def gram(self) -> np.ndarray:
        """``L^T L`` over the number of cells: a trace with it is the mean variance of cells."""
        return self.physical.T @ self.physical / self.physical.shape[0]


class LocalProblem:
    """A problem linearised at a point, in white coordinates of the unknowns of the response.

    Unknowns of the errors are held at the point: the Fisher information of Gaussian errors does
    not mix them with those of the response.

    Attributes
    ----------
    functions, space, point, values
        The functions, where the problem is linearised, and all unknowns there by name.
    jacobian : ndarray, shape (data, unknown)
        The noise's known correlation taken out.
    precision, prior : ndarray, shape (unknown, unknown)
        Precision and covariance of the coupled prior.
    rows : list of Row
    at : str
        "map", "values", or "any" where the posterior is Gaussian and the point does not matter.
    """

    def __init__(self, problem: JointProblem, at: Mapping[str, Any] | None, who: str) -> None:
        self.problem, self.functions = problem, ModelFunctions(problem)
        self.space = space = self.functions.once(LatentSpace)
        if space.size > DENSE_LIMIT:
            raise ValueError(
                f"{who}: {space.size} unknowns are more than {DENSE_LIMIT}; take a coarser grid"
            )
        self.is_linear = is_gaussian(problem, space) and not problem.couplings
        self.point, self.at = self._where(at)
        self.values = dict(zip(space.names, space.values(self.point), strict=True))
        # Responses and their derivatives alone: the errors of the problem itself are not needed.
        self.kept = np.concatenate(
            [np.arange(*space.unknown_slices[u.name].indices(space.size))
             for u in space.unknowns if not u.of_errors]
        )  # fmt: skip
        actions, scaling = LocalActions(self.functions, self.point), space.scaling(self.point)
        units = np.eye(space.size)
        self.jacobian = actions.push(scaling.to_flat(units[self.kept])).T
        whole = coupled_prior(actions, scaling).precision(units)
        self.precision = whole[np.ix_(self.kept, self.kept)]
        self.prior = np.linalg.inv(self.precision)
        self.rows = self._rows()

    def _where(self, at: Mapping[str, Any] | None) -> tuple[np.ndarray, str]:
        if at is not None:
            return self.space.point_of_values(at), "values"
        if self.is_linear:
            return self.functions.initial, "any"
        with threads_for(self.space.size + self.functions.rank):
            mode = _mode.maximum_a_posteriori(self.functions, default_starts(self.problem))
        return mode.point, "map"

    def _rows(self) -> list[Row]:
        """Return scalars and elements of vectors one by one, fields as a whole."""
        space, factors = self.space, self.space.factors(self.point)
        ds = xr.Dataset(coords=space.index_coords(self.functions))
        ds = ds.merge(space.physical_values(self.point))
        latents = list(self.problem.latent)
        others = [name for name in space.names if name not in latents]
        listed = rows(ds.assign_attrs(latents=latents, hyperparameters=others))
        position, found = np.cumsum(np.isin(np.arange(space.size), self.kept)) - 1, []
        for unknown in space.unknowns:
            if unknown.of_errors:
                continue
            name, units = unknown.name, str(ds[user(unknown.name)].attrs.get("units") or "")
            where = position[np.arange(space.size)[space.unknown_slices[name]]]
            matrix = factors[name].times(np.eye(where.size))
            own = [row for row in listed if row.latent == name]
            field = isinstance(self.problem.latent.get(name), GaussianField)
            if field or not unknown.white or len(own) < where.size:
                cells = np.arange(len(matrix))
                found.append(Row(name, name, units, cells, where, matrix, whole=matrix.size > 1))
                continue
            for i, row in enumerate(own):
                at, slope = slice(i, i + 1), matrix[i : i + 1, i : i + 1]
                found.append(Row(row.label, name, units, np.array([i]), where[at], slope, False))
        return found
