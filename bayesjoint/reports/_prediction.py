"""A number that the latents determine: a sum of weights times their cells, and its variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._names import plain
from bayesjoint.reports import _read

SMALLEST = 1e-100  # weight of a prediction
DRAWS_NEEDED = (
    "its variance needs the whole prior, which is not stored above 2,000 unknowns, or draws: "
    "sample the problem with bj.sample, or predict a single cell"
)


@dataclass(frozen=True)
class Prediction:
    """Weights on all cells.

    Attributes
    ----------
    along : ndarray, shape (mode,)
        Change of the prediction along each direction of the linearization.
    """

    name: str
    units: str
    weights: dict[str, np.ndarray]  # latent -> one weight a cell
    ds: xr.Dataset
    along: np.ndarray

    def variance(self, dt: xr.DataTree) -> float:
        """Return the posterior variance."""
        if self._cell is not None:
            cell, weight = self._cell
            return float(weight**2 * _read.variance_of_cells(self.ds).values[cell])
        if complete(self.ds):
            return float(np.sum(self.along**2 * _read.left(self.ds).values))
        return float(np.var(of_draws(dt, "posterior", self.weights)))

    def prior_variance(self, dt: xr.DataTree) -> float:
        """Return the variance under the coupled prior."""
        if complete(self.ds):
            return float(np.sum(self.along**2))
        if self._cell is not None:
            cell, weight = self._cell
            return float((weight * self.ds["prior_sd"].values[cell]) ** 2)
        return float(np.var(of_draws(dt, "prior", self.weights)))

    @property
    def _cell(self) -> tuple[int, float] | None:
        """The only cell with a weight, and that weight."""
        flat = on_cells(self.ds, self.weights)
        chosen = np.flatnonzero(flat)
        return (int(chosen[0]), float(flat[chosen[0]])) if chosen.size == 1 else None


def complete(ds: xr.Dataset) -> bool:
    """Tell whether all directions are stored, and with them the covariance of the prior."""
    return ds.sizes["mode"] == ds.sizes["unknown"]


def functional(ds: xr.Dataset, given: str | xr.DataArray | Mapping[str, Any]) -> Prediction:
    """Return the prediction that a user names or gives weights of."""
    if isinstance(given, str):
        _require_latent(ds, given)
        if _read.template(ds, given).ndim:
            raise ValueError(
                f"'{given}' is a field; give weights on its dims "
                f"{_read.own_dims(ds, given)}, as in xr.zeros_like({given}) with ones where asked"
            )
        given = {given: 1.0}
    elif isinstance(given, xr.DataArray):
        if given.name is None:
            raise ValueError("the weights have no name; name the array after its latent")
        given = {str(given.name): given}
    weights = {name: _weights(ds, name, values)[0] for name, values in named(given).items()}
    if any(flat.ndim > 1 for flat in weights.values()):
        raise ValueError(
            "prediction: the weights have more dims than the latent; give one weight a cell"
        )
    flat = np.concatenate([np.ravel(each) for each in weights.values()])
    if not SMALLEST < np.abs(flat).max() < 1.0 / SMALLEST:
        raise ValueError(
            f"prediction: the largest weight is {np.abs(flat).max():g}; give weights that are not "
            "all zero, and of a size whose square is a number"
        )
    along = ds["physical_vectors"].values.T @ on_cells(ds, weights)
    single = next(iter(weights)) if len(weights) == 1 else ""
    scalar = bool(single) and not _read.template(ds, single).ndim
    units = _read.units(ds, single) if scalar else ""
    name = single if scalar else f"the sum over {' and '.join(weights)}"
    return Prediction(name, units, weights, ds, along)


def named(given: Any) -> dict[str, Any]:
    """Return weights by the names of latents."""
    if not isinstance(given, Mapping) or isinstance(given, xr.DataTree) or not len(given):
        raise ValueError(
            f"prediction is of type {type(given).__name__}; name a latent, or give weights by the "
            'names of latents, as {"density": weights}'
        )
    return dict(given)


def responses(
    dt: xr.DataTree, ds: xr.Dataset, target: Prediction, given: Mapping[str, Any]
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return covariance with the prediction, variance, and what is left of the prediction's.

    Of candidates, on their further dims; left is what stays of its variance when a candidate is
    known without error, found by projection: no difference of large numbers.
    """
    laid = {name: _weights(ds, name, values) for name, values in named(given).items()}
    first = max(laid, key=lambda name: laid[name][1].ndim)
    template = laid[first][1]
    parts = {
        name: flat.reshape(flat.shape[0], -1)[:, _order(name, own, first, template)]
        for name, (flat, own) in laid.items()
    }
    if complete(ds):
        share = _read.left(ds).values
        along = ds["physical_vectors"].values.T @ on_cells(ds, parts)  # (mode, candidate)
        weights, prediction, others = share, target.along, along
    else:
        values = of_draws(dt, "posterior", target.weights)
        seen = of_draws(dt, "posterior", parts)
        centred = seen - seen.mean(axis=0)
        weights = np.full(len(values), 1.0 / (len(values) - 1))
        prediction, others = values - values.mean(), centred
    crossed, spread = (prediction * weights) @ others, weights @ others**2
    slope = np.divide(crossed, spread, out=np.zeros_like(spread), where=spread > 0)
    apart = weights @ (prediction[:, None] - others * slope) ** 2
    return tuple(template.copy(data=v.reshape(template.shape)) for v in (crossed, spread, apart))  # type: ignore[return-value]


