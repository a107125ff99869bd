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
in its own way.  At Unimak, Westdahl inflates and Fisher deflates; what GNSS and radar saw of that
may be of different years.

Lengths, coordinates and displacements are in m, volumes in m³; at Unimak per year.

References
----------
E. Trasatti, Front. Earth Sci. 10 (2022) 917222, doi 10.3389/feart.2022.917222 (Campi Flegrei).
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
    points_of,
)
from volcano_errors import (
    around,
    atmosphere,
    constants,
    errors_in_data_space,
    field_of_one,
    planes,
    unmodelled_displacement,
)
from volcano_sources import SOURCES, Source

import bayesjoint as bj

__all__ = ["PLANE", "data_folder", "load", "problem", "problem_of"]

ERRORS = ("correlated", "independent", "stated", "white", "separate", "one_number", "instruments")


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


def rate_ratios(place: Place) -> list[bj.Parameter]:
    """Return what each source does in the years of the radar over what in those of GNSS."""
    spread = bj.Prior(pm.LogNormal, mu=0.0, sigma=place.rate_ratio)
    return [bj.Parameter(f"{body}radar_rate", spread, units="1") for body in place.bodies]


def displacement_map(
    place: Place, source: Source, latents: list[bj.Parameter], scenes: Mapping[str, xr.Dataset]
):
    """Return the map of the unknowns to the displacement of all points of data sets."""
    names = {body: list(_with_shape(r, source)) for body, r in place.bodies.items()}
    points, seen_by_radar = points_of(scenes), _of_tracks(scenes)

    def displacement(*values: pt.TensorLike) -> pt.TensorVariable:
        given = dict(zip([latent.name for latent in latents], values, strict=True))
        total = 0.0
        for body, parameters in names.items():
            one = {name: given[f"{body}{name}"] for name in parameters}
            moved = source.displacement(points["easting"], points["northing"], **one)
            if f"{body}radar_rate" in given:
                moved = moved * (1.0 + (given[f"{body}radar_rate"] - 1.0) * seen_by_radar[:, None])
            total = total + moved
        return total

    return bj.pytensor_map(
        displacement,
        [latent.name for latent in latents],
        name="displacement",
        input_units={latent.name: latent.units for latent in latents},
        output_units=place.units,
        coords=points,
    )


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
    own_rates: bool = False,
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
        - ``"instruments"``: the same, and at both places each track has a plane and sees air of its
          own; errors of GNSS that are formal have a factor about that of the literature;
        - ``"independent"``: stated errors, likelihoods to the power 5/6 (GNSS) and 1/6 (each
          track), as in the published posterior of Campi Flegrei;
        - ``"stated"``: stated errors, unknown constants;
        - ``"white"``: the same with an unknown factor on the errors of each data set;
        - ``"separate"``: as "correlated", but every data set has a field of its own;
        - ``"one_number"``: a smooth error of each data set in data space, the components of GNSS
          apart, with one unknown correlation for all pairs of them.
    rank : int
        Modes kept of each component or data set of a smooth error.
    own_rates : bool
        Whether each source has an unknown ratio of what it does in the years of the radar to what
        it does in those of GNSS, where a place has such years.

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
    if own_rates and where.rate_ratio is not None:
        latents += rate_ratios(where)
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
        if errors in ("correlated", "instruments"):
            found.append(unmodelled_displacement(where, displacement, int(rank)))
        if errors == "separate":
            found.append(field_of_one(where, displacement, sets, int(rank)))
    if errors == "correlated" and where.atmosphere:
        found.append(atmosphere(where.atmosphere, scenes, int(rank)))
    if errors == "instruments":
        found += [atmosphere(where.air, scenes, int(rank)), planes(where, scenes)]
    if errors == "one_number":
        found.append(errors_in_data_space(where, scenes, int(rank)))
    return bj.JointProblem(latents=latents, modalities=modalities, discrepancy=tuple(found) or None)


def _modality(place: Place, displacement, errors: str, name: str, scene, operator) -> bj.Modality:
    kind = name.split("_")[0]  # of gnss_east: gnss
    stated = errors in ("independent", "stated")
    scaled = not stated and (errors == "white" or kind in place.scaled)
    powers = place.powers if errors == "independent" and place.powers else {}
    about = place.formal.get(kind, (1.0, 1.0)) if errors == "instruments" else (1.0, 1.0)
    return bj.Modality(
        name,
        scene.displacement,
        displacement,
        bj.GaussianNoise(sd=scene.sd.values, scale=around(*about) if scaled else 1.0),
        observe=operator,
        power=powers.get(kind, 1.0),
    )


def _of_tracks(scenes: Mapping[str, xr.Dataset]) -> np.ndarray:
    """Return one where a point is seen by radar, else zero."""
    parts = [np.full(len(s.look), float(name in TRACKS)) for name, s in scenes.items()]
    return np.concatenate(parts)


def _known[T](option: str, name: str, table: Mapping[str, T]) -> T:
    if name not in table:
        raise ValueError(
            f"volcano_deformation: {option}={name!r} is unknown; use {', '.join(table)}"
        )
    return table[name]
