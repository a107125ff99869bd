"""Gravity and crosshole travel times over one section: density and slowness on one grid.

Two boreholes, 1,200 m apart and 800 m deep, and a line of gravity stations between their heads.  A
dense and fast sill, cut by a fault, lies in layered rock.  Gravity sees density, with little
resolution in depth; straight rays between the boreholes see slowness.  Nothing ties the two but
their structure: a cross-gradient favours fields that change in the same places.

    density  -> prisms of infinite strike, vertical attraction (station)     gravity
       |  cross-gradient
    slowness -> lengths of straight rays in cells (ray)                      arrivals

Lengths are in m, depth downwards; density is the contrast in kg/m³ with the rock around, slowness
is in s/m, gravity in mGal, travel times in s.  Data are simulated unless a survey is given.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.constants import gravitational_constant
from scipy.special import ndtr, xlogy

import bayesjoint as bj

WIDTH, DEPTH = 1_200.0, 800.0  # of the section; the boreholes are its sides
STATION_HEIGHT = 1.0  # of the sensor above ground
MILLIGAL = 1e-5  # m/s²
SEEN = {"gravity": "density", "arrivals": "slowness"}
UNITS = {"gravity": "mGal", "arrivals": "s"}

PRIOR = {  # as wide as the contrast of the sill, smooth over some hundred metres
    "density": {"mean": 0.0, "sd": 300.0, "length_scale": 400.0, "units": "kg/m3"},
    "slowness": {"mean": 2.5e-4, "sd": 5e-5, "length_scale": 400.0, "units": "s/m"},
}

# Truth: blocks 300 m wide and 100 m deep, row by row: Upper, Middle and Lower layer, Sill.  Both
# properties change at the same places, by amounts that no one relation ties together.
SECTION = ("UUUU", "UUUU", "MMMU", "MSMM", "MSSM", "MMSM", "LMMM", "LLLL")
ROCKS = {
    "density": {"U": -120.0, "M": 0.0, "L": 60.0, "S": 300.0},
    "slowness": {"U": 2.62e-4, "M": 2.5e-4, "L": 2.35e-4, "S": 2.0e-4},
}


# --- physics -----------------------------------------------------------------------------------


def prism_gravity(
    station_x: np.ndarray, x_faces: np.ndarray, depth_faces: np.ndarray
) -> np.ndarray:
    """Return the attraction of each cell, infinite along strike, for unit density contrast.

    Parameters
    ----------
    station_x : array, shape (station,)
        Positions of the stations along the line, m.
    x_faces, depth_faces : array, shape (nx + 1,) and (nz + 1,)
        Faces of the cells, m; depths are below the stations and not negative.

    Returns
    -------
    ndarray, shape (station, cell)
        Vertical attraction, positive downwards, mGal per kg/m³; cells in the order (depth, x).

    Raises
    ------
    ValueError
        If a face lies above the stations.

    Notes
    -----
    A line of mass attracts with ``2 G z / (x² + z²)`` for each unit of mass and length; over a
    rectangle that integrates to the differences over its corners, in x and in z, of ::

        F(x, z) = 2 G [x/2 ln(x² + z²) + z arctan(x / z)]

    which is finite even where a station touches a corner (Telford, Geldart & Sheriff, Applied
    Geophysics, 1990, chapter 2).  A wide slab gives ``2 π G thickness``.

    Examples
    --------
    >>> slab = prism_gravity(np.zeros(1), np.array([-1e7, 1e7]), np.array([100.0, 200.0]))
    >>> slab.round(5)
    array([[0.00419]])
    """
    if np.min(depth_faces) < 0:
        above = -np.min(depth_faces)
        raise ValueError(f"prism_gravity: a face lies {above:g} m above the stations")
    x = np.asarray(x_faces) - np.asarray(station_x)[:, None, None]  # (station, 1, x face)
    z = np.asarray(depth_faces)[:, None]  # (depth face, 1)
    corners = xlogy(x, x**2 + z**2) / 2 + z * np.arctan2(x, z)
    cells = np.diff(np.diff(corners, axis=1), axis=2)  # (station, depth, x)
    return 2 * gravitational_constant / MILLIGAL * cells.reshape(len(x), -1)


def ray_lengths(
    starts: np.ndarray, ends: np.ndarray, x_faces: np.ndarray, depth_faces: np.ndarray
) -> np.ndarray:
    """Return the length of each straight ray in each cell, shape (ray, cell), m.

    Parameters
    ----------
    starts, ends : array, shape (ray, 2)
        Ends of the rays, x and depth, m, within the grid.
    x_faces, depth_faces : array, shape (nx + 1,) and (nz + 1,)
        Faces of the cells, m; cells in the order (depth, x).

    Raises
    ------
    ValueError
        If a ray leaves the grid.

    Notes
    -----
    A ray ``start + t (end - start)`` lies in a column for one interval of t, in a row for another,
    and in their cell where the two overlap: exact.  A ray along a face belongs half to either side.

    Examples
    --------
    >>> faces = np.array([0.0, 1.0, 2.0])
    >>> ray_lengths(np.array([[0.0, 0.5]]), np.array([[2.0, 0.5]]), faces, faces)
    array([[1., 1., 0., 0.]])
    """
    (x_in, x_out), (depth_in, depth_out) = (
        _intervals(starts[:, axis, None], ends[:, axis, None], faces)
        for axis, faces in enumerate((x_faces, depth_faces))
    )
    leaves = np.minimum(depth_out[:, :, None], x_out[:, None, :])  # (ray, depth, x)
    share = np.maximum(leaves - np.maximum(depth_in[:, :, None], x_in[:, None, :]), 0.0)
    share = share.reshape(len(starts), -1)
    share /= share.sum(axis=1, keepdims=True)  # cells on both sides count a ray on their face
    return share * np.linalg.norm(ends - starts, axis=1)[:, None]


def _intervals(start: np.ndarray, end: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return where rays enter and leave the cells of one axis, t from 0 to 1, (2, ray, cell)."""
    beyond = 1e-9 * (faces[-1] - faces[0])  # more than rounding
    if np.any([start, end] < faces[0] - beyond) or np.any([start, end] > faces[-1] + beyond):
        raise ValueError(f"ray_lengths: a ray leaves the grid, {faces[0]:g} to {faces[-1]:g} m")
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.clip(
            (faces - start) / (end - start), 0.0, 1.0
        )  # 0/0 on a face: in both cells
    sides = np.nan_to_num(crossing[:, :-1], nan=0.0), np.nan_to_num(crossing[:, 1:], nan=1.0)
    return np.sort(sides, axis=0)


