"""Checks of what users give, with errors that name the object, the fact and the cure."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesjoint import arrays
from bayesjoint import units as _units
from bayesjoint.priors import Prior

SYMMETRIC = 1e-8  # of the product of the two sds
SMALLEST, LARGEST = 1e-150, 1e150  # of a scale: its square is an ordinary number
SEMIDEFINITE = 1e-12  # of the number of rows: a negative eigenvalue of rounding


def require_name(kind: str, name: Any) -> None:
    """Raise unless ``name`` is a usable identifier."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"{kind} {name!r}: the name must be a word of letters, digits and underscores; it "
            "becomes a variable of the model"
        )


def require_names(owner: str, names: Iterable[Any]) -> None:
    """Raise unless all are texts that name something, each another thing."""
    for name in names:
        if not isinstance(name, str):
            raise ValueError(
                f"{owner}: a name is of type {type(name).__name__}; give names as text"
            )
        if not name:
            raise ValueError(f"{owner}: a name is empty; give a word")
    require_unique(owner, names)


def require_choice(owner: str, setting: str, value: Any, choices: Sequence[str]) -> None:
    """Raise unless a setting is one of some words."""
    if not isinstance(value, str) or value not in choices:
        shown = repr(value) if isinstance(value, str) else f"of type {type(value).__name__}"
        raise ValueError(f"{owner}: {setting} {shown} is unknown; use one of {choices}")


def require_mapping(owner: str, setting: str, value: Any, example: str) -> None:
    """Raise unless a setting is a mapping of names."""
    of_data = isinstance(value, xr.Dataset | xr.DataTree)
    if not isinstance(value, Mapping) or of_data:
        raise ValueError(
            f"{owner}: {setting} is of type {type(value).__name__}; give a mapping, as {example}"
        )
    if strange := [key for key in value if not isinstance(key, str)]:
        raise ValueError(f"{owner}: {setting} names {strange[0]!r}; give text, as {example}")


def parts(owner: str, setting: str, value: Any) -> tuple:
    """Return several things as a tuple; one that has a name of its own is one.

    Raises
    ------
    ValueError
        When it is no sequence.
    """
    if isinstance(getattr(value, "name", None), str) and not isinstance(value, Sequence):
        return (value,)
    tables = str | bytes | Mapping | pd.DataFrame  # which would be read as the names they hold
    if isinstance(value, tables) or not isinstance(value, Iterable | Sequence):
        raise ValueError(f"{owner}: {setting} is of type {type(value).__name__}; give a list")
    try:
        return tuple(value)
    except TypeError as error:
        raise ValueError(f"{owner}: {setting} cannot be read one by one: {error}") from None


def require_one(owner: str, what: str, prior: Prior) -> None:
    """Raise where a prior is over several numbers."""
    count = prior.dist().type.ndim
    if count:
        raise ValueError(
            f"{owner}: the prior over {what} is over several numbers; give one over one number"
        )


def number(owner: str, what: str, value: Any, units: str | None = None) -> Any:
    """Return one number in the wanted units; None and priors, if in these units, as they are.

    Raises
    ------
    ValueError
        When it is no real number, or its units are others and cannot be converted.
    """
    if value is None or isinstance(value, Prior):
        if value is not None:
            _require_prior_units(owner, what, value, units)
        return value
    return arrays.number(owner, what, value, units)


def _require_prior_units(owner: str, what: str, prior: Prior, units: str | None) -> None:
    """Raise where a prior states other units than those of the place where it is put."""
    fact = f"{owner}: the prior over {what} is in {{}}, but {{}} is needed"
    change = _units.conversion(fact, prior.units, units, "state it in these")
    if not change.is_identity:
        raise ValueError(f"{fact.format(repr(prior.units), repr(units))}; state it in these")


def require_given(owner: str, setting: str, value: Any, advice: str) -> None:
    """Raise when a scientific setting that has no default was left out."""
    if value is None:
        raise ValueError(f"{owner}: {setting} is not given; {advice}")


def require_positive(owner: str, setting: str, value: Any) -> None:
    """Raise unless every number is finite and above zero, or a prior allows nothing below."""
    if isinstance(value, Prior) and value.may_be_negative:
        raise ValueError(
            f"{owner}: {setting} must be positive, and {value!r} reaches below zero; give a prior "
            "over positive numbers, as bj.Prior(pm.HalfNormal, sigma=...), pm.LogNormal or "
            "bj.Prior(pm.Truncated, dist=..., lower=0.0)"
        )
    if value is None or isinstance(value, Prior):
        return
    array = arrays.read(owner, setting, value).values
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{owner}: {setting} is not finite; give a positive number")
    if not np.all(array > 0):
        raise ValueError(
            f"{owner}: {setting} must be positive, the smallest given is {array.min():g}"
        )
    odd = array[(array < SMALLEST) | (array > LARGEST)]
    if odd.size:
        raise ValueError(
            f"{owner}: {setting} is {odd.flat[0]:g}, whose square a computer cannot hold; state "
            "it, and what it belongs to, in other units"
        )


