"""Leakage under control: what the weight of a coupling does, and the weight that keeps a bound."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._graph.compile import threads_for
from bayesjoint._local.curvature import DENSE_LIMIT
from bayesjoint._names import labelled, marked
from bayesjoint.problem import JointProblem
from bayesjoint.studies._weight_map import Local, Weighted, shaped_weights
from bayesjoint.studies._weighted_runs import Runs, largest_weight

ABOVE = 1e3  # largest weight over that of the coupling


def coupling_sweep(
    problem: JointProblem,
    weights: Iterable[float],
    *,
    coupling: str | None = None,
    at: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Linearise a problem at several weights of a coupling: leakage, resolution and misfit.

    Parameters
    ----------
    problem : JointProblem
        With any number as weight of the coupling.
    weights : iterable of float
        Zero is the uncoupled problem.
    coupling : str, optional
        Name of the coupling; not needed where there is one with a weight.
    at : mapping, optional
        Values of all latents and hyperparameters by name: the same point for every weight.
        Default: the maximum a posteriori of each weight.

    Returns
    -------
    Dataset
        Along ``weight``: ``leakage`` (into, source); ``resolution`` (latent), the trace of its
        block of the resolution matrix over its size: degrees of freedom per cell; ``dofs`` of all;
        ``posterior_sd`` (latent), root mean square over cells, relative to the uncoupled prior;
        ``chi2`` and ``n_data`` (modality); ``prior_norm`` (latent), squared, in white coordinates;
        ``converged``.

    Raises
    ------
    ValueError
        When the coupling is not found, a weight is negative, or values are missing in ``at``.

    Notes
    -----
    Definitions as in `leakage` and `resolution`; ``posterior_sd`` is the square root of the mean
    over cells of ``(L (I + Gamma + H)^-1 L^T)_cc / (L L^T)_cc``.  It takes the coupling for true: a
    coupling always lowers it, whether or not it lowers the error.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(z=np.arange(3.0), x=np.arange(3.0))
    >>> fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in "ab"]
    >>> rng = np.random.default_rng(1)
    >>> data = [
    ...     bj.Modality(f"of_{name}", xr.DataArray(rng.normal(size=4), dims=f"station_{name}"),
    ...         bj.linear_map(rng.normal(size=(4, 9)), name), bj.GaussianNoise(sd=0.1))
    ...     for name in "ab"
    ... ]
    >>> coupled = bj.JointProblem(
    ...     latents=fields, modalities=data, couplings=[bj.CrossGradient("a", "b", weight=1.0)]
    ... )
    >>> sweep = bj.coupling_sweep(coupled, [0.0, 1.0, 10.0])
    >>> bool(sweep["leakage"].sel(into="a", source="b", weight=10.0) > 0)
    True
    """
    weights = arrays.numbers("coupling_sweep", "weights", weights, "1")
    if not weights or min(weights) < 0.0:
        raise ValueError(f"coupling_sweep: give weights that are not negative, {weights} given")
    runs = Runs(problem, coupling, at)
    with threads_for(runs.functions.size):
        rows = [runs.row(weight) for weight in weights]
    sweep = xr.concat(rows, dim=xr.Variable("weight", weights), combine_attrs="drop_conflicts")
    return sweep.assign_attrs(
        report="coupling_sweep", coupling=runs.coupling.name, at="map" if at is None else "values"
    )


