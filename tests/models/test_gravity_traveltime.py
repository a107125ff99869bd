"""Gravity of prisms, lengths of rays, and the section that both see."""

import numpy as np
import pytest
from scipy.constants import gravitational_constant
from scipy.integrate import dblquad
from scipy.ndimage import gaussian_filter

import bayesjoint as bj
from models import gravity_traveltime as section

MILLIGAL = 1e-5


def gravity(x, x_faces, depth_faces):
    return section.prism_gravity(np.atleast_1d(x), np.array(x_faces), np.array(depth_faces))


def lengths(start, end, x_faces, depth_faces):
    ends = np.array([start], dtype=float), np.array([end], dtype=float)
    found = section.ray_lengths(*ends, np.array(x_faces), np.array(depth_faces))
    return found.reshape(len(depth_faces) - 1, len(x_faces) - 1)


# --- gravity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [-300.0, 100.0, 120.0, 150.0])  # beside, at an edge, above
def test_prism_against_quadrature_of_the_line_mass(x):
    # Telford, Geldart & Sheriff (1990), eq. 2.51: 2 G z / (x^2 + z^2) for each unit of mass
    def line(z, u):
        return 2 * gravitational_constant * z / ((u - x) ** 2 + z**2) / MILLIGAL

    expected = dblquad(line, 100.0, 200.0, 30.0, 90.0, epsabs=1e-14)[0]
    assert gravity(x, [100.0, 200.0], [30.0, 90.0]).item() == pytest.approx(expected, rel=1e-8)


def test_prism_is_the_limit_of_a_box_long_along_strike():
    # Nagy (1966), Geophysics 31, 362: the closed form in three dimensions
    def corner(x, y, z):
        r = np.sqrt(x**2 + y**2 + z**2)
        return x * np.log(y + r) + y * np.log(x + r) - z * np.arctan2(x * y, z * r)

    sides = ((100.0, 200.0), (-1e6, 1e6), (30.0, 90.0))
    box = sum(
        (-1) ** (i + j + k) * corner(sides[0][i], sides[1][j], sides[2][k])
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    )
    expected = gravitational_constant * box / MILLIGAL
    assert gravity(0.0, *sides[::2]).item() == pytest.approx(abs(expected), rel=1e-5)


def test_wide_slab_is_the_bouguer_slab():
    expected = 2 * np.pi * gravitational_constant * 150.0 / MILLIGAL
    assert gravity(0.0, [-1e9, 1e9], [50.0, 200.0]).item() == pytest.approx(expected, rel=1e-6)


def test_far_prism_is_a_line_mass():
    mass, distance, depth = 10.0 * 10.0, 3_000.0, 1_000.0
    expected = 2 * gravitational_constant * mass * depth / (distance**2 + depth**2) / MILLIGAL
    found = gravity(distance, [-5.0, 5.0], [995.0, 1_005.0]).item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_cells_add_up_and_come_in_the_order_depth_then_x(rng):
    x, depth = np.sort(rng.uniform(0, 100, 4)), np.sort(rng.uniform(1, 80, 3))
    at = np.array([-10.0, 40.0])
    cells = gravity(at, x, depth)
    assert cells.shape == (2, 6)
    assert cells.sum(axis=1) == pytest.approx(gravity(at, x[[0, -1]], depth[[0, -1]])[:, 0])
    second_row = gravity(at, x[:2], depth[1:3])[:, 0]
    assert cells[:, 3] == pytest.approx(second_row)


def test_a_station_may_touch_a_corner():
    near = gravity(1e-6, [0.0, 10.0], [0.0, 10.0]).item()
    assert gravity(0.0, [0.0, 10.0], [0.0, 10.0]).item() == pytest.approx(near, rel=1e-5)


def test_a_face_above_the_stations_raises():
    with pytest.raises(ValueError, match="1 m above the stations"):
        gravity(0.0, [0.0, 1.0], [-1.0, 1.0])


# --- rays ------------------------------------------------------------------------------------


