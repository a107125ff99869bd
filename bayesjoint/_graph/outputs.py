"""What users' functions return: plain numbers of one form with their labels, or a tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytensor.tensor as pt
import xarray as xr
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RNGConsumerOp

from bayesjoint import arrays

WHAT = "its output"


class MapFault(ValueError):
    """A fault of a map that no other point mends."""


@dataclass(frozen=True, eq=False)
class Output:
    """The form of a map's output.

    Attributes
    ----------
    given : Given
        The first output: its shape, labels and units are those of all.
    positions : DataArray, Series or DataFrame, optional
        Labelled as the output is, with the position of each number in the flat output; None where
        it is not labelled.
    """

    given: arrays.Given
    positions: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return self.given.values.shape

    @property
    def units(self) -> str | None:
        """Units that the output states."""
        return self.given.units

    def order_of(self, name: str, axes: arrays.Axes) -> np.ndarray | None:
        """Return which number of the flat output belongs to each place, in the shape of the axes.

        None where the output of the map, of that name, is not labelled.

        Raises
        ------
        ValueError
            When it has other dims, or lacks labels of the place.
        """
        if self.positions is None:
            return None
        order = arrays.aligned(f"map {name!r}", WHAT, self.positions, axes, broadcast=False)
        return order.astype(int)

    @property
    def axes(self) -> arrays.Axes:
        """Its own dims and labels, for another output to be brought into their order."""
        given = self.given
        dims = given.dims or tuple(f"axis {i}" for i in range(given.values.ndim))
        return arrays.Axes(
            "an earlier output", dims, given.labels, given.values.shape, given.label_units
        )


def read(name: str, returned: Any) -> tuple[np.ndarray, Output]:
    """Return the numbers in what the map of that name returned, a new array, and their form.

    Masked values are NaN.

    Raises
    ------
    MapFault
        When it holds no real numbers.
    """
    given = _given(name, returned)
    positions = None
    if isinstance(returned, xr.DataArray):
        places = np.arange(returned.size, dtype=float).reshape(returned.shape)
        positions = returned.copy(data=places).drop_attrs(deep=False)
    elif isinstance(returned, pd.Series | pd.DataFrame):
        places = np.arange(returned.size, dtype=float).reshape(returned.shape)
        axes = {"columns": returned.columns} if returned.ndim == 2 else {}
        positions = type(returned)(places, index=returned.index, **axes)
        if all(labels is None for labels in given.labels):
            positions = None
    return given.values, Output(given, positions)


def _given(name: str, returned: Any) -> arrays.Given:
    owner = f"map {name!r}"
    if returned is None:
        raise MapFault(f"{owner}: the function returned None; is a return missing?")
    if arrays.is_tensor(returned):
        raise MapFault(
            f"{owner}: the function returned a tensor of PyTensor; make the map with "
            "bj.pytensor_map"
        )
    try:
        return arrays.read(owner, WHAT, returned, missing=True)
    except ValueError as error:
        told = str(error)
        if not told.startswith(owner):  # NumPy's own
            told = f"{owner}: {WHAT} is no array of numbers: {told}"
        raise MapFault(told) from None


def in_form(name: str, returned: Any, form: Output) -> np.ndarray:
    """Return the numbers that a map returned, in the form of an earlier output of it.

    Raises
    ------
    MapFault
        When the shape, the dims or the labels are other ones.
    """
    given = _given(name, returned)
    if given.values.shape == form.shape and _same_labels(given, form.given):
        return given.values
    if given.values.shape != form.shape and form.positions is None:
        raise MapFault(
            f"map {name!r}: the output has shape {given.values.shape} at one point, {form.shape} "
            "at another; it must not depend on the values"
        )
    try:
        return arrays.aligned(
            f"map {name!r}", WHAT, returned, form.axes, units=form.units, missing=True, exact=True,
            broadcast=False,
        )  # fmt: skip
    except ValueError as error:
        raise MapFault(str(error)) from None


def _same_labels(given: arrays.Given, before: arrays.Given) -> bool:
    return (
        given.dims == before.dims
        and given.units == before.units
        and all(
            now is then or (now is not None and then is not None and now.equals(then))
            for now, then in zip(given.labels, before.labels, strict=True)
        )
    )


def action(name: str, what: str, returned: Any) -> np.ndarray:
    """Return the numbers that a part of a derivative returned, in the precision they came in.

    Raises
    ------
    MapFault
        When it holds no real numbers.
    """
    if type(returned) is np.ndarray and returned.dtype.kind in "fiub":
        return returned
    if returned is None:
        raise MapFault(f"map {name!r}: {what} returned None; is a return missing?")
    try:
        values = arrays.read(f"map {name!r}", f"what {what} returned", returned, missing=True)
    except ValueError as error:
        raise MapFault(str(error)) from None
    single = getattr(returned, "dtype", None) in (np.float32, np.float16)
    return values.values.astype(returned.dtype) if single else values.values


def tensor(owner: str, function: Callable, *given: Any, **settings: Any) -> Any:
    """Return the tensor that a user's function makes of tensors.

    Raises
    ------
    MapFault
        When it fails, or makes no tensor of real numbers that follows from those alone.
    """
    try:
        returned = function(*given, **settings)
    except MemoryError:
        raise
    except Exception as error:  # whatever a user's code raises
        raise MapFault(
            f"{owner}: the function fails with {type(error).__name__}: {error}"
        ) from error
    if returned is None:
        raise MapFault(f"{owner}: the function returned None; is a return missing?")
    try:
        made = pt.as_tensor(returned)
    except Exception:  # PyTensor has an error of its own for each kind of object
        raise MapFault(
            f"{owner}: the function returned {kind(returned)}, which is no tensor; let it return "
            "one, as pt.stack([...]) makes of several"
        ) from None
    _require_own(owner, made, [*given, *settings.values()])
    return made


def kind(returned: Any) -> str:
    """Return what was returned, in words of a message."""
    held = f" of {returned.dtype}" if isinstance(returned, np.ndarray) else ""
    return f"a {type(returned).__name__}{held}"


def _require_own(owner: str, made: Any, given: Sequence[Any]) -> None:
    """Raise unless a tensor is one of real numbers that follows from what was given alone."""
    dtype = made.type.dtype
    if dtype.startswith("complex"):
        raise MapFault(
            f"{owner}: the function returned complex numbers; stack real and imaginary part"
        )
    own = {id(variable) for variable in given}
    upstream = list(ancestors([made], blockers=[v for v in given if arrays.is_tensor(v)]))
    for variable in upstream:
        if id(variable) in own:
            continue
        if variable.owner is not None and isinstance(variable.owner.op, RNGConsumerOp):
            raise MapFault(
                f"{owner}: the function returned a random tensor; let it follow from its arguments"
            )
        if variable.owner is None and not isinstance(variable, Constant | SharedVariable):
            raise MapFault(
                f"{owner}: the function uses the tensor {variable.name or 'without a name'!r}, "
                "which is none of its arguments; let it follow from these, or give it a value"
            )
    if not dtype.startswith("float") and any(id(variable) in own for variable in upstream):
        raise MapFault(
            f"{owner}: the function returned numbers of {dtype}, which have no derivative; let it "
            "return floating-point numbers"
        )


def sizes_agree(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Tell whether two shapes differ in axes of length one alone."""
    return [n for n in shape if n != 1] == [n for n in other if n != 1]
