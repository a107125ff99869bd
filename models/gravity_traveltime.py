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
STATION_HEIGHT = 1.0
MILLIGAL = 1e-5  # m/s²
MEAN_SLOWNESS = 2.5e-4  # 4 km/s
SIMULATION_CELLS = (180, 120)  # along x and depth
SURVEY_FILE = "survey.nc"
UNITS = {"density": "kg/m3", "slowness": "s/m", "gravity": "mGal", "arrivals": "s"}


# --- physics -----------------------------------------------------------------------------------


def prism_gravity(station_x: np.ndarray, x_edges: np.ndarray, depth_edges: np.ndarray) -> np.ndarray:
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
        raise ValueError(f"prism_gravity: a face lies {-np.min(depth_edges):g} m above the stations")
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
    piece belongs to the cell that holds its middle.

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
        middles = start + (cuts[1:, None] + cuts[:-1, None]) / 2 * (end - start)
        column = _cell_of(middles[:, 0], x_edges)
        row = _cell_of(middles[:, 1], depth_edges)
        np.add.at(lengths[ray], (row, column), np.diff(cuts) * np.linalg.norm(end - start))
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


# --- the section: grid, truth, survey ------------------------------------------------------------


def section_grid(nx: int, nz: int) -> bj.Grid:
    """Return a grid of even cells over the section, dims (depth, x)."""
    return bj.Grid(depth=_centres(_faces(DEPTH, nz)), x=_centres(_faces(WIDTH, nx)))


def truth(grid: bj.Grid, samples: int = 8) -> xr.Dataset:
    """Return the true density contrast and slowness, averaged over the cells of a grid.

    Defined in metres, so that it is one section on every grid: layers at 250 and 550 m, and a slab,
    110 m thick, that dips by 30 degrees to the right.  Both properties jump at the same places, and
    by amounts that no single relation ties together.

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
    inside = (np.arange(samples) + 0.5) / samples - 0.5
    depth, x = (
        (centres[:, None] + widths[:, None] * inside).ravel()
        for centres, widths in zip(grid.centres.values(), grid.widths, strict=True)
    )
    fields = {}
    for name, values in _properties(x, depth[:, None]).items():
        cells = values.reshape(grid.shape[0], samples, grid.shape[1], samples).mean(axis=(1, 3))
        fields[name] = (grid.dims, cells, {"units": UNITS[name]})
    return xr.Dataset(fields, coords=dict(grid.centres))


def _properties(x: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
    """Return both properties at points."""
    dip = np.radians(30.0)
    across = (depth - 400.0) * np.cos(dip) - (x - 600.0) * np.sin(dip)
    along = (depth - 400.0) * np.sin(dip) + (x - 600.0) * np.cos(dip)
    slab = (np.abs(across) < 55.0) & (np.abs(along) < 300.0)
    rock = [slab, depth < 250.0, depth < 550.0, True]
    density = np.select(rock, [250.0, -120.0, 0.0, 60.0] + np.zeros_like(across)[..., None])
    return {"density": density, "slowness": density}


def survey(stations: int, shots: int) -> xr.Dataset:
    """Return where is measured: zeros for data, and the coordinates that `problem_of` reads.

    Parameters
    ----------
    stations : int
        Gravity stations, evenly spread over the line.
    shots : int
        Shots in the left borehole, and as many receivers in the right one; every pair is a ray.

    Returns
    -------
    Dataset
        ``gravity`` (station; coordinate ``station_x``) and ``arrivals`` (ray; coordinates
        ``shot_depth`` and ``receiver_depth``).
    """
    depths = _centres(_faces(DEPTH, shots))
    shot, receiver = (at.ravel() for at in np.meshgrid(depths, depths, indexing="ij"))
    return xr.Dataset(
        {"gravity": ("station", np.zeros(stations)), "arrivals": ("ray", np.zeros(shots**2))},
        coords={
            "station_x": ("station", _centres(_faces(WIDTH, stations))),
            "shot_depth": ("ray", shot),
            "receiver_depth": ("ray", receiver),
        },
    )
