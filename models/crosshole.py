"""Two tomographies of one section that see different edges: seismic and radar slowness.

A section between two boreholes, with a gallery below.  Seismic rays run between the boreholes, and
see where things lie in depth; radar rays run from the surface to the gallery, and see where they
lie along the section.  Two blocks, a loose and a dense one: loose ground slows the seismic wave
and, being dry, speeds up the radar wave.  Neither data set has what the other has; the coupling
decides how much of it they share.

    seismic -> lengths of nearly horizontal rays in cells (ray)    shots
       |  cross-gradient, joint sparsity, correlated fields, or a relation
    radar   -> lengths of nearly vertical rays in cells (ray)      traces

Lengths are in m, depth downwards; seismic slowness in ms/m, radar slowness in ns/m, times in ms and
ns.  Data are simulated.
"""

from typing import Any

import numpy as np
import xarray as xr

import bayesjoint as bj

WIDTH, DEPTH = 24.0, 16.0  # of the section
SIDES = 6  # sources along one side and receivers along the other: 36 rays each
SEEN = {"shots": "seismic", "traces": "radar"}
UNITS = {"shots": "ms", "traces": "ns"}
PRIOR = {
    "seismic": {"mean": 0.5, "sd": 0.1, "length_scale": 6.0, "units": "ms/m"},
    "radar": {"mean": 10.0, "sd": 1.5, "length_scale": 6.0, "units": "ns/m"},
}
# Left, right, top and bottom of each block, m, and by how many sd it departs in both properties.
BLOCKS = {
    "loose": {"box": (3.0, 11.0, 2.0, 8.0), "seismic": 1.0, "radar": -1.2},
    "dense": {"box": (13.0, 21.0, 8.0, 14.0), "seismic": -1.0, "radar": 0.8},
}
WALL = {"box": (9.0, 15.0, 2.0, 14.0), "radar": 1.0}  # seen by radar alone
COUPLINGS = ("none", "cross_gradient", "correlated", "relation")


def ray_lengths(starts: np.ndarray, ends: np.ndarray, faces: list[np.ndarray]) -> np.ndarray:
    """Return the length of each straight ray in each cell, shape (ray, cell).

    Parameters
    ----------
    starts, ends : array, shape (ray, 2)
        Ends of the rays, depth and x, within the grid, not along a face.
    faces : list of array
        Faces of the cells along depth and x.

    Notes
    -----
    A ray is cut where it crosses a face; the middle of each piece tells its cell.

    Examples
    --------
    >>> faces = [np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0])]
    >>> ray_lengths(np.array([[0.5, 0.0]]), np.array([[0.5, 3.0]]), faces)
    array([[1., 2., 0., 0.]])
    """
    shape = tuple(len(f) - 1 for f in faces)
    lengths = np.zeros((len(starts), *shape))
    for ray, (start, end) in enumerate(zip(starts, ends, strict=True)):
        along = end - start
        crossings = [(f - s) / a for f, s, a in zip(faces, start, along, strict=True) if a != 0.0]
        cuts = np.unique(np.clip(np.concatenate([*crossings, [0.0, 1.0]]), 0.0, 1.0))
        middles = start + along * ((cuts[1:] + cuts[:-1]) / 2)[:, None]
        cells = [np.searchsorted(f, m) - 1 for f, m in zip(faces, middles.T, strict=True)]
        np.add.at(lengths[ray], tuple(cells), np.diff(cuts) * np.linalg.norm(along))
    return lengths.reshape(len(starts), -1)


def section_grid(nx: int = 24, nz: int = 16) -> bj.Grid:
    """Return the grid of even cells, dims (depth, x)."""
    axes = {"depth": _middles(DEPTH, nz), "x": _middles(WIDTH, nx)}
    return bj.Grid(**{dim: xr.DataArray(at, attrs={"units": "m"}) for dim, at in axes.items()})


def truth(grid: bj.Grid, shared: bool = True) -> xr.Dataset:
    """Return the true fields; without `shared` structure radar sees a wall instead of the blocks.

    (Blocks mirrored along the section would not do: near-horizontal and near-vertical rays do not
    tell them from blocks that are shared.)
    """
    depth, x = np.meshgrid(*grid.centres.values(), indexing="ij")
    fields = {}
    for name, prior in PRIOR.items():
        field = np.full(grid.shape, prior["mean"])
        blocks = BLOCKS.values() if shared or name == "seismic" else [WALL]
        for block in blocks:
            left, right, top, bottom = block["box"]
            inside = (x > left) & (x < right) & (depth > top) & (depth < bottom)
            field += block[name] * prior["sd"] * inside
        fields[name] = (grid.dims, field, {"units": prior["units"]})
    return xr.Dataset(fields, coords=dict(grid.centres))


