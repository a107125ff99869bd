"""Where the groups of a run go while it is running: memory, or a zarr store that outlives it.

In a store every checkpoint appends some draws to every group and where the chains are, and then,
last and in one step, replaces the marker, which makes them count.  What lies beyond it was being
written when the run stopped; it is not read, and the next checkpoint of the run takes its place.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from bayesjoint._sampler import marker as _marker
from bayesjoint._sampler import reading as _reading
from bayesjoint._sampler.lock import writing
from bayesjoint._sampler.marker import Group, Marker
from bayesjoint._sampler.nuts import Chain
from bayesjoint._sampler.packing import guarded, not_storable, packed
from bayesjoint._sampler.reading import RECORD, SAMPLER
from bayesjoint._sampler.stacked import in_levels
from bayesjoint._warnings import warn

CHUNK = 16_000_000  # bytes of a chunk, about


class MemoryOutput:
    """Keeps the groups of a run in memory."""

    def __init__(self) -> None:
        self._static: dict[str, xr.Dataset] = {}
        self._parts: dict[str, list[xr.Dataset]] = {}
        self._told: dict[str, Any] = {}

    def begin(self, static: dict[str, xr.Dataset], sampler: xr.Dataset) -> None:
        """Take the groups that do not grow."""
        self._static = static

    def append(self, groups: dict[str, xr.Dataset], record: xr.Dataset, made: int) -> None:
        """Take some more draws of the groups that grow."""
        for name, dataset in groups.items():
            self._parts.setdefault(name, []).append(dataset)

    def note(self, told: dict[str, Any], finished: int) -> None:
        """Keep attributes of the posterior."""
        self._told = told

    def tree(self) -> xr.DataTree:
        """Return all groups."""
        grown = {
            name: parts[0] if len(parts) == 1 else xr.concat(parts, "draw", data_vars="minimal")
            for name, parts in self._parts.items()
        }
        grown["posterior"] = grown["posterior"].assign_attrs(self._told)
        groups = {**grown, **self._static}
        return guarded(
            xr.DataTree.from_dict(
                {n: in_levels(group.drop_encoding()) for n, group in groups.items()}
            )
        )


class ZarrOutput:
    """Streams the groups of a run to a zarr store, a folder.

    Parameters
    ----------
    path : Path
        Locked by the caller.
    every : int
        Draws of a checkpoint, which are one chunk.
    marker : Marker, optional
        Of the run that goes on.
    """

    def __init__(self, path: Path, every: int, marker: Marker | None = None) -> None:
        self.path, self.every = path, every
        self.marker = marker or Marker()

    def begin(self, static: dict[str, xr.Dataset], sampler: xr.Dataset) -> None:
        """Make the store anew, with the groups that do not grow and what continues the run."""
        with self._safely():
            self.path.mkdir(parents=True, exist_ok=True)
            self._commit(Marker())  # from now on an empty store of ours, whatever happens
            for folder in self.path.iterdir():
                if folder.is_dir():
                    shutil.rmtree(folder)
            marker = Marker()
            for name, dataset in {**static, SAMPLER: sampler}.items():
                marker = marker.with_group(name, self._written(name, dataset, ""))
            self._commit(marker)

    def append(self, groups: dict[str, xr.Dataset], record: xr.Dataset, made: int) -> None:
        """Write some more draws of the groups that grow, then the marker that makes them count."""
        marker = self.marker
        with self._safely():
            for name, dataset in groups.items():
                marker = self._grown(marker, name, dataset, "draw")
            marker = self._grown(marker, RECORD, record, "checkpoint")
            os.sync()  # the marker must not reach the disk before the draws
            self._commit(
                replace(
                    marker, draws=made, checkpoints=marker.checkpoints + 1, finished=0, told={},
                    seconds=float(record["sampling_time"][-1]),
                )
            )  # fmt: skip

    def note(self, told: dict[str, Any], finished: int) -> None:
        """Keep attributes of the posterior, and whether all draws that were asked for are made."""
        with self._safely():
            self._commit(replace(self.marker, told=told, finished=finished))

    def tree(self) -> xr.DataTree:
        """Return all groups."""
        return _reading.tree(self.path, self.marker)

    def _commit(self, marker: Marker) -> None:
        _marker.write(self.path, marker)
        self.marker = marker

    def _grown(self, marker: Marker, name: str, dataset: xr.Dataset, dim: str) -> Marker:
        """Append to a group, which is made where it is not known yet."""
        if name in marker.groups:
            first = marker.rows(name)
            for variable, values in packed(dataset)[0].items():
                if dim in values.dims:
                    _put(self.path, f"{name}/{variable}", values, values.dims.index(dim), first)
            return marker
        return marker.with_group(name, self._written(name, dataset, dim))

    def _written(self, name: str, dataset: xr.Dataset, dim: str) -> Group:
        """Write a group anew; return what it must hold."""
        shutil.rmtree(self.path / name, ignore_errors=True)
        variables, attrs = packed(dataset)
        group = zarr.create_group(self.path, path=name, attributes=attrs)
        step = int(dataset.attrs.get("thinned", 1))
        rows = 1 if dim == "checkpoint" else -(-self.every // step)
        for variable, values in variables.items():
            _create(group, variable, values, _chunks(values, dim, rows))
        return replace(_marker.description(self.path, name, variables, dim), step=step)

    @contextmanager
    def _safely(self) -> Iterator[None]:
        """Turn a failure to write into advice; what was recorded before stays readable."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise OSError(
                f"store {str(self.path)!r}: {'the disk is full' if full else error}; the "
                f"{self.marker.draws} draws a chain recorded before are safe: make room and go on "
                "with resume=True"
            ) from error


