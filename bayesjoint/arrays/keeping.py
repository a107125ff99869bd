"""Copies that nobody else can change."""

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse


class ReadOnly(dict):
    """A mapping that cannot be changed; a dict, so that it can be sent to other processes."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "settings of a specification are fixed; make another one with replace(...), or a dict "
            "of them with dict(...)"
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> tuple:
        return ReadOnly, (dict(self),)


class Shown:
    """What shows a labelled array as a copy that shares its fixed numbers.

    Whoever renames what is shown, or gives it other attributes, coordinates or numbers, changes
    nothing of the specification.
    """

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value.copy(deep=False) if type(value) is xr.DataArray else value


def keep(value: Any) -> Any:
    """Return a copy of the arrays in a setting that nobody else can change; the rest as it is.

    One number, in whatever spelling, becomes a plain one, unless it has units or labels.
    """
    if (one := _one_number(value)) is not None:
        return one
    if isinstance(value, np.ma.MaskedArray):
        return value.copy()
    if isinstance(value, np.ndarray):
        return _fixed(value)
    if isinstance(value, xr.DataArray):
        return _kept_labelled(value)
    if isinstance(value, pd.Series | pd.DataFrame):
        return _kept_frame(value)
    if sparse.issparse(value):
        return _kept_sparse(value)
    if isinstance(value, list) or type(value) is tuple:
        return tuple(keep(item) for item in value)
    if isinstance(value, Mapping) and not isinstance(value, xr.Dataset | xr.DataTree):
        return ReadOnly({key: keep(item) for key, item in value.items()})
    return value


def _one_number(value: Any) -> float | int | None:
    """Return one real number as Python has it; None of all else, and of what has units."""
    if isinstance(value, xr.DataArray):
        bare = value.data if not value.ndim and not value.coords and not value.attrs else None
        return _one_number(bare) if isinstance(bare, np.ndarray) else None
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return None
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item() if value.dtype.kind in "fiuO" else None
    if isinstance(value, np.floating | Decimal | Fraction):
        return float(value)
    if isinstance(value, np.integer) and not isinstance(value, np.timedelta64):
        return int(value)
    return value if type(value) in (int, float) else None


def _fixed(value: np.ndarray) -> np.ndarray:
    if type(value) is np.ndarray and value.flags.owndata and not value.flags.writeable:
        return value
    kept = np.array(value)  # a plain array, also of a subclass as np.matrix
    kept.setflags(write=False)
    return kept


def _kept_labelled(value: xr.DataArray) -> xr.DataArray:
    data = value.data
    if isinstance(data, np.ndarray) and not data.flags.writeable and data.flags.owndata:
        return value
    kept = value.copy(deep=True)
    if type(kept.data) is np.ndarray:
        fixed = np.array(kept.data)
        fixed.setflags(write=False)
        kept = kept.copy(data=fixed)
    return kept


def _kept_frame(value: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Return a copy with fixed numbers; those that pandas keeps in a way of its own are copied."""
    bare = value.to_numpy()
    if bare.dtype.kind not in "fiubc" or not isinstance(bare, np.ndarray):
        return value.copy(deep=True)
    if isinstance(value, pd.DataFrame):
        kept: pd.Series | pd.DataFrame = pd.DataFrame(
            _fixed(bare), index=value.index, columns=value.columns, copy=False
        )
    else:
        kept = pd.Series(_fixed(bare), index=value.index, name=value.name, copy=False)
    kept.attrs = dict(value.attrs)
    return kept


def _kept_sparse(value: Any) -> Any:
    kept = value.copy()
    for part in ("data", "indices", "indptr", "row", "col", "offsets"):
        array = getattr(kept, part, None)
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return kept


def keep_settings(spec: Any) -> None:
    """Replace the arrays of a frozen specification by copies that nobody else can change."""
    for setting in fields(spec):
        if setting.init:
            value = getattr(spec, setting.name)
            kept = keep(value)
            if kept is not value:
                object.__setattr__(spec, setting.name, kept)
