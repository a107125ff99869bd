"""Between a model's flat vector, the white coordinates of its unknowns, and physical values."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import xarray as xr
from pytensor.gradient import pushforward
from scipy.linalg import block_diag

from bayesjoint._compile import INTERPRETED, over_rows
from bayesjoint._functions import ModelFunctions
from bayesjoint._prior import prior_precision

NEWTON_STEPS = 100


class LatentSpace:
    """Unknowns of a problem (latents, then hyperparameters; not the sampled discrepancy).

    Attributes
    ----------
    names : list of str
        Latents, then hyperparameters.
    unknown_slices, cell_slices : dict of str to slice
        Where each lies in the white coordinates and in the physical values.
    """

    def __init__(self, functions: ModelFunctions) -> None:
        self.functions = functions
        self.unknowns = sorted(functions.build.unknowns, key=lambda u: u.kind != "latent")
        order = list(functions.problem.latent)
        self.unknowns.sort(key=lambda u: order.index(u.name) if u.name in order else len(order))
        self.names = [u.name for u in self.unknowns]
        where = [functions.slices[u.variable] for u in self.unknowns]
        sizes = [w.stop - w.start for w in where]
        self.unknown_slices = _consecutive(self.names, sizes)
        self.cell_slices = _consecutive(
            self.names, [int(np.prod(s, dtype=int)) for s in self.value_shapes]
        )
        self.flat_index = np.concatenate([np.arange(w.start, w.stop) for w in where])
        self.size = self.flat_index.size

    @cached_property
    def value_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the physical values."""
        return [value.shape for value in self.values(self.functions.initial)]

    @cached_property
    def _graphs(self) -> tuple[Any, list]:
        return self.functions.flat([self.functions.build.values[name] for name in self.names])

    @cached_property
    def _value_function(self):
        inputs, graphs = self._graphs
        return pytensor.function([inputs], graphs, mode=INTERPRETED, on_unused_input="ignore")

    @cached_property
    def _pushed(self):
        inputs, graphs = self._graphs
        tangent = pt.vector("tangent", shape=(self.functions.size,))
        stacked = pt.concatenate([graph.ravel() for graph in graphs])
        pushed = pushforward(stacked, inputs, tangent, disconnected_outputs="ignore")
        return over_rows([pushed], tangent, [inputs])

    def values(self, point: np.ndarray) -> list[np.ndarray]:
        """Return the physical values at a flat point, in the order of ``names``."""
        return self._value_function(point)

    def scaling(self, point: np.ndarray) -> np.ndarray:
        """Return the matrix from white coordinates to the flat vector."""
        scaling = np.zeros((self.functions.size, self.size))
        scaling[self.flat_index, np.arange(self.size)] = 1.0
        precision = prior_precision(self.functions, point)
        for unknown in self.unknowns:
            if not unknown.white:
                flat, where = (
                    self.functions.slices[unknown.variable],
                    self.unknown_slices[unknown.name],
                )
                scaling[flat, where] = np.linalg.inv(np.linalg.cholesky(precision[flat, flat])).T
        return scaling

    def white(self, point: np.ndarray) -> np.ndarray:
        """Return the white coordinates of a flat point."""
        return (
            np.linalg.pinv(self.scaling(point)) @ (point - self._centre())
            if self._has_non_white
            else point[self.flat_index]
        )

    @property
    def _has_non_white(self) -> bool:
        return any(not u.white for u in self.unknowns)

    def _centre(self) -> np.ndarray:
        return self.functions.initial

    def factor(self, point: np.ndarray) -> np.ndarray:
        """Return L: physical values per white coordinate, block-diagonal, shape (cell, unknown)."""
        scaling = self.scaling(point)
        blocks = []
        for name in self.names:
            where = self.unknown_slices[name]
            pushed = self._pushed(scaling[:, where].T, point)[0].T
            blocks.append(pushed[self.cell_slices[name]])
        return block_diag(*blocks)

    def inverse_transpose(self, factor: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` block by block, so that ``R_m = L R_z L^-1``."""
        blocks = [
            np.linalg.pinv(factor[self.cell_slices[name], self.unknown_slices[name]]).T
            for name in self.names
        ]
        return block_diag(*blocks)

    def point_of_values(
        self, values: Mapping[str, Any], start: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the flat point with given physical values, by Newton's method.

        With ``start`` values may be left out: they stay as they are there.
        """
        missing = [name for name in self.names if name not in values]
        if missing and start is None:
            raise ValueError(f"linearize: at= has no value for {missing}; give all of {self.names}")
        point = (self.functions.initial if start is None else start).copy()
        # Hyperparameters first: fields depend on them.
        for index in sorted(
            range(len(self.names)), key=lambda i: self.unknowns[i].kind == "latent"
        ):
            name = self.names[index]
            if name in values:
                target = np.asarray(getattr(values[name], "values", values[name]), dtype=float)
                point = self._solve(point, index, target)
        return point

    def _solve(self, point: np.ndarray, index: int, target: np.ndarray) -> np.ndarray:
        name, unknown = self.names[index], self.unknowns[index]
        flat, cells = self.functions.slices[unknown.variable], self.cell_slices[name]
        if np.shape(target) != self.value_shapes[index]:
            raise ValueError(
                f"{name!r} is given with shape {np.shape(target)}, "
                f"{self.value_shapes[index]} is needed"
            )
        for _ in range(NEWTON_STEPS):
            miss = (target - self.values(point)[index]).ravel()
            jacobian = self._pushed(np.eye(self.functions.size)[flat], point)[0].T[cells]
            step = np.linalg.lstsq(jacobian, miss, rcond=None)[0]
            point = point.copy()
            point[flat] += np.clip(step, -2.0, 2.0) if flat.stop - flat.start == 1 else step
            if np.max(np.abs(step)) < 1e-9:
                return point
        raise ValueError(f"the value given for {name!r} lies outside what its prior allows")

    def points_of_draws(self, posterior: xr.Dataset, count: int) -> list[np.ndarray]:
        """Return the flat points of evenly spaced draws of a posterior."""
        stacked = posterior[self.names].stack(sample=("chain", "draw"))
        chosen = np.unique(np.linspace(0, stacked.sizes["sample"] - 1, count).astype(int))
        return [
            self.point_of_values({n: stacked[n].isel(sample=i).values for n in self.names})
            for i in chosen
        ]

    def index_coords(self, functions: ModelFunctions) -> dict[str, Any]:
        """Return the index coordinates of the linearization."""

        def labels(slices):
            return np.concatenate(
                [np.repeat(n, s.stop - s.start) for n, s in slices.items()]
                or [np.zeros(0, dtype="U1")]
            )

        return {
            "latent_of_unknown": ("unknown", labels(self.unknown_slices)),
            "latent_of_cell": ("cell", labels(self.cell_slices)),
            "modality_of_datum": ("datum", labels(functions.data_slices)),
            "modality": np.array(list(functions.data_slices), dtype=str),
            "latent": np.array(self.names, dtype=str),
            "mode": np.arange(self.size),
        }

    def physical_values(self, point: np.ndarray) -> xr.Dataset:
        """Return the physical values at a point on their own dims, with units."""
        arrays = {}
        for unknown, value in zip(self.unknowns, self.values(point), strict=True):
            latent = self.functions.problem.latent.get(unknown.name)
            dims = (
                latent.dims
                if latent is not None
                else tuple(f"{unknown.name}_dim_{i}" for i in range(value.ndim))
            )
            coords = {d: c for d, c in self.functions.problem.coords.items() if d in dims}
            arrays[unknown.name] = xr.DataArray(
                value, dims=dims, coords=coords, attrs={"units": unknown.units}
            )
        return xr.Dataset(arrays)


def _consecutive(names: list[str], sizes: list[int]) -> dict[str, slice]:
    ends = np.cumsum([0, *sizes])
    return {name: slice(int(ends[i]), int(ends[i + 1])) for i, name in enumerate(names)}
