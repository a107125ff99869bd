"""Draws of two fields that follow a mixture of two rock units, to try the reports on."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesjoint._kernels.mixture import GaussianMixture, correlation_factors

ROCKS = GaussianMixture(
    proportions=np.array([0.6, 0.4]),
    means=np.array([[2.2, 2150.0], [4.2, 2650.0]]),
    sds=np.array([[0.4, 90.0], [0.5, 70.0]]),
    factors=correlation_factors(np.array(0.4), 2, 2),
)


def example_units(draws: int = 40, spread: float = 0.4, seed: int = 0) -> xr.DataTree:
    """Return draws of ``velocity`` and ``density``: sediment over basement, on (depth, x).

    Parameters
    ----------
    draws : int
        Draws in each of two chains.
    spread : float
        Of the standard fields around a dome, the same in every draw: the smaller, the surer is the
        unit of each cell.
    seed : int

    Returns
    -------
    xarray.DataTree
        Groups ``posterior``, and ``linearization`` with what is stored of the mixture ``rocks``.

    Examples
    --------
    >>> from bayesjoint.reports.example_units import example_units
    >>> list(example_units()["posterior"].data_vars)
    ['velocity', 'density']
    """
    random = np.random.default_rng(seed)
    depth, x = np.arange(50.0, 650.0, 50.0), np.arange(0.0, 800.0, 50.0)
    dome = (depth[:, None] - 300.0 - 1e-3 * (x - 400.0) ** 2) / 150.0
    smooth = [np.exp(-(((axis[:, None] - axis) / 120.0) ** 2)) for axis in (depth, x)]
    smooth = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in smooth]
    noise = smooth[0] @ random.standard_normal((2 * draws, 2, depth.size, x.size)) @ smooth[1].T
    standard = np.stack([dome + spread * noise[:, 0], noise[:, 1]], axis=-1)
    values = ROCKS.forward(standard.reshape(-1, 2)).reshape(2, draws, depth.size, x.size, 2)
    axes = {"depth": ("depth", depth, {"units": "m"}), "x": ("x", x, {"units": "m"})}
    units = {"velocity": "km/s", "density": "kg/m3"}
    posterior = xr.Dataset(
        {
            name: (("chain", "draw", "depth", "x"), values[..., i], {"units": units[name]})
            for i, name in enumerate(units)
        },
        axes,
    )
    return xr.DataTree.from_dict(
        {"posterior": posterior, "linearization": _linearization(posterior, list(units))}
    )


def _linearization(posterior: xr.Dataset, fields: list[str]) -> xr.Dataset:
    stored = {
        "rocks_unit_proportion": ("rocks_unit", ROCKS.proportions),
        "rocks_unit_mean": (("rocks_unit", "rocks_property"), ROCKS.means),
        "rocks_unit_sd": (("rocks_unit", "rocks_property"), ROCKS.sds),
        "rocks_unit_factor": (
            ("rocks_unit", "rocks_property", "rocks_before"), np.array(ROCKS.factors),
        ),
    }  # fmt: skip
    labels = {"rocks_unit": ["sediment", "basement"], "rocks_property": fields}
    at = posterior.isel(chain=0, draw=0, drop=True)
    return at.assign(stored).assign_coords(labels).assign_attrs(
        latents=fields, hyperparameters=[], mixtures=["rocks"], powers=[1.0], modalities=["seen"],
        at="map",
    ).assign_coords(modality=["seen"])  # fmt: skip
