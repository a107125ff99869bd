"""How sharply, and how much, the data see: the resolution matrix, its diagonal and its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._names import labelled, made, plain, user, with_marks
from bayesjoint.reports import _read


@labelled
def resolution(dt: xr.DataTree) -> xr.Dataset:
    """Resolution of every latent, and how many degrees of freedom the data determine.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).

    Returns
    -------
    xarray.Dataset
        - ``<latent>`` (dims of the latent): diagonal of the resolution matrix, dimensionless;
          near 1 where the data determine the cell by itself, near 0 where the prior decides.
          Hyperparameters have one too;
        - ``dofs``: degrees of freedom for signal;
        - ``dofs_latent`` (latent): the part of each latent and hyperparameter; adds up to ``dofs``;
        - ``partial_dofs`` (modality): the part of each modality; adds up to ``dofs``, and is one
          of many possible splits when errors are correlated (see ``attrs["split"]``);
        - ``eigenvalues`` (mode): the likelihood-informed spectrum, descending.

        Everything has the further dim ``point`` when the tree was linearized at draws. Attrs
        repeat the settings of the linearization: ``at``, ``errors``, ``coupled``, ``local`` (1:
        a problem that is not linear and Gaussian, seen near one point), ``truncation_bound``,
        ``tempered``.

    Raises
    ------
    ValueError
        When the tree has no group ``linearization``.

    Notes
    -----
    With ``H v = lam (I + Gamma) v`` and ``V^T (I + Gamma) V = I``:
    ``R_m = L V diag(lam / (1 + lam)) V^T (I + Gamma) L^-1``, ``d_s = sum lam / (1 + lam)`` and, of
    modality k, ``sum_j v_j^T H_k v_j / (1 + lam_j)`` (Rodgers 2000; Spantini et al. 2015,
    doi 10.1137/140977308).

    Examples
    --------
    >>> from bayesjoint.reports import resolution
    >>> from bayesjoint.reports.example import example_tree
    >>> report = resolution(example_tree())
    >>> report["density"].dims
    ('depth', 'x')
    >>> bool(abs(report["partial_dofs"].sum() - report["dofs"]) < 1e-9)
    True
    """
    ds = _read.linearization(dt)
    share = _read.shrinkage(ds)
    diagonal = (ds["physical_vectors"] * share * ds["physical_duals"]).sum("mode")
    report = {user(name): _read.on_grid(diagonal, ds, name) for name in _read.unknowns(ds)}
    for name, values in report.items():
        values.attrs = {"long_name": f"resolution of {plain(name)}", "units": "1"}
    report["dofs"] = share.sum("mode").assign_attrs(long_name="degrees of freedom for signal")
    report["dofs_latent"] = _dofs_of_latents(ds, share)
    report["partial_dofs"] = _partial_dofs(ds)
    report["eigenvalues"] = _read.eigenvalues(ds)
    attrs = {"report": "resolution", **_read.settings(ds), "split": _read.split_note(ds)}
    return xr.Dataset(report, attrs=attrs)


def _partial_dofs(ds: xr.Dataset) -> xr.DataArray:
    partial = (ds["modality_information"] / (1.0 + _read.eigenvalues(ds))).sum("mode")
    return partial.assign_attrs(long_name="partial degrees of freedom", note=_read.split_note(ds))


def _dofs_of_latents(ds: xr.Dataset, share: xr.DataArray) -> xr.DataArray:
    diagonal = (ds["eigenvectors"] * share * ds["dual_vectors"]).sum("mode")
    names = _read.unknowns(ds)
    parts = [
        diagonal.isel(unknown=_read.unknowns_of(ds, name))
        .sum("unknown")
        .drop_vars("latent", errors="ignore")
        for name in names
    ]
    joined = xr.concat(parts, dim=xr.Variable("latent", names), coords="minimal", compat="override")
    return joined.assign_attrs(long_name="degrees of freedom of each latent")


@labelled
def resolution_matrix(dt: xr.DataTree, *, into: str, source: str) -> xr.DataArray:
    """One block of the resolution matrix: how a change of one latent shows up in another.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).
    into : str
        Latent whose estimate responds: rows, the averaging kernels.
    source : str
        Latent that truly changes: columns, the point-spread functions.

    Returns
    -------
    xarray.DataArray
        Dims of ``into``, then dims of ``source`` with the suffix ``_source`` (coordinates
        likewise). Units: those of ``into`` per those of ``source``; "1" within one latent. So
        that ``estimate = prior mean + R (truth - prior mean)``.

    Raises
    ------
    ValueError
        When a latent does not exist (the message lists those that do), or the tree has no group
        ``linearization``.

    Notes
    -----
    ``R_m = L (I + Gamma + H)^-1 H L^-1`` (Backus & Gilbert 1968; Tarantola 2005).

    Examples
    --------
    >>> from bayesjoint.reports import resolution_matrix
    >>> from bayesjoint.reports.example import example_tree
    >>> block = resolution_matrix(example_tree(), into="density", source="gain")
    >>> block.dims, block.attrs["units"]
    (('depth', 'x'), 'kg/m3')
    """
    ds = _read.linearization(dt)
    _read.require_known(ds, [into, source])
    rows = ds["physical_vectors"].isel(cell=_read.cells_of(ds, into)) * _read.shrinkage(ds)
    columns = ds["physical_duals"].isel(cell=_read.cells_of(ds, source))
    columns = columns.rename(cell="cell_source").drop_vars("latent_of_cell")
    block = xr.dot(rows.drop_vars("latent_of_cell"), columns, dim="mode")
    block = _onto_both_grids(block, ds, into, source)
    block.attrs = {
        "long_name": f"response of {into} to {source}",
        "units": _ratio_of_units(ds, into, source),
        "into": into,
        "source": source,
        **_read.settings(ds),
    }
    return block.rename("resolution_matrix")


def _onto_both_grids(block: xr.DataArray, ds: xr.Dataset, into: str, source: str) -> xr.DataArray:
    leading = [dim for dim in block.dims if dim not in ("cell", "cell_source")]
    block = block.transpose(*leading, "cell", "cell_source")
    rows_laid = _read.shaped(block, ds, into)
    return _read.shaped(rows_laid, ds, source, axis="cell_source", suffix="_source")


def _ratio_of_units(ds: xr.Dataset, into: str, source: str) -> str:
    above, below = (_read.units(ds, name) or "1" for name in (into, source))
    if below in (above, "1"):
        return "1" if above == below else above
    return f"{above} per {below}"


@labelled
def point_spread(dt: xr.DataTree, latent: str, /, **coords: Any) -> xr.Dataset:
    """Response of every latent to a unit change in one cell of one latent.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample`` or ``bj.linearize`` (group ``linearization``).
    latent : str
        Latent that truly changes.
    **coords
        One value per dim of the latent; the nearest cell is taken. None for a scalar. Labels
        that are no numbers must match exactly.

    Returns
    -------
    xarray.Dataset
        ``<latent>`` (its own dims) for every latent and hyperparameter, in its units per unit of
        the source. Attrs: ``source``, ``cell`` (the cell really taken, in words) and
        ``chosen_<dim>``.

    Raises
    ------
    ValueError
        When the latent does not exist, a coordinate is missing or is no dim of the latent, or a
        label does not exist.

    Notes
    -----
    A column of ``R_m`` (see ``resolution_matrix``).

    Examples
    --------
    >>> from bayesjoint.reports import point_spread
    >>> from bayesjoint.reports.example import example_tree
    >>> spread = point_spread(example_tree(), "density", depth=90.0, x=210.0)
    >>> spread.attrs["cell"]
    'density at depth = 100, x = 200'
    """
    ds = _read.linearization(dt)
    _read.require_known(ds, [latent])
    position = _nearest_cell(_read.template(ds, latent), latent, coords)
    responses = {
        user(name): with_marks(resolution_matrix)(dt, into=name, source=latent).isel(
            {made(f"{dim}_source"): index for dim, index in position.items()}, drop=True
        )
        for name in _read.unknowns(ds)
    }
    report = xr.Dataset({name: values.rename(name) for name, values in responses.items()})
    report.attrs = {"report": "point_spread", "source": latent, **_read.settings(ds)}
    report.attrs |= _chosen(_read.template(ds, latent), latent, position)
    return report


def _nearest_cell(grid: xr.DataArray, latent: str, coords: dict[str, Any]) -> dict[str, int]:
    dims = [plain(dim) for dim in grid.dims]
    if set(coords) != set(dims):
        needed = ", ".join(dims) or "none, it is a scalar"
        given = ", ".join(coords) or "none"
        raise ValueError(f"a cell of '{latent}' has the coordinates: {needed}; given: {given}")
    return {k: _nearest_index(grid[user(k)], k, value) for k, value in coords.items()}


def _nearest_index(places: xr.DataArray, dim: str, wanted: Any) -> int:
    values = places.values
    if values.dtype.kind in "fiumM":
        subject = f"point_spread: {dim!r}"
        frame = arrays.frame_of(subject, places)
        at = arrays.coordinate(subject, wanted, frame)
        if at.ndim or not np.isfinite(at):
            raise ValueError(f"{subject} is {wanted!r}; give one number or time, where a cell is")
        return _cell_at(arrays.coordinate(subject, places, frame), places, dim, float(at))
    wanted = getattr(wanted, "values", wanted)
    found = np.flatnonzero(values == wanted)
    if found.size == 0:
        raise ValueError(f"'{dim}' has no label {wanted!r}; it has {', '.join(map(str, values))}")
    return int(found[0])


def _cell_at(values: np.ndarray, places: xr.DataArray, dim: str, at: float) -> int:
    """Return the cell that is nearest; a place a cell or more beyond the grid raises."""
    nearest = int(np.argmin(np.abs(values - at)))
    outside = not values.min() <= at <= values.max()
    width = np.abs(np.diff(values[:2] if nearest == 0 else values[-2:])).max(initial=0.0)
    if outside and len(values) > 1 and abs(at - values[nearest]) > width:
        first, last = (arrays.plain(places.values[i]) for i in (values.argmin(), values.argmax()))
        shown = f" = {at:g}" if places.dtype.kind in "fiu" else ""
        raise ValueError(
            f"point_spread: {dim}{shown} lies outside the grid, which reaches from {first} to "
            f"{last}"
        )
    return nearest


def _chosen(grid: xr.DataArray, latent: str, position: dict[str, int]) -> dict[str, Any]:
    values = {dim: grid[user(dim)].values[position[dim]] for dim in map(plain, grid.dims)}
    words = ", ".join(f"{dim} = {arrays.plain(value)}" for dim, value in values.items())
    chosen = {
        f"chosen_{dim}": arrays.plain(value)
        if isinstance(value, np.datetime64 | np.timedelta64)
        else getattr(value, "item", lambda v=value: v)()
        for dim, value in values.items()
    }
    return {"cell": f"{latent} at {words}" if words else latent} | chosen
