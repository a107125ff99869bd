"""Stacked dims in a tree: their levels are plain coordinates, which files can hold.

xarray writes no ``MultiIndex``, whose labels are tuples.  It takes any index that can unstack,
however, whatever its coordinates are made of.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from xarray.core.indexing import IndexSelResult
from xarray.indexes import PandasMultiIndex


class Stacked(PandasMultiIndex):
    """The labels of a stacked dim by their levels alone, without a coordinate of tuples."""

    __slots__ = ()

    def create_variables(
        self, variables: Mapping[Any, xr.Variable] | None = None
    ) -> dict[Any, xr.Variable]:
        """Return the levels as coordinates that do not depend on the index."""
        made = super().create_variables(variables)
        return {
            name: xr.Variable(level.dims, np.asarray(level.values), level.attrs, level.encoding)
            for name, level in made.items()
            if name != self.dim
        }

    def sel(self, labels: dict[Any, Any], method: Any = None, tolerance: Any = None) -> Any:
        """Select labels of levels."""
        found: IndexSelResult = super().sel(labels, method, tolerance)
        kept = {name: level for name, level in found.variables.items() if name != self.dim}
        dropped = [name for name in found.drop_coords if name != self.dim]
        return replace(found, variables=kept, drop_coords=dropped)


def in_levels(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose stacked dims have their levels as coordinates, and no others."""
    for index, variables in dataset.xindexes.group_by_index():
        if type(index) is not PandasMultiIndex:
            continue
        levels = {name: v for name, v in variables.items() if name != index.dim}
        stacked = Stacked(index.index, index.dim, index.level_coords_dtype)
        made = xr.Coordinates(stacked.create_variables(levels), {name: stacked for name in levels})
        dataset = dataset.drop_vars([index.dim, *levels]).assign_coords(made)
    return dataset
