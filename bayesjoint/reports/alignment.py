"""Flattening or alignment: why two fields have little cross-gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint._names import labelled, made
from bayesjoint.reports import _read
from bayesjoint.reports._alignment_words import alignment_words
from bayesjoint.reports._structure import (
    FLAT,
    Measured,
    Pair,
    both,
    cell_correlation,
    masked,
    measure,
    of_reference,
    pairs_of,
    prior_squares,
)

PARTS = ("alignment", "flattening", "separation")


@labelled
def alignment(
    dt: xr.DataTree,
    reference: xr.DataTree | Mapping[str, xr.DataTree] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    mask: xr.DataArray | np.ndarray | None = None,
) -> xr.Dataset:
    """Tell whether two fields have aligned structure, or are merely flat.

    A coupling by cross-gradients is content with either. Both are measured on draws, beside the
    coupled prior and, where given, beside a run without the coupling.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` (groups ``posterior`` and ``prior``), with two fields on one grid.
    reference : xarray.DataTree or mapping of str to xarray.DataTree, optional
        The run without coupling, or the separate runs that hold the two fields.
    pairs : sequence of pairs of str, optional
        Fields to compare; by default every two on one grid.
    mask : array of bool, shape of the grid, optional
        Cells that count, all by default: give that of a coupling, which the tree does not hold.
        Differences that reach other cells are left out; maps are NaN outside.

    Returns
    -------
    xarray.Dataset
        Over ``pair`` (coordinates ``first`` and ``second``), dimensionless:

        - ``similarity`` (pair, sample): structural similarity of each draw, 1 where gradients are
          parallel; ``flat_share``, share of the volume where one gradient or both are below a
          tenth of the prior's root mean square, which similarity leaves out; ``correlation`` of
          the two fields over the volume;
        - the same with ``prior_`` (prior_sample) and ``reference_`` (reference_sample);
        - on the dims of the fields, over draws: ``<first>_<second>_angle``, degrees between
          the gradients, 0 parallel or opposed; ``<first>_<second>_edges``, product of their
          sizes over that of the prior; ``<first>_<second>_correlation`` of each cell;
        - with a reference ``log_drop`` (pair), by how much the mean squared cross-gradient is
          smaller, natural logarithm, and ``log_drop_part`` (pair, part), which add up to it:
          ``alignment``, ``flattening`` (smaller gradients) and ``separation`` (edges of one where
          the other has none); and ``narrowing_first`` and ``narrowing_second`` (pair), by how much
          the posterior sd of each field is smaller, root mean square over the cells.

        Attrs: ``words`` (list of sentences), ``flat_below``. At most 1,000 draws, evenly spread.
        In one dimension gradients are always parallel: similarity, angles and ``log_drop`` are NaN.

    Raises
    ------
    ValueError
        When the tree has no draws of posterior or prior, no two fields share a grid, or the
        reference lacks them, or the mask does not fit.

    Notes
    -----
    ``s = 1 - sum V |t|^2 / sum V |grad a|^2 |grad b|^2`` with ``t = grad a x grad b``, cell
    volumes V, over cells that are not flat; differences are forward ones. Sin squared of the angle
    in a cell is ``E|t|^2 / E |grad a|^2 |grad b|^2``.

    Over all cells and the mean over draws, ``E sum V|t|^2 = S C A B``, with A and B the mean
    squared gradients, ``C = E sum V |grad a|^2 |grad b|^2 / (A B)`` how far edges share places,
    and S the mean squared sine, weighted by the gradients. The logarithms of the ratios to the
    reference add up exactly: of S alignment, of A B flattening, of C separation. The split is our
    own. Flat cells are those of the same prior in both runs.

    Examples
    --------
    >>> from bayesjoint.reports import alignment
    >>> from bayesjoint.reports.example import example_fields
    >>> report = alignment(example_fields(alike=0.9), reference=example_fields(alike=0.0))
    >>> bool(report["similarity"].mean() > report["prior_similarity"].mean())
    True
    >>> float(abs(report["log_drop_part"].sum("part") - report["log_drop"]).max().round(9))
    0.0
    """
    if not isinstance(reference, xr.DataTree):
        _arguments.trees("alignment", "reference", reference)
    chosen = [masked(pair, mask) for pair in pairs_of(dt, pairs)]
    each = [_of_pair(dt, pair, reference) for pair in chosen]
    label = xr.Variable("pair", [pair.name for pair in chosen])
    along = [ds[[k for k in ds if "pair" in ds[k].dims]] for ds in each]
    report = xr.concat(along, dim="pair", join="outer").assign_coords(
        pair=label,
        first=("pair", [pair.first for pair in chosen]),
        second=("pair", [pair.second for pair in chosen]),
    )
    for ds in each:
        report = report.merge(ds.drop_vars(along[0].data_vars))
    report.attrs = {"report": "alignment", "flat_below": FLAT, **_marks(dt)}
    return report.assign_attrs(words=alignment_words(report))


def _marks(dt: xr.DataTree) -> dict[str, object]:
    if not _read.has_groups(dt, "linearization"):
        return {}
    ds = _read.linearization(dt)
    return {"coupled": _read.settings(ds)["coupled"], "tempered": _read.tempered(ds)}


def _of_pair(dt: xr.DataTree, pair: Pair, reference) -> xr.Dataset:
    posterior, prior = (both(_read.group(dt, name), pair) for name in ("posterior", "prior"))
    squares = prior_squares(prior, pair)
    found = measure(posterior, pair, squares)
    report = _per_draw(found, "") | _per_draw(measure(prior, pair, squares), "prior_")
    if reference is not None:
        elsewhere = of_reference(reference, pair)
        other = measure(elsewhere, pair, squares)
        report |= _per_draw(other, "reference_") | _drop(found, other, pair)
        report |= _narrowing(posterior, elsewhere, pair)
    maps = _maps(found, pair, squares)
    maps[made(f"{pair.name}_correlation")] = cell_correlation(posterior)
    if pair.inside is not None:
        maps = {name: np.where(pair.inside, values, np.nan) for name, values in maps.items()}
    coords = {dim: pair.grid[dim] for dim in pair.grid.dims}
    fields = {
        name: xr.DataArray(values, coords, pair.grid.dims, attrs=_units(name))
        for name, values in maps.items()
    }
    return xr.Dataset(report | fields)


def _units(name: str) -> dict[str, str]:
    return {"units": "degree" if name.endswith("_angle") else "1"}


def _per_draw(found: Measured, prefix: str) -> dict[str, xr.DataArray]:
    return {
        f"{prefix}{name}": xr.DataArray(values[None], dims=("pair", f"{prefix}sample"))
        for name, values in (
            ("similarity", found.similarity),
            ("flat_share", found.flat_share),
            ("correlation", found.correlation),
        )
    }


def _maps(found: Measured, pair: Pair, prior: tuple[float, float]) -> dict[str, np.ndarray]:
    steep = found.product > 0
    sine = np.divide(
        found.cross, found.product, out=np.full(found.cross.shape, np.nan), where=steep
    )
    if not pair.has_structure:
        sine = np.full(sine.shape, np.nan)
    size = prior[0] * prior[1]
    return {
        made(f"{pair.name}_angle"): np.degrees(np.arcsin(np.sqrt(np.clip(sine, 0.0, 1.0)))),
        made(f"{pair.name}_edges"): np.sqrt(found.product / (size or 1.0)),
    }


def _drop(found: Measured, other: Measured, pair: Pair) -> dict[str, xr.DataArray]:
    """Return by how much the squared cross-gradient is smaller than elsewhere, and why."""
    here, there = (_logs(measured, pair) for measured in (found, other))
    fallen = there - here if pair.has_structure else np.full(3, np.nan)
    labels = {"part": list(PARTS)}
    return {
        "log_drop": xr.DataArray([fallen.sum()], dims="pair"),
        "log_drop_part": xr.DataArray(fallen[None], labels, ("pair", "part")),
    }


def _narrowing(draws: tuple, elsewhere: tuple, pair: Pair) -> dict[str, xr.DataArray]:
    """Return by how much each field is narrower than elsewhere."""
    cells = slice(None) if pair.inside is None else pair.inside
    sds = [[np.sqrt(f.var(axis=0)[cells].mean()) for f in fields] for fields in (draws, elsewhere)]
    return {
        f"narrowing_{place}": xr.DataArray([1.0 - here / there], dims="pair")
        for place, here, there in zip(("first", "second"), *sds, strict=True)
    }


def _logs(found: Measured, pair: Pair) -> np.ndarray:
    """Logarithms of the mean squared sine, of both gradients, and of how edges share places."""
    share = pair.volumes / pair.volumes.sum()
    cross, product, first, second = (
        float((share * part).sum()) for part in (found.cross, found.product, *found.squares)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        cross, product, apart = np.log([cross, product, first * second])
        return np.array([cross - product, apart, product - apart])
