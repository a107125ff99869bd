"""Where the groups of a run go while it is running: memory, or a zarr store that outlives it.

In a store every checkpoint appends some draws to every group and then, last, where the chains are.
What lies beyond the last such record was being written when the run stopped, and is cut off.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from bayesjoint._sampler.nuts import Chain

SAMPLER, RECORD = "sampler", "checkpoints"  # groups that continue a run
IN_MEMORY = 1_000_000_000  # bytes: a smaller tree is read at once, a larger one as it is used
CHUNK = 16_000_000  # bytes of a chunk, about


class MemoryOutput:
    """Keeps the groups of a run in memory."""

    def __init__(self) -> None:
        self._static: dict[str, xr.Dataset] = {}
        self._parts: dict[str, list[xr.Dataset]] = {}

    def begin(self, static: dict[str, xr.Dataset], sampler: xr.Dataset) -> None:
        """Take the groups that do not grow."""
        self._static = static

    def append(self, groups: dict[str, xr.Dataset], record: xr.Dataset) -> None:
        """Take some more draws of the groups that grow."""
        for name, dataset in groups.items():
            self._parts.setdefault(name, []).append(dataset)

    def note(self, attrs: dict[str, Any]) -> None:
        """Keep attributes of the posterior: they are in the tree already."""

    def tree(self) -> xr.DataTree:
        """Return all groups."""
        grown = {
            name: parts[0] if len(parts) == 1 else xr.concat(parts, "draw", data_vars="minimal")
            for name, parts in self._parts.items()
        }
        return xr.DataTree.from_dict({**grown, **self._static})


class ZarrOutput:
    """Streams the groups of a run to a zarr store, a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, static: dict[str, xr.Dataset], sampler: xr.Dataset) -> None:
        """Make the store anew, with the groups that do not grow and what continues the run."""
        with _safely(self.path):
            xr.DataTree.from_dict({**static, SAMPLER: sampler}).to_zarr(
                self.path, mode="w", consolidated=False
            )

    def append(self, groups: dict[str, xr.Dataset], record: xr.Dataset) -> None:
        """Write some more draws of the groups that grow, then the record that makes them count."""
        known = set(zarr.open_group(self.path, mode="r").group_keys())
        with _safely(self.path):
            for name, dataset in groups.items():
                _append(self.path, name, dataset, "draw", name in known)
            os.sync()  # the record must not reach the disk before the draws
            _append(self.path, RECORD, record, "checkpoint", RECORD in known)

    def note(self, attrs: dict[str, Any]) -> None:
        """Keep attributes of the posterior."""
        with _safely(self.path):
            zarr.open_group(self.path, mode="r+", path="posterior").attrs.update(attrs)

    def tree(self) -> xr.DataTree:
        """Return all groups."""
        return read(self.path)


@contextmanager
def _safely(path: Path) -> Iterator[None]:
    """Turn a failure to write into advice; what was recorded before stays readable."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OSError(
            error.errno,
            f"store {str(path)!r}: {'the disk is full' if full else error.strerror}; the "
            f"{recorded(path)} draws a chain recorded before are safe: make room and go on with "
            "resume=True",
        ) from error


def recorded(path: Path) -> int:
    """Return how many draws of each chain a store holds for certain; 0 where there is no store."""
    return _records(path)[1]


def _records(path: Path) -> tuple[int, int]:
    """Return the number of complete checkpoints, and of draws at the last."""
    try:
        group = zarr.open_group(path, mode="r", path=RECORD)
        arrays: dict[str, Any] = dict(group.arrays())
        drawn, positions = np.asarray(arrays["drawn"][:]), arrays["point"]
    except (FileNotFoundError, KeyError):
        return 0, 0
    lengths = [array.shape[0] for array in arrays.values()]
    count = min([int(np.argmin(drawn > 0)) if np.any(drawn <= 0) else drawn.size, *lengths])
    while count and not np.all(np.isfinite(positions[count - 1])):
        count -= 1
    return count, int(drawn[count - 1]) if count else 0


def require_replaceable(path: Path) -> None:
    """Raise unless a new run may be written there: an unfinished one is never lost."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    draws = recorded(path)
    if draws and "draws_asked" not in zarr.open_group(path, mode="r", path="posterior").attrs:
        raise ValueError(
            f"store {str(path)!r} holds an unfinished run, {draws} draws of each chain; go on with "
            "resume=True, or remove it or name another store"
        )
    if not (path / "zarr.json").exists():
        raise ValueError(f"store {str(path)!r} exists and is no zarr store; name another folder")


