"""What each datum, each modality and each candidate measurement is worth for one prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint import units as _units
from bayesjoint._kernels.stacked import inverse_squares
from bayesjoint._names import labelled
from bayesjoint.reports import _read
from bayesjoint.reports._numbers import percent, short
from bayesjoint.reports._prediction import Prediction, functional, responses


@labelled
def data_worth(
    dt: xr.DataTree,
    prediction: str | xr.DataArray | Mapping[str, Any],
    *,
    candidates: Mapping[str, Any] | None = None,
    candidate_sd: float | xr.DataArray | None = None,
) -> xr.Dataset:
    """How the sd of a prediction changes as data are removed, or measurements added.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.linearize`` or ``bj.sample`` (group ``linearization``, at one point).
    prediction : str, DataArray or mapping
        A number that the latents determine: the name of a scalar latent; weights on the dims of a
        field whose name the array bears; or ``{latent: weights}``, of which it is the sum.
    candidates : mapping of latent to DataArray, optional
        Sensitivity of measurements that might be made, each with independent noise: on the dims of
        the latent and on further dims, along which there is one candidate each.
    candidate_sd : float or DataArray, optional
        Sd of their noise; needed with ``candidates``.

    Returns
    -------
    xarray.Dataset
        In the units of the prediction:

        - ``sd``, ``sd_prior``: with all data, and with none;
        - ``sd_without_datum`` (datum), ``sd_without_modality`` (modality);
        - ``sd_with_candidate`` (further dims of ``candidates``): with one more.

        Dimensionless: ``worth_of_datum``, ``worth_of_modality``, ``worth_of_candidate``: the share
        of variance that is left without it and that it removes. Data of one modality follow each
        other in C order; coordinates ``modality_of_datum`` and ``index_of_datum``.

        Attrs: ``words`` (list of sentences), ``prediction``, ``left_out`` (eigenvalues of the
        directions left out of single data, a bound on what those miss) and the settings of the
        linearization.

    Raises
    ------
    ValueError
        When a latent does not exist or weights do not fit it, the tree was linearized at draws, or
        variances need the whole prior, which is not stored above 2,000 unknowns, and there are no
        draws.

    Notes
    -----
    With ``P = C_y^-1`` of the data's marginal covariance ``C_y = J (I + Gamma)^-1 J^T + R + K`` and
    their covariance c with the prediction, ``g = P c``, the variance without the data s is larger
    by ``g_s^T (P_ss)^-1 g_s``: a datum under correlated errors is marginalised, not ignored. Exact
    where all is linear and Gaussian. A candidate h with noise s lowers it by
    ``Cov(p, h)^2 / (Var h + s^2)``. Unknown settings of the errors,
    and mean, sd and length scale of a field, are held at the point.

    Examples
    --------
    >>> from bayesjoint.reports import data_worth
    >>> from bayesjoint.reports.example import example_tree
    >>> report = data_worth(example_tree(), "gain")
    >>> bool((report["sd_without_modality"] > report["sd"]).all())
    True
    """
    ds = _checked(_read.linearization(dt))
    if candidates is None and candidate_sd is not None:
        raise ValueError("data_worth: candidate_sd is given without candidates; give both")
    target = functional(ds, prediction)
    variance, prior = target.variance(dt), target.prior_variance(dt)
    report = xr.Dataset({"sd": variance**0.5, "sd_prior": prior**0.5})
    increases = {
        "datum": _of_each_datum(ds, target),
        "modality": _of_each_modality(ds, target),
    }
    for name, increase in increases.items():
        report[f"sd_without_{name}"] = (name, np.sqrt(variance + increase))
        report[f"worth_of_{name}"] = (name, increase / (variance + increase))
    report = report.assign_coords(modality=_read.modalities(ds), **_labels(ds))
    if candidates is not None:
        left = _of_candidates(dt, ds, target, candidates, candidate_sd)
        report["sd_with_candidate"] = np.sqrt(variance * left)
        report["worth_of_candidate"] = 1.0 - left
    units = {"units": target.units}
    for key, values in report.data_vars.items():
        values.attrs = units if str(key).startswith("sd") else {"units": "1"}
    kept = ds.sizes["leading_mode"]
    report.attrs = {
        "report": "data_worth",
        "prediction": target.name,
        "left_out": float(_read.eigenvalues(ds).values[kept:].sum()),
        **_read.settings(ds),
    }
    return report.assign_attrs(words=_words(report))


def _checked(ds: xr.Dataset) -> xr.Dataset:
    if "point" in ds.dims:
        raise ValueError("the tree was linearized at draws; data_worth needs one point")
    _read.require_stored(ds, "data_rows", "precision_given_others", "modality_factor")
    return ds


def _labels(ds: xr.Dataset) -> dict[str, Any]:
    owner = ds["modality_of_datum"].values
    if "index_of_datum" in ds:  # some are missing
        return {key: ds[key].variable for key in ("modality_of_datum", "index_of_datum")}
    index = np.concatenate([np.arange(np.sum(owner == k)) for k in _read.modalities(ds)])
    return {"modality_of_datum": ("datum", owner), "index_of_datum": ("datum", index)}


def _of_each_datum(ds: xr.Dataset, target: Prediction) -> np.ndarray:
    """Return ``g_i^2 / P_ii`` of each datum."""
    rows = ds["data_rows"].values
    left = _read.left(ds).values[: rows.shape[1]]
    along = rows @ (left * target.along[: rows.shape[1]])
    precision = ds["precision_given_others"].values
    # Zero where even that is lost in rounding: nothing is known of the worth of such a datum.
    return np.where(precision > 0, along**2 / np.where(precision > 0, precision, 1.0), 0.0)


def _of_each_modality(ds: xr.Dataset, target: Prediction) -> np.ndarray:
    """Return ``f^T ((I + H_rest)^-1 - (I + H)^-1) f`` along the directions, of each modality."""
    now = float(np.sum(target.along**2 * _read.left(ds).values))
    along = target.along[None]
    without = [inverse_squares(_rest(ds, k), along)[0] for k in range(ds.sizes["modality"])]
    return np.maximum(np.array(without) - now, 0.0)


def _rest(ds: xr.Dataset, k: int) -> np.ndarray:
    """Return the factor of what all modalities but one tell, shape (row, mode)."""
    if "rest_factor" in ds:
        return ds["rest_factor"].values[k]
    factors = np.delete(ds["modality_factor"].values, k, axis=0)
    return factors.reshape(-1, ds.sizes["mode"])


def _of_candidates(
    dt: xr.DataTree,
    ds: xr.Dataset,
    target: Prediction,
    candidates: Mapping[str, Any],
    sd: float | xr.DataArray | None,
) -> xr.DataArray:
    """Return the share of the variance that each candidate leaves."""
    if sd is None:
        raise ValueError("candidates need candidate_sd=, the sd of their noise")
    if not isinstance(candidates, Mapping):
        raise ValueError(
            f"data_worth: candidates are a {type(candidates).__name__}; give their sensitivity by "
            "the name of the latent, as {name: DataArray}"
        )
    crossed, spread, apart = responses(dt, ds, target, candidates)
    axes = arrays.Axes.of(_read.as_given(crossed), "the candidates")
    units = _units_of_candidates(ds, candidates)
    own = _units.stated(sd)
    if units is None and own and own not in ("1", "dimensionless"):
        raise ValueError(
            f"data_worth: candidate_sd is in {own!r}, and the units of the candidates are not "
            'known; give them attrs["units"], those of what is measured over those of the latent, '
            "and the latent units"
        )
    noise = arrays.aligned(
        "data_worth", "candidate_sd", sd, axes, units=units, differences=True, missing=True
    )
    if not np.all(np.isfinite(noise) & (noise > 0)):
        raise ValueError("candidate_sd must be positive")
    told = xr.where(spread > 0, crossed**2 / spread.where(spread > 0, 1.0), 0.0)
    return (apart + told * noise**2 / (spread + noise**2)) / (apart + told)


def _units_of_candidates(ds: xr.Dataset, candidates: Mapping[str, Any]) -> str | None:
    """Return the units of what candidates measure; None where they are not stated."""
    parts = [
        _units.product(_units.stated(values), _read.units(ds, name) or None)
        for name, values in candidates.items()
    ]
    if not _units.all_same(parts):
        raise ValueError(
            f"data_worth: the candidates are in {' and '.join(map(repr, parts))}, which cannot be "
            "added; convert one of them"
        )
    return parts[0] if parts and all(parts) else None


def _words(report: xr.Dataset) -> list[str]:
    name = report.attrs["prediction"].replace("_", " ")
    sd, units = float(report["sd"]), report["sd"].attrs["units"]
    shown = "" if units in ("", "1") else f" {units}"
    local = ", both linearised near the best fit" if report.attrs["local"] else ""
    before = float(report["sd_prior"])
    found = [f"{name}: sd {sd:.3g}{shown}, {before:.3g} before the data{local}."]
    for k in report["modality"].values:
        times = float(report["sd_without_modality"].sel(modality=k)) / sd
        change = f"{short(times)} times as large" if times >= 1.05 else "much the same"
        found.append(f"Without {str(k).replace('_', ' ')} it would be {change}.")
    if report.sizes["datum"]:
        best = report.isel(datum=int(np.argmax(report["worth_of_datum"].values)))
        found.append(
            f"The datum worth most is number {int(best['index_of_datum'])} of "
            f"{str(best['modality_of_datum'].values).replace('_', ' ')}: it removes "
            f"{percent(float(best['worth_of_datum']))} of the variance that all others leave."
        )
    if "worth_of_candidate" in report:
        largest = float(report["worth_of_candidate"].max())
        found.append(f"The best candidate would remove {percent(largest)} of the variance.")
    return found
