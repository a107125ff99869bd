"""Which rock unit each cell belongs to, by the mixture that the prior of its properties is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesjoint import arrays
from bayesjoint._kernels.differences import cell_widths
from bayesjoint._kernels.mixture import GaussianMixture, correlation_factors
from bayesjoint._names import labelled, user
from bayesjoint.reports import _read

MOST = 1000  # draws, evenly spread


@labelled
def membership(dt: xr.DataTree, mixture: str | None = None) -> xr.Dataset:
    """Return the probability that each cell belongs to each unit of a `bj.PropertyMixture`.

    Parameters
    ----------
    dt : xarray.DataTree
        From ``bj.sample``, or from ``bj.linearize`` alone: then at the mode, which tells nothing of
        how far the properties may be from there (``local`` is 1 in the attrs).
    mixture : str, optional
        Name of the mixture; needed where there are several.

    Returns
    -------
    xarray.Dataset
        On ``unit`` and the dims of the fields, dimensionless:

        - ``probability`` (unit, ...): posterior probability, the mean over draws of that given the
          properties of the cell; adds up to one over the units;
        - ``most_likely`` (...): label of the unit with the highest probability;
        - ``entropy`` (...), nats: 0 where the unit is certain, log K where all are as likely;
        - ``prior_probability`` (unit): the same of every cell before the data, the proportions;
          their prior mean where they are unknown (at the mode when there are no prior draws);
        - ``share`` (unit): expected share of the volume.

        Attrs: ``mixture``, ``at`` ("draws", "map" ...), ``local``, ``draws``.  At most 1,000 draws,
        evenly spread.

    Raises
    ------
    ValueError
        When the problem has no mixture, or several and none is named.

    Notes
    -----
    ``P(k | x) = proportion_k N(x; mean_k, S_k) / sum_j proportion_j N(x; mean_j, S_j)`` with the
    properties x of the cell and, where they are unknown, the parameters of the same draw.

    Examples
    --------
    >>> from bayesjoint.reports import membership
    >>> from bayesjoint.reports.example_units import example_units
    >>> report = membership(example_units())
    >>> report["probability"].dims, report["unit"].values.tolist()
    (('unit', 'depth', 'x'), ['sediment', 'basement'])
    """
    ds = _read.linearization(dt)
    name = _name(ds, mixture)
    fields = [str(field) for field in ds[f"{name}_property"].values]
    sampled = _read.has_groups(dt, "posterior")
    draws = _of_posterior(dt, ds, name, fields) if sampled else _of_points(ds, name, fields)
    grid = _read.template(ds, fields[0])
    units = [str(label) for label in ds[user(f"{name}_unit")].values]
    mean = np.mean([m.responsibilities(x) for m, x in draws.pairs()], axis=0).T
    probability = xr.DataArray(
        mean.reshape(len(units), *grid.shape), {"unit": units, **grid.coords}, ("unit", *grid.dims)
    )
    likely = np.array(units)[probability.argmax("unit").values]
    logs = np.log(probability.where(probability > 0, 1.0))
    volumes = np.ones(())
    for dim in grid.dims:
        volumes = np.multiply.outer(volumes, cell_widths(arrays.coordinate(str(dim), grid[dim])))
    report = xr.Dataset(
        {
            "probability": probability,
            "most_likely": (grid.dims, likely),
            "entropy": -(probability * logs).sum("unit").assign_attrs(units="nat"),
            "prior_probability": ("unit", _prior(dt, ds, name)),
            "share": ("unit", (mean @ (volumes / volumes.sum()).ravel())),
        }
    )
    at = "draws" if sampled else str(ds.attrs.get("at", "map"))
    return report.assign_attrs(
        report="membership", mixture=name, fields=fields, at=at, local=int(at != "draws"),
        draws=len(draws.proportions), tempered=_read.tempered(ds),
    )  # fmt: skip


@dataclass(frozen=True)
class Draws:
    """Draws of properties (draw, cell, property), and of the parameters of their mixture."""

    values: np.ndarray
    proportions: np.ndarray
    means: np.ndarray
    sds: np.ndarray
    factors: np.ndarray

    def pairs(self):
        """Return each mixture, and the properties of the same draw."""
        parameters = (self.proportions, self.means, self.sds, self.factors)
        for values, *numbers in zip(self.values, *parameters, strict=True):
            yield GaussianMixture(*numbers), values


def _name(ds: xr.Dataset, mixture: str | None) -> str:
    known = [str(name) for name in _read.listed(ds, "mixtures")]
    if not known:
        raise ValueError(
            "membership needs a mixture of units; put a bj.PropertyMixture among the couplings of "
            "the problem"
        )
    if mixture is None and len(known) > 1:
        raise ValueError(f"there are several mixtures, {', '.join(known)}; name one by mixture=")
    if mixture is not None and mixture not in known:
        raise ValueError(f"there is no mixture '{mixture}'; there is {', '.join(known)}")
    return mixture or known[0]


def _stored(ds: xr.Dataset, name: str, what: str) -> np.ndarray:
    """Return parameters at the point, or at several, these in front."""
    values = ds[f"{name}_unit_{what}"]
    return values.values if "point" in values.dims else values.values[None]


def _of_points(ds: xr.Dataset, name: str, fields: list[str]) -> Draws:
    count = ds.sizes.get("point", 1)
    values = [ds[user(f)].values.reshape(count, -1) for f in fields]
    parameters = [_stored(ds, name, what) for what in ("proportion", "mean", "sd", "factor")]
    return Draws(np.stack(values, axis=-1), *parameters)


def _of_posterior(dt: xr.DataTree, ds: xr.Dataset, name: str, fields: list[str]) -> Draws:
    group = _read.group(dt, "posterior")
    total = group.sizes["chain"] * group.sizes["draw"]
    step = -(-total // MOST)

    def drawn(variable: str) -> np.ndarray:
        values = group[variable].transpose("chain", "draw", ...).values
        return values.reshape(total, *values.shape[2:])[::step]

    values = np.stack([drawn(f).reshape(-1, ds[user(f)].size) for f in fields], axis=-1)
    count = len(values)
    known = {
        what: np.repeat(_stored(ds, name, what)[:1], count, axis=0)
        for what in ("proportion", "mean", "sd", "factor")
    }
    if f"{name}_proportions" in group:
        known["proportion"] = drawn(f"{name}_proportions")
    for i, field in enumerate(fields):
        for what in ("mean", "sd"):
            if f"{name}_{what}_{field}" in group:
                known[what][..., i] = drawn(f"{name}_{what}_{field}")
    if f"{name}_correlation" in group:
        size = known["mean"].shape[1:]
        given = drawn(f"{name}_correlation")
        known["factor"] = np.stack([correlation_factors(c, *size) for c in given])
    return Draws(values, known["proportion"], known["mean"], known["sd"], known["factor"])


def _prior(dt: xr.DataTree, ds: xr.Dataset, name: str) -> np.ndarray:
    key = f"{name}_proportions"
    if _read.has_groups(dt, "prior") and key in (drawn := _read.group(dt, "prior")):
        return drawn[key].mean(("chain", "draw")).values
    return _stored(ds, name, "proportion").mean(axis=0)
