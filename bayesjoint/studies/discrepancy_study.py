"""What correlated errors do to what is known: sweeps over the settings of a discrepancy."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from bayesjoint import _arguments, arrays
from bayesjoint._kernels.singular import SingularErrors
from bayesjoint._problem.settled import named
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.studies._local_problem import LocalProblem
from bayesjoint.studies._sweep_rows import Along
from bayesjoint.studies._sweep_samples import sampled_sd
from bayesjoint.studies._sweep_settings import OWNER, Settings, sweep_settings
from bayesjoint.studies._sweep_words import classified, sentences
from bayesjoint.studies._swept_errors import Swept, swept_discrepancy, swept_errors

LONG_NAMES = {
    "information": "Fisher information, all others known",
    "information_marginal": "information of the data, others unknown",
    "posterior_sd": "posterior sd",
    "eig": "expected information gain",
    "dofs": "degrees of freedom for signal",
    "eig_total": "expected information gain, all parameters",
    "dofs_total": "degrees of freedom for signal, all parameters",
    "alignment_leading": "cosine with directions that correlation makes noisier",
    "alignment_trailing": "cosine with directions that correlation makes quieter",
}
TOTALS = ("eig_total", "dofs_total")


def discrepancy_sweep(
    problem: JointProblem,
    correlation: Iterable[float] | None = None,
    *,
    pair: Sequence[str] | None = None,
    sd_factor: Iterable[float] | Mapping[str, Iterable[float]] | None = None,
    length_scale: Iterable[float] | None = None,
    discrepancy: str | None = None,
    at: Mapping[str, Any] | None = None,
    tolerance: float = 0.01,
    nuts_at: Iterable[float] = (),
    nuts: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Linearise a problem along the correlation, sd and length scale of its correlated errors.

    Parameters
    ----------
    problem : JointProblem
        With a discrepancy of several modalities; up to 2,000 unknowns.
    correlation : iterable of float, optional
        Between the modalities of the discrepancy.
    pair : two names of modalities, optional
        Whose correlation varies, the others stay.  Default: all pairs have the same.
    sd_factor : iterable of float, or mapping of one modality to such, optional
        Factors on the sd of the discrepancy, of all of its modalities or of one.
    length_scale : iterable of float, optional
        Of the discrepancy, in the units of its coordinates.
    discrepancy : str, optional
        Its name; not needed where there is one.
    at : mapping, optional
        Values of all latents and hyperparameters by name: the point of all linearisations.
        Default: the maximum a posteriori of the problem as it is (any point, where the posterior
        is Gaussian).
    tolerance : float
        Relative change of the posterior sd up to which an effect is called neutral.
    nuts_at : iterable of float
        Correlations at which the problem is also sampled, unknown settings of the errors included.
    nuts : mapping, optional
        Arguments of `sample`.

    Returns
    -------
    Dataset
        Along the settings that are swept (several make a grid) and ``parameter``: scalars, elements
        of vectors, and each field as a whole.

        - ``information``: Fisher information with all other unknowns known, per squared unit; of a
          field the trace of ``L^T J^T (R + K)^-1 J L``, relative to the prior;
        - ``information_marginal``: what the data add to the precision, all others unknown:
          ``1 / var - 1 / var_prior``; of a field ``tr(C_prior C_post^-1) - n``;
        - ``posterior_sd``, of a field the root of the mean variance of its cells;
        - ``relative_information``, ``relative_sd``: over those at the reference;
        - ``eig`` (nats), ``dofs`` of each parameter; ``eig_total``, ``dofs_total`` of all;
        - ``alignment_leading``, ``alignment_trailing``: cosine of the sensitivity with the
          directions of the data that the correlation makes noisier, and quieter, in units in which
          errors without cross-correlation are white: of two sensors the sum and the difference, in
          units of the total sd; NaN at zero correlation, which has no directions;
        - ``effect``: "hurts", "helps" or "neutral", by ``relative_sd`` and the tolerance;
        - ``valid``, and ``reason`` where not: all numbers there are NaN.

        Without the dim ``correlation``, where there is one: ``turning_point``, the correlation of
        least information, ``turning_point_posterior``, that of largest posterior variance,
        NaN where no valid correlation is one, and the reason (``..._note``); ``own_effect``, of the
        problem's own correlation.  ``prior_sd`` and ``units`` (parameter).  With ``nuts_at``:
        ``posterior_sd_sampled`` and its Monte Carlo error ``posterior_sd_sampled_mcse``
        (nuts_correlation, parameter).  Attribute ``sentences`` says it in words.

    Raises
    ------
    ValueError
        When nothing is swept, the discrepancy states no such setting, names are unknown, a value of
        ``nuts_at`` is not valid, or there are more than 2,000 unknowns.

    Notes
    -----
    The reference is zero correlation where the correlation is swept, else the settings of the
    problem.  At one point the Jacobian stays and errors alone change, ``C(rho) = C_0 + rho C_1``,
    linear in the correlation: one decomposition serves all of its values, and the point where the
    derivative of information vanishes is found to rounding.  Information is convex in the
    correlation and posterior variance concave, so each turns at most once.  For one parameter and
    two sensors with sensitivities h and total variances a, b:
    ``I(c) = (b h_1^2 + a h_2^2 - 2 c h_1 h_2) / (a b - c^2)``, least where ``c = b h_1 / h_2`` or
    ``a h_2 / h_1``.

    Directions of the data are those of ``C_1 w = s C_0 w``, which no change of units moves, as it
    would the eigenvectors of ``C``; for two sensors of equal total variance they are these.

    Where the modalities of the discrepancy share their places and have one noise variance each, and
    no other discrepancy acts on them, that is done mode by mode of the process they share, for up
    to 10,000 places, on a lattice more; otherwise for up to 4,000 data, or modes of them.

    Unknown settings of the errors are held at the point: the Fisher information of Gaussian errors
    does not mix them with unknowns of the response.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=10))
    >>> sensors = [
    ...     bj.Modality(name, xr.DataArray([0.0], dims=f"time_{name}"),
    ...         bj.linear_map(np.array([[gain]]), "level"), bj.GaussianNoise(sd=0.1))
    ...     for name, gain in (("first", 1.0), ("second", 0.5))
    ... ]
    >>> problem = bj.JointProblem(
    ...     latents=[level], modalities=sensors,
    ...     discrepancy=bj.JointDiscrepancy(sd={"first": 1.0, "second": 1.0}, correlation=0.9),
    ... )
    >>> sweep = bj.discrepancy_sweep(problem, np.linspace(-0.99, 0.99, 41))
    >>> float(sweep["turning_point"].sel(parameter="level").round(6))
    0.505
    >>> str(sweep["own_effect"].sel(parameter="level").values)
    'helps'
    """
    require_problem(problem)
    _arguments.check(OWNER, tolerance=tolerance)
    _arguments.check_given(OWNER, pair=pair, discrepancy=discrepancy, at=at, nuts=nuts)
    named(problem, discrepancy, OWNER)  # before anything is compiled
    local = LocalProblem(problem, at, OWNER)
    swept = swept_discrepancy(local, OWNER, discrepancy, pair)
    settings = sweep_settings(swept, correlation, sd_factor, length_scale)
    nuts_at = arrays.numbers(OWNER, "nuts_at=", nuts_at, "1")
    if nuts_at:
        swept.require_valid(nuts_at, "nuts_at")
    with threadpool_limits(limits=1):  # many factorisations, none of them large
        parts = [
            _part(local, swept, settings, factor, length)
            for length, factor in product(settings.length_scale, settings.sd_factor)
        ]
        # Zero correlation is the reference of a correlation, the problem itself that of the rest.
        reference = None
        if "correlation" not in settings.dims:
            reference = _part(local, swept, settings.own(swept), 1.0, None).squeeze("correlation")
    report = _gridded(parts, settings).assign(_of_parameters(local))
    report = classified(report, reference, tolerance)
    if nuts_at:
        report = report.merge(sampled_sd(problem, swept, local.rows, nuts_at, nuts or {}))
    report = report.assign_attrs(
        report=OWNER, discrepancy=swept.discrepancy.name, modalities=swept.names,
        pair=list(swept.pair), own_correlation=swept.own,
        sd_of=settings.of_one or "all", tolerance=tolerance, at=local.at,
        local=int(not local.is_linear),
    )  # fmt: skip
    return report.assign_attrs(sentences=sentences(report))


