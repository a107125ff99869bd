"""Ground displacement at two volcanoes: files to data sets, and what the instruments see of it.

``campi_flegrei``: unrest of 2011-13, fourteen GNSS stations and two COSMO-SkyMed tracks (Trasatti
2022); displacements in m, UTM zone 33 N.  ``unimak``: the Alaskan volcanoes Westdahl and Fisher,
eleven GNSS stations and two Sentinel-1 tracks; velocities in m/yr, metres from a point between.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import sparse

TRACKS = ("ascending", "descending")
PLANE = ("easting", "northing")
COMPONENTS = ["east", "north", "up"]
# The sd that the file of a Unimak track gives, down to 0.03 µm/yr, are not those of a velocity.
UNIMAK_PIXEL_SD = 0.001  # m/yr, scaled by an unknown factor
DEGREE = 111_200.0  # m of latitude
ORIGIN = (-164.5, 54.6)  # degrees, of Unimak's metres


@dataclass(frozen=True)
class Place:
    """Where the data of a volcano are, and where its sources may be.

    Attributes
    ----------
    folder : str
    address : str
        Of the public repository.
    files : mapping of data set to file
    read : callable
        ``{data set: path} -> {data set: Dataset}``.
    units : str
        Of displacement, m or m/yr.
    bodies : mapping of str to mapping
        For each source, by the prefix of its parameters, the ranges of x, y, depth (m) and volume
        change (m³, or m³/yr).
    scaled : tuple of str
        Data sets whose stated errors have an unknown factor where they are not taken as they are.
    unmodelled_sd, length_scale : float
        Prior medians of the unmodelled displacement and of its length scale, m.
    constants : mapping of data set to float
        Sd of the unknown constant of a data set that is relative to an unknown reference.
    powers : mapping of data set to float, optional
        Of the likelihoods of the published posterior.
    atmosphere : (float, float), optional
        Prior medians of the sd and length scale (m) of what each track sees of the air alone.
    air : (float, float)
        The same, where each track has errors of its own in any case.
    ramp : float
        Sd of the slopes of a track's plane, m (or m/yr) a metre.
    formal : mapping of data set to (float, float)
        Median, and sd of the logarithm, of the factor on errors that are known to be formal.
    rate_ratio : float, optional
        Sd of the logarithm of what a source does in the years of the radar over what it does in
        those of GNSS; None where both saw the same years.
    """

    folder: str
    address: str
    files: Mapping[str, str]
    read: Callable[[Mapping[str, Path]], dict[str, xr.Dataset]]
    units: str
    bodies: Mapping[str, Mapping[str, tuple[float, float]]]
    scaled: tuple[str, ...]
    unmodelled_sd: float
    length_scale: float
    constants: Mapping[str, float]
    powers: Mapping[str, float] | None = None
    atmosphere: tuple[float, float] | None = None
    air: tuple[float, float] = (0.005, 10_000.0)
    ramp: float = 2e-7
    formal: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rate_ratio: float | None = None


def data_folder(data: Path | None = None, place: str = "campi_flegrei") -> Path:
    """Return the folder of the three files: `data`, or its sub-folder named like the place.

    Without `data` they are looked for in the folder that ``BAYESJOINT_DATA`` names, else in
    ``shared/data`` beside the repository.  Raises ValueError when they are not there.
    """
    where = place_of(place)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(data or os.environ.get("BAYESJOINT_DATA") or beside)
    for folder in (root, root / where.folder):
        if all((folder / file).is_file() for file in where.files.values()):
            return folder
    raise ValueError(
        f"volcano_deformation: {root} has no {', '.join(where.files.values())}; get them from "
        f"{where.address} and give their folder as data"
    )


def place_of(name: str) -> Place:
    """Return a place by its name."""
    if name not in PLACES:
        raise ValueError(
            f"volcano_deformation: place={name!r} is unknown; use {' or '.join(PLACES)}"
        )
    return PLACES[name]


def load(data: Path | None = None, place: str = "campi_flegrei") -> dict[str, xr.Dataset]:
    """Return displacements, stated errors and lines of sight by modality; options as above.

    Each data set has ``displacement`` and ``sd`` in m (or m/yr), of GNSS on (station, component),
    of a track on its pixels; ``look`` (point, datum of the point, axis), unit vectors in which it
    is seen; and the coordinates ``easting`` and ``northing`` of its points, m.  Raises ValueError
    if a file is missing or not as described.
    """
    folder, where = data_folder(data, place), place_of(place)
    sets = where.read({name: folder / file for name, file in where.files.items()})
    for scene in sets.values():
        for name in ("displacement", "sd"):
            scene[name].attrs["units"] = where.units
    return sets


def _campi_flegrei(files: Mapping[str, Path]) -> dict[str, xr.Dataset]:
    table = _table(files["gnss"], columns=range(8), skiprows=1)
    sets = {"gnss": _stations(np.arange(1, len(table) + 1), table)}
    for track in TRACKS:
        table = _table(files[track], columns=range(7))
        sets[track] = _pixels(track, table[:, :2], table[:, 2], table[:, 3], table[:, 4:7])
    return sets


def _unimak(files: Mapping[str, Path]) -> dict[str, xr.Dataset]:
    table = _table(files["gnss"], columns=range(1, 9), comments="%")
    table[:, :2] = local_metres(table[:, 0], table[:, 1])
    names = [line.split()[0] for line in files["gnss"].read_text("utf-8").splitlines()[1:] if line]
    sets = {"gnss": _stations(names, table)}
    for track in TRACKS:
        table = _table(files[track], columns=range(10), comments="%")
        azimuth, incidence = np.radians(table[:, 2:4].T)
        flat = np.sin(incidence)
        looks = [-flat * np.cos(azimuth), flat * np.sin(azimuth), np.cos(incidence)]
        places = local_metres(table[:, 0], table[:, 1])
        sd = np.full(len(table), UNIMAK_PIXEL_SD)
        scene = _pixels(track, places, table[:, 4], sd, np.stack(looks, axis=1))
        width = _widths(files[track], table[:, 6:])
        sets[track] = scene.assign(width=(f"{track}_pixel", width, {"units": "m"}))
    return sets


def _widths(file: Path, blocks: np.ndarray) -> np.ndarray:
    """Return the width of the blocks of an image over which data are means, m.

    Blocks are first and last row and column; the header has the size of the image in pixels and its
    extent in degrees.
    """
    header = file.read_text("utf-8").split("\n", 1)[0]
    rows, columns = (int(n) for n in header.split("Dimensions:")[1].split(", Extent")[0].split(","))
    west, east, south, north = (float(n) for n in header.split("Extent:")[1].split(","))
    height = (blocks[:, 1] - blocks[:, 0]) * (north - south) / rows
    across = (blocks[:, 3] - blocks[:, 2]) * (east - west) / columns
    return DEGREE * np.sqrt(height * across * np.cos(np.radians(ORIGIN[1])))


def local_metres(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Return easting and northing from Unimak's origin, shape (point, 2), m.

    To second order in the differences on the WGS 84 ellipsoid: within 20 m over 30 km.
    """
    middle, squared = np.radians(ORIGIN[1]), 0.00669438
    bulge = 1 - squared * np.sin(middle) ** 2
    across, along = 6_378_137 / bulge**0.5, 6_378_137 * (1 - squared) / bulge**1.5
    phi, east = np.radians(latitude), np.radians(np.asarray(longitude) - ORIGIN[0])
    x = across * np.cos(phi) * east
    y = along * (phi - middle) + across * np.sin(phi) * np.cos(phi) * east**2 / 2
    return np.stack([x, y], axis=1)


