"""The combinations of parameters that the data leave widest, in numbers and in words."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent
from bayesjoint.reports._rows import Row

LISTED = 5  # directions reported
TAKES_PART = 0.1  # squared component from which a parameter belongs to a direction
PATTERN = 0.5  # of the direction that is left to many small components from which it is a pattern
TRADES_OFF = 0.3  # correlation from which parameters are said to trade off


def weak_directions(
    ds: xr.Dataset,
    table: list[Row],
    draws: xr.DataArray | None,
    prior: xr.DataArray | None = None,
) -> xr.Dataset:
    """Weak directions, their remaining variance, their words, and the posterior correlation.

    From draws (chain, draw, cell) of posterior and prior where there are any, otherwise from the
    linearization (its mean over points). Rows that take no part (summaries of fields) hold NaN.
    """
    part = [
        i for i, row in enumerate(table) if row.element and (draws is not None or _known(ds, row))
    ]
    cells = np.array([table[i].cells[0] for i in part], dtype=int)
    before = _prior(ds, table, part, prior)
    covariance = _linear_posterior(ds, cells) if draws is None else _sampled(draws, cells)
    scale = np.outer(*2 * [np.sqrt(before.diagonal())])
    vectors = _signed(np.linalg.eigh(covariance / scale)[1][:, ::-1][:, :LISTED])
    # Along a pattern of elements that the prior correlates, its variance is not that of one.
    variances = _along(vectors, covariance / scale) / _along(vectors, before / scale)
    correlation = _correlation(covariance)
    names = [table[i].label for i in part]
    text = [_words(v, s, names, correlation) for v, s in zip(vectors.T, variances, strict=True)]
    return _labelled(table, part, vectors, variances, correlation, text)


def _known(ds: xr.Dataset, row: Row) -> bool:
    """Whether the linearised covariance of a row is known: always when no mode is left out."""
    return row.scalar or ds.sizes["mode"] == ds.sizes["unknown"]


def _prior(
    ds: xr.Dataset, table: list[Row], part: list[int], prior: xr.DataArray | None
) -> np.ndarray:
    """Prior covariance of rows: of the prior itself where all of it is known, else of draws."""
    cells = np.array([table[i].cells[0] for i in part], dtype=int)
    linear = _linear_prior(ds, cells)
    if prior is None:
        stretch = _read.mapped_stretch(ds)[0][cells]
        return stretch[:, None] * linear * stretch
    true = _over_points(ds["true_prior_sd"]).values[cells]
    hyper = [str(name) for name in _read.listed(ds, "hyperparameters")]
    bound = [f"{table[i].latent}_{s}" for i in part for s in ("sd", "length_scale", "mean")]
    # Of a field with unknown settings the correlations are not those at the point.
    if not np.all(np.isfinite(true)) or set(bound) & set(hyper):
        return _sampled(prior, cells)
    if ds.sizes["mode"] < ds.sizes["unknown"] and not all(table[i].scalar for i in part):
        return _sampled(prior, cells)
    stretch = true / np.sqrt(linear.diagonal())
    return stretch[:, None] * linear * stretch


def _along(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``v^T A v`` of each column."""
    return np.einsum("ij,ik,kj->j", vectors, matrix, vectors)


def _linear_prior(ds: xr.Dataset, cells: np.ndarray) -> np.ndarray:
    """Prior covariance (cell, cell); diagonal where modes are left out."""
    if ds.sizes["mode"] < ds.sizes["unknown"]:
        return np.diag(_over_points(ds["prior_sd"].isel(cell=cells) ** 2).values)
    vectors = ds["physical_vectors"].isel(cell=cells).drop_vars("latent_of_cell")
    matrix = _over_points(xr.dot(vectors, vectors.rename(cell="other"), dim="mode"))
    return matrix.transpose("cell", "other").values


def _sampled(draws: xr.DataArray, cells: np.ndarray) -> np.ndarray:
    if cells.size == 0:
        return np.zeros((0, 0))
    flat = draws.isel(cell=cells).transpose("cell", ...).values.reshape(cells.size, -1)
    return np.atleast_2d(np.cov(flat))