def test_rows_add_up_to_the_length_of_the_ray(rng):
    starts, ends = rng.uniform([0, 0], [7.0, 5.0], (2, 200, 2))
    x, depth = (
        np.r_[0, np.sort(rng.uniform(0, 7, 5)), 7],
        np.r_[0, np.sort(rng.uniform(0, 5, 3)), 5],
    )
    found = section.ray_lengths(starts, ends, x, depth)
    assert np.all(found >= 0)
    assert found.sum(axis=1) == pytest.approx(np.linalg.norm(ends - starts, axis=1), rel=1e-12)


def test_against_counting_points_along_the_ray(rng):
    x, depth = np.array([0.0, 1.0, 2.5, 4.0]), np.array([0.0, 0.7, 3.0])
    start, end = np.array([3.9, 2.8]), np.array([0.2, 0.1])
    points = start + (np.arange(200_000) + 0.5)[:, None] / 200_000 * (end - start)
    counted = np.histogram2d(points[:, 1], points[:, 0], bins=(depth, x))[0] / 200_000
    found = lengths(start, end, x, depth)
    assert found == pytest.approx(counted * np.linalg.norm(end - start), abs=1e-4)


def test_one_cell_in_closed_form():
    # Through the unit cell at the origin, from (0, 1/4) upwards at a slope of 1/2 to (1, 3/4).
    found = lengths([-1.0, -0.25], [3.0, 1.75], [-1.0, 0.0, 1.0, 3.0], [-1.0, 0.0, 1.0, 2.0])
    assert found[1, 1] == pytest.approx(np.hypot(1.0, 0.5), rel=1e-14)


@pytest.mark.parametrize(
    ("at", "shares"), [(1.0, [0.5, 0.5, 0]), (3.0, [0, 0, 1]), (0.0, [1, 0, 0])]
)
def test_a_ray_along_a_face_is_shared_unless_it_is_the_boundary(at, shares):
    faces = [0.0, 1.0, 2.0, 3.0]
    level, upright = (
        lengths([0.0, at], [3.0, at], faces, faces),
        lengths([at, 3.0], [at, 0.0], faces, faces),
    )
    assert level == pytest.approx(np.outer(shares, np.ones(3)))
    assert upright == pytest.approx(level.T)


def test_a_ray_out_of_the_grid_raises():
    with pytest.raises(ValueError, match="leaves the grid"):
        lengths([0.0, 0.5], [2.1, 0.5], [0.0, 1.0, 2.0], [0.0, 1.0])


# --- section and survey ------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [(12, 8), (16, 16), (24, 16), (7, 5)])
def test_truth_has_the_same_mean_on_every_grid(cells):
    fine, grid = section.section_grid(48, 32), section.section_grid(*cells)
    for name, field in section.truth(grid).items():
        assert float(field.mean()) == pytest.approx(float(section.truth(fine)[name].mean()))


def test_both_properties_change_in_the_same_places():
    density, slowness = section.truth(section.section_grid(12, 8)).values()
    for dim in density.dims:
        density_jumps, slowness_jumps = density.diff(dim) != 0, slowness.diff(dim) != 0
        assert density_jumps.any() and density_jumps.equals(slowness_jumps)


def test_blurred_edges_against_a_gaussian_filter():
    fine = section.section_grid(240, 160)  # cells of 5 m
    for name, sharp in section.truth(fine).items():
        filtered = gaussian_filter(sharp.values, 50.0 / 5.0, mode="nearest", truncate=6.0)
        size = float(np.ptp(sharp.values))
        found = section.truth(fine, edge=50.0)[name].values
        assert found == pytest.approx(filtered, abs=2e-3 * size)
        nearly_sharp = section.truth(fine, edge=1e-3)[name].values
        assert nearly_sharp == pytest.approx(sharp.values, abs=1e-3 * size)


@pytest.mark.parametrize("cells", [(12, 8), (16, 16), (32, 32)])
def test_the_data_are_those_of_the_truth_on_every_grid_that_holds_it(cells):
    survey, grid = section.simulate(stations=7, shots=5, noise=1e-9), section.section_grid(*cells)
    for name, matrix in section.matrices(survey, grid).items():
        response = matrix @ section.truth(grid)[section.SEEN[name]].values.ravel()
        assert response == pytest.approx(survey[name].values, rel=1e-6)


