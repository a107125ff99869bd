"""Campi Flegrei 2011-13: one magma source seen by GNSS and by radar from two directions.

A point source under the caldera (position, depth, volume change) displaces the ground.  One forward
map gives the displacement at every point, three instruments look at it: GNSS stations measure its
components, two COSMO-SkyMed tracks its part along their lines of sight (InSAR), at 5,530 pixels.

    source -> displacement (point, component) -+- components at stations        gnss
                                               +- line of sight, track 1        ascending
                                               +- line of sight, track 2        descending

The residuals of a point source are several stated errors and smooth in space: the ground does more
than the source explains.  By default that is an unmodelled displacement field of unknown size and
length scale, the error of the shared map before the instruments, seen by each in its own way.

Lengths, coordinates (UTM zone 33 N) and displacements are in m, volumes in m³.

References
----------
K. Mogi, Bull. Earthquake Res. Inst. Tokyo 36 (1958) 99.
E. Trasatti, Front. Earth Sci. 10 (2022) 917222, doi 10.3389/feart.2022.917222 (the data).
A. Solin and S. Särkkä, Stat. Comput. 30 (2020) 419, doi 10.1007/s11222-019-09886-w (reduced rank).
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from scipy import sparse

import bayesjoint as bj

FOLDER = "campi_flegrei"
ADDRESS = "https://github.com/EliTras/VSM_test"
FILES = {"gnss": "GPS_data.txt", "ascending": "obs_sar1.txt", "descending": "obs_sar2.txt"}
TRACKS = ("ascending", "descending")
PLANE = ("easting", "northing")
POISSON_RATIO = 0.25
POWERS = {"gnss": 5 / 6, "ascending": 1 / 6, "descending": 1 / 6}  # of the reference
REFERENCE_SD = 0.03  # of the unknown constant of a track: InSAR is relative to some pixel
MARGIN, SPACING = 2_000.0, 500.0  # of the grid around the data, more than a length scale


# --- physics -----------------------------------------------------------------------------------


def mogi_displacement(
    easting: np.ndarray,
    northing: np.ndarray,
    x: pt.TensorLike,
    y: pt.TensorLike,
    depth: pt.TensorLike,
    volume_change: pt.TensorLike,
) -> pt.TensorVariable:
    """Return the surface displacement of a point source of volume change, shape (point, component).

    Parameters
    ----------
    easting, northing : array, shape (point,)
        Where, m.
    x, y, depth : scalar
        The source, m; depth is positive downwards.
    volume_change : scalar
        Of the cavity, m³.

    Returns
    -------
    TensorVariable
        East, north and up, m.

    Notes
    -----
    Mogi (1958): an isotropic source in an elastic half-space with Poisson's ratio 1/4::

        u = (1 - ν)/π · ΔV · (E - x, N - y, depth) / R³,   R² = (E - x)² + (N - y)² + depth²

    The uplift integrates over the plane to 2 (1 - ν) ΔV.

    Examples
    --------
    >>> above = mogi_displacement(np.zeros(1), np.zeros(1), 0.0, 0.0, 3_000.0, 1e6)
    >>> above.eval().round(4)
    array([[0.    , 0.    , 0.0265]])
    """
    east, north = easting - x, northing - y
    up = depth * pt.ones_like(pt.as_tensor(east))
    cubed = (east**2 + north**2 + depth**2) ** 1.5
    strength = (1 - POISSON_RATIO) / np.pi * volume_change
    return pt.stack([east, north, up], axis=1) * (strength / cubed)[:, None]


# --- data --------------------------------------------------------------------------------------


def data_folder(data: Path | None = None) -> Path:
    """Return the folder of the three files: `data`, or its sub-folder ``campi_flegrei``.

    Without `data` they are looked for in the folder that ``BAYESJOINT_DATA`` names, else in
    ``shared/data`` beside the repository.  Raises ValueError when they are not there.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(data or os.environ.get("BAYESJOINT_DATA") or beside)
    for folder in (root, root / FOLDER):
        if all((folder / file).is_file() for file in FILES.values()):
            return folder
    raise ValueError(
        f"volcano_deformation: {root} has no {', '.join(FILES.values())}; get them from "
        f"{ADDRESS} (USECASE/DATA) and give their folder as data"
    )


