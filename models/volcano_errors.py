"""Errors of ground displacement: what the ground does beside the source, and what instruments add.

References
----------
A. Mao, C. G. A. Harrison and T. H. Dixon, J. Geophys. Res. 104 (1999) 2797, doi
10.1029/1998JB900033 (velocity errors of white noise alone are too small by 5 to 11).
A. Solin and S. Särkkä, Stat. Comput. 30 (2020) 419, doi 10.1007/s11222-019-09886-w (reduced rank).
"""

from collections.abc import Mapping

import numpy as np
import pymc as pm
import xarray as xr
from volcano_data import PLANE, TRACKS, Place, points_of

import bayesjoint as bj

CELLS = 80  # of the grid of an unmodelled field along the longer side
MARGIN = 1.25  # by which it goes beyond the data, in length scales


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
        sd=around(place.unmodelled_sd, 1.0),
        name=name,
        **_smooth(place.length_scale, displacement.coords, rank),
    )


def field_of_one(
    place: Place, displacement, sets: Mapping[str, xr.Dataset], rank: int
) -> bj.JointDiscrepancy:
    """Return an unmodelled field that one data set sees alone.

    A track looks at all points from one side: a displacement whose components are independent and
    alike is, along its line of sight, one such field, with a third of the modes.
    """
    ((name, scene),) = sets.items()
    if scene.look.shape[1] > 1:
        return unmodelled_displacement(place, displacement, rank, f"unmodelled_{name}")
    return bj.JointDiscrepancy(
        sd={name: around(place.unmodelled_sd, 1.0)},
        name=f"unmodelled_{name}",
        **_smooth(place.length_scale, points_of(sets), rank),
    )


def atmosphere(
    settings: tuple[float, float], scenes: Mapping[str, xr.Dataset], rank: int
) -> bj.JointDiscrepancy:
    """Return what each track sees of the air alone: smooth, independent between tracks."""
    sd, length_scale = settings
    return bj.JointDiscrepancy(
        sd={name: around(sd, 1.0) for name in TRACKS},
        name="atmosphere",
        **_smooth(length_scale, points_of({name: scenes[name] for name in TRACKS}), rank),
    )


def planes(place: Place, scenes: Mapping[str, xr.Dataset]) -> bj.JointDiscrepancy:
    """Return the unknown slopes of each track: of orbits, high air and the plate's own motion."""
    found = {}
    for name in TRACKS:
        scene = scenes[name]
        away = np.stack([scene[axis] - scene[axis].mean() for axis in PLANE])
        found[name, name] = place.ramp**2 * away.T @ away
    return bj.JointDiscrepancy(covariance=found, name="plane")


def errors_in_data_space(
    place: Place, scenes: Mapping[str, xr.Dataset], rank: int
) -> bj.JointDiscrepancy:
    """Return errors of the data sets, alike in smoothness, with one correlation for all pairs.

    Every data set has its own sd; the directions in which they look do not enter.
    """
    lowest = -1 / (len(scenes) - 1)  # below, the correlation matrix is not positive definite
    return bj.JointDiscrepancy(
        sd={name: around(place.unmodelled_sd, 1.0) for name in scenes},
        correlation=bj.Prior(pm.Uniform, lower=lowest, upper=1.0),
        name="one_number",
        **_smooth(place.length_scale, points_of(scenes), rank),
    )


def _smooth(length_scale: float, points: Mapping[str, np.ndarray], rank: int) -> dict:
    margin = MARGIN * length_scale
    spacing = max(np.ptp(at) + 2 * margin for at in points.values()) / CELLS
    axes = {
        axis: np.arange(at.min() - margin, at.max() + margin + spacing, spacing)
        for axis, at in points.items()
    }
    unknown = around(length_scale, 0.5)
    return {"on": PLANE, "length_scale": unknown, "grid": bj.Grid(**axes), "rank": rank}


def constants(place: Place, scenes: Mapping[str, xr.Dataset]) -> list[bj.JointDiscrepancy]:
    """Return the unknown constant of each data set that is relative to an unknown reference.

    A process with one mode, the constant, independent between data sets; of GNSS with three
    components a given covariance.
    """
    ends = {axis: [at.min(), at.max()] for axis, at in points_of(scenes).items()}
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


def around(median: float, relative_sd: float) -> bj.Prior:
    """Return a log-normal prior."""
    return bj.Prior(pm.LogNormal, mu=np.log(median), sigma=relative_sd)
