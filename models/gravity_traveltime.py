"""Gravity and crosshole travel times over one section: density and slowness on one grid.

Two boreholes, 1,200 m apart and 800 m deep, and a line of gravity stations between their heads.  A
dense and fast slab dips through three layers.  Gravity sees density, with little resolution in
depth; straight rays between the boreholes see slowness.  Nothing ties the two but their structure: a
cross-gradient favours fields that change in the same places.

    density  -> prisms of infinite strike, vertical attraction (station)     gravity
       |  cross-gradient
    slowness -> lengths of straight rays in cells (ray)                      arrivals

Lengths are in m, depth downwards; density is the contrast in kg/m³ with the rock around, slowness is
in s/m, gravity in mGal, travel times in s.  By default the data are simulated, on a grid of their
own, so that they do not depend on the grid of the inversion.

References
----------
W. Telford, L. Geldart & R. Sheriff, Applied Geophysics, 2nd ed. (1990), chapter 2.
L. Gallardo & M. Meju, Geophys. Res. Lett. 30 (2003) 1658, doi 10.1029/2003GL017370.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from scipy.constants import gravitational_constant
from scipy.special import xlogy

import bayesjoint as bj

WIDTH, DEPTH = 1_200.0, 800.0  # of the section; the boreholes are its sides
STATION_HEIGHT = 1.0  # of the sensor above ground
MILLIGAL = 1e-5  # m/s²
TINY = 1e-6
SURVEY_FILE = "survey.nc"
SEEN = {"gravity": "density", "arrivals": "slowness"}
UNITS = {"density": "kg/m3", "slowness": "s/m", "gravity": "mGal", "arrivals": "s"}

# Prior: 4 km/s, give or take 8 percent, over a few hundred metres.
MEAN = {"density": 0.0, "slowness": 2.5e-4}
SD = {"density": 300.0, "slowness": 5e-5}
LENGTH_SCALE = 400.0

# Truth: blocks 300 m wide and 100 m deep; a fault in the middle drops layers and sill by 100 m.
SECTION = """
    upper  upper  upper  upper
    upper  upper  upper  upper
    middle middle middle upper
    middle sill   middle middle
    middle sill   sill   middle
    middle middle sill   middle
    lower  middle middle middle
    lower  lower  lower  lower
"""
ROCKS = {  # both properties change at the same places, by amounts that no one relation ties together
    "density": {"upper": -120.0, "middle": 0.0, "lower": 60.0, "sill": 300.0},
    "slowness": {"upper": 2.62e-4, "middle": 2.5e-4, "lower": 2.35e-4, "sill": 2.0e-4},
}


# --- physics -----------------------------------------------------------------------------------


def prism_gravity(
    station_x: np.ndarray, x_edges: np.ndarray, depth_edges: np.ndarray
) -> np.ndarray:
    """Return the attraction of each cell, infinite along strike, for unit density contrast.

    Parameters
    ----------
    station_x : array, shape (station,)
        Positions of the stations along the line, m.
    x_edges, depth_edges : array, shape (nx + 1,) and (nz + 1,)
        Faces of the cells, m, the depths below the stations and not negative.

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

        F(x, z) = 2 G [ x/2 ln(x² + z²) + z arctan(x / z) ]

    which are finite even where a station touches a corner.  A wide slab gives ``2 π G thickness``.

    Examples
    --------
    >>> slab = prism_gravity(np.zeros(1), np.array([-1e7, 1e7]), np.array([100.0, 200.0]))
    >>> slab.round(5)
    array([[0.00419]])
    """
    if np.min(depth_edges) < 0:
        raise ValueError(
            f"prism_gravity: a face lies {-np.min(depth_edges):g} m above the stations"
        )
    x = np.asarray(x_edges) - np.asarray(station_x)[:, None, None]  # (station, 1, x face)
    z = np.asarray(depth_edges)[:, None]  # (depth face, 1)
    corners = xlogy(x, x**2 + z**2) / 2 + z * np.arctan2(x, z)
    cells = np.diff(np.diff(corners, axis=1), axis=2)  # (station, depth, x)
    return 2 * gravitational_constant / MILLIGAL * cells.reshape(len(x), -1)


def ray_lengths(
    starts: np.ndarray, ends: np.ndarray, x_edges: np.ndarray, depth_edges: np.ndarray
) -> np.ndarray:
    """Return the length of each straight ray in each cell, shape (ray, cell), m.

    Times slowness in s/m it gives the travel time in s.

    Parameters
    ----------
    starts, ends : array, shape (ray, 2)
        Ends of the rays, x and depth, m, within the grid.
    x_edges, depth_edges : array, shape (nx + 1,) and (nz + 1,)
        Faces of the cells, m; cells in the order (depth, x).

    Raises
    ------
    ValueError
        If a ray leaves the grid.

    Notes
    -----
    The lengths are exact: a ray ``start + t (end - start)`` is cut at every face it crosses, and each
    piece belongs to the cell that holds its middle.  A piece along a face is shared by its two cells.

    Examples
    --------
    >>> edges = np.array([0.0, 1.0, 2.0])
    >>> ray_lengths([[0.0, 0.5]], [[2.0, 0.5]], edges, edges)
    array([[1., 1., 0., 0.]])
    """
    starts, ends = np.asarray(starts, dtype=float), np.asarray(ends, dtype=float)
    lengths = np.zeros((len(starts), len(depth_edges) - 1, len(x_edges) - 1))
    for ray, (start, end) in enumerate(zip(starts, ends, strict=True)):
        cuts = _cuts(start, end, (x_edges, depth_edges))
        pieces = np.diff(cuts) * np.linalg.norm(end - start)
        middles = start + (cuts[1:, None] + cuts[:-1, None]) / 2 * (end - start)
        for side in (-TINY, TINY):  # the same cell twice, unless the ray runs along a face
            columns = _cell_of(middles[:, 0] + side, x_edges)
            rows = _cell_of(middles[:, 1] + side, depth_edges)
            np.add.at(lengths[ray], (rows, columns), pieces / 2)
    return lengths.reshape(len(starts), -1)


def _cuts(start: np.ndarray, end: np.ndarray, faces: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return where on a ray, from 0 to 1, it crosses faces, its ends included."""
    cuts = [np.array([0.0, 1.0])]
    for first, last, edges in zip(start, end, faces, strict=True):
        if min(first, last) < edges[0] or max(first, last) > edges[-1]:
            raise ValueError(f"ray_lengths: the ray from {start} to {end} leaves the grid")
        if first != last:
            cuts.append((np.asarray(edges) - first) / (last - first))
    return np.unique(np.clip(np.concatenate(cuts), 0.0, 1.0))