def _linear_posterior(ds: xr.Dataset, cells: np.ndarray) -> np.ndarray:
    """Posterior covariance of the linearization (cell, cell), without a difference from the prior.

    Where modes are left out, of scalars: these are independent a priori.
    """
    vectors = ds["physical_vectors"].isel(cell=cells).drop_vars("latent_of_cell")
    everything = ds.sizes["mode"] == ds.sizes["unknown"]
    weights = _read.left(ds) if everything else -_read.shrinkage(ds)
    product = xr.dot(vectors * weights, vectors.rename(cell="other"), dim="mode")
    covariance = _over_points(product).transpose("cell", "other").values.copy()
    np.fill_diagonal(covariance, _read.variance_of_cells(ds).values[cells])
    stretch = _read.mapped_stretch(ds)[1][cells]
    return stretch[:, None] * covariance * stretch


def _over_points(values: xr.DataArray) -> xr.DataArray:
    return values.mean("point") if "point" in values.dims else values


def _signed(vectors: np.ndarray) -> np.ndarray:
    """Give every column a positive largest component."""
    if vectors.size == 0:
        return vectors
    largest = vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])]
    return vectors * np.sign(largest)


def _correlation(covariance: np.ndarray) -> np.ndarray:
    sd = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    return np.clip(covariance / np.outer(sd, sd), -1.0, 1.0)


def _words(vector: np.ndarray, left: float, names: list[str], correlation: np.ndarray) -> str:
    order = np.argsort(-np.abs(vector))
    held = [int(i) for i in order if vector[i] ** 2 >= TAKES_PART] or [int(order[0])]
    width = f"{percent(np.sqrt(max(left, 0.0)))} of the prior width left"
    if np.sum(vector[held] ** 2) < PATTERN:
        return f"a pattern in {_fields(vector, names)}, most in {names[held[0]]}, {width}"
    if len(held) == 1:
        return f"{names[held[0]]} by itself, {width}"
    pairs = ((i, j) for i in held for j in held if i < j)
    strongest = max(pairs, key=lambda pair: abs(correlation[pair]))
    together = f"{', '.join(names[i] for i in held[:-1])} and {names[held[-1]]}"
    r = correlation[strongest]
    if abs(r) < TRADES_OFF:
        return f"{together}, hardly correlated, {width}"
    if len(held) == 2:
        return f"{together} trade off, r = {_number(r)}, {width}"
    pair = f"{names[strongest[0]]} with {names[strongest[1]]}"
    return f"{together} trade off (most: {pair}, r = {_number(r)}), {width}"


def _fields(vector: np.ndarray, names: list[str]) -> str:
    """Name the latents whose elements make up a direction."""
    latents = np.array([name.split("[")[0] for name in names])
    share = {k: np.sum(vector[latents == k] ** 2) for k in dict.fromkeys(latents.tolist())}
    return " and ".join(name for name, part in share.items() if part >= TAKES_PART)


def _number(r: float) -> str:
    return f"{r:.2f}" if abs(r) < 0.99 else f"{r:.4f}"


def _labelled(
    table: list[Row],
    part: list[int],
    vectors: np.ndarray,
    variances: np.ndarray,
    correlation: np.ndarray,
    text: list[str],
) -> xr.Dataset:
    labels = [row.label for row in table]
    directions = np.full((variances.size, len(table)), np.nan)
    directions[:, part] = vectors.T
    full = np.full((len(table), len(table)), np.nan)
    full[np.ix_(part, part)] = correlation
    return xr.Dataset(
        {
            "weak_directions": (("direction", "parameter"), directions),
            "weak_variance": ("direction", variances),
            "weak_directions_text": ("direction", np.array(text, dtype=str)),
            "correlation": (("parameter", "parameter_other"), full),
        },
        {"direction": np.arange(variances.size), "parameter": labels, "parameter_other": labels},
    )