def _part(
    local: LocalProblem, swept: Swept, settings: Settings, factor: float, length: float | None
) -> xr.Dataset:
    """Return the rows of all correlations, at one sd and length scale."""
    factors = settings.factors(local.problem.modality, factor)
    try:
        along = Along(local, swept_errors(local, swept, length), swept, factors)
    except SingularErrors as error:
        return _dataset(local, settings, [({}, str(error))] * len(settings.correlation))
    part = _dataset(local, settings, [_row(along, value) for value in settings.correlation])
    if settings.turns:
        part = part.assign(_turning_points(along))
        for where, value in (("zero", 0.0), ("own", swept.own)):
            row = _row(along, value)[0]
            for name in ("information", "posterior_sd"):
                part[f"{name}_at_{where}"] = "parameter", _numbers(local, name, row)
    return part


def _row(along: Along, value: float) -> tuple[dict, str]:
    """Return the numbers at a correlation, or none and the reason."""
    if not along.swept.fault and not along.swept.allows(value):
        low, high = along.swept.interval
        return {}, (
            "the correlation matrix is not positive semi-definite; this correlation must lie "
            f"between {low:.4g} and {high:.4g}"
        )
    try:
        return along.row(value), ""
    except SingularErrors as error:
        return {}, str(error)


def _dataset(local: LocalProblem, settings: Settings, found: list[tuple[dict, str]]) -> xr.Dataset:
    coords = {"correlation": settings.correlation, "parameter": [row.label for row in local.rows]}
    variables: dict[str, Any] = {
        "valid": ("correlation", [not reason for _, reason in found]),
        "reason": ("correlation", [reason for _, reason in found]),
    }
    for name, text in LONG_NAMES.items():
        dims = ("correlation", "parameter")[: 1 if name in TOTALS else 2]
        values = np.stack([_numbers(local, name, row) for row, _ in found])
        variables[name] = (dims, values, {"long_name": text})
    return xr.Dataset(variables, coords)


