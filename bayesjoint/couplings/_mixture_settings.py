"""What must hold of the settings of a mixture of rock units, and units given by bounds."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._graph.compile import random_draws
from bayesjoint._kernels.mixture import correlation_matrices
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.couplings.mixture import PropertyMixture

ROUNDING = 1e-6  # of proportions that add up to one in single precision


def read(mixture: "PropertyMixture") -> dict[str, Any]:
    """Return the settings as plain numbers, in the order of the units of rock and the fields."""
    owner, labels = mixture.owner, mixture.labels
    return {
        "proportions": _proportions(owner, mixture.proportions, labels),
        "means": {
            field: _of_units(owner, f"the means of {field!r}", value, labels)
            for field, value in mixture.means.items()
        },
        "sds": {
            field: _of_units(owner, f"the sds of {field!r}", value, labels)
            for field, value in mixture.sds.items()
        },
        "correlation": _correlation(owner, mixture.correlation, labels, list(mixture.means)),
    }


def _proportions(owner: str, value: Any, labels: Sequence[str]) -> Any:
    """Return proportions that add up to one where they do so to single precision."""
    read = _of_units(owner, "the proportions", value, labels)
    if read is None or isinstance(read, Prior) or np.ndim(read) != 1:
        return read
    total = float(np.sum(read))
    return arrays.keep(read / total) if abs(total - 1.0) < ROUNDING and total != 1.0 else read


def _of_units(owner: str, what: str, value: Any, labels: Sequence[str]) -> Any:
    """Return one number, or one for each unit of rock in their order."""
    if isinstance(value, Prior):
        return value.aligned(f"{owner}: {what}", _along_labels(value, labels))
    if value is None:
        return value
    given = arrays.read(owner, what, value, missing=True)
    if given.units and not _units.all_same([given.units, "1"]):
        raise ValueError(
            f"{owner}: {what} are in {given.units!r}; give plain numbers in the units of the field"
        )
    if given.values.ndim != 1 or not arrays.is_labelled(value):
        return arrays.keep(given.values) if given.values.ndim else float(given.values)
    dim = given.dims[0] if given.dims else "unit"
    return arrays.keep(
        arrays.aligned(owner, what, value, arrays.Axes.named(dim, labels, "the labels"),
                       missing=True, exact=True)
    )  # fmt: skip


def _along_labels(prior: Prior, labels: Sequence[str]) -> arrays.Axes:
    """Return the axis of the units of rock, in the name that the prior's parameters give it."""
    dims = [given.dims[0] for given in prior.labelled.values() if given.dims]
    return arrays.Axes.named(dims[0] if dims else "unit", labels, "the labels")


def _correlation(owner: str, value: Any, labels: Sequence[str], fields: list[str]) -> Any:
    """Return a correlation with its fields, or units of rock, in order."""
    if value is None or isinstance(value, Prior):
        return value
    given = arrays.read(owner, "correlation", value)
    if given.values.ndim == 2 and arrays.is_labelled(value):
        between = arrays.Axes.named("field", fields, "the fields")
        return arrays.keep(arrays.matrix(owner, "correlation", value, between, between, units="1"))
    if given.values.ndim == 1:
        return _of_units(owner, "the correlation", value, labels)
    return arrays.keep(given.values) if given.values.ndim else float(given.values)


def check(mixture: "PropertyMixture") -> None:
    """Raise unless the settings fit each other."""
    owner = mixture.owner
    if not mixture.labels or not mixture.means:
        raise ValueError(f"{owner}: give the labels of its units, and means of one field or more")
    _validate.require_unique(f"{owner}: labels", mixture.labels)
    _check_proportions(owner, mixture.proportions, mixture.labels)
    if set(mixture.sds) != set(mixture.means):
        raise ValueError(
            f"{owner}: means are given for {sorted(mixture.means)}, sds for "
            f"{sorted(mixture.sds)}; give both for each field"
        )
    for field, value in mixture.means.items():
        _check_moment(f"{owner}: means of {field!r}", value, mixture.labels, number=False)
    for field, value in mixture.sds.items():
        _check_moment(f"{owner}: sds of {field!r}", value, mixture.labels, number=True)
        _validate.require_positive(owner, f"each of the sds of {field!r}", value)
    _check_correlation(owner, mixture.correlation, len(mixture.labels), len(mixture.means))
    _check_labels(mixture)


def _check_proportions(owner: str, proportions: Any, labels: Sequence[str]) -> None:
    size = len(labels)
    if isinstance(proportions, Prior):
        drawn = random_draws(proportions.dist(), np.random.default_rng(0))
        if drawn.shape != (size,) or not np.isclose(drawn.sum(), 1.0) or drawn.min() < 0:
            raise ValueError(
                f"{owner}: the prior of the proportions must be one of {size} numbers that add up "
                f"to one; give bj.Prior(pm.Dirichlet, a={[2.0] * size})"
            )
        return
    given = np.asarray(proportions, dtype=float)
    if given.shape != (size,):
        raise ValueError(
            f"{owner}: the proportions have shape {given.shape}; give one for each of "
            f"{list(labels)}"
        )
    _validate.require_positive(owner, "each proportion", given)
    if not np.isclose(given.sum(), 1.0, rtol=0, atol=1e-9):
        raise ValueError(
            f"{owner}: the proportions add up to {given.sum():g}, not to one; divide them by their "
            "sum"
        )