# --- section and survey --------------------------------------------------------------------------


def section_grid(nx: int, nz: int) -> bj.Grid:
    """Return the grid of `nx` by `nz` even cells over the section, dims (depth, x)."""
    if min(nx, nz) < 2:
        raise ValueError(f"gravity_traveltime: nx={nx}, nz={nz}; the grid needs two cells each way")
    axes = {"depth": _middles(DEPTH, nz), "x": _middles(WIDTH, nx)}
    return bj.Grid(**{dim: xr.DataArray(at, attrs={"units": "m"}) for dim, at in axes.items()})


def truth(grid: bj.Grid, edge: float = 0.0) -> xr.Dataset:
    """Return the true ``density`` and ``slowness``, averaged over the cells of a grid.

    The truth is made of blocks in metres, and so is the same section on every grid; grids whose
    cells divide the blocks (12 by 8, 16 by 16, 24 by 16 ...) hold it exactly.  `edge` blurs the
    blocks with a Gaussian of that sd, m.
    """
    depth_faces, x_faces = _faces(grid)
    down = _shares(depth_faces, np.linspace(0.0, DEPTH, len(SECTION) + 1), edge)
    across = _shares(x_faces, np.linspace(0.0, WIDTH, len(SECTION[0]) + 1), edge)
    fields = {}
    for name, values in ROCKS.items():
        of_blocks = np.array([[values[rock] for rock in row] for row in SECTION])
        fields[name] = (grid.dims, down @ of_blocks @ across.T, {"units": PRIOR[name]["units"]})
    return xr.Dataset(fields, coords=dict(grid.centres))


def simulate(
    stations: int = 60, shots: int = 24, noise: float = 0.03, seed: int = 1, edge: float = 0.0
) -> xr.Dataset:
    """Return a survey of the truth, with noise.

    Both matrices are exact for the blocks of the truth: the data hold no error of discretisation,
    and do not depend on the grid of the inversion.  With blurred edges they are those of cells of
    10 m.

    Parameters
    ----------
    stations : int
        Gravity stations, evenly spread over the line.
    shots : int
        Shots in the left borehole, and as many receivers in the right one; every pair is a ray.
    noise : float
        Sd of the noise as a fraction of the root mean square of the signal, which is what the
        truth adds to the data of the prior mean.
    seed : int
        Of the noise.
    edge : float
        Blur of the truth, m, as in `truth`.

    Returns
    -------
    Dataset
        ``gravity`` (station; coordinate ``station_x``) and ``arrivals`` (ray; coordinates
        ``shot_depth`` and ``receiver_depth``), each with the attrs ``units`` and ``noise_sd``.
    """
    if min(stations, shots) < 1 or not noise > 0 or not edge >= 0:
        raise ValueError(
            "gravity_traveltime: stations, shots and noise must be positive, edge not negative"
        )
    shot, receiver = np.meshgrid(*2 * [_middles(DEPTH, shots)], indexing="ij")
    metres = {"units": "m"}
    survey = xr.Dataset(
        coords={
            "station_x": ("station", _middles(WIDTH, stations), metres),
            "shot_depth": ("ray", shot.ravel(), metres),
            "receiver_depth": ("ray", receiver.ravel(), metres),
        }
    )
    grid = section_grid(120, 80) if edge else section_grid(12, 8)
    section, rng = truth(grid, edge), np.random.default_rng(seed)
    for (name, matrix), dim in zip(matrices(survey, grid).items(), survey.sizes, strict=True):
        latent = SEEN[name]
        mean = matrix @ np.full(grid.size, PRIOR[latent]["mean"])
        signal = matrix @ section[latent].values.ravel() - mean
        sd = noise * float(np.sqrt(np.mean(signal**2)))
        data = mean + signal + rng.normal(0.0, sd, signal.size)
        survey[name] = (dim, data, {"units": UNITS[name], "noise_sd": sd})
    return survey


