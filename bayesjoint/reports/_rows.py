"""Parameters as rows: scalars and small latents element by element, large fields as one summary."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint.reports import _read

LARGEST_LISTED = 50  # elements of a latent that are still listed one by one
LARGEST_DIAGNOSED = 1000  # elements of a latent whose chains are diagnosed (a few ms each)


@dataclass(frozen=True)
class Row:
    """One line of a table of parameters."""

    label: str
    latent: str
    cells: np.ndarray  # positions along the axis ``cell``
    element: bool  # one number, and not the summary of a field

    @property
    def scalar(self) -> bool:
        """The latent as a whole is one number."""
        return self.element and self.label == self.latent


def rows(ds: xr.Dataset, largest: int | None = None) -> list[Row]:
    """List the rows of all latents and hyperparameters."""
    largest = LARGEST_LISTED if largest is None else largest
    return [row for name in _read.unknowns(ds) for row in rows_of(ds, name, largest)]


def rows_of(ds: xr.Dataset, latent: str, largest: int) -> list[Row]:
    """List the rows of one latent: its elements, or one of all where there are many."""
    cells = _read.cells_of(ds, latent)
    grid = _read.template(ds, latent)
    if grid.ndim == 0:
        return [Row(latent, latent, cells, element=True)]
    if grid.size > largest:
        return [Row(latent, latent, cells, element=False)]
    labels = product(*(arrays.plain_labels(grid[dim].values) for dim in grid.dims))
    return [
        Row(
            f"{latent}[{', '.join(where)}]",
            latent,
            cells[i : i + 1],
            element=True,
        )
        for i, where in enumerate(labels)
    ]


def per_row(values: xr.DataArray, table: list[Row], reduce: str = "mean") -> xr.DataArray:
    """Reduce numbers of all cells to one number per row (dim ``parameter``)."""
    parts = [getattr(values.isel(cell=row.cells), reduce)("cell") for row in table]
    parts = [part.drop_vars(set(part.coords) - set(part.dims)) for part in parts]
    labels = xr.Variable("parameter", [row.label for row in table])
    return xr.concat(parts, dim=labels, coords="minimal", compat="override")


def flat_draws(draws: xr.Dataset, ds: xr.Dataset) -> xr.DataArray:
    """Lay the draws of all latents and hyperparameters on one axis (chain, draw, cell)."""
    names = _read.unknowns(ds)
    missing = [name for name in names if name not in draws]
    if missing:
        raise ValueError(f"the draws lack {', '.join(missing)}; the problem has {', '.join(names)}")
    flat = [
        draws[name]
        .transpose("chain", "draw", *_read.own_dims(ds, name))
        .values.reshape(draws.sizes["chain"], draws.sizes["draw"], -1)
        for name in names
    ]
    order = np.concatenate([_read.cells_of(ds, name) for name in names])
    values = np.concatenate(flat, axis=-1)[..., np.argsort(order)]
    return xr.DataArray(values, dims=("chain", "draw", "cell"))


def diagnosed(table: list[Row]) -> list[np.ndarray]:
    """Positions within each row whose chains are diagnosed: all, or an even subset of many."""
    return [row.cells[:: -(-row.cells.size // LARGEST_DIAGNOSED)] for row in table]


def convergence(draws: xr.DataArray, table: list[Row]) -> xr.Dataset:
    """Largest ``r_hat`` and smallest ``ess_bulk`` of each row (parameter); NaN from few draws."""
    import arviz_stats

    kept = diagnosed(table)
    chosen = xr.Dataset({"cells": draws.isel(cell=np.concatenate(kept))})
    of_row = np.repeat(np.arange(len(table)), [cells.size for cells in kept])
    r_hat = np.atleast_1d(arviz_stats.rhat(chosen)["cells"].values)
    ess = np.atleast_1d(arviz_stats.ess(chosen, method="bulk")["cells"].values)
    labels = [row.label for row in table]
    worst = [np.max(r_hat[of_row == i]) for i in range(len(table))]
    least = [np.min(ess[of_row == i]) for i in range(len(table))]
    return xr.Dataset(
        {"r_hat": ("parameter", worst), "ess_bulk": ("parameter", least)}, {"parameter": labels}
    )