def _cell_of(positions: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, positions, side="right") - 1, 0, len(edges) - 2)


# --- the section: grid and truth -----------------------------------------------------------------


def section_grid(nx: int, nz: int) -> bj.Grid:
    """Return the grid of `nx` by `nz` even cells over the section, dims (depth, x)."""
    return bj.Grid(depth=_middles(0.0, DEPTH, nz), x=_middles(0.0, WIDTH, nx))


def truth(grid: bj.Grid, samples: int = 12) -> xr.Dataset:
    """Return the true density contrast and slowness, averaged over the cells of a grid.

    The truth is made of blocks in metres, and so is the same on every grid; grids whose cells divide
    the blocks (12 by 8, 16 by 16, and finer) hold it exactly.

    Parameters
    ----------
    grid : Grid
        Dims ``depth`` and ``x``, m.
    samples : int
        Points along each side of a cell that its average is taken over.

    Returns
    -------
    Dataset
        ``density`` (kg/m³) and ``slowness`` (s/m) on the grid.
    """
    blocks = np.array([row.split() for row in SECTION.split("\n") if row])
    inside, extent = _middles(-0.5, 0.5, samples), (DEPTH, WIDTH)
    rows, columns = (  # block of each point
        ((centres[:, None] + widths[:, None] * inside).ravel() / size * count).astype(int)
        for centres, widths, size, count in zip(
            grid.centres.values(), grid.widths, extent, blocks.shape, strict=True
        )
    )
    rocks = blocks[np.ix_(rows, columns)].reshape(grid.shape[0], samples, grid.shape[1], samples)
    fields = {
        name: sum(value * np.mean(rocks == rock, axis=(1, 3)) for rock, value in values.items())
        for name, values in ROCKS.items()
    }
    return xr.Dataset(
        {name: (grid.dims, field, {"units": UNITS[name]}) for name, field in fields.items()},
        coords=dict(grid.centres),
    )


# --- the survey ----------------------------------------------------------------------------------


def survey(stations: int, shots: int) -> xr.Dataset:
    """Return a survey without data: zeros, and the coordinates of what is measured.

    Parameters
    ----------
    stations : int
        Gravity stations, evenly spread over the line.
    shots : int
        Shots in the left borehole, and as many receivers in the right one; every pair is a ray.

    Returns
    -------
    Dataset
        ``gravity`` in mGal (station; coordinate ``station_x``, m) and ``arrivals`` in s (ray;
        coordinates ``shot_depth`` and ``receiver_depth``, m).
    """
    depths = _middles(0.0, DEPTH, shots)
    shot, receiver = np.meshgrid(depths, depths, indexing="ij")
    return xr.Dataset(
        {"gravity": ("station", np.zeros(stations)), "arrivals": ("ray", np.zeros(shots**2))},
        coords={
            "station_x": ("station", _middles(0.0, WIDTH, stations)),
            "shot_depth": ("ray", shot.ravel()),
            "receiver_depth": ("ray", receiver.ravel()),
        },
    )


