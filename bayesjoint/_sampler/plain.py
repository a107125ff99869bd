"""Values of Python as JSON and back, each of its own type: what attributes and labels are made of.

JSON knows text, whole and finite numbers, true, false, null, lists, and mappings of text.  All else
is a mapping with the entry ``~``, which names its type.
"""

import base64
import datetime
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

TYPE, VALUE = "~", "is"
MISSING: dict[str, Any] = {"NaT": pd.NaT, "NA": pd.NA}


class NotPlain(TypeError):
    """A value that is none of those that can be written down."""


def to_json(value: Any) -> Any:
    """Return a value in terms of JSON.

    Raises
    ------
    NotPlain
        When it is of a type that cannot be restored.
    """
    if value is None or type(value) in (str, bool, int):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is list:
        return [to_json(item) for item in value]
    if type(value) is dict:
        return _mapping(value)
    for name, missing in MISSING.items():
        if value is missing:
            return _tagged(name, None)
    for name, (kind, write, _) in TYPES.items():
        if type(value) is kind:
            return _tagged(name, write(value))
    if isinstance(value, np.generic | np.ndarray):
        return _tagged("numpy", _array(value))
    raise NotPlain(type(value).__name__)


def from_json(value: Any) -> Any:
    """Return the value that `to_json` wrote down."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TYPE not in value:
        return {key: from_json(item) for key, item in value.items()}
    if value[TYPE] in MISSING:
        return MISSING[value[TYPE]]
    if value[TYPE] == "dict":
        return {from_json(key): from_json(item) for key, item in value[VALUE]}
    if value[TYPE] == "numpy":
        return _restored_array(value[VALUE])
    return TYPES[value[TYPE]][2](value[VALUE])


def _tagged(name: str, value: Any) -> dict[str, Any]:
    return {TYPE: name, VALUE: value}


def _mapping(value: dict) -> dict[str, Any]:
    if TYPE not in value and all(type(key) is str for key in value):
        return {key: to_json(item) for key, item in value.items()}
    return _tagged("dict", [[to_json(key), to_json(item)] for key, item in value.items()])


def _array(value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    told: dict[str, Any] = {"shape": list(array.shape), "scalar": isinstance(value, np.generic)}
    if array.dtype.kind in "OVT":
        return told | {"items": [to_json(item) for item in array.ravel().tolist()]}
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return told | {"dtype": array.dtype.str, "data": data}


def _restored_array(told: dict[str, Any]) -> Any:
    if "items" in told:
        array = np.empty(len(told["items"]), dtype=object)
        array[:] = [from_json(item) for item in told["items"]]
    else:
        array = np.frombuffer(base64.b64decode(told["data"]), dtype=np.dtype(told["dtype"])).copy()
    array = array.reshape(told["shape"])
    return array[()] if told["scalar"] else array


def _moment(value: Any) -> list[Any]:
    """Return a time of pandas: ticks since 1970 in UTC, their unit, its zone."""
    stamp = value.asm8
    unit, zone = np.datetime_data(stamp.dtype)[0], getattr(value, "tz", None)
    return [int(stamp.astype(np.int64)), unit, None if zone is None else str(zone)]


def _timestamp(told: list[Any]) -> pd.Timestamp:
    ticks, unit, zone = told
    stamp = pd.Timestamp(np.datetime64(ticks, unit))
    return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone)


def _seconds(value: datetime.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


TYPES: dict[str, tuple[type, Callable, Callable]] = {
    "float": (float, repr, float),
    "complex": (complex, lambda v: [repr(v.real), repr(v.imag)],
                lambda v: complex(float(v[0]), float(v[1]))),
    "bytes": (bytes, lambda v: base64.b64encode(v).decode(), base64.b64decode),
    "tuple": (tuple, lambda v: [to_json(i) for i in v], lambda v: tuple(from_json(i) for i in v)),
    "slice": (slice, lambda v: [to_json(i) for i in (v.start, v.stop, v.step)],
              lambda v: slice(*(from_json(i) for i in v))),
    "Timestamp": (pd.Timestamp, _moment, _timestamp),
    "Timedelta": (pd.Timedelta, lambda v: _moment(v)[:2],
                  lambda v: pd.Timedelta(np.timedelta64(*v))),
    "Interval": (pd.Interval, lambda v: [to_json(v.left), to_json(v.right), v.closed],
                 lambda v: pd.Interval(from_json(v[0]), from_json(v[1]), v[2])),
    "Period": (pd.Period, lambda v: [v.ordinal, v.freqstr],
               lambda v: pd.Period(ordinal=v[0], freq=v[1])),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (datetime.timedelta, _seconds, lambda v: datetime.timedelta(*v)),
}  # fmt: skip
