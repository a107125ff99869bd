"""Which parameters the data can tell, and which combinations they cannot."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint._names import labelled, made, plain
from bayesjoint.reports import _contributions, _maxima, _read
from bayesjoint.reports._confounded import confounded, confounding_words
from bayesjoint.reports._rows import Row, convergence, flat_draws, per_row, rows
from bayesjoint.reports._weak import weak_directions

INFORMED = 1.0  # eigenvalue from which the data say at least as much as the prior
ROUND_OFF = 1e-12  # smallest eigenvalue of normalised sensitivities that is more than rounding


@labelled
def identifiability(dt: xr.DataTree) -> xr.Dataset:
    """For every parameter: how much the data narrowed it, and what it trades off with.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or from ``bj.linearize`` for the preview without sampling.

    Returns
    -------
    xarray.Dataset
        Rows (dim ``parameter``) are scalars by name, latents of up to 50 elements element by
        element (``"gain[a]"``), and one summary per larger field (means over its cells; largest
        ``r_hat``, smallest ``ess_bulk``). Hyperparameters included. All dimensionless:

        - ``contraction`` (parameter): ``1 - Var_post / Var_prior``, 1 where the data decide, 0
          where the prior does. From draws where the tree has them, otherwise linearised
          (``attrs["contraction_from"]``), of numbers under priors that are no Gaussians from the
          moments of `summary`. The prior variance is that of the prior itself where it
          is known, of numbers and of fields that no coupling changes, else that of draws of the
          coupled prior; where it is infinite, the linearised contraction stands instead;
        - ``contraction_error`` (parameter), from draws: its Monte Carlo error, one sd;
        - ``contraction_linearised`` (parameter);
        - ``contraction_by_modality`` (modality, parameter): the part of the linearised contraction
          that is lost without the modality, and ``contraction_alone``, that which it would give by
          itself. They differ where data sets repeat each other (lost is less) or need each other
          (alone is less), and neither adds up. Without the modality the sd is ``sqrt(1 + lost / (1
          - contraction))`` times as large. NaN where the linearization does not tell;
        - ``index`` (parameter): squared cosine between the parameter and the informed directions
          (eigenvalue of at least 1);
        - ``r_hat``, ``ess_bulk`` (parameter), where sampled;
        - ``collinearity``: of all scalar latents together; above about 20 they can not be told
          apart, and infinite where that holds to rounding (``attrs["separable"]`` is 0): some
          combination has no effect on the data. NaN with fewer than two; parameters without any
          sensitivity are left out and named in ``attrs["no_sensitivity"]``;
        - ``weak_directions`` (direction, parameter): the combinations that stay widest, as unit
          vectors in parameters divided by their prior sd, with ``weak_variance`` (direction), the
          share of its prior variance that is left, and ``weak_directions_text`` (direction), words
          such as "depth and volume_change trade off, r = 0.97";
        - ``correlation`` (parameter, parameter_other): of the posterior. Summaries of fields have
          NaN here;
        - ``confounding`` (discrepancy, parameter), where there are discrepancies: the share of the
          posterior variance, linearised, that would vanish if the discrepancy were known;
          ``attrs["words"]`` says it of parameters that lose half or more, and how the discrepancy
          changes with them;
        - ``<latent>_contraction`` (dims of the latent) for every latent that is summarised.

    Raises
    ------
    ValueError
        When the tree has no group ``linearization``.

    Notes
    -----
    Index: ``sum_{lam_j >= 1} (L V)_ij^2 / Var_prior,i``, with uncoupled parameters
    ``sum V_ij^2`` (Doherty & Hunt 2009, J. Hydrol. 366:119); the form for coupled ones measures
    the angle of the parameter, as a linear functional, in the metric of the coupled prior.
    Collinearity: ``1 / sqrt(lam_min(S^T S))`` of the normalised sensitivities, here to the
    parameters in units of their prior (Brun et al. 2001). With the factor M of some modalities,
    ``M^T M = V^T H V``, and P the directions in physical units, their data alone remove the
    variance ``diag P M^T (I + M M^T)^-1 M P^T``. Confounding is ``1 -
    Var(theta | y, delta) / Var(theta | y)``: by ours, a number for what Kennedy & O'Hagan (2001)
    warn of; the group ``linearization`` holds ``confounding_mode``, the change of the discrepancy
    at every datum with one posterior sd of a scalar parameter.

    Examples
    --------
    >>> from bayesjoint.reports import identifiability
    >>> from bayesjoint.reports.example import example_tree
    >>> report = identifiability(example_tree())
    >>> [str(name) for name in report["parameter"].values[-2:]]
    ['density[300, 400]', 'gain']
    >>> bool((report["contraction"] < 1).all())
    True
    """
    ds = _read.linearization(dt)
    table = rows(ds)
    sampled = _read.has_groups(dt, "posterior")
    report = _linearised(ds, table)
    cells = _contraction_of_marginals(ds)
    if sampled:
        draws = flat_draws(_read.group(dt, "posterior"), ds)
        report = report.merge(convergence(draws, table))
    compared = sampled and _read.has_groups(dt, "prior")
    prior = flat_draws(dt["prior"].to_dataset(), ds) if compared else None
    if prior is not None:
        known = _known_variance(ds)
        before = known.fillna(prior.var(("chain", "draw"), ddof=1))
        cells = 1.0 - draws.var(("chain", "draw"), ddof=1) / before
        cells = cells.where(np.isfinite(before), _linearised_contraction(ds))
        report["contraction_error"] = _contraction_error(draws, prior, cells, known, report, table)
    report["contraction"] = per_row(cells, table)
    report = report.merge(weak_directions(ds, table, draws if sampled else None, prior))
    report = report.merge(confounded(ds, table)).assign(_maps(ds, table, cells))
    separable = int(not np.isinf(report["collinearity"]).any())
    report = report.assign_attrs(_attrs(ds, table, compared, report), separable=separable)
    return report.assign_attrs(words=[*report.attrs["words"], *_of_maxima(dt)])


def _of_maxima(dt: xr.DataTree) -> list[str]:
    """Say that there are other maxima, at one of which linearised numbers hold."""
    lower = _read.listed(_read.linearization(dt), "lower_modes")
    if not lower:
        return []
    as_high = len(_maxima.maxima(dt)) - 1
    count = f"{1 + len(lower)} maxima"
    height = f", {1 + as_high} of about the same height" if as_high else ", one far higher"
    return [f"The posterior has {count}{height}: linearised numbers hold near one of them."]


def _known_variance(ds: xr.Dataset) -> xr.DataArray:
    """Return the prior variance of each cell (cell) in closed form; NaN where it is not known."""
    _read.require_stored(ds, "true_prior_sd")
    variance = ds["true_prior_sd"] ** 2
    variance = variance.isel(point=0, drop=True) if "point" in variance.dims else variance
    return variance.drop_vars("latent_of_cell", errors="ignore")


def _contraction_error(
    draws: xr.DataArray,
    prior: xr.DataArray,
    cells: xr.DataArray,
    known: xr.DataArray,
    report: xr.Dataset,
    table: list[Row],
) -> xr.DataArray:
    """Return the Monte Carlo error of the contraction of each row (parameter), its largest cell's.

    The variance of n independent draws of kurtosis k has the relative error ``sqrt((k - 1) / n)``.
    """
    count = xr.DataArray(np.ones(cells.size), dims="cell")
    for row, ess in zip(table, report["ess_bulk"].values, strict=True):
        count[row.cells] = ess if np.isfinite(ess) else draws.sizes["chain"] * draws.sizes["draw"]
    of_posterior = (_kurtosis(draws) - 1.0) / count
    of_prior = (_kurtosis(prior) - 1.0) / (prior.sizes["chain"] * prior.sizes["draw"])
    squared = of_posterior + xr.where(np.isnan(known), of_prior, 0.0)
    return per_row((1.0 - cells) * np.sqrt(squared), table, "max")


def _kurtosis(draws: xr.DataArray) -> xr.DataArray:
    centred = draws - draws.mean(("chain", "draw"))
    variance = (centred**2).mean(("chain", "draw"))
    fourth = (centred**4).mean(("chain", "draw"))
    return (fourth / (variance**2).where(variance > 0)).fillna(3.0)


def _linearised(ds: xr.Dataset, table: list[Row]) -> xr.Dataset:
    informed = _read.eigenvalues(ds) >= INFORMED
    squared = ds["physical_vectors"] ** 2 / ds["prior_sd"] ** 2
    index = (squared * informed).sum("mode")
    lost, alone = _credit(ds)
    return xr.Dataset(
        {
            "contraction_linearised": per_row(_linearised_contraction(ds), table),
            "contraction_by_modality": per_row(lost, table),
            "contraction_alone": per_row(alone, table),
            "index": per_row(index, table),
            "collinearity": _collinearity(ds, table),
        }
    )


def _credit(ds: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Return what is lost of each cell's contraction without a modality, and what it gives alone.

    Of shape (modality, cell), at each point.
    """
    if "point" in ds.dims:
        points = [_credit(ds.isel(point=i, drop=True)) for i in range(ds.sizes["point"])]
        lost, alone = (xr.concat(parts, "point") for parts in zip(*points, strict=True))
        return lost, alone
    unknown = np.full((ds.sizes["modality"], ds.sizes["cell"]), np.nan)
    shares = _contributions.shares(ds) if "modality_factor" in ds else (unknown, None)
    labels, dims = {"modality": _read.modalities(ds)}, ("modality", "cell")
    alone, lost = (unknown if part is None else part for part in shares)
    return xr.DataArray(lost, labels, dims), xr.DataArray(alone, labels, dims)


