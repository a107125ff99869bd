"""The errors of a problem along settings of one of its discrepancies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._errors.factors import modes_at_shared_places
from bayesjoint._kernels.cross_correlation import BlockErrors, correlation_interval
from bayesjoint._kernels.shared_errors import SharedErrors
from bayesjoint._problem.settled import named, sds_of, settled
from bayesjoint.discrepancy import JointDiscrepancy
from bayesjoint.problem import JointProblem
from bayesjoint.studies._local_problem import LocalProblem

BETWEEN = 0.5  # correlation at which the factor is made: valid for any number of modalities
REDUCED_LIMIT = 4_000  # data, where a factor of lower rank does not save any


@dataclass(frozen=True, eq=False)
class Swept:
    """One discrepancy of a problem, the correlation of which varies.

    Attributes
    ----------
    owner : str
        Who asks, for messages.
    discrepancy : JointDiscrepancy
        All unknown settings replaced by their values at the point.
    names : list of str
        Modalities it acts on.
    base, direction : ndarray, shape (name, name)
        Correlations are ``base + correlation direction``.
    own : float
        The correlation that the problem states; one where correlations that differ, loadings or a
        shared map stay as they are.
    pair : tuple of str
        The two whose correlation varies; empty: all.
    interval : tuple of float
        Closed interval in which correlations are valid.
    modalities : list of str
        All of the problem.
    fault : str
        Why no correlation can be put in; empty where one can.
    length_units : str or None
        In which its length scale is counted.
    along_times : bool
        Whether that is along dates or time spans.
    """

    owner: str
    discrepancy: JointDiscrepancy
    names: list[str]
    base: np.ndarray
    direction: np.ndarray
    own: float
    pair: tuple[str, ...]
    interval: tuple[float, float]
    modalities: list[str]
    fault: str
    length_units: str | None = None
    along_times: bool = False

    def allows(self, correlation: float) -> bool:
        """Return whether a correlation makes a valid matrix, singular at the bounds."""
        return self.interval[0] <= correlation <= self.interval[1]

    def at(self, correlation: float) -> np.ndarray:
        """Return the matrix with a correlation put in."""
        return self.base + correlation * self.direction

    def require_correlation(self) -> None:
        """Raise unless a correlation can be put in."""
        if self.fault:
            raise ValueError(f"{self.owner}: {self.discrepancy.owner} {self.fault}")

    def require_valid(self, correlations: Sequence[float], setting: str) -> None:
        """Raise unless all correlations make valid matrices."""
        self.require_correlation()
        low, high = self.interval
        for value in correlations:
            if not self.allows(value):
                raise ValueError(
                    f"{self.owner}: {setting}={value:g} makes no valid correlation matrix; between "
                    f"{low:.4g} and {high:.4g}"
                )

    def over_blocks(self, matrix: np.ndarray) -> np.ndarray:
        """Return a matrix of its modalities as one of all, zero elsewhere."""
        whole = np.zeros((len(self.modalities),) * 2)
        where = [self.modalities.index(name) for name in self.names]
        whole[np.ix_(where, where)] = matrix
        return whole

    def problem(self, problem: JointProblem, correlation: float) -> JointProblem:
        """Return a problem as it is but for the correlation."""
        number = float(correlation) if len(self.names) == 2 else self.at(correlation)
        changed = [
            replace(d, correlation=number) if d.name == self.discrepancy.name else d
            for d in problem.discrepancies
        ]
        return problem.replace(discrepancy=changed)


def swept_discrepancy(
    local: LocalProblem, owner: str, name: str | None, pair: Sequence[str] | None
) -> Swept:
    """Return the discrepancy to be swept, checked."""
    given = named(local.problem, name, owner)
    found = settled(given, given.name, local.values)
    names = found.touches(local.problem.modality)
    matrix, fault, chosen = _correlations(found, names), _fault(found, names), tuple(pair or ())
    if chosen and (len(set(chosen)) != 2 or not set(chosen) <= set(names)):
        raise ValueError(f"{owner}: pair={chosen}; give two of the modalities of it, {names}")
    off = matrix[~np.eye(len(names), dtype=bool)]
    if not chosen and not fault and np.ptp(off) > 1e-12:
        fault = (
            f"has several correlations between {names}; give the pair whose own varies, as in "
            f"pair=({names[0]!r}, {names[1]!r})"
        )
    direction, own = 1.0 - np.eye(len(names)), 1.0
    interval = (-1.0 / max(len(names) - 1, 1), 1.0)
    if fault:
        direction = matrix * direction
    elif chosen:
        i, j = (names.index(n) for n in chosen)
        direction = np.zeros_like(matrix)
        direction[i, j] = direction[j, i] = 1.0
        own, interval = float(matrix[i, j]), correlation_interval(matrix, i, j)
    else:
        own = float(off[0])
    base = matrix - own * direction
    modalities = list(local.problem.modality)
    return Swept(
        owner, found, names, base, direction, own, chosen, interval, modalities, fault,
        *_length_units(found, [local.problem.modality[n].data for n in names]),
    )  # fmt: skip


def _length_units(found: JointDiscrepancy, data: Sequence[Any]) -> tuple[str | None, bool]:
    """Return the units in which its length scale is counted, and whether it is along times."""
    if not found.frames:
        return None, False
    axis = found.axes[0]
    kinds = {d[axis].dtype.kind for d in data if axis in d.coords}
    return found.frames[axis].units, bool(kinds & {"m", "M"})


def _correlations(discrepancy: JointDiscrepancy, names: list[str]) -> np.ndarray:
    """Return the matrix that a discrepancy states; ones for loadings and a shared map."""
    if _stated_otherwise(discrepancy):
        return np.ones((len(names), len(names)))
    given = np.asarray(0.0 if discrepancy.correlation is None else discrepancy.correlation, float)
    return given if given.ndim == 2 else np.asarray(given + (1.0 - given) * np.eye(len(names)))


def _fault(discrepancy: JointDiscrepancy, names: list[str]) -> str:
    if otherwise := _stated_otherwise(discrepancy):
        return (
            f"states {otherwise} and no correlation; state sd={{modality: ...}} and correlation=, "
            "or use discrepancy_sweep(problem, sd_factor=...)"
        )
    return "" if len(names) > 1 else f"acts on {names[0]!r} alone: there is nothing to correlate"


def _stated_otherwise(discrepancy: JointDiscrepancy) -> str:
    """Say what a discrepancy states instead of correlations, nothing where it states these."""
    given = {"loadings": discrepancy.loadings, "a shared map": discrepancy.of,
             "a covariance": discrepancy.covariance}  # fmt: skip
    return next((words for words, value in given.items() if value is not None), "")


def swept_errors(
    local: LocalProblem, swept: Swept, length_scale: float | None
) -> BlockErrors | SharedErrors:
    """Return the errors at the point of the problem, mode by mode where places are shared."""
    return _shared_errors(local, swept, length_scale) or block_errors(local, swept, length_scale)


def _shared_errors(
    local: LocalProblem, swept: Swept, length_scale: float | None
) -> SharedErrors | None:
    """Return the errors of modalities with the same places and one variance each, else None."""
    functions, problem = local.functions, local.functions.problem
    discrepancy = replace(swept.discrepancy, **_length(length_scale))
    touched = {name: problem.modality[name] for name in swept.names}
    others = [d for d in problem.discrepancies if d.name != discrepancy.name]
    beside = {name for d in others for name in d.touches(problem.modality)}
    turned = {name for name, m in touched.items() if m.noise.correlation_factor is not None}
    if not touched.keys().isdisjoint(beside | turned):
        return None
    errors = functions.errors(local.point, power=True, without=[discrepancy.name])
    spread = [np.ptp(errors.variance[functions.data_slices[name]]) for name in touched]
    if discrepancy.on is not None and max(spread) > 0.0:
        return None
    modes = modes_at_shared_places(discrepancy, touched)
    if modes is None:
        return None
    members = tuple(swept.modalities.index(name) for name in touched)
    return SharedErrors(modes, sds_of(discrepancy, touched), members, errors, tuple(touched))


def _length(length_scale: float | None) -> dict[str, Any]:
    return {} if length_scale is None else {"length_scale": length_scale}


def block_errors(local: LocalProblem, swept: Swept, length_scale: float | None) -> BlockErrors:
    """Return the errors at the point of the problem, at any correlation of the discrepancy."""
    functions, discrepancy = local.functions, swept.discrepancy
    changes = _length(length_scale)
    if discrepancy.grid is None and discrepancy.rank is None:
        _require_few(swept, functions.data.size)
    if discrepancy.correlation is not None or not swept.fault:
        changes["correlation"] = BETWEEN
    others = [
        settled(d, d.name, local.values)
        for d in local.problem.discrepancies
        if d.name != discrepancy.name
    ]
    stated = np.ones((len(functions.data_slices),) * 2)
    if "correlation" in changes:
        stated = np.eye(len(stated)) * (1.0 - BETWEEN) + BETWEEN
    errors = BlockErrors(
        functions.errors(local.point, power=True).variance,
        _factor(local.problem, [replace(discrepancy, **changes)]),
        _factor(local.problem, others),
        tuple(m.data.size for m in functions.problem.modalities),
        stated,
        tuple(functions.data_slices),
    )
    _require_few(swept, errors.block_of.size)
    return errors


def _require_few(swept: Swept, count: int) -> None:
    if count > REDUCED_LIMIT:
        raise ValueError(
            f"{swept.owner}: {count} data are more than {REDUCED_LIMIT}; give the discrepancy "
            "rank= or grid=bj.Grid(...), a process of reduced rank, or take fewer data"
        )


def _factor(problem: JointProblem, discrepancies: list[JointDiscrepancy]) -> np.ndarray:
    """Return the factor of discrepancies without unknowns, the noise's correlation taken out."""
    size = sum(m.places.size for m in problem.modalities)
    if not discrepancies:
        return np.zeros((size, 0))
    functions = ModelFunctions(problem.replace(discrepancy=discrepancies))
    factor = functions.errors(functions.initial).factor
    return np.zeros((size, 0)) if factor is None else factor
