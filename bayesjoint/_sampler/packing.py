"""Datasets as plain arrays and plain attributes, and back: nothing is read as something else.

xarray takes some attributes for instructions to decode (``scale_factor``, ``_FillValue``, units
``days since ...``), and arrays of a store hold numbers and text only.  What is neither plain nor
harmless is written down as JSON in one attribute of its variable, `NOTE`; the rest stays where any
reader finds it.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.indexes import PandasMultiIndex

from bayesjoint._sampler.plain import NotPlain, from_json, to_json

NOTE = "bayesjoint"
# Attributes that xarray, or the conventions it follows, take for instructions.
MEANT = {"scale_factor", "add_offset", "_FillValue", "missing_value", "dtype", "calendar",
         "coordinates", "grid_mapping", "bounds", "climatology", "geometry", "node_coordinates",
         "node_count", "part_node_count", "interior_ring", "cell_measures", "formula_terms",
         "ancillary_variables", "_Unsigned", "_Encoding", "_ARRAY_DIMENSIONS", "char_dim_name",
         "flag_values", "compress", NOTE}  # fmt: skip
REWRITTEN = {"scale_factor", "add_offset", "_FillValue", "missing_value"}  # by other writers
SINCE = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
Packed = tuple[dict[str, xr.Variable], dict[str, Any]]
AS_THEY_ARE = {np.dtype(kind) for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8",
                                           "f2", "f4", "f8", "c8", "c16")}  # fmt: skip


def packed(dataset: xr.Dataset) -> Packed:
    """Return plain arrays and attributes of a dataset; `unpacked` makes it of them.

    Raises
    ------
    ValueError
        When values are of a type that cannot be written down.
    """
    stacked = _multi_indices(dataset)
    variables = {
        str(name): _packed_variable(str(name), variable)
        for name, variable in dataset.variables.items()
        if name not in stacked  # made of their levels
    }
    levels = [name for names in stacked.values() for name in names]
    plain = [str(c) for c in dataset.coords if c not in {*stacked, *levels}]
    note: dict[str, Any] = {"coords": plain}
    if stacked:
        note["stacked"] = stacked
    attrs = _packed_attrs(dataset.attrs, note)
    beside = [c for c in [*plain, *levels] if c not in dataset.dims and " " not in c]
    if beside:
        attrs["coordinates"] = " ".join(beside)  # for other readers
    return variables, attrs


def unpacked(variables: dict[str, xr.Variable], attrs: dict[str, Any]) -> xr.Dataset:
    """Return the dataset that was `packed`."""
    note = json.loads(attrs[NOTE])
    arrays = {name: _unpacked_variable(variable) for name, variable in variables.items()}
    levels = [name for names in note.get("stacked", {}).values() for name in names]
    coords = {name: arrays.pop(name) for name in [*note["coords"], *levels]}
    result = xr.Dataset(arrays, coords, _unpacked_attrs(attrs, note))
    for levels in note.get("stacked", {}).values():
        result = result.set_xindex(levels, PandasMultiIndex)
    return result


def guarded(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree that xarray refuses to write where it would read other numbers back.

    Values of an attribute ``scale_factor`` are not scaled, but what xarray writes with it, it
    scales on reading.  It raises where encoding and attributes hold the same key.
    """
    for node in tree.subtree:
        for variable in node.to_dataset(inherit=False).variables.values():
            clashing = {key: value for key, value in variable.attrs.items() if key in REWRITTEN}
            variable.encoding.update(clashing)
    return tree


def not_storable(dataset: xr.Dataset) -> Iterator[str]:
    """Give a sentence for each attribute that a store keeps as text, for want of a better form."""
    for owner, attrs in [("", dataset.attrs), *_attrs_of_variables(dataset)]:
        for key, value in attrs.items():
            try:
                to_json(value)
            except NotPlain as error:
                yield f"attribute {key!r}{owner} is of type {error}"


def _attrs_of_variables(dataset: xr.Dataset) -> list[tuple[str, dict]]:
    return [(f" of {str(name)!r}", v.attrs) for name, v in dataset.variables.items()]


def _multi_indices(dataset: xr.Dataset) -> dict[str, list[str]]:
    """Return the levels of each dim that has several, in their order."""
    found: dict[str, list[str]] = {}
    for index, variables in dataset.xindexes.group_by_index():
        if isinstance(index, PandasMultiIndex):
            found[str(index.dim)] = [str(name) for name in variables if name != index.dim]
    return found