def _linearised_contraction(ds: xr.Dataset) -> xr.DataArray:
    return (ds["physical_vectors"] ** 2 * _read.shrinkage(ds)).sum("mode") / ds["prior_sd"] ** 2


def _contraction_of_marginals(ds: xr.Dataset) -> xr.DataArray:
    """Return the contraction of each cell (cell) by the moments that a summary shows.

    That of the linearization, except of numbers under a prior that is no Gaussian, whose local one
    is in units of a local prior sd.
    """
    before, after = _read.mapped_stretch(ds)
    squared = _linearised_contraction(ds)
    return 1.0 - (1.0 - squared) * (after / before) ** 2


def _scalar_information(ds: xr.Dataset, table: list[Row]) -> xr.DataArray:
    """Fisher information (unknown, other) of the scalar latents in units of their prior."""
    names = [row.label for row in table if row.scalar and row.latent in _read.latents(ds)]
    positions = [int(_read.unknowns_of(ds, name)[0]) for name in names]
    duals = ds["dual_vectors"].isel(unknown=positions).drop_vars("latent_of_unknown")
    duals = duals.assign_coords(unknown=names)
    return xr.dot(duals * _read.eigenvalues(ds), duals.rename(unknown="other"), dim="mode")


def _sensitive(fisher: xr.DataArray) -> np.ndarray:
    diagonal = fisher.values.diagonal(
        axis1=fisher.get_axis_num("unknown"), axis2=fisher.get_axis_num("other")
    )
    return (diagonal > 1e-12).all(axis=tuple(range(diagonal.ndim - 1)))


