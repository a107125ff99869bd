"""What it costs to take correlated errors for independent, to leave them out, or the reverse."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from bayesjoint import _arguments, arrays
from bayesjoint._kernels.cross_correlation import BlockErrors
from bayesjoint._problem.settled import named
from bayesjoint.problem import JointProblem, require_problem
from bayesjoint.studies._local_problem import LocalProblem
from bayesjoint.studies._replicates import Draws, Outcome, exact, refitted
from bayesjoint.studies._replicates_sampled import Sampled
from bayesjoint.studies._swept_errors import Swept, block_errors, swept_discrepancy

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
    nuts: Mapping[str, Any] | None = None,
    executor: Executor | None = None,
) -> xr.Dataset:
    """Return error, width and coverage of estimates whose errors are taken for what they are not.

    Parameters
    ----------
    problem : JointProblem
        With a discrepancy of several modalities, and Gaussian noise unless it is sampled; up to
        2,000 unknowns.
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
    nuts : mapping, optional
        Arguments of `sample`, by which every replicate is then analysed, four runs of it for each
        correlation.  Noise, couplings and priors may be any, and nothing is held: unknown settings
        of the errors are drawn with the truth.
    executor : Executor, optional
        Of `concurrent.futures` or alike, which runs sampled replicates; here, one after another, by
        default.

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
        ``method``: "exact", "refit" of a problem that is not linear, or "sampled".

    Raises
    ------
    ValueError
        When the discrepancy states no correlation, a modality is tempered, or an executor is given
        without nuts; unless it is sampled, when noise is not Gaussian, couplings are potentials, a
        latent of a problem that is not linear has no white form, or errors are singular to working
        precision.

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
    require_problem(problem)
    _arguments.check(OWNER, replicates=replicates, probability=probability)
    _arguments.check_given(
        OWNER, pair=pair, discrepancy=discrepancy, at=at, nuts=nuts, executor=executor,
        random_seed=random_seed,
    )  # fmt: skip
    named(problem, discrepancy, OWNER)  # before anything is compiled
    local = LocalProblem(problem, at, OWNER)
    swept = swept_discrepancy(local, OWNER, discrepancy, pair)
    swept.require_correlation()
    values = arrays.numbers(OWNER, "correlation=", correlation, "1")
    _check(local, values, replicates, probability)
    with threadpool_limits(limits=1):  # many factorisations, none of them large
        if nuts is None:
            _check_closed(local, executor)
            errors = block_errors(local, swept, None)
            draws = Draws.of(local, errors, replicates, random_seed)
            outcomes = partial(_closed, local, swept, errors, draws)
        else:
            seeds = np.random.SeedSequence(random_seed).spawn(replicates)
            how = Sampled(local.rows, seeds, probability, nuts, executor)
            outcomes = partial(_by_sampling, problem, swept, how)
        parts = [_part(local, swept, value, probability, outcomes) for value in values]
    cost = xr.concat(parts, dim=xr.Variable("correlation", values))
    for name, text in LONG_NAMES.items():
        cost[name].attrs["long_name"] = text
    cost["units"] = "parameter", [row.units for row in local.rows]
    return cost.assign_attrs(
        report=OWNER, discrepancy=swept.discrepancy.name, pair=list(swept.pair),
        method=_method(local, nuts), replicates=replicates,
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
        if modality.power != 1.0:
            raise ValueError(
                f"{OWNER}: modality {modality.name!r} is tempered (power {modality.power:g}); a "
                "tempered likelihood has no distribution of data, set power=1"
            )


def _check_closed(local: LocalProblem, executor: Executor | None) -> None:
    """Raise unless replicates can be analysed without sampling."""
    cure = "give nuts= to sample each replicate"
    if executor is not None:
        raise ValueError(f"{OWNER}: executor= runs replicates that are sampled; {cure}")
    for modality in local.problem.modalities:
        if not modality.noise.is_normal:
            raise ValueError(
                f"{OWNER}: modality {modality.name!r} has noise that is not Gaussian; {cure}"
            )
    if local.functions.build.residuals:
        raise ValueError(
            f"{OWNER}: the coupling {next(iter(local.functions.build.residuals))!r} is a potential "
            f"and its prior not Gaussian; {cure}"
        )
    if not local.is_linear and any(not u.white for u in local.space.unknowns if not u.of_errors):
        raise ValueError(f"{OWNER}: a latent has no white form; {cure}")


def _method(local: LocalProblem, nuts: Mapping[str, Any] | None) -> str:
    if nuts is not None:
        return "sampled"
    return "exact" if local.is_linear else "refit"


def _part(
    local: LocalProblem,
    swept: Swept,
    value: float,
    probability: float,
    outcomes: Callable[[float], Iterable[Iterable[Outcome]]],
) -> xr.Dataset:
    """Return all cases at one correlation."""
    labels = [row.label for row in local.rows]
    valid = swept.allows(value)
    columns = {name: np.full((len(CASES), len(labels)), np.nan) for name in LONG_NAMES}
    for i, of_case in enumerate(outcomes(value) if valid else ()):
        for j, outcome in enumerate(of_case):
            for name, number in outcome.numbers(probability).items():
                columns[name][i, j] = number
    variables: dict[str, Any] = {name: (("case", "parameter"), c) for name, c in columns.items()}
    return xr.Dataset(
        variables | {"valid": ((), valid)}, {"case": list(CASES), "parameter": labels}
    )


def _closed(
    local: LocalProblem, swept: Swept, errors: BlockErrors, draws: Draws, value: float
) -> Iterable[Iterable[Outcome]]:
    """Return outcomes of each case, in closed form or by Gauss-Newton steps."""
    outcomes_of = exact if local.is_linear else refitted
    for covariances in _covariances(swept, errors, value):
        yield outcomes_of(local, errors, *covariances, draws)


def _by_sampling(
    problem: JointProblem, swept: Swept, how: Sampled, value: float
) -> Iterable[Iterable[Outcome]]:
    """Return outcomes of each case, every replicate sampled."""
    correlated, independent = (swept.problem(problem, rho) for rho in (value, 0.0))
    others = [d for d in problem.discrepancies if d.name != swept.discrepancy.name]
    none = problem.replace(discrepancy=others)
    cases = [(correlated, correlated), (correlated, independent), (correlated, none),
             (independent, correlated)]  # fmt: skip
    return (how.outcomes(truth, model) for truth, model in cases)


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
