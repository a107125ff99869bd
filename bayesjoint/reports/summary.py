"""The table of estimates: one row per parameter."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint import _arguments
from bayesjoint.reports import _read
from bayesjoint.reports._rows import convergence, flat_draws, rows

INTERVAL = 0.9  # probability between the two ends of the equal-tailed interval


def summary(dt: xr.DataTree, *, largest: int | None = None) -> xr.Dataset:
    """Estimate and width of every parameter, with the health of its chains.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or from ``bj.linearize`` for the preview without sampling.
    largest : int, optional
        Elements of a latent that are still listed one by one; 50 by default.

    Returns
    -------
    xarray.Dataset
        Rows (dim ``parameter``) are scalars by name and latents of up to `largest` elements one by
        one; larger fields are left out, a map shows them better. ``mean``, ``sd``,
        ``eti_lower``, ``eti_upper`` (equal-tailed, attrs ``probability``) in the units that
        ``units`` (parameter) states; ``ess_bulk``, ``r_hat`` where sampled. Without draws: those
        of the Gaussian at the point, in the white variables of unknowns that are no Gaussians, so
        that means and intervals stay inside their priors; of the elements of a field given its own
        mean, sd and length scale at the point, where these are unknown. ``attrs["local"]`` is 1
        where they hold near the point only.

    Raises
    ------
    ValueError
        When the tree has no group ``linearization``.

    Notes
    -----
    Rank-normalised split ``r_hat`` and bulk effective sample size: Vehtari et al. (2021), by
    ``arviz_stats``.

    Examples
    --------
    >>> from bayesjoint.reports import summary
    >>> from bayesjoint.reports.example import example_tree
    >>> table = summary(example_tree())
    >>> bool((table["eti_lower"] < table["mean"]).all()), str(table["units"].values[-1])
    (True, '1')
    """
    _arguments.check_given("summary", largest=largest)
    ds = _read.linearization(dt)
    table = [row for row in rows(ds, largest) if row.element]
    cells = np.array([row.cells[0] for row in table], dtype=int)
    labels = [row.label for row in table]
    sampled = _read.has_groups(dt, "posterior")
    if sampled and table:
        draws = flat_draws(_read.group(dt, "posterior"), ds)
        report = _of_draws(draws.isel(cell=cells), labels)
        report = report.merge(convergence(draws, table))
    else:
        report = _of_linearization(ds, cells, labels)
    units = np.array([_read.units(ds, row.latent) for row in table], dtype=str)
    report["units"] = ("parameter", units)
    source = "draws" if sampled else "linearization"
    return report.assign_attrs(report="summary", probability=INTERVAL, source=source, **_marks(ds))


def _marks(ds: xr.Dataset) -> dict[str, object]:
    return {key: _read.settings(ds)[key] for key in ("at", "errors", "local", "tempered")}


def _of_draws(draws: xr.DataArray, labels: list[str]) -> xr.Dataset:
    flat = draws.values.reshape(-1, len(labels))
    lower, upper = np.quantile(flat, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], axis=0)
    values = {
        "mean": flat.mean(0),
        "sd": flat.std(0, ddof=1),
        "eti_lower": lower,
        "eti_upper": upper,
    }
    return _columns(values, labels)


def _of_linearization(ds: xr.Dataset, cells: np.ndarray, labels: list[str]) -> xr.Dataset:
    found = _read.marginals(ds).isel(cell=cells)
    names = {"mean": "mean", "sd": "sd", "eti_lower": "lower", "eti_upper": "upper"}
    return _columns({name: found[source].values for name, source in names.items()}, labels)


def _columns(values: dict[str, np.ndarray], labels: list[str]) -> xr.Dataset:
    columns = {name: ("parameter", column) for name, column in values.items()}
    return xr.Dataset(columns, {"parameter": labels})