def _table(file: Path, columns: range, **layout) -> np.ndarray:
    try:
        return np.loadtxt(file, usecols=list(columns), ndmin=2, **layout)
    except ValueError as error:
        raise ValueError(
            f"volcano_deformation: {file} is no table of {len(columns)} columns of numbers: {error}"
        ) from error


def _stations(names, table: np.ndarray) -> xr.Dataset:
    """Return GNSS from columns easting, northing, three components, their sd."""
    dims = ("station", "component")
    gnss = _dataset("station", table[:, :2], dims, table[:, 2:5], table[:, 5:8])
    looks = np.broadcast_to(np.eye(3), (len(table), 3, 3))
    gnss = gnss.assign(look=(("station", "component", "axis"), looks))
    return gnss.assign_coords(station=names, component=COMPONENTS)


def _pixels(track: str, places, seen, sd, looks) -> xr.Dataset:
    pixel = f"{track}_pixel"
    scene = _dataset(pixel, places, (pixel,), seen, sd)
    return scene.assign(look=((pixel, "once", "axis"), looks[:, None, :]))


def _dataset(point: str, places: np.ndarray, dims: tuple[str, ...], value, sd) -> xr.Dataset:
    coords = {name: (point, places[:, i], {"units": "m"}) for i, name in enumerate(PLANE)}
    return xr.Dataset({"displacement": (dims, value), "sd": (dims, sd)}, coords=coords)