def _numbers(local: LocalProblem, name: str, row: dict) -> np.ndarray:
    """Return one quantity of a row, NaN where the errors are not valid."""
    return row.get(name, np.full(() if name in TOTALS else len(local.rows), np.nan))


def _turning_points(along: Along) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for name in ("turning_point", "turning_point_posterior"):
        points = [getattr(along, name)(row) for row in along.local.rows]
        variables[name] = ("parameter", [point for point, _ in points])
        variables[f"{name}_note"] = ("parameter", [note for _, note in points])
    return variables


def _gridded(parts: list[xr.Dataset], settings: Settings) -> xr.Dataset:
    """Return all parts along their settings; a setting that is not swept is no dim."""
    factors, lengths = settings.sd_factor, settings.length_scale
    rows = [
        xr.concat(parts[i : i + len(factors)], dim=xr.Variable("sd_factor", factors))
        for i in range(0, len(parts), len(factors))
    ]
    attrs = {"units": settings.length_units} if settings.length_units else {}
    along = xr.Variable("length_scale", [v or np.nan for v in lengths], attrs)
    grid = xr.concat(rows, dim=along)
    alone = [n for n in ("correlation", "sd_factor", "length_scale") if n not in settings.dims]
    return grid.squeeze(alone, drop=True).transpose(*settings.dims, ...)


def _of_parameters(local: LocalProblem) -> dict[str, Any]:
    prior = [
        float(np.sqrt(np.sum(row.gram * local.prior[np.ix_(row.where, row.where)])))
        for row in local.rows
    ]
    return {
        "prior_sd": ("parameter", prior, {"long_name": "prior sd"}),
        "units": ("parameter", [row.units for row in local.rows]),
        "whole": ("parameter", [row.whole for row in local.rows]),
    }
