"""What it costs to take correlated errors for independent, to leave them out, or the reverse."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from bayesjoint._kernels.cross_correlation import BlockErrors
from bayesjoint._local_problem import LocalProblem
from bayesjoint._replicates import Draws, exact, refitted
from bayesjoint._swept_errors import Swept, block_errors, swept_discrepancy
from bayesjoint.problem import JointProblem

OWNER = "discrepancy_cost"
LONG_NAMES = {
    "bias": "mean error of the estimate",
    "bias_mcse": "standard error of the bias",
    "rmse": "root mean square error of the estimate",
    "width": "width of the interval",
    "coverage": "share of intervals that hold the truth",
    "coverage_lower": "lower end of the coverage, 95 %",
    "coverage_upper": "upper end of the coverage, 95 %",
    "coverage_expected": "coverage expected without sampling error",
}
CASES = ("joint", "independent", "none", "reversed")


def discrepancy_cost(
    problem: JointProblem,
    correlation: Iterable[float],
    *,
    pair: Sequence[str] | None = None,
    discrepancy: str | None = None,
    at: Mapping[str, Any] | None = None,
    replicates: int = 200,
    probability: float = 0.9,
    random_seed: int | None = None,
) -> xr.Dataset:
    """Return error, width and coverage of estimates whose errors are taken for what they are not.

    Parameters
    ----------
    problem : JointProblem
        With a discrepancy of several modalities and Gaussian noise; up to 2,000 unknowns.
    correlation : iterable of float
        Between the modalities of the discrepancy.
    pair : two names of modalities, optional
        Whose correlation varies, the others stay.  Default: all pairs have the same.
    discrepancy : str, optional
        Its name; not needed where there is one.
    at : mapping, optional
        Values of all latents and hyperparameters by name: settings of the errors, and of the prior
        where it has unknown ones, are held there.  Default: the maximum a posteriori.
    replicates : int
        Truths drawn from the prior, each with data of its own.
    probability : float
        Of the equal-tailed intervals.
    random_seed : int, optional
        Makes the result repeatable.

    Returns
    -------
    Dataset
        Along ``correlation``, ``parameter`` (as in `discrepancy_sweep`) and ``case``:

        - "joint": the errors are correlated, and the analysis knows it;
        - "independent": they are, the analysis takes them for independent of the same sd;
        - "none": they are, the analysis knows no discrepancy;
        - "reversed": they are independent, the analysis takes them for correlated.

        ``bias`` with its standard error ``bias_mcse``, ``rmse`` and ``width`` in units of the
        parameter; ``coverage`` with the ends of its 95 % interval by Wilson's score,
        ``coverage_lower`` and ``coverage_upper``, and ``coverage_expected``, exact where the
        problem is linear, else NaN.  Of a field all are over its cells, and the interval is that of
        as many trials as there are replicates.  NaN where the correlation is not valid.  Attribute
        ``method``: "exact", or "refit" of a problem that is not linear.

    Raises
    ------
    ValueError
        When the discrepancy states no correlation, noise is not Gaussian, a modality is tempered,
        couplings are potentials, a latent of a problem that is not linear has no white form, or
        errors are singular to working precision.

    Notes
    -----
    In a linear problem with prior ``N(0, S)`` the estimate errs by ``(P H - I) z + P J^T C^-1 e``
    with ``H = J^T C^-1 J`` and ``P = (S^-1 + H)^-1`` of the analysis and errors e of the truth, so
    that its covariance, and the coverage, are known without replicates.  Otherwise each replicate
    is fitted by Gauss-Newton steps from its truth, and the interval is that of the Gaussian there
    (Laplace's approximation): other maxima are not seen.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=10))
    >>> sensors = [
    ...     bj.Modality(name, xr.DataArray([0.0], dims=f"time_{name}"),
    ...         bj.linear_map(np.ones((1, 1)), "level"), bj.GaussianNoise(sd=0.1))
    ...     for name in ("first", "second")
    ... ]
    >>> problem = bj.JointProblem(
    ...     latents=[level], modalities=sensors,
    ...     discrepancy=bj.JointDiscrepancy(sd={"first": 1.0, "second": 1.0}, correlation=0.9),
    ... )
    >>> cost = bj.discrepancy_cost(problem, [0.9], random_seed=1)
    >>> expected = cost["coverage_expected"].sel(correlation=0.9, parameter="level")
    >>> expected.sel(case=["joint", "independent", "none"]).values.round(2)
    array([0.9 , 0.77, 0.09])
    """
    local = LocalProblem(problem, at, OWNER)
    swept = swept_discrepancy(local, OWNER, discrepancy, pair)
    swept.require_correlation()
    values = [float(value) for value in correlation]
    _check(local, values, replicates, probability)
    with threadpool_limits(limits=1):  # many factorisations, none of them large
        errors = block_errors(local, swept, None)
        draws = Draws.of(local, errors, replicates, random_seed)
        parts = [_part(local, swept, errors, draws, value, probability) for value in values]
    cost = xr.concat(parts, dim=xr.Variable("correlation", values))
    for name, text in LONG_NAMES.items():
        cost[name].attrs["long_name"] = text
    cost["units"] = "parameter", [row.units for row in local.rows]
    return cost.assign_attrs(
        report=OWNER, discrepancy=swept.discrepancy.name, pair=list(swept.pair),
        method="exact" if local.is_linear else "refit", replicates=replicates,
        probability=probability, at=local.at,
        random_seed=-1 if random_seed is None else random_seed,
    )  # fmt: skip


def _check(local: LocalProblem, values: list, replicates: int, probability: float) -> None:
    if not values or not np.all(np.isfinite(values)):
        raise ValueError(f"{OWNER}: correlation= is empty or not finite")
    if replicates < 2 or not 0.0 < probability < 1.0:
        raise ValueError(
            f"{OWNER}: replicates={replicates} and probability={probability}; give two or more, "
            "and a number between 0 and 1"
        )
    for modality in local.problem.modalities:
        gaussian = modality.noise.gaussian or modality.noise.correlation_factor is not None
        if not gaussian or modality.power != 1.0:
            fault = "is tempered" if gaussian else "has noise that is not Gaussian"
            raise ValueError(f"{OWNER}: modality {modality.name!r} {fault}; refit with bj.sample")
    if local.functions.build.residuals:
        raise ValueError(
            f"{OWNER}: the coupling {next(iter(local.functions.build.residuals))!r} is a potential "
            "and its prior not Gaussian; draw truths with bj.simulate and refit with bj.sample"
        )
    if not local.is_linear and any(not u.white for u in local.space.unknowns if not u.of_errors):
        raise ValueError(
            f"{OWNER}: a latent has no white form; draw truths with bj.simulate and refit with "
            "bj.sample"
        )


def _part(
    local: LocalProblem,
    swept: Swept,
    errors: BlockErrors,
    draws: Draws,
    value: float,
    probability: float,
) -> xr.Dataset:
    """Return all cases at one correlation."""
    labels = [row.label for row in local.rows]
    valid = swept.interval[0] < value < swept.interval[1]
    columns = {name: np.full((len(CASES), len(labels)), np.nan) for name in LONG_NAMES}
    outcomes_of = exact if local.is_linear else refitted
    for i, covariances in enumerate(_covariances(swept, errors, value) if valid else ()):
        for j, outcome in enumerate(outcomes_of(local, errors, *covariances, draws)):
            for name, number in outcome.numbers(probability).items():
                columns[name][i, j] = number
    variables: dict[str, Any] = {name: (("case", "parameter"), c) for name, c in columns.items()}
    return xr.Dataset(
        variables | {"valid": ((), valid)}, {"case": list(CASES), "parameter": labels}
    )


def _covariances(
    swept: Swept, errors: BlockErrors, value: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return covariances of the errors and of those the analysis knows, in the order of cases."""
    ones = np.ones(len(errors.sizes))
    correlated, independent, none = (
        errors.covariance(swept.over_blocks(swept.at(rho)), factor * ones)
        for rho, factor in ((value, 1.0), (0.0, 1.0), (0.0, 0.0))
    )
    return [
        (correlated, correlated),
        (correlated, independent),
        (correlated, none),
        (independent, correlated),
    ]