def forward_matrices(survey: xr.Dataset, grid: bj.Grid) -> dict[str, np.ndarray]:
    """Return the matrix of each data set, (datum, cell), cells in the order (depth, x)."""
    depth_edges, x_edges = (
        np.append(centres - widths / 2, centres[-1] + widths[-1] / 2)
        for centres, widths in zip(grid.centres.values(), grid.widths, strict=True)
    )
    starts = np.stack([np.zeros(survey.sizes["ray"]), survey.shot_depth], axis=1)
    ends = np.stack([np.full(survey.sizes["ray"], WIDTH), survey.receiver_depth], axis=1)
    return {
        "gravity": prism_gravity(survey.station_x.values, x_edges, depth_edges + STATION_HEIGHT),
        "arrivals": ray_lengths(starts, ends, x_edges, depth_edges),
    }


def simulate(stations: int, shots: int, noise: float, seed: int) -> xr.Dataset:
    """Return a survey of the truth, with noise.

    Both matrices are exact for the blocks that the truth is made of, so that the data are free of
    discretisation and do not depend on the grid of the inversion.

    Parameters
    ----------
    stations, shots : int
        As in `survey`.
    noise : float
        Its sd, as a fraction of the root mean square of the signal: what the truth adds to the data
        of the prior mean.
    seed : int
        Of the noise.

    Returns
    -------
    Dataset
        As from `survey`, with the attrs ``units`` and ``noise_sd`` (in these units).
    """
    made, blocks, rng = survey(stations, shots), section_grid(12, 8), np.random.default_rng(seed)
    rocks, matrices = truth(blocks), forward_matrices(made, blocks)
    for name, latent in SEEN.items():
        signal = matrices[name] @ (rocks[latent].values.ravel() - MEAN[latent])
        sd = noise * np.sqrt(np.mean(signal**2))
        values = matrices[name].sum(axis=1) * MEAN[latent] + signal + rng.normal(0, sd, signal.size)
        attrs = {"units": UNITS[name], "noise_sd": sd}
        made[name] = (made[name].dims, values, attrs)
    return made


def load(data: Path) -> xr.Dataset:
    """Return the survey in the file ``survey.nc`` of a folder, in the form that `simulate` makes.

    Raises
    ------
    ValueError
        If there is no such file, or it lacks something.
    """
    file = Path(data) / SURVEY_FILE
    if not file.is_file():
        raise ValueError(
            f"gravity_traveltime: {data} has no {SURVEY_FILE}; leave data out to simulate"
        )
    made = xr.load_dataset(file)
    missing = sorted(set(survey(1, 1).variables) - set(made.variables))
    if missing:
        raise ValueError(f"gravity_traveltime: {file} has no {', '.join(missing)}")
    bare = [name for name in SEEN if "noise_sd" not in made[name].attrs]
    if bare:
        raise ValueError(
            f"gravity_traveltime: {' and '.join(bare)} in {file} need the attr noise_sd"
        )
    return made


# --- problem -------------------------------------------------------------------------------------


def problem(
    data: Path | None = None,
    *,
    nx: int = 12,
    nz: int = 8,
    coupling: float = 10.0,
    stations: int = 40,
    shots: int = 8,
    noise: float = 0.03,
    seed: int = 1,
) -> bj.JointProblem:
    """Return the joint problem of density and slowness.

    Parameters
    ----------
    data : Path, optional
        Folder with a survey, as in `load`; simulated by default.
    nx, nz : int
        Cells along x and depth.
    coupling : float
        Weight of the cross-gradient; 0 leaves the fields independent.
    stations, shots, noise, seed
        Of the simulation, as in `simulate`; the data do not depend on `nx` and `nz`.

    Raises
    ------
    ValueError
        If there is no survey in `data`, or a setting makes no sense.
    """
    made = simulate(stations, shots, noise, seed) if data is None else load(data)
    return problem_of(made, nx=nx, nz=nz, coupling=coupling)


def problem_of(
    survey: xr.Dataset, *, nx: int = 12, nz: int = 8, coupling: float = 10.0
) -> bj.JointProblem:
    """Return the joint problem of a survey in the form that `simulate` returns it."""
    grid = section_grid(nx, nz)
    modalities = [
        bj.Modality(
            name,
            survey[name],
            bj.linear_map(matrix, SEEN[name], output_units=UNITS[name]),
            bj.GaussianNoise(sd=survey[name].attrs["noise_sd"]),
        )
        for name, matrix in forward_matrices(survey, grid).items()
    ]
    return bj.JointProblem(
        latents=[
            bj.GaussianField(
                latent,
                grid,
                mean=MEAN[latent],
                sd=SD[latent],
                length_scale=LENGTH_SCALE,
                units=UNITS[latent],
            )
            for latent in MEAN
        ],
        modalities=modalities,
        couplings=[bj.CrossGradient(*MEAN, weight=coupling)] if coupling else [],
    )


def _middles(start: float, stop: float, count: int) -> np.ndarray:
    """Return the middles of `count` even parts."""
    return start + (stop - start) * (np.arange(count) + 0.5) / count