def matrices(grid: bj.Grid) -> dict[str, np.ndarray]:
    """Return the forward matrix of each data set, (ray, cell), cells in the order (depth, x)."""
    faces = [np.append(0.0, np.cumsum(width)) for width in grid.widths]
    ends = {}
    for name, (along, across) in {"shots": (DEPTH, WIDTH), "traces": (WIDTH, DEPTH)}.items():
        source, receiver = (m.ravel() for m in np.meshgrid(*2 * [_middles(along, SIDES)]))
        zero, far = np.zeros(SIDES**2), np.full(SIDES**2, across)
        starts, stops = np.stack([source, zero], 1), np.stack([receiver, far], 1)
        if name == "traces":
            starts, stops = starts[:, ::-1], stops[:, ::-1]
        ends[name] = starts, stops
    return {name: ray_lengths(*ends[name], faces) for name in SEEN}


def _middles(extent: float, count: int) -> np.ndarray:
    return extent * (np.arange(count) + 0.5) / count


def couplings(kind: str, weight: float, correlation: float) -> list[Any]:
    """Return the coupling of a kind, one of `COUPLINGS`."""
    if kind not in COUPLINGS:
        raise ValueError(f"crosshole: coupling {kind!r} is unknown; use one of {COUPLINGS}")
    if kind == "cross_gradient":
        return [bj.CrossGradient("seismic", "radar", weight=weight)]
    if kind == "correlated":
        return [bj.CorrelatedFields("seismic", "radar", correlation=correlation)]
    if kind == "relation":
        return [bj.PropertyRelation("radar", given="seismic", function=drier_is_faster)]
    return []


def drier_is_faster(seismic):
    """Return the departure of radar slowness that goes with seismic slowness: the opposite."""
    prior = PRIOR["seismic"]
    return -PRIOR["radar"]["sd"] * (seismic - prior["mean"]) / prior["sd"]


def problem(
    data: Any = None,
    *,
    nx: int = 24,
    nz: int = 16,
    coupling: str = "cross_gradient",
    weight: float = 10.0,
    correlation: float = -0.95,
    noise: float = 0.03,
    seed: int = 1,
    shared: bool = True,
) -> bj.JointProblem:
    """Return the joint problem of seismic and radar slowness.

    Parameters
    ----------
    data : None
        There are no measured data for this model.
    nx, nz : int
        Cells along x and depth.
    coupling : str
        One of `COUPLINGS`.
    weight : float
        Of the cross-gradient.
    correlation : float
        Of the correlated fields; the true one is about -0.98.
    noise : float
        Sd of the noise as a fraction of the root mean square of the signal.
    seed : int
        Of the noise.
    shared : bool
        Whether the two properties have the same blocks, see `truth`.
    """
    if data is not None:
        raise ValueError("crosshole: there are no measured data; leave data out")
    grid, rng = section_grid(nx, nz), np.random.default_rng(seed)
    section, modalities = truth(grid, shared), []
    for name, matrix in matrices(grid).items():
        latent = SEEN[name]
        predicted = matrix @ section[latent].values.ravel()
        signal = predicted - matrix @ np.full(grid.size, PRIOR[latent]["mean"])
        sd = noise * float(np.sqrt(np.mean(signal**2)))
        values = predicted + rng.normal(0.0, sd, predicted.size)
        times = xr.DataArray(values, dims=f"{name}_ray", attrs={"units": UNITS[name]}, name=name)
        forward = bj.linear_map(matrix, latent, output_units=UNITS[name])
        modalities.append(bj.Modality(name, times, forward, bj.GaussianNoise(sd=sd)))
    settings = {name: dict(prior) for name, prior in PRIOR.items()}
    if coupling == "relation":  # its prior is that of the scatter about the relation
        settings["radar"]["sd"] *= 0.3
    fields = [bj.GaussianField(name, grid, **prior) for name, prior in settings.items()]
    return bj.JointProblem(
        latents=fields, modalities=modalities, couplings=couplings(coupling, weight, correlation)
    )


def relative_error(estimate: xr.Dataset, section: xr.Dataset) -> dict[str, float]:
    """Return the error of each field relative to its true departure from the prior mean."""
    errors = {}
    for name, prior in PRIOR.items():
        departure = section[name] - prior["mean"]
        off = ((estimate[name] - section[name]) ** 2).sum() / (departure**2).sum()
        errors[name] = float(np.sqrt(off))
    return errors
