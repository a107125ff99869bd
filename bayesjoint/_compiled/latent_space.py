"""Between a model's flat vector, the white coordinates of its unknowns, and physical values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytensor.tensor as pt
import xarray as xr
from pytensor.gradient import pushforward

from bayesjoint import _names, arrays
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.mixing import Mixing, mixing
from bayesjoint._compiled.prior import prior_precision
from bayesjoint._graph.build import in_order
from bayesjoint._graph.compile import compiled_function, in_turn, over_rows
from bayesjoint._kernels.factors import DenseFactor, DiagonalFactor, Factor, ScaledFactor
from bayesjoint.couplings import CorrelatedFields, PropertyMixture
from bayesjoint.latents import GaussianField

NEWTON_STEPS = 100
REACHED = 1e-6  # of the way to a value, or of the value
DRAWN = "__sample__"  # dim of draws: one that no latent has


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
        return compiled_function([inputs], graphs)

    @cached_property
    @in_turn()
    def _pushed(self):
        inputs, graphs = self._graphs
        tangent = pt.vector("tangent", shape=(self.functions.size,))
        stacked = pt.concatenate([graph.ravel() for graph in graphs])
        pushed = pushforward(stacked, inputs, tangent, disconnected_outputs="ignore")
        return over_rows([pushed], tangent, [inputs])

    @cached_property
    @in_turn()
    def _slope_function(self):
        build = self.functions.build
        relations = [build.shaping[name] for name in build.shifts]
        keys = [(r.latent, source) for r in relations for source in r.sources()]
        pushed = [r.slope(build, source) for r in relations for source in r.sources()]
        return keys, self.functions.compile(pushed)

    def slopes(self, point: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """Return the slope of each property in what it follows from, of every cell, by names."""
        build, found = self.functions.build, {}
        if build.shifts:
            keys, function = self._slope_function
            sizes = {n: w.stop - w.start for n, w in self.cell_slices.items()}
            for key, slope in zip(keys, function(point), strict=True):
                found[key] = np.broadcast_to(np.ravel(slope), sizes[key[0]])
        values = dict(zip(self.names, self.values(point), strict=True))
        for name, coupling in build.shaping.items():
            if isinstance(coupling, PropertyMixture):
                keys = [(name, before) for before in coupling.before(name)]
                found |= dict(zip(keys, coupling.local(name, values)[1], strict=True))
        return found

    def values(self, point: np.ndarray) -> list[np.ndarray]:
        """Return the physical values at a flat point, in the order of ``names``."""
        return self._value_function(point)

    def scaling(self, point: np.ndarray) -> "Scaling":
        """Return the map between white coordinates and the flat vector at a point."""
        return self._local(point)[0]

    def factors(self, point: np.ndarray) -> dict[str, Factor]:
        """Return L of each unknown: physical values per white coordinate."""
        return self._local(point)[1]

    def _local(self, point: np.ndarray) -> tuple["Scaling", dict[str, Factor]]:
        scaling = self._unmixed(point)
        values = dict(zip(self.names, self.values(point), strict=True))
        factors = {u.name: self._factor(u, point, values, scaling) for u in self.unknowns}
        if not self.functions.build.shaping:
            return scaling, factors
        mixed = mixing(self, point, factors)
        return Scaling(self, scaling.blocks, mixed), {**factors, **mixed.own}

    def _unmixed(self, point: np.ndarray) -> "Scaling":
        blocks = {}
        if any(not u.white for u in self.unknowns):
            precision = prior_precision(self.functions, point)
            for unknown in self.unknowns:
                if not unknown.white:
                    flat = self.functions.slices[unknown.variable]
                    lower = np.linalg.cholesky(precision[flat, flat])
                    blocks[unknown.name] = np.linalg.inv(lower).T
        return Scaling(self, blocks)

    def _factor(self, unknown, point: np.ndarray, values: Mapping, scaling: "Scaling") -> Factor:
        latent = self.functions.problem.latent.get(unknown.name)
        if isinstance(latent, GaussianField):
            mixture = self._mixture_of(unknown.name)
            factor = latent.factor(values)
            if mixture is None:
                return factor
            return ScaledFactor(mixture.local(unknown.name, values)[0], factor)
        where, cells = self.unknown_slices[unknown.name], self.cell_slices[unknown.name]
        tangents = np.eye(where.stop - where.start)
        if unknown.white:
            tangents = np.ones((1, where.stop - where.start))  # each value has its own
        rows = np.zeros((tangents.shape[0], self.size))
        rows[:, where] = tangents
        pushed = self._pushed(scaling.to_flat(rows), point)[0][:, cells]
        return DiagonalFactor(pushed[0]) if unknown.white else DenseFactor(pushed.T)

    def _mixture_of(self, name: str) -> PropertyMixture | None:
        coupling = self.functions.build.shaping.get(name)
        return coupling if isinstance(coupling, PropertyMixture) else None

    def physical(self, factors: Mapping[str, Factor], columns: np.ndarray) -> np.ndarray:
        """Return ``L`` times columns of white coordinates, shape (cell, k)."""
        return np.concatenate(
            [f.times(columns[self.unknown_slices[name]]) for name, f in factors.items()]
        )

    def physical_dual(self, factors: Mapping[str, Factor], columns: np.ndarray) -> np.ndarray:
        """Return ``L^-T`` times columns, shape (cell, k), so that ``R_m = L R_z L^-1``."""
        return np.concatenate(
            [f.inverse_transpose(columns[self.unknown_slices[name]]) for name, f in factors.items()]
        )

    def rows_of_cells(self, factors: Mapping[str, Factor], cells: np.ndarray) -> np.ndarray:
        """Return the rows of L of some cells, shape (cell, unknown)."""
        rows = np.zeros((cells.size, self.size))
        for name, factor in factors.items():
            here = self.cell_slices[name]
            inside = np.flatnonzero((cells >= here.start) & (cells < here.stop))
            if inside.size:
                units = np.zeros((here.stop - here.start, inside.size))
                units[cells[inside] - here.start, np.arange(inside.size)] = 1.0
                rows[inside, self.unknown_slices[name]] = factor.transpose_times(units).T
        return rows

    @property
    def labels(self) -> dict[str, xr.DataArray]:
        """Coordinates of dims that unknowns bring with them."""
        known = self.functions.build.model.coords
        dims = {dim for unknown in self.unknowns for dim in unknown.dims}
        return {dim: xr.DataArray(np.asarray(known[dim]), dims=dim) for dim in dims}

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
        # Hyperparameters first, then latents in the order in which they shape each other.
        order = in_order(list(self.functions.problem.latent), self.functions.problem.couplings)
        hyperparameters = [name for name in self.names if name not in order]
        for name in (*hyperparameters, *order):
            index = self.names.index(name)
            if name in values:
                point = self._solve(point, index, self._target(index, values[name]))
        return point

    def axes(self, index: int) -> arrays.Axes:
        """Return the axes to which values of an unknown are aligned."""
        unknown, shape = self.unknowns[index], self.value_shapes[index]
        latent = self.functions.problem.latent.get(unknown.name)
        if latent is not None:
            return latent.axes()
        dims = unknown.dims or tuple(f"{unknown.name}_dim_{i}" for i in range(len(shape)))
        known = self.labels
        labels = tuple(known[d].to_index() if d in known else None for d in dims)
        return arrays.Axes(f"{unknown.name!r}", dims, labels, shape, (None,) * len(dims))

    def _target(self, index: int, value: Any) -> np.ndarray:
        """Return a value of an unknown in the order, the shape and the units it has."""
        unknown = self.unknowns[index]
        target = arrays.aligned(
            "the values given", unknown.name, value, self.axes(index),
            units=unknown.units or None, broadcast=False, exact=True,
        )  # fmt: skip
        if not np.all(np.isfinite(target)):
            raise ValueError(f"the value given for {unknown.name!r} is not finite")
        return target

    def _solve(self, point: np.ndarray, index: int, target: np.ndarray) -> np.ndarray:
        name, unknown = self.names[index], self.unknowns[index]
        scalar = unknown.white and not isinstance(
            self.functions.problem.latent.get(name), GaussianField
        )
        if (mixture := self._mixture_of(name)) is not None:
            values = dict(zip(self.names, self.values(point), strict=True))
            standard = mixture.standard(name, values, target).reshape(-1, 1)
            factor = self.functions.problem.latent[name].factor(values)
            point = point.copy()
            point[self.functions.slices[unknown.variable]] = factor.inverse(standard)[:, 0]
            return point
        first = np.abs(target - self.values(point)[index]).max(initial=0.0)
        enough = REACHED * max(first, np.abs(target).max(initial=0.0))
        for _ in range(NEWTON_STEPS):
            values = dict(zip(self.names, self.values(point), strict=True))
            # Of the unknown itself, those that shape it held fast.
            factor = self._factor(unknown, point, values, scaling := self._unmixed(point))
            gap = target - values[name]
            with np.errstate(all="ignore"):  # far out in a tail
                step = factor.inverse(gap.reshape(-1, 1))[:, 0] / self._own_share(name, values)
            if not np.all(np.isfinite(step)):
                break
            white = np.zeros((1, self.size))
            white[0, self.unknown_slices[name]] = np.clip(step, -2.0, 2.0) if scalar else step
            point = point + scaling.to_flat(white)[0]
            if np.max(np.abs(step)) < 1e-9:
                if np.abs(gap).max() > enough:  # no step brings it nearer
                    break
                return point
        raise ValueError(f"the value given for {name!r} lies outside what its prior allows")

    def _own_share(self, name: str, values: Mapping[str, np.ndarray]) -> float:
        """Return how much of the white coordinates of a field its own variable makes up."""
        coupling = self.functions.build.shaping.get(name)
        if not isinstance(coupling, CorrelatedFields):
            return 1.0
        index = coupling.names.index(name)
        return float(coupling.mixing(values)[index, index])

    def points_of_draws(self, posterior: xr.Dataset, count: int) -> list[np.ndarray]:
        """Return the flat points of evenly spaced draws of a posterior."""
        return [self.point_of_values(values) for values in self.values_of_draws(posterior, count)]

    def values_of_draws(
        self, posterior: xr.Dataset, count: int, names: Sequence[str] | None = None
    ) -> list[dict[str, np.ndarray]]:
        """Return the values of evenly spaced draws of a posterior, by name, in their own order.

        Raises
        ------
        ValueError
            When the draws of an unknown are missing, or lie on other dims or labels than it.
        """
        names = self.names if names is None else names
        missing = [name for name in names if name not in posterior]
        if missing:
            raise ValueError(
                f"the posterior has no draws of {missing}; give that of bj.sample(problem)"
            )
        lacking = [dim for dim in ("chain", "draw") if dim not in posterior.sizes]
        if lacking:
            raise ValueError(f"the posterior has no dim {lacking[0]!r}; give that of bj.sample")
        sizes = posterior.sizes["chain"], posterior.sizes["draw"]
        chosen = np.unique(np.linspace(0, np.prod(sizes) - 1, count).astype(int))
        chain, draw = (xr.DataArray(i, dims=DRAWN) for i in np.unravel_index(chosen, sizes))
        columns = {n: self._draws(posterior[n].isel(chain=chain, draw=draw)) for n in names}
        return [{name: column[i] for name, column in columns.items()} for i in range(len(chosen))]

    def _draws(self, draws: xr.DataArray) -> np.ndarray:
        """Return draws of an unknown along one dim, in its own order and units behind that."""
        index = self.names.index(str(draws.name))
        own, count = self.axes(index), draws.sizes[DRAWN]
        axes = arrays.Axes(
            own.owner, (DRAWN, *own.dims), (None, *own.labels), (count, *own.sizes),
            (None, *own.label_units),
        )  # fmt: skip
        return arrays.aligned(
            "the posterior", str(draws.name), draws.drop_vars(["chain", "draw"], errors="ignore"),
            axes, units=self.unknowns[index].units or None, broadcast=False, exact=True,
        )  # fmt: skip

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
            **_places(functions),
            "modality": np.array(list(functions.data_slices), dtype=str),
            "latent": np.array(self.names, dtype=str),
        }

    def physical_values(self, point: np.ndarray) -> xr.Dataset:
        """Return the physical values at a point on their own dims, with units; names marked."""
        arrays = {}
        for unknown, value in zip(self.unknowns, self.values(point), strict=True):
            latent = self.functions.problem.latent.get(unknown.name)
            numbered = tuple(f"{unknown.name}_dim_{i}" for i in range(value.ndim))
            dims = latent.dims if latent is not None else unknown.dims or numbered
            known = self.functions.problem.coords | self.labels
            coords = {d: c for d, c in known.items() if d in dims}
            arrays[unknown.name] = xr.DataArray(
                value, dims=dims, coords=coords, attrs={"units": unknown.units}
            )
        return _names.marked(xr.Dataset(arrays))


def _places(functions: ModelFunctions) -> dict[str, Any]:
    """Return where each datum lies in the data of its modality, where some are missing."""
    if functions.whole is functions.problem:
        return {}
    places = [modality.places for modality in functions.problem.modalities]
    return {"index_of_datum": ("datum", np.concatenate(places))}


@dataclass(frozen=True, eq=False)
class Scaling:
    """Between the white coordinates of the unknowns and the flat vector, at a point.

    Parameters
    ----------
    space : LatentSpace
    blocks : dict of str to ndarray
        Of each variable without white form: flat coordinates per white coordinate.
    mixing : Mixing, optional
        Where couplings shape the priors of fields: white coordinates are those of each property
        by itself.
    """

    space: LatentSpace
    blocks: dict[str, np.ndarray]
    mixing: Mixing | None = None

    @property
    def unmixed(self) -> "Scaling":
        """The scaling of the independent white variables of the model."""
        return Scaling(self.space, self.blocks)

    def to_flat(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of flat vectors from rows of white ones."""
        rows = rows if self.mixing is None else self.mixing.inverse(rows)
        flat = np.zeros((rows.shape[0], self.space.functions.size))
        flat[:, self.space.flat_index] = rows
        for where, index, block in self._placed():
            flat[:, index] = rows[:, where] @ block.T
        return flat

    def to_white(self, rows: np.ndarray) -> np.ndarray:
        """Return the transpose of `to_flat` applied to rows of flat vectors."""
        white = np.array(rows[:, self.space.flat_index])
        for where, index, block in self._placed():
            white[:, where] = rows[:, index] @ block
        return white if self.mixing is None else self.mixing.inverse_transposed(white)

    def white(self, point: np.ndarray) -> np.ndarray:
        """Return the white coordinates of a flat point."""
        moved = point - self.space.functions.initial
        white = moved[self.space.flat_index]
        for where, index, block in self._placed():
            white[where] = np.linalg.solve(block, moved[index])
        return white if self.mixing is None else self.mixing.forward(white[None])[0]

    def _placed(self):
        for name, block in self.blocks.items():
            where = self.space.unknown_slices[name]
            yield where, self.space.flat_index[where], block


def _consecutive(names: list[str], sizes: list[int]) -> dict[str, slice]:
    ends = np.cumsum([0, *sizes])
    return {name: slice(int(ends[i]), int(ends[i + 1])) for i, name in enumerate(names)}
