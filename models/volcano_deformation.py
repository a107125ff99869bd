"""Magma sources under a volcano, seen by GNSS and by radar from two directions.

A source at depth (position, depth, volume change) displaces the ground.  One forward map gives the
displacement at every point, three instruments look at it: GNSS stations measure its components,
two radar tracks its part along their lines of sight (InSAR), at thousands of pixels.

    source -> displacement (point, component) -+- components at stations        gnss
                                               +- line of sight, track 1        ascending
                                               +- line of sight, track 2        descending

At Campi Flegrei (2011-13) one source leaves residuals of several stated errors, smooth in space:
the ground does more than the source explains.  By default that is an unmodelled displacement field
of unknown size and length scale, the error of the shared map before the instruments, seen by each
in its own way.  At Unimak, Westdahl inflates and Fisher deflates.

Lengths, coordinates and displacements are in m, volumes in m³; at Unimak per year.

References
----------
E. Trasatti, Front. Earth Sci. 10 (2022) 917222, doi 10.3389/feart.2022.917222 (Campi Flegrei).
A. Solin and S. Särkkä, Stat. Comput. 30 (2020) 419, doi 10.1007/s11222-019-09886-w (reduced rank).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from volcano_data import (
    PLANE,
    TRACKS,
    Place,
    by_component,
    data_folder,
    load,
    observation_operators,
    place_of,
)
from volcano_sources import SOURCES, Source

import bayesjoint as bj

__all__ = ["data_folder", "load", "problem", "problem_of"]

ERRORS = ("correlated", "independent", "stated", "white", "separate", "one_number")
CELLS = 80  # of the grid of an unmodelled field along the longer side
MARGIN = 1.25  # by which it goes beyond the data, in length scales


# --- sources -----------------------------------------------------------------------------------


def latents_of(place: Place, source: Source) -> list[bj.Parameter]:
    """Return the unknowns of all sources of a place: uniform over their ranges."""
    units = {"volume_change": "m3" if place.units == "m" else "m3/yr"}
    return [
        bj.Parameter(
            f"{body}{name}",
            bj.Prior(pm.Uniform, lower=low, upper=high),
            units=units.get(name, unit),
        )
        for body, ranges in place.bodies.items()
        for name, (low, high, unit) in _with_shape(ranges, source).items()
    ]


def _with_shape(ranges: Mapping[str, tuple[float, float]], source: Source):
    return {name: (*ends, "m") for name, ends in ranges.items()} | dict(source.shape)


def displacement_map(
    place: Place, source: Source, latents: list[bj.Parameter], scenes: Mapping[str, xr.Dataset]
):
    """Return the map of the unknowns to the displacement of all points of data sets."""
    names = {body: list(_with_shape(r, source)) for body, r in place.bodies.items()}
    points = _points(scenes)

    def displacement(*values: pt.TensorLike) -> pt.TensorVariable:
        given, total = iter(values), 0.0
        for parameters in names.values():
            one = {name: next(given) for name in parameters}
            total = total + source.displacement(points["easting"], points["northing"], **one)
        return total

    return bj.pytensor_map(
        displacement,
        [latent.name for latent in latents],
        name="displacement",
        input_units={latent.name: latent.units for latent in latents},
        output_units=place.units,
        coords=points,
    )


# --- errors ------------------------------------------------------------------------------------


def unmodelled_displacement(
    place: Place, displacement, rank: int, name: str = "unmodelled"
) -> bj.JointDiscrepancy:
    """Return the error of the shared map: smooth over some kilometres.

    East, north and up are independent Matérn fields (smoothness 3/2) of one unknown sd and length
    scale.  The covariance of 5,572 data is never formed: each field is kept to its `rank` leading
    modes, and they are integrated out through matrices of three times that size.
    """
    return bj.JointDiscrepancy(
        of=displacement,
        sd=_around(place.unmodelled_sd, 1.0),
        name=name,
        **_smooth(place.length_scale, displacement.coords, rank),
    )


def atmosphere(place: Place, scenes: Mapping[str, xr.Dataset], rank: int) -> bj.JointDiscrepancy:
    """Return what each track sees of the air alone: smooth, independent between tracks."""
    sd, length_scale = place.atmosphere
    return bj.JointDiscrepancy(
        sd={name: _around(sd, 1.0) for name in TRACKS},
        name="atmosphere",
        **_smooth(length_scale, _points({name: scenes[name] for name in TRACKS}), rank),
    )


def errors_in_data_space(
    place: Place, scenes: Mapping[str, xr.Dataset], rank: int
) -> bj.JointDiscrepancy:
    """Return errors of the data sets, alike in smoothness, with one correlation for all pairs.

    Every data set has its own sd; the directions in which they look do not enter.
    """
    lowest = -1 / (len(scenes) - 1)  # below, the correlation matrix is not positive definite
    return bj.JointDiscrepancy(
        sd={name: _around(place.unmodelled_sd, 1.0) for name in scenes},
        correlation=bj.Prior(pm.Uniform, lower=lowest, upper=1.0),
        name="one_number",
        **_smooth(place.length_scale, _points(scenes), rank),
    )


def _smooth(length_scale: float, points: Mapping[str, np.ndarray], rank: int) -> dict:
    margin = MARGIN * length_scale
    spacing = max(np.ptp(at) + 2 * margin for at in points.values()) / CELLS
    axes = {
        axis: np.arange(at.min() - margin, at.max() + margin + spacing, spacing)
        for axis, at in points.items()
    }
    unknown = _around(length_scale, 0.5)
    return {"on": PLANE, "length_scale": unknown, "grid": bj.Grid(**axes), "rank": rank}


def constants(place: Place, scenes: Mapping[str, xr.Dataset]) -> list[bj.JointDiscrepancy]:
    """Return the unknown constant of each data set that is relative to an unknown reference.

    A process with one mode, the constant, independent between data sets; of GNSS with three
    components a given covariance.
    """
    ends = {axis: [at.min(), at.max()] for axis, at in _points(scenes).items()}
    sd = {name: place.constants.get(name.split("_")[0]) for name in scenes}
    vectors = [name for name, scene in scenes.items() if scene.look.shape[1] > 1 and sd[name]]
    single = {name: value for name, value in sd.items() if value and name not in vectors}
    found = [
        bj.JointDiscrepancy(
            sd=single,
            on=PLANE,
            length_scale=float(np.ptp(ends["easting"])),  # the constant mode does not depend on it
            grid=bj.Grid(**ends),
            rank=1,
            name="constant",
        )
    ]
    for name in vectors:
        points, components, _ = scenes[name].look.shape
        common = sd[name] ** 2 * np.kron(np.ones((points, points)), np.eye(components))
        found.append(bj.JointDiscrepancy(covariance={(name, name): common}, name=f"{name}_frame"))
    return found


def _around(median: float, relative_sd: float) -> bj.Prior:
    return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=relative_sd)


# --- problem -----------------------------------------------------------------------------------


def problem(
    data: Path | None = None, *, place: str = "campi_flegrei", **options
) -> bj.JointProblem:
    """Return the joint problem of GNSS and two InSAR tracks.

    Parameters
    ----------
    data : Path, optional
        Folder of the data, as in `data_folder`.
    place : {"campi_flegrei", "unimak"}
    **options
        ``source``, ``errors`` and ``rank``, as of `problem_of`.

    Raises
    ------
    ValueError
        If an option is unknown, or the data are not found.
    """
    return problem_of(load(data, place), place=place, **options)


def problem_of(
    scenes: Mapping[str, xr.Dataset],
    *,
    place: str = "campi_flegrei",
    source: str = "mogi",
    errors: str = "correlated",
    rank: int = 200,
) -> bj.JointProblem:
    """Return the joint problem of data sets such as `load` returns.

    Parameters
    ----------
    scenes : mapping of str to Dataset
    place : {"campi_flegrei", "unimak"}
    source : {"mogi", "mctigue", "sill", "spheroid"}
    errors : str
        - ``"correlated"``: an unmodelled displacement field, the error of the shared map; unknown
          constants; an unknown factor on stated errors that are not trusted; at Unimak what each
          track sees of the air;
        - ``"independent"``: stated errors, likelihoods to the power 5/6 (GNSS) and 1/6 (each
          track), as in the published posterior of Campi Flegrei;
        - ``"stated"``: stated errors, unknown constants;
        - ``"white"``: the same with an unknown factor on the errors of each data set;
        - ``"separate"``: as "correlated", but every data set has a field of its own;
        - ``"one_number"``: a smooth error of each data set in data space, the components of GNSS
          apart, with one unknown correlation for all pairs of them.
    rank : int
        Modes kept of each component or data set of a smooth error.

    Raises
    ------
    ValueError
        If an option is unknown.
    """
    where, model = place_of(place), _known("source", source, SOURCES)
    _known("errors", errors, dict.fromkeys(ERRORS))
    if errors == "independent" and where.powers is None:
        raise ValueError(f"volcano_deformation: nothing is published for {place}; use stated")
    if errors == "one_number":
        scenes = by_component(scenes)
    latents = latents_of(where, model)
    # What shares a map shares its error: else every data set has a map of its own.
    together = [{k: v} for k, v in scenes.items()] if errors == "separate" else [scenes]
    modalities, found = [], [] if errors == "independent" else constants(where, scenes)
    for sets in together:
        displacement = displacement_map(where, model, latents, sets)
        operators = observation_operators(sets)
        modalities += [
            _modality(where, displacement, errors, name, sets[name], operators[name])
            for name in sets
        ]
        if errors in ("correlated", "separate"):
            name = "unmodelled" if errors == "correlated" else f"unmodelled_{next(iter(sets))}"
            found.append(unmodelled_displacement(where, displacement, int(rank), name))
    if errors == "correlated" and where.atmosphere:
        found.append(atmosphere(where, scenes, int(rank)))
    if errors == "one_number":
        found.append(errors_in_data_space(where, scenes, int(rank)))
    return bj.JointProblem(latents=latents, modalities=modalities, discrepancy=tuple(found) or None)


def _modality(place: Place, displacement, errors: str, name: str, scene, operator) -> bj.Modality:
    kind = name.split("_")[0]  # of gnss_east: gnss
    stated = errors in ("independent", "stated")
    scaled = not stated and (errors == "white" or kind in place.scaled)
    powers = place.powers if errors == "independent" and place.powers else {}
    return bj.Modality(
        name,
        scene.displacement,
        displacement,
        bj.GaussianNoise(sd=scene.sd.values, scale=_around(1.0, 1.0) if scaled else 1.0),
        observe=operator,
        power=powers.get(kind, 1.0),
    )


def _points(scenes: Mapping[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """Return the coordinates of all points, one data set after the other."""
    return {axis: np.concatenate([s[axis].values for s in scenes.values()]) for axis in PLANE}


def _known[T](option: str, name: str, table: Mapping[str, T]) -> T:
    if name not in table:
        raise ValueError(
            f"volcano_deformation: {option}={name!r} is unknown; use {', '.join(table)}"
        )
    return table[name]
