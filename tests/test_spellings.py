"""One number in many spellings: each is read as the plain number, or refused in our words."""

import dataclasses
import decimal
import fractions
import inspect
import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pint
import pytest
import xarray as xr
from test_odd_inputs import bases, call, guessed_names, is_told

import bayesjoint as bj
from bayesjoint.priors import Prior

NUMBER = 0.5  # the same in single precision
SPELLINGS = {
    "numpy": np.float64(NUMBER),
    "single": np.float32(NUMBER),
    "half": np.float16(NUMBER),
    "0-d": np.array(NUMBER),
    "0-d single": np.array(NUMBER, dtype=np.float32),
    "big-endian": np.array(NUMBER, dtype=">f8"),
    "object": np.array(NUMBER, dtype=object),
    "decimal": decimal.Decimal("0.5"),
    "fraction": fractions.Fraction(1, 2),
    "unmasked": np.ma.array(NUMBER, mask=False),
    "labelled": xr.DataArray(NUMBER),
    "quantity": pint.Quantity(NUMBER, "dimensionless"),
}
# Never read as that number.
OTHERS = {
    "text": "0.5",
    "bytes": b"0.5",
    "complex": complex(NUMBER),
    "masked": np.ma.array(NUMBER, mask=True),
    "time span": np.timedelta64(1, "D"),
    "mapping of none": {None: NUMBER},
    "set": {NUMBER},
}
# Numbers that wait for the units of their place, which a span of time or a quantity states.
WAITING = {
    (name, argument, label)
    for name, argument in (
        ("GaussianNoise", "sd"), ("StudentTNoise", "sd"), ("GaussianField", "sd"),
        ("GaussianField", "mean"), ("GaussianField", "length_scale"),
        ("JointDiscrepancy", "length_scale"),
    )
    for label in ("time span", "quantity")
}  # fmt: skip


def numeric_arguments():
    for name in bj.__all__:
        given = bases().get(name)
        if given is None:
            parameters = inspect.signature(getattr(bj, name)).parameters
            given = {key: parameters[key].default for key in guessed_names(name)}
        for argument, value in given.items():
            if type(value) is float:
                yield name, argument


def told(value):
    """Return what a specification or a result says, as plain Python values."""
    if value is None or isinstance(value, str | type | bool):
        return value
    if isinstance(value, int | float):
        return float(value) if type(value) in (int, float, np.float64) else repr(value)
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tolist())
    if isinstance(value, xr.Dataset | xr.DataArray):
        return value.to_dict()
    if isinstance(value, pd.Index | pd.Series | pd.DataFrame):
        return (list(map(str, value.index)), value.to_numpy().tolist())
    if isinstance(value, Prior):
        return (value.distribution, told(dict(value.parameters)), value.units)
    if isinstance(value, Mapping):
        return {str(key): told(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [told(part) for part in value]
    if dataclasses.is_dataclass(value):
        return [told(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init]
    return type(value).__name__ if not callable(value) else value


def outcome(name, argument, value):
    """Return what a call says, or None where it refuses in our words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return told(call(name, argument, value))
        except Exception as error:
            assert is_told(error), f"{type(error).__name__}: {error}"
            return None


@pytest.mark.parametrize(("name", "argument"), list(numeric_arguments()))
def test_one_number_in_any_spelling_is_that_number(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = outcome(name, argument, NUMBER)
    other = {}
    for label, value in SPELLINGS.items():
        found = outcome(name, argument, value)
        if found is not None and found != plain:
            other[label] = found
    for label, value in OTHERS.items():
        if (found := outcome(name, argument, value)) is not None:
            other[label] = found
    assert not {label for label in other if (name, argument, label) not in WAITING}