def load(data: Path | None = None) -> dict[str, xr.Dataset]:
    """Return displacements, stated errors and lines of sight by modality; `data` as above.

    Each data set has ``displacement`` and ``sd`` in m, of GNSS on (station, component), of a track
    on its pixels; ``look`` (point, datum of the point, axis), unit vectors in which it is seen;
    and the coordinates ``easting`` and ``northing`` of its points, m.  Raises ValueError if a file
    is missing or not as described.
    """
    folder = data_folder(data)
    table = _table(folder / FILES["gnss"], columns=8, header=1)
    gnss = _dataset(table, "station", ("station", "component"), slice(2, 5), slice(5, 8))
    looks = np.broadcast_to(np.eye(3), (len(table), 3, 3))
    gnss = gnss.assign(look=(("station", "component", "axis"), looks))
    gnss = gnss.assign_coords(station=np.arange(1, len(table) + 1))
    sets = {"gnss": gnss.assign_coords(component=["east", "north", "up"])}
    for track in TRACKS:
        table, pixel = _table(folder / FILES[track], columns=7), f"{track}_pixel"
        scene = _dataset(table, pixel, (pixel,), 2, 3)
        sets[track] = scene.assign(look=((pixel, "once", "axis"), table[:, None, 4:7]))
    return sets


def _table(file: Path, columns: int, header: int = 0) -> np.ndarray:
    try:
        table = np.loadtxt(file, skiprows=header, ndmin=2)
    except ValueError as error:
        raise ValueError(f"volcano_deformation: {file} is no table of numbers: {error}") from error
    if table.shape[1] != columns:
        raise ValueError(
            f"volcano_deformation: {file} has {table.shape[1]} columns, {columns} are needed"
        )
    return table


def _dataset(table: np.ndarray, point: str, dims: tuple[str, ...], value, sd) -> xr.Dataset:
    metres = {"units": "m"}
    return xr.Dataset(
        {"displacement": (dims, table[:, value], metres), "sd": (dims, table[:, sd], metres)},
        coords={name: (point, table[:, i], metres) for i, name in enumerate(PLANE)},
    )


# --- instruments -------------------------------------------------------------------------------


