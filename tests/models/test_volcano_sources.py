"""Sources in a half-space against closed forms, limits and other people's numbers."""

import numpy as np
import pytest

from models import volcano_sources as sources

DEPTH, VOLUME = 2_000.0, 1e6
EVERY = {  # kind -> further parameters, volume of the uplift over the volume change
    "mogi": ({}, 2 * (1 - 0.25)),
    "sill": ({}, 1.0),
    "spheroid": ({"flatness": 0.6}, 1.0 * 0.6 + 0.4 * (2 * (1 + 0.25) - 1) / 2),
    "mctigue": ({"radius": 800.0}, None),
}


def displacement(kind, easting, northing, depth=DEPTH, **shape):
    function = sources.SOURCES[kind].displacement
    points = np.asarray(easting, dtype=float), np.asarray(northing, dtype=float)
    return function(*points, 0.0, 0.0, depth, VOLUME, **shape).eval()


def point_crack(x, y, depth, dip):
    """Surface displacement of a point tensile crack of potency 1 along x, Okada (1985, eq. 10-14).

    Shear and bulk moduli are those of Poisson's ratio 1/4.
    """
    sine, cosine, share = np.sin(dip), np.cos(dip), 0.5  # mu / (lambda + mu)
    r = np.sqrt(x**2 + y**2 + depth**2)
    q = y * sine - depth * cosine
    first = 1 / (r * (r + depth) ** 2)
    cubed = (3 * r + depth) / (r**3 * (r + depth) ** 3)
    i1, i2 = share * y * (first - x**2 * cubed), share * x * (first - y**2 * cubed)
    i3 = share * x / r**3 - i2
    i5 = share * (1 / (r * (r + depth)) - x**2 * (2 * r + depth) / (r**3 * (r + depth) ** 2))
    images = np.stack([i3, i1, i5], axis=1) * sine**2
    return (3 * q**2 / r**5 * np.stack([x, y, 0 * x + depth]) - images.T).T / (2 * np.pi)


def places(seed=0):
    return 3_000 * np.random.default_rng(seed).standard_normal((2, 20))


def test_uplift_above_a_sphere_is_that_of_the_closed_form():
    # Segall (2010), Earthquake and Volcano Deformation, eq. 7.14: (1 - nu) dV / (pi d^2)
    up = displacement("mogi", [0.0], [0.0])[0]
    assert up == pytest.approx([0, 0, 0.75 * VOLUME / (np.pi * DEPTH**2)], rel=1e-12)


def test_radius_and_size_of_the_greatest_horizontal_displacement():
    # The horizontal part is greatest at r = d / sqrt(2), where it is 0.385 of the central uplift.
    radius = np.linspace(100.0, 9_000.0, 20_000)
    u, centre = displacement("mogi", radius, 0 * radius), displacement("mogi", [0.0], [0.0])
    assert radius[u[:, 0].argmax()] == pytest.approx(DEPTH / np.sqrt(2), rel=1e-3)
    assert u[:, 0].max() / centre[0, 2] == pytest.approx(2 / 3**1.5, rel=1e-6)


@pytest.mark.parametrize("kind", ["mogi", "sill", "spheroid"])
def test_uplift_integrates_to_the_known_volume(kind):
    shape, ratio = EVERY[kind]
    slope = np.linspace(1e-6, 1 - 1e-6, 100_001)  # radius = depth * tan
    radius = DEPTH * np.tan(slope * np.pi / 2)
    up = displacement(kind, radius, 0 * radius, **shape)[:, 2]
    volume = np.trapezoid(2 * np.pi * radius * up, radius)
    assert volume == pytest.approx(ratio * VOLUME, rel=1e-3)


@pytest.mark.parametrize("kind", EVERY)
def test_displacement_points_away_from_the_source_and_is_round(kind):
    x, y = places()
    u = displacement(kind, x, y, **EVERY[kind][0])
    np.testing.assert_allclose(u[:, 0] * DEPTH, u[:, 2] * x, rtol=1e-10)
    np.testing.assert_allclose(u[:, 1] * DEPTH, u[:, 2] * y, rtol=1e-10)
    turned = displacement(kind, -y, x, **EVERY[kind][0])
    np.testing.assert_allclose(turned[:, 2], u[:, 2], rtol=1e-12)


def test_a_sill_is_okadas_horizontal_crack():
    x, y = places()
    expected = VOLUME * point_crack(x, y, DEPTH, dip=0.0)
    np.testing.assert_allclose(displacement("sill", x, y), expected, rtol=1e-10)


@pytest.mark.parametrize("flatness", [0.0, 1 / 3, 0.7])
def test_a_spheroid_is_three_of_okadas_cracks(flatness):
    x, y = places()
    opens_north = point_crack(x, y, DEPTH, dip=np.pi / 2)
    turned = point_crack(y, -x, DEPTH, dip=np.pi / 2)  # the same crack, seen from the east
    opens_east = np.stack([-turned[:, 1], turned[:, 0], turned[:, 2]], axis=1)
    upright, flat = opens_north + opens_east, point_crack(x, y, DEPTH, dip=0.0)
    expected = VOLUME * ((1 - flatness) / 2 * upright + flatness * flat)
    found = displacement("spheroid", x, y, flatness=flatness)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_a_small_sphere_is_a_point_and_a_large_one_is_not():
    x, y = places()
    point = displacement("mogi", x, y)
    for radius, order in ((20.0, 1e-6), (200.0, 1e-3)):  # to the third power of radius / depth
        change = displacement("mctigue", x, y, radius=radius) / point - 1
        assert 0 < np.abs(change).max() < 2 * order
    # McTigue (1987): above a sphere of half its depth the finite size adds an eighth, 1.129 here.
    assert displacement("mctigue", [0.0], [0.0], radius=1_000.0)[0, 2] / displacement(
        "mogi", [0.0], [0.0]
    )[0, 2] == pytest.approx(1 + (15 * 1.75 / 4 - 1.25 / 2) / 5.75 / 8, rel=1e-12)
