"""Surface displacement of sources in an elastic half-space with Poisson's ratio 1/4.

All move a point of the free surface along the line from the source, and differ in how this decays:
with ``e = (E - x, N - y, depth)`` and ``R = |e|``,

    mogi      small sphere        u = (1 - ν)/π ΔV e/R³
    mctigue   sphere of radius a  u = (1 - ν)/π ΔV e/R³ (1 + (a/depth)³ c(R))
    sill      small flat crack    u = 3/(2π) ΔV depth² e/R⁵
    spheroid  small spheroid with a vertical axis: a mixture of cracks

Lengths and displacements are in m, volumes in m³; depth is positive downwards.

References
----------
K. Mogi, Bull. Earthquake Res. Inst. Tokyo 36 (1958) 99.
D. F. McTigue, J. Geophys. Res. 92 (1987) 12931, doi 10.1029/JB092iB12p12931.
Y. Okada, Bull. Seismol. Soc. Am. 75 (1985) 1135 (point tensile source).
M. Nikkhoo et al., Geophys. J. Int. 208 (2017) 877, doi 10.1093/gji/ggw420 (compound of cracks).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt

POISSON_RATIO = 0.25


def _from_source(easting, northing, x, y, depth):
    """Return vectors from the source to points, shape (point, 3), and their lengths."""
    east, north = easting - x, northing - y
    up = depth * pt.ones_like(pt.as_tensor(east))
    return pt.stack([east, north, up], axis=1), pt.sqrt(east**2 + north**2 + depth**2)


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
    Mogi (1958): an isotropic source.  The uplift integrates over the plane to 2 (1 - ν) ΔV.

    Examples
    --------
    >>> above = mogi_displacement(np.zeros(1), np.zeros(1), 0.0, 0.0, 3_000.0, 1e6)
    >>> above.eval().round(4)
    array([[0.    , 0.    , 0.0265]])
    """
    vectors, distance = _from_source(easting, northing, x, y, depth)
    strength = (1 - POISSON_RATIO) / np.pi * volume_change
    return vectors * (strength / distance**3)[:, None]


def mctigue_displacement(
    easting: np.ndarray,
    northing: np.ndarray,
    x: pt.TensorLike,
    y: pt.TensorLike,
    depth: pt.TensorLike,
    volume_change: pt.TensorLike,
    radius: pt.TensorLike,
) -> pt.TensorVariable:
    """Return the surface displacement of a pressurised sphere, shape (point, component).

    Parameters and result as of `mogi_displacement`, and the ``radius`` of the sphere, m.

    Notes
    -----
    McTigue (1987, eq. 52-53), to the sixth power of radius over depth; ``volume_change`` stands for
    ``π radius³ Δp/μ``, that of a deep sphere.

    Examples
    --------
    >>> where = np.zeros(1), np.zeros(1), 0.0, 0.0, 3_000.0, 1e6
    >>> sphere, point = mctigue_displacement(*where, 1_500.0), mogi_displacement(*where)
    >>> float((sphere / point).eval()[0, 2].round(3))
    1.129
    """
    _, distance = _from_source(easting, northing, x, y, depth)
    nu, ratio = POISSON_RATIO, depth / distance
    near = (15 * (2 - nu) * ratio**2 / 4 - (1 + nu) / 2) / (7 - 5 * nu)
    finite = 1 + (radius / depth) ** 3 * near
    return mogi_displacement(easting, northing, x, y, depth, volume_change) * finite[:, None]


def sill_displacement(
    easting: np.ndarray,
    northing: np.ndarray,
    x: pt.TensorLike,
    y: pt.TensorLike,
    depth: pt.TensorLike,
    volume_change: pt.TensorLike,
) -> pt.TensorVariable:
    """Return the surface displacement of a small horizontal crack, shape (point, component).

    Parameters and result as of `mogi_displacement`; ``volume_change`` is opening times area.

    Notes
    -----
    Okada (1985, eq. 14, dip 0).  The uplift integrates over the plane to the opened volume.

    Examples
    --------
    >>> above = sill_displacement(np.zeros(1), np.zeros(1), 0.0, 0.0, 3_000.0, 1e6)
    >>> above.eval().round(4)
    array([[0.    , 0.    , 0.0531]])
    """
    vectors, distance = _from_source(easting, northing, x, y, depth)
    return vectors * (3 / (2 * np.pi) * volume_change * depth**2 / distance**5)[:, None]


def spheroid_displacement(
    easting: np.ndarray,
    northing: np.ndarray,
    x: pt.TensorLike,
    y: pt.TensorLike,
    depth: pt.TensorLike,
    volume_change: pt.TensorLike,
    flatness: pt.TensorLike,
) -> pt.TensorVariable:
    """Return the surface displacement of a small vertical spheroid, shape (point, component).

    Parameters and result as of `mogi_displacement`; ``volume_change`` is that of three cracks at
    right angles (the potency), and ``flatness`` the share of it that opens vertically: 1 is a sill,
    1/3 a sphere, less is a pipe.

    Notes
    -----
    A compound of point cracks (Nikkhoo et al. 2017) with two equal vertical ones.  Three equal
    cracks of volume V each are a Mogi source of volume change (1 + ν)/(1 - ν) V.

    Examples
    --------
    >>> where = np.zeros(1), np.zeros(1), 0.0, 0.0, 3_000.0
    >>> sphere = spheroid_displacement(*where, 1.8e6, 1 / 3)
    >>> bool(np.allclose(sphere.eval(), mogi_displacement(*where, 1e6).eval()))
    True
    """
    where, nu = (easting, northing, x, y, depth), POISSON_RATIO
    vertical = volume_change * (1 - flatness) / 2  # of each of the two upright cracks
    isotropic = mogi_displacement(*where, vertical * (1 + nu) / (1 - nu))
    return isotropic + sill_displacement(*where, volume_change * flatness - vertical)


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Attributes
    ----------
    displacement : callable
        ``(easting, northing, **parameters) -> (point, component)``.
    shape : mapping of str to (low, high, units)
        Range of each parameter beyond ``x``, ``y``, ``depth`` and ``volume_change``.
    """

    displacement: Callable[..., pt.TensorVariable]
    shape: Mapping[str, tuple[float, float, str]]


SOURCES = {
    "mogi": Source(mogi_displacement, {}),
    # McTigue's series is good to a percent up to half the depth; 500 m is the published range.
    "mctigue": Source(mctigue_displacement, {"radius": (500.0, 1_500.0, "m")}),
    "sill": Source(sill_displacement, {}),
    "spheroid": Source(spheroid_displacement, {"flatness": (0.0, 1.0, "1")}),
}