def require_known(owner: str, setting: str, value: Any) -> None:
    """Raise where a setting that must be known is given a prior."""
    if isinstance(value, Prior):
        raise ValueError(f"{owner}: {setting} must be known, {value!r} given; give a number")


def keep_number(spec: Any, owner: str, setting: str) -> None:
    """Replace a setting without units by a plain number.

    Raises
    ------
    ValueError
        When it is missing, or states other units.
    """
    value = getattr(spec, setting)
    require_given(owner, setting, value, "give a number")
    object.__setattr__(spec, setting, number(owner, setting, value, "1"))


def require_scalar(owner: str, setting: str, value: Any) -> None:
    """Raise unless ``value`` is one number, or a prior over one."""
    if isinstance(value, Prior):
        require_one(owner, setting, value)
    if value is not None and not isinstance(value, Prior):
        number(owner, setting, value, _units.stated(value))


def require_whole(owner: str, setting: str, value: Any) -> None:
    """Raise unless ``value`` is a whole number of one or more."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{owner}: {setting} must be a whole number of one or more, {value!r} given"
        )


def require_observed(owner: str, values: Any, dims: tuple[str, ...], missing: str) -> None:
    """Raise where data are infinite, or NaN without being told that these were not observed."""
    require_choice(owner, "missing", missing, ("raise", "drop"))
    absent, size = is_missing(values), np.size(values)
    infinite = int(np.sum(np.isinf(np.asarray(values, dtype=float))))
    count = int(np.sum(absent))
    along = f".dropna({dims[0]!r})" if len(dims) == 1 else ""
    if infinite:
        cure = f"keep the finite ones with data.where(np.isfinite(data)){along}"
        cure += "" if along else ' and missing="drop"'
        raise ValueError(f"{owner}: {infinite} of {size} data are infinite; {cure}")
    if count == size:
        raise ValueError(f"{owner}: all {size} data are NaN; leave the modality out")
    if count and missing == "raise":
        cure = f"drop them with data{along}, or " if along else ""
        raise ValueError(
            f'{owner}: {count} of {size} data are NaN; {cure}give missing="drop" where they were '
            "not observed"
        )


def is_missing(values: Any) -> np.ndarray:
    """Return where values are NaN."""
    return np.isnan(np.asarray(values, dtype=float))


def require_unique(kind: str, names: Iterable[str]) -> None:
    """Raise when a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{kind}: the name {name!r} is used twice; give each its own name")
        seen.add(name)


def covariance_factor(owner: str, matrix: Any) -> np.ndarray:
    """Return the lower Cholesky factor of a covariance, or raise with its fault."""
    matrix = _symmetric(owner, matrix)
    variances = np.abs(np.diag(matrix))
    if np.any(variances > LARGEST**2) or np.any((variances < SMALLEST**2) & (variances > 0)):
        raise ValueError(
            f"{owner}: the entries reach from {variances.min():g} to {variances.max():g}, which a "
            "computer cannot hold squared; state the matrix in other units"
        )
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(matrix)[0]
        raise ValueError(
            f"{owner}: the matrix is not positive definite, its smallest eigenvalue is "
            f"{smallest:.3g}; add independent variance to its diagonal or lower the correlations"
        ) from None


def require_semidefinite(owner: str, matrix: Any) -> None:
    """Raise when a matrix is no covariance; it may be singular."""
    values = np.linalg.eigvalsh(_symmetric(owner, matrix))
    smallest = values[0]
    if smallest < -SEMIDEFINITE * len(matrix) * max(np.abs(values).max(), np.finfo(float).tiny):
        raise ValueError(
            f"{owner}: the matrix is not positive semi-definite, its smallest eigenvalue is "
            f"{smallest:.3g}; lower the correlations"
        )


def _symmetric(owner: str, matrix: Any) -> np.ndarray:
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{owner}: a square matrix is needed, the shape given is {matrix.shape}")
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{owner}: the matrix is not finite; look for NaN or infinity in it")
    if not is_symmetric(matrix):
        raise ValueError(f"{owner}: the matrix is not symmetric; use (C + C.T) / 2 if it should be")
    return matrix


def is_symmetric(matrix: np.ndarray) -> bool:
    """Return whether entries agree with those across the diagonal to rounding, at any scale."""
    sds = np.sqrt(np.abs(np.diag(matrix)))
    scale = np.maximum(np.abs(matrix), np.outer(sds, sds))
    return bool(np.all(np.abs(matrix - matrix.T) <= SYMMETRIC * np.maximum(scale, scale.T)))
