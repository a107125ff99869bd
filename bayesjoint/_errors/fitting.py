"""How a discrepancy is fitted to the data it acts on: their units, their labels, their times."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesjoint import _validate, arrays
from bayesjoint import units as _units
from bayesjoint._warnings import warn
from bayesjoint.priors import Prior

if TYPE_CHECKING:
    from bayesjoint.discrepancy import JointDiscrepancy


@dataclass(frozen=True, eq=False)
class Fit:
    """What a discrepancy was fitted to.

    Attributes
    ----------
    frames : mapping of coordinate to Frame
        The numbers in which each coordinate is counted.
    orders : mapping of modality to array
        Of data that are paired: which element of the discrepancy acts on each datum, where that is
        not its own place.
    units : mapping of modality to str or None
    """

    frames: Mapping[str, arrays.Frame]
    orders: Mapping[str, np.ndarray]
    units: Mapping[str, str | None]


def fitted_settings(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a discrepancy as numbers in the units of the data it acts on."""
    names = [name for name in given.touches(modalities) if name in modalities]
    touched = {name: modalities[name] for name in names}
    units = {name: m.units for name, m in touched.items()}
    if given._fit is not None:
        _require_same_units(given, units)
        return {}
    settings: dict[str, Any] = _scales(given, units)
    if given.covariance is not None:
        settings["covariance"] = _blocks(given, touched)
    frames: dict[str, arrays.Frame] = {}
    if given.on is not None:
        frames = {axis: _frame(given, axis, touched) for axis in given.axes}
        settings |= _in_frames(given, frames)
    orders = _orders(given, touched) if given.paired and touched else {}
    return settings | {"_fit": Fit(frames, orders, units)}


def _require_same_units(given: "JointDiscrepancy", units: Mapping[str, str | None]) -> None:
    known = given._fit.units if given._fit is not None else {}
    other = [name for name in units if name in known and units[name] != known[name]]
    if other:
        raise ValueError(
            f"{given.owner}: it was fitted to data of {other[0]!r} in {known[other[0]]!r}, which "
            f"are in {units[other[0]]!r} now; give the discrepancy as it was made"
        )


# ---- sizes -------------------------------------------------------------------------------------


def _scales(given: "JointDiscrepancy", units: Mapping[str, str | None]) -> dict[str, Any]:
    """Return sds and loadings in the units of the data."""
    owner = given.owner
    if isinstance(given.sd, Mapping):
        sds = {
            name: _validate.number(owner, f"sd of {name!r}", sd, units.get(name))
            for name, sd in given.sd.items()
        }
        return {"sd": sds}
    if given.of is not None:
        return {"sd": _validate.number(owner, "sd", given.sd, given.of.output_units)}
    if given.sd is None or given.covariance is not None:
        return {"sd": _validate.number(owner, "sd", given.sd, "1")}
    prior = isinstance(given.sd, Prior)
    own = given.sd.units if prior else arrays.read(owner, "sd", given.sd).units
    loadings = {
        name: _loading(owner, name, value, units.get(name), own)
        for name, value in (given.loadings or {}).items()
    }
    return {
        "sd": given.sd if prior else _validate.number(owner, "sd", given.sd),
        "loadings": loadings,
    }


def _loading(owner: str, name: str, value: Any, data: str | None, cause: str | None) -> float:
    """Return by how much a unit of the common cause changes the data."""
    wanted = f"({data})/({cause})" if data and cause else None
    what = f"loading of {name!r}"
    if wanted is None and arrays.read(owner, what, value).units:
        raise ValueError(
            f"{owner}: the {what} has units, so the sd of the common cause and the data of "
            f"{name!r} need them too"
        )
    return _validate.number(owner, what, value, wanted)