def _check_moment(owner: str, value: Any, labels: Sequence[str], number: bool) -> None:
    unknown = isinstance(value, Prior)
    shape = value.dist().type.shape if unknown else np.shape(value)
    if shape != (len(labels),) and not (shape == () and (number or unknown)):
        raise ValueError(f"{owner} have shape {shape}; give one for each of {list(labels)}")
    if not unknown and not np.all(np.isfinite(value)):
        raise ValueError(f"{owner} are not finite; give a number for each unit")


def _check_correlation(owner: str, correlation: Any, size: int, count: int) -> None:
    if count == 1 and correlation is None:
        return
    _validate.require_given(
        owner, "correlation", correlation,
        "state that within units, 0 where the properties are independent there",
    )  # fmt: skip
    if isinstance(correlation, Prior):
        shape = correlation.dist().type.shape
        # One number between -1 and 1 is no correlation matrix of three fields.
        if len(shape) != 2 and not (count == 2 and shape in ((), (size,))):
            raise ValueError(
                f"{owner}: the prior of the correlation has shape {shape}; give "
                f"bj.Prior(pm.LKJCorr, eta=2, n={count})"
            )
        return
    given = np.asarray(correlation, dtype=float)
    if given.shape not in ((), (size,), (count, count), (size, count, count)):
        raise ValueError(
            f"{owner}: the correlation has shape {given.shape}; give a number, one for each unit, "
            f"or matrices of shape {(count, count)}"
        )
    for matrix in correlation_matrices(given, count).reshape(-1, count, count):
        if not np.allclose(np.diag(matrix), 1.0):
            raise ValueError(
                f"{owner}: the diagonal of the correlation is not one; the scale belongs to sds"
            )
        _validate.covariance_factor(f"{owner}: correlation", matrix)


def _check_labels(mixture: "PropertyMixture") -> None:
    """Raise where something is unknown of units that nothing tells apart."""
    settings = [mixture.proportions, *mixture.means.values(), *mixture.sds.values()]
    if _dimensions(mixture.correlation) in (1, 3):
        settings.append(mixture.correlation)
    if not any(isinstance(setting, Prior) for setting in settings):
        return
    labels = mixture.labels
    for i, j in combinations(range(len(labels)), 2):
        if all(_exchangeable(setting, i, j) for setting in settings):
            raise ValueError(
                f"{mixture.owner}: nothing tells {labels[i]!r} and {labels[j]!r} apart a priori, "
                "so that their labels can change places and the posterior of each is that of "
                "both; give known means, or priors of the means that differ, as "
                "bj.Prior(pm.Normal, mu=[2.0, 4.5], sigma=0.2)"
            )


def _dimensions(setting: Any) -> int:
    return setting.dist().ndim if isinstance(setting, Prior) else np.ndim(setting)


def _exchangeable(setting: Any, i: int, j: int) -> bool:
    """Tell whether two units may change places without any change of what is stated of them."""
    if not isinstance(setting, Prior):
        given = np.asarray(setting, dtype=float)
        return given.ndim == 0 or np.array_equal(given[i], given[j])
    return all(_same(np.asarray(value), i, j) for value in setting.parameters.values())


def _same(parameter: np.ndarray, i: int, j: int) -> bool:
    """Tell whether a parameter of a prior stays as it is: a number, a vector, or a matrix."""
    moved = parameter
    for axis, length in enumerate(parameter.shape):
        order = np.arange(length)
        if length > 1:
            order[[i, j]] = order[[j, i]]
        moved = np.take(moved, order, axis=axis)
    return np.array_equal(moved, parameter)


def between(
    owner: str, bounds: Mapping[str, Mapping[str, tuple[float, float]]], inside: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return means and sds of units, by field, that have a share of their probability in bounds."""
    if not 0.0 < inside < 1.0:
        raise ValueError(f"{owner}: inside must lie between 0 and 1, {inside} given")
    fields = list(next(iter(bounds.values()), {}))
    for label, given in bounds.items():
        if set(given) != set(fields):
            raise ValueError(
                f"{owner}: {label!r} has bounds of {sorted(given)}, others of {sorted(fields)}; "
                "give those of each field"
            )
    ends = {f: np.array([given[f] for given in bounds.values()], dtype=float) for f in fields}
    for field, pairs in ends.items():
        if not np.all(pairs[:, 0] < pairs[:, 1]):
            raise ValueError(
                f"{owner}: the bounds of {field!r} must be (lower, upper), the lower one first"
            )
    width = 2.0 * norm.ppf(0.5 + inside / 2)
    means = {field: pairs.mean(axis=1) for field, pairs in ends.items()}
    return means, {field: np.ptp(pairs, axis=1) / width for field, pairs in ends.items()}
