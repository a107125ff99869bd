"""Copies that nobody else can change."""

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse


def keep(value: Any) -> Any:
    """Return a copy of the arrays in a setting that nobody else can change; the rest as it is."""
    if isinstance(value, np.ma.MaskedArray):
        return value.copy()
    if isinstance(value, np.ndarray):
        if value.flags.owndata and not value.flags.writeable:
            return value
        kept = np.array(value)  # a plain array, also of a subclass as np.matrix
        kept.setflags(write=False)
        return kept
    if isinstance(value, xr.DataArray):
        return _kept_labelled(value)
    if isinstance(value, (pd.Series, pd.DataFrame)):
        return value.copy(deep=True)
    if sparse.issparse(value):
        return value.copy()
    if isinstance(value, list):
        return [keep(item) for item in value]
    if type(value) is tuple:
        return tuple(keep(item) for item in value)
    if isinstance(value, dict):
        return {key: keep(item) for key, item in value.items()}
    return value


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


def keep_settings(spec: Any) -> None:
    """Replace the arrays of a frozen specification by copies that nobody else can change."""
    for setting in fields(spec):
        if setting.init:
            value = getattr(spec, setting.name)
            kept = keep(value)
            if kept is not value:
                object.__setattr__(spec, setting.name, kept)