def observation_operators(scenes: Mapping[str, xr.Dataset]) -> dict[str, sparse.csr_array]:
    """Return what takes the ravelled displacement of all points to each data set, sparse matrices.

    The points are those of the data sets, one set after the other; each data set sees its own.
    """
    count, first, operators = sum(len(scene.look) for scene in scenes.values()), 0, {}
    for name, scene in scenes.items():
        points, data, axes = scene.look.shape
        rows = np.repeat(np.arange(points * data), axes)
        columns = axes * (first + np.arange(points * data) // data)[:, None] + np.arange(axes)
        operators[name] = sparse.csr_array(
            (scene.look.values.ravel(), (rows, columns.ravel())),
            shape=(points * data, axes * count),
        )
        first += points
    return operators


# --- problem -----------------------------------------------------------------------------------


def source() -> list[bj.Parameter]:
    """Return the source: uniform over the ranges of the reference."""
    return [
        bj.Parameter("x", bj.Prior(pm.Uniform, lower=422e3, upper=432e3), units="m"),
        bj.Parameter("y", bj.Prior(pm.Uniform, lower=4_515e3, upper=4_525e3), units="m"),
        bj.Parameter("depth", bj.Prior(pm.Uniform, lower=2e3, upper=7e3), units="m"),
        bj.Parameter("volume_change", bj.Prior(pm.Uniform, lower=1e6, upper=2e7), units="m3"),
    ]


def unmodelled_displacement(displacement, rank: int) -> bj.JointDiscrepancy:
    """Return the error of the shared map: some centimetres, smooth over some kilometres.

    East, north and up are independent Matérn fields (smoothness 3/2) of one unknown sd and length
    scale.  The covariance of 5,572 data is never formed: each field is kept to its `rank` leading
    modes, and they are integrated out through matrices of three times that size.
    """
    axes = {
        axis: np.arange(at.min() - MARGIN, at.max() + MARGIN + SPACING, SPACING)
        for axis, at in displacement.coords.items()
    }
    return bj.JointDiscrepancy(
        of=displacement,
        sd=_around(0.01, 1.0),
        on=PLANE,
        length_scale=_around(2_000.0, 0.5),
        grid=bj.Grid(**axes),
        rank=rank,
        name="unmodelled",
    )


def track_constants(displacement) -> bj.JointDiscrepancy:
    """Return the unknown constant of each track: InSAR is relative to an unknown reference.

    A process with one mode, the constant, independent between the tracks.
    """
    ends = {axis: [at.min(), at.max()] for axis, at in displacement.coords.items()}
    return bj.JointDiscrepancy(
        sd=dict.fromkeys(TRACKS, REFERENCE_SD),
        on=PLANE,
        length_scale=float(np.ptp(ends["easting"])),  # the constant mode does not depend on it
        grid=bj.Grid(**ends),
        rank=1,
        name="track_constant",
    )


def _around(median: float, relative_sd: float) -> bj.Prior:
    return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=relative_sd)


def problem(
    data: Path | None = None, *, errors: str = "correlated", rank: int = 200
) -> bj.JointProblem:
    """Return the joint problem of GNSS and two InSAR tracks.

    Parameters
    ----------
    data : Path, optional
        Folder of the data, as in `data_folder`.
    errors : {"correlated", "independent"}
        "correlated": an unmodelled displacement field, an unknown constant for each track, and an
        unknown factor on the stated errors of GNSS.  "independent": stated errors, likelihoods to
        the power 5/6 (GNSS) and 1/6 (each track), as in the published posterior.
    rank : int
        Modes kept of each component of the unmodelled field.

    Raises
    ------
    ValueError
        If `errors` is neither, or the data are not found.
    """
    return problem_of(load(data), errors=errors, rank=rank)


def problem_of(
    scenes: Mapping[str, xr.Dataset], *, errors: str = "correlated", rank: int = 200
) -> bj.JointProblem:
    """Return the joint problem of data sets such as `load` returns, options as in `problem`."""
    if errors not in ("correlated", "independent"):
        raise ValueError(
            f"volcano_deformation: errors={errors!r} is unknown; use correlated or independent"
        )
    latents, correlated = source(), errors == "correlated"
    points = {axis: np.concatenate([s[axis].values for s in scenes.values()]) for axis in PLANE}
    displacement = bj.pytensor_map(
        partial(mogi_displacement, points["easting"], points["northing"]),
        [latent.name for latent in latents],
        name="displacement",
        input_units={latent.name: latent.units for latent in latents},
        output_units="m",
        coords=points,
    )
    modalities = [
        bj.Modality(
            name,
            scenes[name].displacement,
            displacement,
            _noise(name, scenes[name].sd.values, correlated),
            observe=operator,
            power=1.0 if correlated else POWERS.get(name, 1.0),
        )
        for name, operator in observation_operators(scenes).items()
    ]
    unmodelled = (unmodelled_displacement(displacement, int(rank)), track_constants(displacement))
    return bj.JointProblem(
        latents=latents, modalities=modalities, discrepancy=unmodelled if correlated else None
    )


def _noise(name: str, stated: np.ndarray, correlated: bool) -> bj.GaussianNoise:
    """Return the noise: as stated; with correlated errors that of GNSS has an unknown factor."""
    unknown = correlated and name == "gnss"
    return bj.GaussianNoise(sd=stated, scale=_around(1.0, 1.0) if unknown else 1.0)
