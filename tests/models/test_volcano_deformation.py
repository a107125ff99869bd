"""The point source, its instruments and the published posterior of Campi Flegrei."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from case_studies import volcano_deformation as study
from models import volcano_deformation as volcano

SOURCE = (426_300.0, 4_518_800.0, 2_600.0, 5e6)
# Posterior of an independent code for these data: Trasatti (2022), test mogi1BI; mean and sd.
PUBLISHED = {
    "x": (426_322.78, 10.03),
    "y": (4_518_829.4, 9.94),
    "depth": (2_619.50, 15.63),
    "volume_change": (5.0581e6, 4.607e4),
}


def displacement(easting, northing, *source):
    return volcano.mogi_displacement(np.asarray(easting), np.asarray(northing), *source).eval()


def real_data():
    root = os.environ.get("BAYESJOINT_DATA") or Path(__file__).parents[3] / "shared" / "data"
    try:
        return volcano.data_folder(Path(root))
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture
def folder(tmp_path):
    """Write data of a known source: 6 stations and two small scenes, without noise."""
    rng = np.random.default_rng(1)
    points = np.array(SOURCE[:2]) + 3_000 * rng.standard_normal((46, 2))
    u = displacement(*points.T, *SOURCE)
    gnss = np.hstack([points[:6], u[:6], np.full((6, 3), 0.001)])
    np.savetxt(tmp_path / "GPS_data.txt", gnss, header="east north", comments="")
    for i, look in enumerate(([-0.75, -0.11, 0.65], [0.44, -0.09, 0.89])):
        where = slice(6 + 20 * i, 26 + 20 * i)
        rest = np.column_stack([u[where] @ look, np.full(20, 0.005), np.tile(look, (20, 1))])
        np.savetxt(tmp_path / f"obs_sar{i + 1}.txt", np.hstack([points[where], rest]))
    return tmp_path


def test_uplift_above_the_source_is_that_of_the_closed_form():
    # Segall (2010), Earthquake and Volcano Deformation, eq. 7.14: (1 - nu) dV / (pi d^2)
    up = displacement([0.0], [0.0], 0.0, 0.0, 3_000.0, 1e6)[0]
    assert up == pytest.approx([0, 0, 0.75 * 1e6 / (np.pi * 3_000**2)], rel=1e-12)


def test_radius_and_size_of_the_greatest_horizontal_displacement():
    # The horizontal part is greatest at r = d / sqrt(2), where it is 0.385 of the central uplift.
    radius = np.linspace(100.0, 9_000.0, 20_000)
    u = displacement(radius, 0 * radius, 0.0, 0.0, 3_000.0, 1e6)
    centre = displacement([0.0], [0.0], 0.0, 0.0, 3_000.0, 1e6)[0, 2]
    assert radius[u[:, 0].argmax()] == pytest.approx(3_000 / np.sqrt(2), rel=1e-3)
    assert u[:, 0].max() / centre == pytest.approx(2 / 3**1.5, rel=1e-6)


def test_uplift_integrates_to_one_and_a_half_volumes():
    slope = np.linspace(1e-6, 1 - 1e-6, 100_001)  # radius = depth * tan
    radius = 2_000.0 * np.tan(slope * np.pi / 2)
    up = displacement(radius, 0 * radius, 0.0, 0.0, 2_000.0, 1e6)[:, 2]
    volume = np.trapezoid(2 * np.pi * radius * up, radius)
    assert volume == pytest.approx(2 * (1 - 0.25) * 1e6, rel=1e-3)


def test_horizontal_displacement_derives_from_a_potential():
    # A centre of dilatation makes no rotation about the vertical: its gradient is symmetric.
    east, north, step = 1_200.0, -700.0, 1.0
    moved = displacement(
        east + np.array([step, -step, 0, 0]), north + np.array([0, 0, step, -step]), 0, 0, 2e3, 1e6
    )
    north_by_east = (moved[0, 1] - moved[1, 1]) / (2 * step)
    east_by_north = (moved[2, 0] - moved[3, 0]) / (2 * step)
    assert north_by_east == pytest.approx(east_by_north, rel=1e-6)


def test_instruments_see_components_and_lines_of_sight(folder):
    scenes = volcano.load(folder)
    points = np.vstack([np.stack([s.easting, s.northing], 1) for s in scenes.values()])
    seen = displacement(*points.T, *SOURCE).ravel()
    for name, operator in volcano.observation_operators(scenes).items():
        expected = scenes[name].displacement.values.ravel()
        np.testing.assert_allclose(operator @ seen, expected, rtol=1e-6, atol=1e-12)


def test_independent_errors_are_tempered_and_without_discrepancy(folder):
    problem = volcano.problem(folder, errors="independent")
    assert problem.discrepancy is None
    powers = {name: modality.power for name, modality in problem.modality.items()}
    assert powers == {"gnss": 5 / 6, "ascending": 1 / 6, "descending": 1 / 6}


def test_modalities_share_one_forward_map(folder):
    problem = volcano.problem(folder, rank=5)
    assert len({id(modality.forward) for modality in problem.modalities}) == 1


def test_correlated_errors_have_unknown_size_and_length_scale(folder):
    free = {v.name for v in bj.build_model(volcano.problem(folder, rank=5)).free_RVs}
    unknown = {"gnss_scale_white", "unmodelled_sd_white", "unmodelled_length_scale_white"}
    assert free == unknown | {f"{name}_white" for name in PUBLISHED}


@pytest.mark.slow
def test_correlated_errors_find_the_source_of_exact_data(folder):
    local = bj.linearize(volcano.problem(folder, rank=8))["linearization"]
    for name, value, tolerance in zip(PUBLISHED, SOURCE, (100, 100, 150, 5e5), strict=True):
        assert abs(float(local[name]) - value) < tolerance


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "obs_sar1.txt").unlink(), "has no GPS_data.txt"),
        (lambda folder: (folder / "obs_sar2.txt").write_text("1 2 3\n"), "3 columns, 7"),
        (lambda folder: (folder / "GPS_data.txt").write_text("E N\na b\n"), "no table of numbers"),
    ],
)
def test_bad_data_say_what_is_wrong(folder, break_it, message):
    break_it(folder)
    with pytest.raises(ValueError, match=message):
        volcano.problem(folder)


def test_unknown_kind_of_errors_is_refused(folder):
    with pytest.raises(ValueError, match="use correlated or independent"):
        volcano.problem(folder, errors="white")


def test_a_station_set_apart_leaves_gnss(folder):
    scenes = volcano.load(folder)
    apart = study.set_apart(scenes, 2)
    assert 2 not in apart["gnss"].station
    assert apart["predicted_station"].displacement.shape == (1, 3)
    with pytest.raises(ValueError, match="no station 9"):
        study.set_apart(scenes, 9)


@pytest.mark.slow
def test_a_station_set_apart_is_predicted(folder):
    scenes = volcano.load(folder)
    draws = study.predict_station(
        volcano, scenes, 2, errors="independent",
        draws=150, tune=150, chains=1, backend="interpreted", progress=False, prior_draws=5,
    )  # fmt: skip
    truth = scenes["gnss"].displacement.sel(station=2).values
    assert np.all(np.abs(draws.mean(axis=0) - truth) < 3 * draws.std(axis=0))


def test_thinning_keeps_all_stations(folder):
    scenes = volcano.load(folder)
    thinned = study.thin(scenes, every=4)
    assert [len(scene.look) for scene in thinned.values()] == [6, 5, 5]
    assert thinned["ascending"].easting[1] == scenes["ascending"].easting[4]


def test_stations_are_left_out_and_refitted_where_weights_are_not_trusted(folder, monkeypatch):
    problem = volcano.problem(folder, errors="independent")
    rng = np.random.default_rng(1)
    width = np.array([5.0, 5.0, 10.0, 2e4])
    draws = np.array(SOURCE)[:, None, None] + width[:, None, None] * rng.standard_normal((4, 1, 60))
    posterior = {n: (("chain", "draw"), d) for n, d in zip(PUBLISHED, draws, strict=True)}
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(posterior)})
    trusting = study.leave_one_station_out(problem, tree, draws=60)
    assert np.all(np.abs(trusting.error) < 5 * trusting.sd)
    asked = []

    def refit(station):
        asked.append(station)
        return np.array([1.0, 2.0, 3.0]) + rng.standard_normal((50, 3))

    monkeypatch.setattr(study, "TRUSTED_K", float(trusting.pareto_k.median()))
    refitted = study.leave_one_station_out(problem, tree, refit, draws=60)
    poor = trusting.pareto_k > study.TRUSTED_K
    assert poor.any()
    assert asked == trusting.station.values[poor].tolist()
    assert np.array_equal(refitted.sd.mean("component") > 0.5, poor)


def test_coverage_counts_stations_and_gives_the_exact_interval():
    inside, low, high = study.coverage([0.1] * 13 + [0.99], 0.9)
    assert inside == 13
    assert (low, high) == pytest.approx((0.6613, 0.9982), abs=1e-4)  # Clopper & Pearson 13 of 14


def test_region_level_is_uniform_for_honest_predictions():
    rng = np.random.default_rng(0)
    root = np.array([[2.0, 0, 0], [1.0, 1.0, 0], [0, 0.5, 3.0]])
    draws = rng.standard_normal((2_000, 3)) @ root.T
    levels = [study.region_level(draws, root @ rng.standard_normal(3)) for _ in range(400)]
    assert np.mean(levels) == pytest.approx(0.5, abs=4 / np.sqrt(12 * 400))
    assert np.mean(np.array(levels) < 0.9) == pytest.approx(0.9, abs=0.06)


@pytest.mark.slow
def test_published_posterior_is_reproduced():
    problem = volcano.problem(real_data(), errors="independent")
    posterior = bj.sample(
        problem, draws=500, tune=300, chains=2, random_seed=1, progress=False, prior_draws=20
    )["posterior"]
    for name, (mean, sd) in PUBLISHED.items():
        draws = posterior[name].values
        assert abs(draws.mean() - mean) < 2 * sd
        assert draws.std() == pytest.approx(sd, rel=0.15)


@pytest.mark.slow
def test_unmodelled_displacement_gives_intervals_several_times_wider():
    local = bj.linearize(volcano.problem(real_data(), rank=60))["linearization"].to_dataset()
    vectors, strength = local.physical_vectors, local.eigenvalues
    sd = np.sqrt((vectors**2 / (1 + strength)).sum("mode"))
    for name, (_, published) in PUBLISHED.items():
        assert float(sd[local.latent_of_cell == name][0]) > 4 * published