def _collinearity(ds: xr.Dataset, table: list[Row]) -> xr.DataArray:
    fisher = _scalar_information(ds, table)
    kept = np.flatnonzero(_sensitive(fisher))
    leading = [dim for dim in fisher.dims if dim not in ("unknown", "other")]
    matrix = fisher.isel(unknown=kept, other=kept).transpose(*leading, "unknown", "other").values
    if kept.size < 2:
        return xr.DataArray(np.full(matrix.shape[:-2], np.nan), dims=leading)
    scale = np.sqrt(np.diagonal(matrix, axis1=-2, axis2=-1))
    normalised = matrix / (scale[..., :, None] * scale[..., None, :])
    smallest = np.linalg.eigvalsh(normalised)[..., 0]
    known = np.where(smallest > ROUND_OFF, smallest, np.nan)
    return xr.DataArray(1.0 / np.sqrt(known), dims=leading).fillna(np.inf)


def _maps(ds: xr.Dataset, table: list[Row], cells: xr.DataArray) -> dict[str, xr.DataArray]:
    fields = [row.latent for row in table if not row.element]
    maps = {made(f"{name}_contraction"): _read.on_grid(cells, ds, name) for name in fields}
    for name, values in maps.items():
        values.attrs = {"long_name": plain(name).replace("_", " "), "units": "1"}
    return maps


def _attrs(
    ds: xr.Dataset, table: list[Row], compared: bool, report: xr.Dataset
) -> dict[str, object]:
    fisher = _scalar_information(ds, table)
    scalars = fisher["unknown"].values
    return {
        "report": "identifiability",
        "contraction_from": "draws" if compared else "linearization",
        "collinearity_of": [str(name) for name in scalars[_sensitive(fisher)]],
        "no_sensitivity": [str(name) for name in scalars[~_sensitive(fisher)]],
        **_read.settings(ds),
        "split": _read.split_note(ds),
        "words": confounding_words(ds, report),
    }