def _create(group: zarr.Group, name: str, values: xr.Variable, chunks: tuple[int, ...]) -> None:
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=chunks, attributes=dict(values.attrs),
        dimension_names=[str(dim) for dim in values.dims], config={"write_empty_chunks": True},
        compressors=(ZstdCodec(level=0), Crc32cCodec()),
    )  # fmt: skip
    if values.size:
        array[...] = values.values


def _put(path: Path, node: str, values: xr.Variable, axis: int, first: int) -> None:
    """Write values of an array from an entry on; whatever lay there and beyond it goes."""
    with zarr.config.set({"array.write_empty_chunks": True}):  # one that is missing is damage
        array = zarr.open_array(path, path=node, mode="r+")
    stop = first + values.shape[axis]
    array.resize(tuple(stop if i == axis else n for i, n in enumerate(array.shape)))
    array[(slice(None),) * axis + (slice(first, stop),)] = values.values


def _chunks(variable: xr.Variable, dim: str, rows: int) -> tuple[int, ...]:
    """Return chunks of so many rows, cut further along the axis in front if large."""
    sizes = {str(name): max(1, size) for name, size in variable.sizes.items()}
    if dim in sizes:
        sizes[dim] = rows
        nbytes = variable.dtype.itemsize * np.prod(list(sizes.values()))
        if nbytes > CHUNK:
            first = next(iter(sizes))
            sizes[first] = max(1, int(sizes[first] * CHUNK / nbytes))
    return tuple(sizes.values())


# ---- before and after a run ----------------------------------------------------------------------


def recorded(path: Path) -> int:
    """Return how many draws of each chain a store holds; 0 where there is no store."""
    marker = _marker.read(path)
    return marker.draws if marker else 0


def finished(path: Path) -> bool:
    """Return whether a store holds a finished run."""
    marker = _marker.read(path)
    return bool(marker and marker.finished)


def opened_to_write(path: Path, resume: bool, overwrite: bool) -> Marker | None:
    """Return the marker of the run to go on with; None where a new run may be written.

    Raises
    ------
    ValueError
        When something would be lost, or the store is not whole.
    """
    marker = _marker.read(path)
    if marker is None:
        _require_nothing(path)
        return None
    if resume and marker.draws:
        _reading.require_whole(path, marker)
        return marker
    if marker.finished and not overwrite:
        raise ValueError(
            f"store {str(path)!r} holds a finished run, {marker.draws} draws of each chain; give "
            "overwrite=True to replace it, or name another store"
        )
    if marker.draws and not marker.finished:
        raise ValueError(
            f"store {str(path)!r} holds an unfinished run, {marker.draws} draws of each chain; go "
            "on with resume=True, or remove it or name another store"
        )
    return None


def _require_nothing(path: Path) -> None:
    """Raise unless there is nothing at a path, or an empty folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        zarr_files = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
        is_zarr = path.is_dir() and any((path / name).exists() for name in zarr_files)
        what = "another zarr store" if is_zarr else "a folder" if path.is_dir() else "a file"
        raise ValueError(
            f"store {str(path)!r} is {what} that bj.sample did not write, and is left alone; name "
            "another folder"
        )


def require_storable(path: Path, what: str, dataset: xr.Dataset) -> None:
    """Raise where a store cannot hold values, and tell of attributes that it keeps as text."""
    try:
        packed(dataset)
    except ValueError as error:
        raise ValueError(f"store {str(path)!r}: {what}: {error}") from None
    for sentence in not_storable(dataset):
        warn(f"store {str(path)!r}: {what}: {sentence}, which it keeps as text")


def read(path: Path) -> xr.DataTree:
    """Return the tree of a store, finished or not.

    Raises
    ------
    FileNotFoundError
        When there is no run in it, or none with draws.
    ValueError
        When it is damaged.
    """
    marker = _marker.read(path)
    if marker is None or not marker.draws:
        raise FileNotFoundError(
            f"store {str(path)!r}: there is no run in it{'' if marker is None else ' yet'}; give "
            "the store= of bj.sample"
        )
    tree = _reading.tree(path, marker)
    _reading.warn_of_what_continues(path, marker)
    return tree


def label(path: Path, **attrs: Any) -> None:
    """Keep attributes of the tree of a store, such as what made it."""
    with writing(path):
        marker = _marker.read(path)
        if marker is None:
            raise FileNotFoundError(f"store {str(path)!r}: there is no run in it")
        _marker.write(path, replace(marker, labels=marker.labels | attrs))


def sampler_of(path: Path, marker: Marker) -> tuple[xr.Dataset, xr.Dataset]:
    """Return what a run moves with, and where its chains were at the last checkpoint."""
    sampler, record = (_reading.dataset(path, name, marker) for name in (SAMPLER, RECORD))
    return sampler.load(), record.isel(checkpoint=-1).load()


def chains_of(sampler: xr.Dataset, record: xr.Dataset) -> list[Chain]:
    """Return the chains of a store, to be continued."""
    return [
        Chain(point, float(step), scale)
        for point, step, scale in zip(
            record["point"].values, sampler["step"].values, sampler["scale"].values, strict=True
        )
    ]
