"""Reading a store: what it must hold is checked, what lies beyond the last record is left out.

Nothing is written.  Checksums are verified as values are read, those of a large tree as it is used.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from bayesjoint._sampler import marker as _marker
from bayesjoint._sampler.marker import Marker, damaged
from bayesjoint._sampler.packing import guarded, unpacked
from bayesjoint._sampler.stacked import in_levels
from bayesjoint._warnings import warn

SAMPLER, RECORD = "sampler", "checkpoints"  # groups that continue a run
IN_MEMORY = 1_000_000_000  # bytes: a smaller tree is read at once, a larger one as it is used


class StoredArray(BackendArray):
    """An array of a store, cut at a length."""

    def __init__(self, path: Path, group: str, name: str, array: zarr.Array, rows: int | None):
        self.path, self.group, self.name, self.array = path, group, name, array
        dims = dims_of(array)
        cut = {} if rows is None else {"draw": rows, "checkpoint": rows}
        self.shape = tuple(cut.get(dim, size) for dim, size in zip(dims, array.shape, strict=True))
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> Any:
        """Return values, of xarray's explicit indices."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: Any) -> np.ndarray:
        whole = tuple(
            slice(0, size) if part == slice(None) else part
            for part, size in zip(key, self.shape, strict=True)
        )
        try:
            return np.asarray(self.array[whole])
        except Exception as error:  # of zarr, of a codec, of the system: whatever bytes bring about
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> ValueError:
        told = " ".join(str(error).split()) or type(error).__name__
        return damaged(self.path, f"{_where(self.group, self.name)} cannot be read ({told})")


def _opened(path: Path, group: str, name: str) -> zarr.Array:
    array = zarr.open_array(path, path=f"{group}/{name}", mode="r")
    assert isinstance(array, zarr.Array)
    return array


def dims_of(array: Any) -> list[str]:
    """Return the names of the dims of an array of zarr."""
    return [str(dim) for dim in array.metadata.dimension_names or ()]


def _where(group: str, name: str) -> str:
    return f"group {group!r}, array {name!r}"


def tree(path: Path, marker: Marker) -> xr.DataTree:
    """Return the tree of a store without what continues a run."""
    groups = {n: dataset(path, n, marker) for n in marker.groups if n not in (SAMPLER, RECORD)}
    posterior = groups["posterior"]
    posterior.attrs |= {"sampling_time": marker.seconds} | marker.told
    result = xr.DataTree.from_dict({n: in_levels(group) for n, group in groups.items()})
    result.attrs.update(marker.labels)
    size = sum(node.to_dataset(inherit=False).nbytes for node in result.subtree)
    return guarded(result.load() if size < IN_MEMORY else result)


def dataset(path: Path, group: str, marker: Marker) -> xr.Dataset:
    """Return a group, whose values are read when they are used.

    Raises
    ------
    ValueError
        When anything of it is missing or has changed.
    """
    known = marker.groups[group]
    if _marker.digest_of_group(path, group) != known.digest:
        raise damaged(path, f"group {group!r}: its 'zarr.json' has changed")
    variables = {}
    for name, digest in known.arrays.items():
        if _marker.digest_of_array(path, group, name, known.grows) != digest:
            raise damaged(path, f"{_where(group, name)}: its 'zarr.json' has changed")
        variables[name] = _variable(path, group, name, marker.rows(group) if known.grows else None)
    try:
        attrs = dict(zarr.open_group(path, path=group, mode="r").attrs)
    except Exception as error:
        raise damaged(path, f"group {group!r}: its 'zarr.json' cannot be read") from error
    return unpacked(variables, attrs)


def _variable(path: Path, group: str, name: str, rows: int | None) -> xr.Variable:
    try:
        array = _opened(path, group, name)
        data = StoredArray(path, group, name, array, rows)
        attrs = dict(array.attrs)
    except Exception as error:
        raise damaged(path, f"{_where(group, name)}: its 'zarr.json' cannot be read") from error
    if any(size > held for size, held in zip(data.shape, array.shape, strict=True)):
        raise damaged(path, f"{_where(group, name)} is shorter than what was recorded")
    _require_chunks(path / group / name, data.shape, array.chunks, path, _where(group, name))
    return xr.Variable(dims_of(array), indexing.LazilyIndexedArray(data), attrs)


def _require_chunks(folder: Path, shape: Any, chunks: Any, path: Path, where: str) -> None:
    """Raise where a chunk is missing, which zarr would read as a fill value."""
    counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    for index in product(*map(range, counts)):
        if not folder.joinpath("c", *map(str, index)).is_file():
            raise damaged(path, f"{where}: chunk {'/'.join(map(str, index)) or 'c'} is missing")


def warn_of_what_continues(path: Path, marker: Marker) -> None:
    """Warn where the draws are whole and what continues the run is not."""
    try:
        for group in (SAMPLER, RECORD):
            dataset(path, group, marker).load()
    except ValueError as error:
        warn(f"{error} (the draws are whole; the run cannot be resumed)")


def require_whole(path: Path, marker: Marker) -> None:
    """Raise unless every value of a store is as it was written; read in pieces."""
    for group in marker.groups:
        for variable in dataset(path, group, marker).variables.values():
            _read_through(variable)


def _read_through(variable: xr.Variable) -> None:
    pieces = max(1, variable.nbytes // IN_MEMORY)
    length = variable.shape[0] if variable.ndim else 1
    step = max(1, -(-length // pieces))
    for first in range(0, length, step):
        _ = variable[first : first + step].values if variable.ndim else variable.values