@labelled
def design_weight(
    problem: JointProblem,
    *,
    leakage: float = 0.1,
    into: str,
    source: str,
    coupling: str | None = None,
    shaped: bool = False,
    at: Mapping[str, Any] | None = None,
    up_to: float | None = None,
) -> xr.Dataset:
    """Find the strongest coupling that lets no more than a stated leakage through.

    Parameters
    ----------
    problem : JointProblem
        With any number as weight of the coupling; up to 2,000 unknowns.
    leakage : float
        Bound, between 0 and 1, on the leakage of ``source`` into ``into``.
    into, source : str
        Latent whose estimate shows what truly belongs to another, and that other.
    coupling : str, optional
        Name of the coupling; not needed where there is one with a weight.
    shaped : bool
        Also find a weight for each cell of the grid.
    at : mapping, optional
        Values of all latents and hyperparameters by name: the point of all linearisations.
        Default: the maximum a posteriori of each weight, so that `linearize` of the problem with
        the weight found shows the same leakage.  The map is shaped at the last of these points; at
        the maximum under the map itself the leakage differs, see the notes.
    up_to : float, optional
        Largest weight, also of each cell.  Default: 1,000 times that of the coupling.

    Returns
    -------
    Dataset
        ``weight``, up to which the leakage stays within the bound; ``leakage``, that of the
        other way (``leakage_back``) and ``benefit`` along ``design`` ("scalar" and "shaped");
        ``weight_map`` on the grid where shaped; ``ladder_leakage`` (ladder), what the search saw.
        Attribute ``crossings``: how often the leakage passes the bound along the ladder.

    Raises
    ------
    ValueError
        When no weight meets the bound (with the smallest leakage seen, and its weight), the
        coupling or a latent is not found, or there are more than 2,000 unknowns.

    Notes
    -----
    The leakage need not grow with the weight: strong couplings may be met by flat fields, through
    which little leaks.  On a ladder over six decades that starts at zero, the first crossing of the
    bound is taken, so that it holds at smaller weights too; larger ones may meet it again.  At a
    fixed point the leakage is a smooth function of the weight; at the maximum of each weight it may
    jump, and the side within the bound is given.

    The map maximises ``tr(W (P(0) - P(w)))``, the sum over the cells of all latents of the
    reduction of posterior variance relative to uncoupled prior variance (``benefit``, in cells),
    ``W = L^T D^-1 L``, under the bound and ``0 <= w_c <= up_to``, with
    ``P(w) = (I + H + sum_c w_c Gamma_c)^-1`` and Gamma_c from the rows of the coupling's Jacobian
    in a cell, at one point: ``dP = -P Gamma_c P dw_c``.  The benefit is concave in the weights, the
    bound not convex: the map is a local optimum, never worse than the number.  Benefit is variance
    that a true coupling takes away; whether the properties share their structure is not asked.
    A map moves the maximum, and with it the Gamma_c: linearise the problem with the map, and where
    the leakage there exceeds the bound, shape again with a lower ``up_to`` or bound.  Only the one
    way is bounded: a map often pays with leakage the other way, ``leakage_back``.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(z=np.arange(3.0), x=np.arange(3.0))
    >>> fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in "ab"]
    >>> rng = np.random.default_rng(1)
    >>> data = [
    ...     bj.Modality(f"of_{name}", xr.DataArray(rng.normal(size=4), dims=f"station_{name}"),
    ...         bj.linear_map(rng.normal(size=(4, 9)), name), bj.GaussianNoise(sd=0.1))
    ...     for name in "ab"
    ... ]
    >>> coupled = bj.JointProblem(
    ...     latents=fields, modalities=data, couplings=[bj.CrossGradient("a", "b", weight=1.0)]
    ... )
    >>> found = bj.design_weight(coupled, leakage=0.02, into="a", source="b", shaped=True)
    >>> bool(found["leakage"].max() <= 0.02), found["weight_map"].dims
    (True, ('z', 'x'))
    """
    runs = Runs(problem, coupling, at)
    leakage = arrays.number("design_weight", "leakage", leakage, "1")
    _check(runs, leakage, into, source)
    top = (
        ABOVE * runs.coupling.weight
        if up_to is None
        else arrays.number("design_weight", "up_to", up_to)
    )
    with threads_for(runs.functions.size):
        local, weight, ladder = _scalar(runs, into, source, leakage, top)
        if shaped:
            weight, *_ = largest_weight(local.leaks(into, source), leakage, top, "", weight)
        designs = {"scalar": local.constant(weight)}
        if shaped:
            weights = shaped_weights(local, into, source, leakage, weight, top)
            designs["shaped"] = local.at(weights)
    report = _compared(designs, into, source).assign(ladder_leakage=ladder, weight=weight)
    if shaped:
        grid = problem.latent[runs.coupling.latents[0]].grid
        weight_map = xr.DataArray(weights.reshape(grid.shape), grid.centres, grid.dims)
        report["weight_map"] = marked(weight_map)
    return report.assign_attrs(
        report="design_weight", coupling=runs.coupling.name, into=into, source=source,
        bound=leakage, up_to=top, at="map" if at is None else "values",
        crossings=int(np.count_nonzero(np.diff(ladder.values <= leakage))),
    )  # fmt: skip


def _scalar(
    runs: Runs, into: str, source: str, bound: float, top: float
) -> tuple[Local, float, xr.DataArray]:
    """Return the posterior at the point of the largest weight, that weight, and the ladder."""
    local = None if runs.point is None else runs.local(runs.point)
    leaks = runs.leaks(into, source) if local is None else local.leaks(into, source)
    weight, ladder, seen = largest_weight(leaks, bound, top, f"{source} into {into}")
    local = runs.local(runs.tree(weight)[1]) if local is None else local
    return local, weight, xr.DataArray(seen, {"ladder": ladder}, "ladder")


def _check(runs: Runs, leakage: float, into: str, source: str) -> None:
    if not 0.0 < leakage < 1.0:
        raise ValueError(f"design_weight: the bound on leakage is {leakage}; between 0 and 1")
    names = list(runs.functions.problem.latent)
    for name in (into, source):
        if name not in names:
            raise ValueError(f"design_weight: there is no latent {name!r}; there are {names}")
    if into == source:
        raise ValueError("design_weight: into and source are one; leakage needs two latents")
    if runs.space.size > DENSE_LIMIT:
        raise ValueError(
            f"design_weight: {runs.space.size} unknowns are more than {DENSE_LIMIT}; take a "
            "coarser grid, or read the weight off bj.coupling_sweep"
        )


def _compared(designs: dict[str, Weighted], into: str, source: str) -> xr.Dataset:
    """Return leakage both ways, and benefit, of each design."""
    none, made = designs["scalar"].local.constant(0.0).relative_variance(), designs.values()
    columns = {
        "leakage": [d.leakage(into, source) for d in made],
        "leakage_back": [d.leakage(source, into) for d in made],
        "benefit": [none - d.relative_variance() for d in made],
    }
    return xr.Dataset({k: ("design", v) for k, v in columns.items()}, {"design": list(designs)})
