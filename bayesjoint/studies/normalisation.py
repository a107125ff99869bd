"""The normaliser of a coupled prior, tabulated by draws of it."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from bayesjoint import arrays
from bayesjoint._problem.checks import potentials_beside
from bayesjoint.couplings._group import digest, upstream
from bayesjoint.couplings.normaliser import Normaliser
from bayesjoint.problem import JointProblem
from bayesjoint.studies.coupling_weight import Sweep, coupling_of, mean_and_error

MOST = 2  # length scales in one table
FEWEST = 4  # places along each axis
Range = tuple[float, float]


def tabulate_normaliser(
    problem: JointProblem,
    coupling: str | None = None,
    *,
    up_to: float | None = None,
    length_scale: Range | Mapping[str, Range] | None = None,
    weights: int = 12,
    length_scales: int = 7,
    draws: int = 1000,
    random_seed: int | None = None,
) -> Normaliser:
    """Tabulate log Z of a coupling, by draws of the coupled prior at several weights.

    Parameters
    ----------
    problem : JointProblem
        With numbers as weight of the coupling and as length scales; its data do not matter.
    coupling : str, optional
        Name of the coupling; not needed where there is one with a weight.
    up_to : float, optional
        Largest weight of the table; the prior of an unknown weight must end there.  By default,
        with ``length_scale``, the weight of the coupling.
    length_scale : (low, high), or mapping of field to (low, high), optional
        Makes it a table over the length scale of every coupled field, or of those named, one or
        two; the prior of an unknown length scale must end there.
    weights : int
        Number of weights between zero and the largest.
    length_scales : int
        Number of values of each length scale, its ends among them, four or more.
    draws : int
        At each weight and length scale, in each of two chains.
    random_seed : int, optional
        Makes the table repeatable.

    Returns
    -------
    Normaliser
        For ``coupling.replace(weight=bj.Prior(...), normaliser=table)``.

    Raises
    ------
    ValueError
        When the coupling is not found or its weight is not a number, there is nothing to tabulate
        over, or length scales are named that log Z does not depend on or cannot be tabulated over.

    Notes
    -----
    Each field has a length scale of its own; two fields with one in common, whose value is
    unknown, are not supported, nor is a table over three.  Nodes are those of Chebyshev in
    ``log(1 + w / w0)`` and in the logarithm of each length scale: 13 by 7 with default settings
    and one length scale, 13 by 7 by 7 with two.

    Where data and potential leave a length scale free, the joint mode in white coordinates lies
    where Z is small (short length scales), far from most of the probability; draws are not misled,
    what is linearised there is.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import bayesjoint as bj
    >>> grid = bj.Grid(z=np.arange(3.0), x=np.arange(3.0))
    >>> fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in "ab"]
    >>> coupled = bj.JointProblem(
    ...     latents=fields, modalities=[], couplings=[bj.CrossGradient("a", "b", weight=1.0)]
    ... )
    >>> table = bj.tabulate_normaliser(
    ...     coupled, up_to=10.0, length_scale={"a": (1.0, 4.0)}, weights=4, length_scales=4,
    ...     draws=100, random_seed=1,
    ... )
    >>> bool(table.log_z(10.0, {"a": 2.0}) < table.log_z(1.0, {"a": 2.0}) < 0.0)
    True
    >>> rough = bj.Prior(pm.Uniform, lower=1.0, upper=4.0)
    >>> first = bj.GaussianField("a", grid, sd=1.0, length_scale=rough)
    >>> unknown = coupled.replace(
    ...     latents=[first, fields[1]],
    ...     couplings=[bj.CrossGradient("a", "b", weight=1.0, normaliser=table)],
    ... )
    """
    given = coupling_of(problem, coupling)
    ranges = _ranges(problem, given, length_scale)
    if up_to is None and not ranges:
        raise ValueError(
            f"{given.name}: give up_to=, the largest weight, or length_scale=; log Z of known ones "
            "is a constant"
        )
    if min(weights, length_scales) < FEWEST:
        raise ValueError(
            f"{given.name}: a table needs {FEWEST} weights and length scales or more, "
            f"{weights} and {length_scales} given"
        )
    largest = given.weight if up_to is None else arrays.number(given.name, "up_to", up_to)
    sweep = Sweep(problem, given.name, random_seed, list(ranges))
    rows = []
    for place in product(*(_nodes(*ends, length_scales) for ends in ranges.values())):
        sweep.hold(dict(zip(ranges, place, strict=True)))
        rows += [(*row, *place) for row in _along_weight(sweep, largest, weights, draws)]
    weight, mean, error, *lengths = np.transpose(rows)
    made_for = digest(given, problem.latent, problem.couplings, list(ranges))
    over = dict(zip(ranges, lengths, strict=True))
    return Normaliser(weight, mean, error, made_for, length_scale=over)


def _along_weight(
    sweep: Sweep, largest: float, weights: int, draws: int
) -> Sequence[tuple[float, float, float]]:
    """Return weight, mean potential and its error, from weight zero to the largest."""
    start = next(iter(sweep.potentials_at([0.0], draws)))
    unit = 1.0 / start.mean()
    share = (1.0 - np.cos(np.pi * np.arange(1, weights + 1) / weights)) / 2
    nodes = unit * np.expm1(np.log1p(largest / unit) * share)
    nodes[-1] = largest
    found = [start, *sweep.potentials_at(nodes, draws)]
    return [(w, *mean_and_error(p)) for w, p in zip([0.0, *nodes], found, strict=True)]


def _nodes(low: float, high: float, count: int) -> np.ndarray:
    share = (1.0 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
    nodes = low * (high / low) ** share
    nodes[-1] = high
    return nodes


def _ranges(
    problem: JointProblem, coupling: Any, given: Range | Mapping[str, Range] | None
) -> dict[str, Range]:
    """Return the range of each length scale that the table is over, or raise."""
    if given is None:
        return {}
    ranges = dict(given) if isinstance(given, Mapping) else dict.fromkeys(coupling.latents, given)
    if len(ranges) > MOST:
        raise ValueError(
            f"{coupling.name}: a table over the length scales of {list(ranges)} would have too "
            f"many places; name at most {MOST} of them, as "
            f"length_scale={{{next(iter(ranges))!r}: (low, high)}}"
        )
    for field, ends in ranges.items():
        _check_range(problem, coupling, field, ends)
    others = potentials_beside(problem, coupling)
    if others:
        raise ValueError(
            f"{coupling.name}: its fields meet those of {others[0].name}, and log Z of both "
            "together is not tabulated over length scales; leave one of the couplings out"
        )
    return ranges


def _check_range(problem: JointProblem, coupling: Any, field: str, ends: Any) -> None:
    depends = upstream(coupling, problem.couplings)
    latent = problem.latent[field] if field in depends else None
    if not isinstance(getattr(latent, "length_scale", None), (int, float)):
        raise ValueError(
            f"{coupling.name}: log Z is tabulated over the length scale of a coupled field that "
            f"has one number for it, {field!r} has none; there are {sorted(depends)}"
        )
    if np.shape(ends) != (2,) or not 0.0 < ends[0] < ends[1]:
        raise ValueError(
            f"{coupling.name}: the length scale of {field!r} needs a range of two positive "
            f"numbers, {ends} given"
        )