def trim(path: Path) -> int:
    """Cut off what was being written when a run stopped; return the checkpoints kept."""
    checkpoints, draws = _records(path)
    root = zarr.open_group(path, mode="r+")
    for name, group in root.groups():
        if name in ("prior", "prior_predictive"):
            continue
        for array in [array for _, array in group.arrays()]:
            dims = getattr(array.metadata, "dimension_names", None) or ()
            kept = {"draw": _kept_draws(group, draws), "checkpoint": checkpoints}
            shape = tuple(
                min(size, kept.get(str(dim), size))
                for dim, size in zip(dims, array.shape, strict=True)
            )
            if shape != array.shape:
                array.resize(shape)
    return checkpoints


def _kept_draws(group: zarr.Group, draws: int) -> int:
    """Return how many entries of a group lie before a draw; thinned groups have fewer."""
    step = int(str(group.attrs.get("thinned", 1)))
    return -(-draws // step)


def read(path: Path) -> xr.DataTree:
    """Return the tree of a store without what continues a run; large ones are read as used."""
    tree = xr.open_datatree(path, engine="zarr", consolidated=False)
    for name in (SAMPLER, RECORD):
        if name in tree.children:
            del tree[name]
    size = sum(node.to_dataset(inherit=False).nbytes for node in tree.subtree)
    return tree.load() if size < IN_MEMORY else tree


def read_sampler(path: Path) -> tuple[xr.Dataset, xr.Dataset]:
    """Return what a run moves with, and where its chains were at the last checkpoint.

    Of a trimmed store: a record that was being written is no checkpoint.
    """
    sampler, record = (
        xr.open_dataset(path, group=name, engine="zarr", consolidated=False)
        for name in (SAMPLER, RECORD)
    )
    return sampler.load(), record.isel(checkpoint=-1).load()


def chains_of(sampler: xr.Dataset, record: xr.Dataset) -> list[Chain]:
    """Return the chains of a store, to be continued."""
    return [
        Chain(point, float(step), scale)
        for point, step, scale in zip(
            record["point"].values, sampler["step"].values, sampler["scale"].values, strict=True
        )
    ]


def _append(path: Path, group: str, dataset: xr.Dataset, dim: str, exists: bool) -> None:
    if exists:
        fixed = [name for name, v in dataset.variables.items() if dim not in v.dims]
        dataset.drop_vars(fixed).to_zarr(
            path, group=group, append_dim=dim, consolidated=False, mode="a"
        )
        return
    encoding = {str(name): {"chunks": _chunks(v, dim)} for name, v in dataset.variables.items()}
    encoding = {name: e for name, e in encoding.items() if e["chunks"]}
    dataset.to_zarr(path, group=group, consolidated=False, mode="a", encoding=encoding)


def _chunks(variable: xr.Variable, dim: str) -> tuple[int, ...]:
    """Return chunks of one checkpoint's draws, cut further along the axis in front if large."""
    sizes = dict(variable.sizes)
    if dim in sizes and variable.nbytes > CHUNK:
        first = next(iter(sizes))
        sizes[first] = max(1, int(sizes[first] * CHUNK / variable.nbytes))
    return tuple(max(1, size) for size in sizes.values())