def _blocks(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the given covariance of each pair in the order and units of their data."""
    blocks = {}
    for (first, second), block in (given.covariance or {}).items():
        if first not in modalities or second not in modalities:
            blocks[first, second] = block
            continue
        rows, columns = (arrays.Axes.of(modalities[n].data) for n in (first, second))
        sides = (modalities[n].units for n in (first, second))
        blocks[first, second] = arrays.matrix(
            given.owner, f"the covariance of {first!r} and {second!r}", block, rows, columns,
            units=_units.product(*sides),
        )  # fmt: skip
    return blocks


# ---- places ------------------------------------------------------------------------------------


def _frame(given: "JointDiscrepancy", axis: str, modalities: Mapping[str, Any]) -> arrays.Frame:
    """Return the numbers in which a coordinate is counted: in the units of its length scale."""
    places = _places(given, axis, modalities)
    frames = {name: arrays.frame_of(_subject(given, name, axis), at) for name, at in places.items()}
    units, since = [f.units for f in frames.values()], [f.since for f in frames.values()]
    stated = _stated(given, axis)
    if all(s is not None for s in since) and since:
        return arrays.Frame(_of_times(given, axis, stated), _first(given, since))
    if any(s is not None for s in since):
        raise ValueError(
            f"{given.owner}: {axis!r} holds dates in one modality and numbers in another; give "
            "all alike"
        )
    spans = any(_is_span(at) for at in places.values())
    if stated is None and spans:
        _of_times(given, axis, stated)
    if stated is None and given.grid is not None:
        stated = given.grid.units.get(axis)
    if stated is not None:
        return arrays.Frame(stated)
    if not _units.all_same(units):
        raise ValueError(
            f"{given.owner}: {axis!r} is in {' and '.join(sorted(map(repr, set(units))))}, so that "
            f"its {_setting(given, axis)} needs units; give a quantity, or a DataArray with "
            'attrs["units"]'
        )
    return arrays.Frame(next((u for u in units if u), None))


def _places(given: "JointDiscrepancy", axis: str, modalities: Mapping[str, Any]) -> dict[str, Any]:
    if given.of is not None:
        return {given.of.name: given.of.coords[axis]} if axis in given.of.coords else {}
    return {n: m.data[axis] for n, m in modalities.items() if axis in m.data.coords}


def _subject(given: "JointDiscrepancy", name: str, axis: str) -> str:
    kind = "map" if given.of is not None else "modality"
    return f"{given.owner}: {kind} {name!r}: the coordinate {axis!r}"


def _is_span(places: Any) -> bool:
    return places.dtype.kind == "m"


def _setting(given: "JointDiscrepancy", axis: str) -> str:
    """Return the setting that has the units of a coordinate."""
    return "period" if given.kind(axis) == "periodic" else "length_scale"


def _stated(given: "JointDiscrepancy", axis: str) -> str | None:
    """Return the units that the length scale or the period along a coordinate states."""
    value = getattr(given, _setting(given, axis))
    if isinstance(value, Mapping):
        value = value.get(axis)
    if isinstance(value, Prior):
        return value.units
    return None if value is None else arrays.read(given.owner, _setting(given, axis), value).units


def states_units(given: "JointDiscrepancy", axis: str) -> bool:
    """Return whether the length scale, the period or the grid along a coordinate states units."""
    of_grid = given.grid is not None and axis in given.grid.units
    return of_grid or _stated(given, axis) is not None


def _of_times(given: "JointDiscrepancy", axis: str, stated: str | None) -> str:
    if stated is None:
        raise ValueError(
            f"{given.owner}: {axis!r} holds times, so that {_setting(given, axis)} needs units; "
            'give a time span, as np.timedelta64(30, "D"), or a prior as '
            'bj.Prior(pm.HalfNormal, sigma=30, units="days")'
        )
    return stated


def _first(given: "JointDiscrepancy", since: list) -> Any:
    """Return the date from which time is counted: that of the origin, or the first of the data."""
    if given.origin is not None:
        origin = arrays.frame_of(f"{given.owner}: origin", given.origin, dated=True)
        return origin.since or min(since)
    return min(since)


def _in_frames(given: "JointDiscrepancy", frames: Mapping[str, arrays.Frame]) -> dict[str, Any]:
    """Return lengths, period, origin and grid in the numbers of the coordinates."""
    owner, lengths = given.owner, given.length_scale
    settings: dict[str, Any] = {}
    if isinstance(lengths, Mapping):
        settings["length_scale"] = {
            axis: _length(given, axis, value, frames.get(axis)) for axis, value in lengths.items()
        }
    else:
        each = [_length(given, axis, lengths, frames[axis]) for axis in given.axes]
        _require_one(given, frames)
        settings["length_scale"] = each[0]
    periodic = [axis for axis in given.axes if given.kind(axis) == "periodic"]
    if given.period is not None and periodic:
        units = frames[periodic[0]].units
        settings["period"] = _validate.number(owner, "period", given.period, units)
    drifting = [axis for axis in given.axes if given.kind(axis) == "drift"]
    if given.origin is not None and drifting:
        at = arrays.coordinate(f"{owner}: origin", given.origin, frames[drifting[0]])
        settings["origin"] = float(at)
    if given.grid is not None and set(given.grid.dims) == set(frames):
        settings["grid"] = given.grid.in_frames(frames)
    return settings


def _length(given: "JointDiscrepancy", axis: str, value: Any, frame: arrays.Frame | None) -> Any:
    """Return a length scale in the numbers of its coordinate; that of a period has no units."""
    units = None if frame is None or given.kind(axis) == "periodic" else frame.units
    return _validate.number(given.owner, f"length_scale along {axis!r}", value, units)


def _require_one(given: "JointDiscrepancy", frames: Mapping[str, arrays.Frame]) -> None:
    """Raise unless one length scale has a meaning along all coordinates."""
    kinds = {frame.units for frame in frames.values()}
    if not _units.all_same(kinds):
        raise ValueError(
            f"{given.owner}: its coordinates are in {sorted(map(str, kinds))}, so that one "
            "length_scale has no meaning; give one for each coordinate, or one with units"
        )


# ---- pairs -------------------------------------------------------------------------------------


def _orders(given: "JointDiscrepancy", modalities: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return, for data paired with those of the first modality, where their labels put them."""
    names = list(modalities)
    first, orders = names[0], {}
    for name in names[1:]:
        one, other = modalities[first].data, modalities[name].data
        if one.size != other.size:
            continue  # told by the check of pairs
        order = _order(given.owner, first, name, one, other)
        if order is not None:
            orders[name] = np.argsort(order)  # of each datum of `name`: its partner in `first`
    return orders


def _order(owner: str, first: str, name: str, one: Any, other: Any) -> np.ndarray | None:
    """Return where the partners of the data of the first modality stand, None where in place."""
    shared = [c for c in one.coords if c in other.coords and one[c].ndim and other[c].ndim]
    alone = [c for c in shared if all(_flat_labels(d, [c]).is_unique for d in (one, other))]
    if len(alone) > 1:  # those that both have, if there are any
        alone = [c for c in alone if _same_labels(one, other, c)] or alone
    chosen = alone[:1] or shared
    if not chosen:
        return None
    labels, others = (_flat_labels(data, chosen) for data in (one, other))
    if labels.equals(others) or not (labels.is_unique and others.is_unique):
        return None
    units = [_units.stated(d[chosen[0]]) if len(chosen) == 1 else None for d in (one, other)]
    where = arrays.matched(owner, others, units[1], labels, units[0])
    if np.all(where >= 0):
        return None if np.array_equal(where, np.arange(one.size)) else where
    if np.any(where >= 0):
        names = ", ".join(map(repr, chosen))
        warn(
            f"{owner}: the data of {name!r} and {first!r} have some values of {names} in common "
            f"and others not; they are paired by index. State on={chosen[0]!r}, or rename the "
            "coordinate of one, if that is meant"
        )
    return None


def _same_labels(one: Any, other: Any, name: Any) -> bool:
    return set(_flat_labels(one, [name])) == set(_flat_labels(other, [name]))


def _flat_labels(data: Any, names: list) -> pd.Index:
    """Return the labels of all data, in C order."""
    columns = [data[n].broadcast_like(data).transpose(*data.dims).values.ravel() for n in names]
    return pd.Index(columns[0]) if len(columns) == 1 else pd.MultiIndex.from_arrays(columns)