def load(data: Path) -> xr.Dataset:
    """Return the survey in ``survey.zarr`` in the folder `data`, in the form of `simulate`.

    Raises ValueError if there is no such store, or it lacks something.
    """
    file = Path(data) / "survey.zarr"
    if not file.exists():
        raise ValueError(f"gravity_traveltime: {file} is missing; give no data to simulate them")
    survey = xr.load_dataset(file, engine="zarr", consolidated=False)
    missing = set(simulate(1, 1).variables) - set(survey.variables)
    if missing or any("noise_sd" not in survey[name].attrs for name in SEEN):
        lacks = ", ".join(sorted(missing)) or "noise_sd in the attrs of its data"
        raise ValueError(f"gravity_traveltime: {file} has no {lacks}")
    return survey


def matrices(survey: xr.Dataset, grid: bj.Grid) -> dict[str, np.ndarray]:
    """Return the forward matrix of each data set, (datum, cell), cells in the order (depth, x)."""
    depth_faces, x_faces = _faces(grid)
    starts, ends = (
        np.stack([np.full(survey.sizes["ray"], x), survey[depth]], axis=1)
        for x, depth in ((0.0, "shot_depth"), (WIDTH, "receiver_depth"))
    )
    return {
        "gravity": prism_gravity(survey.station_x.values, x_faces, depth_faces + STATION_HEIGHT),
        "arrivals": ray_lengths(starts, ends, x_faces, depth_faces),
    }


def _middles(extent: float, count: int) -> np.ndarray:
    """Return the middles of even parts."""
    return extent * (np.arange(count) + 0.5) / count


def _faces(grid: bj.Grid) -> list[np.ndarray]:
    """Return the faces of the cells along each dim of the grid."""
    axes = zip(grid.centres.values(), grid.widths, strict=True)
    return [np.append(at - width / 2, at[-1] + width[-1] / 2) for at, width in axes]


def _shares(faces: np.ndarray, blocks: np.ndarray, edge: float) -> np.ndarray:
    """Return the share of each block in each cell along one axis, (cell, block).

    The outer blocks go on beyond the section, so that blurred shares add up to one too.
    """
    beyond = faces[:, None] - blocks[1:-1]  # (face, inner edge)
    if edge:  # integral of the normal distribution function
        t = beyond / edge
        passed = edge * (t * ndtr(t) + np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi))
    else:
        passed = np.maximum(beyond, 0.0)
    widths = np.diff(faces)
    after = np.diff(passed, axis=0) / widths[:, None]  # share of the cell after each edge
    return -np.diff(after, axis=1, prepend=1.0, append=0.0)


# --- problem -------------------------------------------------------------------------------------


def problem(
    data: Path | None = None,
    *,
    nx: int = 12,
    nz: int = 8,
    coupling: float = 0.3,
    stations: int = 60,
    shots: int = 24,
    noise: float = 0.03,
    seed: int = 1,
    edge: float = 0.0,
) -> bj.JointProblem:
    """Return the joint problem of density and slowness.

    Parameters
    ----------
    data : Path, optional
        Folder with a survey, as in `load`; by default it is simulated.
    nx, nz : int
        Cells along x and depth; the data do not depend on them.  With cells much smaller than the
        blocks give an `edge`, see the notes.
    coupling : float
        Weight of the cross-gradient; 0 leaves the fields independent.
    stations, shots, noise, seed, edge
        As in `simulate`.

    Notes
    -----
    The prior is smooth (fields have one derivative), the blocks are not.  Coarse cells hide that;
    on fine ones the sharp edges are beyond the prior, and data this precise can not be fitted.
    Chi-squared of the 636 data at the maximum: 509 on 12 by 8 cells, 528 on 16 by 16, but 2,317
    on 32 by 32 and 3,513 on 64 by 64.  With ``edge=50``, for cells of 35 m or less, it is 526 on
    24 by 24, 413 on 32 by 32 and 444 on 64 by 64; about 500 is expected.
    """
    survey = simulate(stations, shots, noise, seed, edge) if data is None else load(data)
    grid = section_grid(nx, nz)
    latents = [bj.GaussianField(name, grid, **prior) for name, prior in PRIOR.items()]
    modalities = [
        bj.Modality(
            name,
            survey[name],
            bj.linear_map(matrix, SEEN[name], output_units=UNITS[name]),
            bj.GaussianNoise(sd=survey[name].noise_sd),
        )
        for name, matrix in matrices(survey, grid).items()
    ]
    couplings = [bj.CrossGradient("density", "slowness", weight=coupling)] if coupling else []
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=couplings)