def test_the_data_of_blurred_edges_are_those_of_the_blurred_truth():
    survey = section.simulate(stations=7, shots=5, noise=1e-9, edge=50.0)
    grid = section.section_grid(180, 120)
    fields = section.truth(grid, edge=50.0)
    for name, matrix in section.matrices(survey, grid).items():
        response = matrix @ fields[section.SEEN[name]].values.ravel()
        largest = float(np.abs(survey[name]).max())
        assert response == pytest.approx(survey[name].values, abs=1e-3 * largest)


def test_noise_is_the_stated_share_of_the_signal():
    survey, quiet = (section.simulate(60, 24, noise=noise) for noise in (0.03, 1e-9))
    for name in section.SEEN:
        noise, sd = survey[name] - quiet[name], survey[name].noise_sd
        few = 5 / np.sqrt(2 * noise.size)  # sd of an estimated sd, five times
        assert float(noise.std()) == pytest.approx(sd, rel=few)
    signal = quiet.gravity.values  # of a mean of zero
    assert survey.gravity.noise_sd == pytest.approx(0.03 * np.sqrt(np.mean(signal**2)), rel=1e-6)


def test_a_stored_survey_makes_the_same_problem(tmp_path):
    section.simulate(5, 3, seed=4).to_zarr(tmp_path / "survey.zarr", mode="w", consolidated=False)
    read, made = section.problem(tmp_path), section.problem(stations=5, shots=3, seed=4)
    for first, second in zip(read.modalities, made.modalities, strict=True):
        assert first.data.equals(second.data)
        assert first.noise.sd == second.noise.sd


def test_what_is_missing_in_the_data_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"survey\.zarr is missing"):
        section.problem(tmp_path)
    survey = section.simulate(5, 3)
    survey.drop_vars("shot_depth").to_zarr(tmp_path / "survey.zarr", mode="w", consolidated=False)
    with pytest.raises(ValueError, match="has no shot_depth"):
        section.problem(tmp_path)
    del survey.gravity.attrs["noise_sd"]
    survey.to_zarr(tmp_path / "survey.zarr", mode="w", consolidated=False)
    with pytest.raises(ValueError, match="noise_sd"):
        section.problem(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        {"nx": 1},
        {"nz": 0},
        {"stations": 0},
        {"shots": 0},
        {"noise": 0},
        {"coupling": -1},
        {"edge": -1},
    ],
)
def test_settings_that_make_no_sense_raise(option):
    with pytest.raises(ValueError):
        section.problem(**option)


# --- problem -----------------------------------------------------------------------------------


def test_options_reach_the_problem():
    made = section.problem(nx=6, nz=4, coupling=2.0, stations=5, shots=3)
    assert made.latent["density"].shape == (4, 6)
    assert [m.data.size for m in made.modalities] == [5, 9]
    assert made.couplings[0].weight == 2.0
    assert not section.problem(nx=6, nz=4, coupling=0, stations=5, shots=3).couplings


@pytest.fixture(scope="module")
def previews():
    return {w: bj.linearize(section.problem(coupling=w)) for w in (0.0, 0.3)}


@pytest.fixture(scope="module")
def fine_preview():
    return bj.linearize(section.problem(nx=24, nz=24, coupling=0.0, edge=50.0))


@pytest.mark.slow
def test_the_data_are_fitted_to_their_noise(previews, fine_preview):
    for tree in (*previews.values(), fine_preview):
        fit = tree["linearization"]
        assert int(fit.attrs["converged"]) == 1
        residual = fit["n_data"] - bj.resolution(tree)["partial_dofs"]
        assert np.all(np.abs(fit["chi2"] - residual) < 5 * np.sqrt(2 * residual) + residual * 0.2)


@pytest.mark.slow
def test_gravity_resolves_less_with_depth_and_less_than_rays(previews):
    report = bj.resolution(previews[0.0])
    by_depth = report["density"].mean("x").values
    assert by_depth[0] == by_depth.max() and by_depth[0] > 5 * by_depth[-1]
    assert float(report["dofs_latent"].sel(latent="slowness")) > 3 * float(
        report["dofs_latent"].sel(latent="density")
    )


def test_only_the_coupling_lets_one_field_leak_into_the_other(previews):
    apart, coupled = (bj.leakage(tree) for tree in previews.values())
    assert np.allclose(apart.values, np.eye(2), atol=1e-12)
    assert np.all(coupled.values > 0.001)