def _order(name: str, own: xr.DataArray, first: str, template: xr.DataArray) -> np.ndarray:
    """Return which candidate of one latent is which of another, by their labels."""
    if set(own.dims) != set(template.dims) or own.size != template.size:
        raise ValueError(
            f"candidates of '{name}' lie on {_plain_dims(own)} {own.shape}, of '{first}' on "
            f"{_plain_dims(template)} {template.shape}; give all the same dims"
        )
    places = _read.as_given(own.copy(data=np.arange(float(own.size)).reshape(own.shape)))
    axes = arrays.Axes.of(_read.as_given(template), f"those of '{first}'")
    what = f"candidates of '{name}'"
    order = arrays.aligned(
        "data_worth", what, places.drop_attrs(deep=False), axes, exact=True, broadcast=False
    )
    return order.astype(int).ravel()


def _plain_dims(values: xr.DataArray) -> tuple[str, ...]:
    return tuple(map(plain, values.dims))


def on_cells(ds: xr.Dataset, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return weights of all cells, zero where none are given; further axes behind."""
    first = next(iter(weights.values()))
    flat = np.zeros((ds.sizes["cell"], *first.shape[1:]))
    for name, values in weights.items():
        flat[_read.cells_of(ds, name)] = values
    return flat


def of_draws(dt: xr.DataTree, group: str, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the prediction of every draw (draw, ...) of a group."""
    if not _read.has_groups(dt, group):
        raise ValueError(DRAWS_NEEDED)
    draws, ds = dt[group].to_dataset(), _read.linearization(dt)
    total: Any = 0.0
    for name, values in weights.items():
        array = draws[name].transpose("chain", "draw", *_read.own_dims(ds, name)).values
        total = total + array.reshape(array.shape[0] * array.shape[1], -1) @ values
    return total


def _require_latent(ds: xr.Dataset, name: str) -> None:
    if name not in _read.latents(ds):
        raise ValueError(
            f"there is no latent '{name}'; this problem has {', '.join(_read.latents(ds))}"
        )


def _weights(ds: xr.Dataset, name: str, values: Any) -> tuple[np.ndarray, xr.DataArray]:
    """Return weights (cell, further axes), and an array on the further dims."""
    _require_latent(ds, name)
    own = _read.as_given(_read.template(ds, name))
    axes, what = arrays.Axes.of(own, f"the latent '{name}'"), f"weights of '{name}'"
    if not isinstance(values, xr.DataArray):
        flat = arrays.aligned("data_worth", what, values, axes, broadcast=False)
        return _finite(what, flat).reshape(own.size), xr.DataArray(0.0)
    missing = [dim for dim in own.dims if dim not in values.dims]
    if missing:
        raise ValueError(f"weights of '{name}' lack the dims {missing}; it lies on {own.dims}")
    further = [str(dim) for dim in values.dims if dim not in own.dims]
    template = values.isel(dict.fromkeys(own.dims, 0), drop=True).transpose(*further)
    both = arrays.Axes.of(own.expand_dims({dim: values[dim] for dim in further}), axes.owner)
    flat = arrays.aligned(
        "data_worth", what, values, both.part([*axes.dims, *further]), exact=True, broadcast=False
    )
    return _finite(what, flat).reshape(own.size, *template.shape), _read.of_user(template)


def _finite(what: str, weights: np.ndarray) -> np.ndarray:
    if not np.all(np.isfinite(weights)):
        raise ValueError(f"{what} are not finite; give a number for each cell")
    return weights
