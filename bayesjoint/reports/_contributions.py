"""What each modality does to the variance of each cell, from its factor of the information."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint.reports import _read


def factors(ds: xr.Dataset) -> list[np.ndarray]:
    """Return M_k (row, mode) of each modality with ``M_k^T M_k = V^T H_k V``, without empty rows.

    Raises ValueError where the linearization is of a version that did not store it.
    """
    _read.require_stored(ds, "modality_factor")
    stored = ds["modality_factor"].transpose("modality", "row", "mode").values
    return [rows[np.any(rows != 0, axis=1)] for rows in stored]


def removed(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the prior variance of each cell that some rows of information remove, (cell,).

    ``diag P M^T (I + M M^T)^-1 M P^T`` with vectors P (cell, mode) and rows M (row, mode).
    """
    if rows.shape[0] > rows.shape[1]:
        rows = np.linalg.qr(rows, mode="r")
    root = np.linalg.cholesky(np.eye(rows.shape[0]) + rows @ rows.T)
    return (np.linalg.solve(root, rows @ vectors.T) ** 2).sum(axis=0)


def shares(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Return shares of each cell's prior variance, shape (modality, cell), at one point.

    First what each modality removes by itself, then what is not removed when it is left out; None
    where the errors of more than two modalities are correlated and what the others say together is
    not stored: it does not follow from what each says.
    """
    each, vectors = factors(ds), ds["physical_vectors"].transpose("cell", "mode").values
    prior = ds["prior_sd"].values ** 2
    alone = np.stack([removed(vectors, rows) for rows in each]) / prior
    if len(each) > 2 and ds.attrs.get("errors") == "correlated" and "rest_factor" not in ds:
        return alone, None
    everything = (vectors**2) @ _read.shrinkage(ds).values / prior
    if "rest_factor" in ds:
        rest = list(ds["rest_factor"].transpose("modality", "rest_row", "mode").values)
    else:
        rest = [np.concatenate([*each[:k], *each[k + 1 :], each[k][:0]]) for k in range(len(each))]
    without = np.stack([removed(vectors, rows) for rows in rest]) / prior
    return alone, np.maximum(everything - without, 0.0)