def points_of(scenes: Mapping[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """Return the coordinates of all points, one data set after the other."""
    return {axis: np.concatenate([s[axis].values for s in scenes.values()]) for axis in PLANE}


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


def by_component(scenes: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return the data sets with one for each component of GNSS: ``gnss_east`` and so on."""
    found = {}
    for name, scene in scenes.items():
        if "component" not in scene.dims:
            found[name] = scene
            continue
        for component in scene.component.values:
            look = scene.look.sel(component=[component]).rename(component="once").drop_vars("once")
            one = scene[["displacement", "sd"]].sel(component=component, drop=True)
            found[f"{name}_{component}"] = one.assign(look=look)
    return found


# --- places ------------------------------------------------------------------------------------

PLACES = {
    "campi_flegrei": Place(
        folder="campi_flegrei",
        address="https://github.com/EliTras/VSM_test (USECASE/DATA)",
        files={"gnss": "GPS_data.txt", "ascending": "obs_sar1.txt", "descending": "obs_sar2.txt"},
        read=_campi_flegrei,
        units="m",
        bodies={
            "": {
                "x": (422e3, 432e3),
                "y": (4_515e3, 4_525e3),
                "depth": (2e3, 7e3),
                "volume_change": (1e6, 2e7),
            }
        },
        scaled=("gnss",),
        unmodelled_sd=0.01,
        length_scale=2_000.0,
        constants={"ascending": 0.03, "descending": 0.03},
        powers={"gnss": 5 / 6, "ascending": 1 / 6, "descending": 1 / 6},
    ),
    "unimak": Place(
        folder="unimak",
        address="https://github.com/uafgeotools/vmod (examples/gps and examples/insar)",
        files={
            "gnss": "unimak_gnss_NOAM_AB06.txt",
            "ascending": "unimak_asc_ref.csv",
            "descending": "unimak_des_ref.csv",
        },
        read=_unimak,
        units="m/yr",
        bodies={
            "westdahl_": {
                "x": (-20e3, 0.0),
                "y": (-20e3, 0.0),
                "depth": (2e3, 15e3),
                "volume_change": (0.0, 2e7),
            },
            "fisher_": {
                "x": (0.0, 20e3),
                "y": (0.0, 20e3),
                "depth": (1e3, 10e3),
                "volume_change": (-1e7, 0.0),
            },
        },
        scaled=("gnss", "ascending", "descending"),
        unmodelled_sd=0.002,
        length_scale=5_000.0,
        constants={"gnss": 0.005, "ascending": 0.01, "descending": 0.01},
        atmosphere=(0.001, 10_000.0),
        air=(0.001, 10_000.0),
        ramp=2e-8,  # 2 mm/yr over 100 km
        # Errors of white noise alone are too small by 5 to 11 (Mao, Harrison & Dixon 1999).
        formal={"gnss": (7.5, 0.3)},
        rate_ratio=0.3,
    ),
}