# ---- attributes ----------------------------------------------------------------------------------


def _packed_attrs(attrs: dict, note: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that any reader may see, and the note, if there is anything in it."""
    harmless = {key: value for key, value in attrs.items() if _is_harmless(key, value)}
    if len(harmless) < len(attrs):
        note = note | {"attrs": to_json({key: _or_text(value) for key, value in attrs.items()})}
    return harmless | ({NOTE: json.dumps(note)} if note else {})


def _unpacked_attrs(attrs: dict, note: dict[str, Any]) -> dict:
    if "attrs" in note:
        return from_json(note["attrs"])
    return {key: value for key, value in attrs.items() if key not in (NOTE, "coordinates")}


def _is_harmless(key: Any, value: Any) -> bool:
    if type(key) is not str or key in MEANT:
        return False
    if key == "units" and " since " in str(value):
        return False
    return _is_bare(value) or (type(value) is list and all(map(_is_bare, value)))


def _is_bare(value: Any) -> bool:
    return type(value) in (str, int) or (type(value) is float and bool(np.isfinite(value)))


def _or_text(value: Any) -> Any:
    try:
        to_json(value)
    except NotPlain:
        return str(value)
    return value


# ---- values --------------------------------------------------------------------------------------


def _packed_variable(name: str, variable: xr.Variable) -> xr.Variable:
    values, note = _packed_values(name, variable)
    attrs = _packed_attrs(variable.attrs, note)
    if values.dtype == np.int64 and note.get("ticks", "").startswith("<M8"):
        unit = SINCE[np.datetime_data(note["ticks"])[0]]
        note = note | {"attrs": to_json({k: _or_text(v) for k, v in variable.attrs.items()})}
        attrs |= {NOTE: json.dumps(note), "units": f"{unit} since 1970-01-01"}  # other readers
    return xr.Variable([str(dim) for dim in variable.dims], values, attrs)


def _packed_values(name: str, variable: xr.Variable) -> tuple[Any, dict[str, Any]]:
    """Return values that a store holds, and how they are restored."""
    dtype = variable.dtype
    if isinstance(dtype, np.dtype):
        if dtype.newbyteorder("=") in AS_THEY_ARE or dtype.kind == "U":
            return variable.values.astype(dtype.newbyteorder("="), copy=False), {}
        if dtype.kind in "mM":
            return variable.values.view(np.int64), {"ticks": dtype.newbyteorder("<").str}
        return _as_json(name, variable.values), {"items": "object"}
    labels = pd.array(variable.to_index() if variable.ndim == 1 else variable.values, dtype=dtype)
    if isinstance(dtype, pd.CategoricalDtype):
        categories = to_json(_plain_list(name, dtype.categories))
        return np.asarray(labels.codes), {"categories": categories, "ordered": dtype.ordered}
    return _as_json(name, np.asarray(labels, dtype=object)), {"items": str(dtype)}


def _as_json(name: str, values: np.ndarray) -> np.ndarray:
    """Return objects as text, each in JSON."""
    texts = [json.dumps(item) for item in to_json(_plain_list(name, values.ravel()))]
    return np.array(texts, dtype=str).reshape(values.shape)


def _plain_list(name: str, values: Any) -> list:
    items = list(values)
    for item in items:
        try:
            to_json(item)
        except NotPlain as error:
            raise ValueError(
                f"coordinate or data {name!r}: values of type {error} cannot be stored; make them "
                "numbers, text or times"
            ) from None
    return items


def _unpacked_variable(variable: xr.Variable) -> xr.Variable:
    if NOTE not in variable.attrs:
        return variable
    note = json.loads(variable.attrs[NOTE])
    attrs = _unpacked_attrs(variable.attrs, note)
    if set(note) == {"attrs"}:
        return xr.Variable(variable.dims, variable._data, attrs)
    return xr.Variable(variable.dims, _unpacked_values(variable.values, note), attrs)


def _unpacked_values(values: np.ndarray, note: dict[str, Any]) -> Any:
    if "ticks" in note:
        return values.view(note["ticks"])
    if "categories" in note:
        kind = pd.CategoricalDtype(from_json(note["categories"]), note["ordered"])
        return pd.Categorical.from_codes(values, dtype=kind)
    items = [from_json(json.loads(text)) for text in values.ravel().tolist()]
    if note["items"] != "object":
        return pd.Index(items, dtype=note["items"])
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(values.shape)
