"""Instruments, errors and held-out stations of two volcanoes, and what is published of them."""

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from case_studies import volcano_deformation as study
from models import volcano_deformation as volcano
from models.volcano_data import local_metres, place_of
from models.volcano_sources import mogi_displacement

SOURCE = (426_300.0, 4_518_800.0, 2_600.0, 5e6)
# Posterior of an independent code for these data: Trasatti (2022), test mogi1BI; mean and sd.
PUBLISHED = {
    "x": (426_322.78, 10.03),
    "y": (4_518_829.4, 9.94),
    "depth": (2_619.50, 15.63),
    "volume_change": (5.0581e6, 4.607e4),
}


def displacement(easting, northing, *source):
    return mogi_displacement(np.asarray(easting), np.asarray(northing), *source).eval()


def real_data(place="campi_flegrei"):
    root = os.environ.get("BAYESJOINT_DATA") or Path(__file__).parents[3] / "shared" / "data"
    try:
        return volcano.data_folder(Path(root), place)
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


@pytest.mark.slow
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
        (
            lambda folder: (folder / "obs_sar2.txt").write_text("1 2 3\n"),
            "no table of 7 columns.* 3 columns",
        ),
        (
            lambda folder: (folder / "GPS_data.txt").write_text("E N\na b\n"),
            "no table of 8 columns of numbers",
        ),
    ],
)
def test_bad_data_say_what_is_wrong(folder, break_it, message):
    break_it(folder)
    with pytest.raises(ValueError, match=message):
        volcano.problem(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"errors": "grey"}, "errors='grey' is unknown; use correlated, independent"),
        ({"source": "dike"}, "source='dike' is unknown; use mogi, mctigue, sill, spheroid"),
        ({"place": "etna"}, "place='etna' is unknown; use campi_flegrei or unimak"),
    ],
)
def test_unknown_options_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        volcano.problem(folder, **options)


def test_errors_are_shared_where_a_map_is_shared(folder):
    scenes = volcano.load(folder)
    together = volcano.problem_of(scenes, rank=3)
    apart = volcano.problem_of(scenes, errors="separate", rank=3)
    names = ["unmodelled_gnss", "unmodelled_ascending", "unmodelled_descending"]
    assert [d.name for d in together.discrepancies] == ["constant", "unmodelled"]
    assert [d.name for d in apart.discrepancies] == ["constant", *names]
    assert [d.touches(apart.modality) for d in apart.discrepancies[1:]] == [
        ["gnss"], ["ascending"], ["descending"]
    ]  # fmt: skip


def test_one_number_correlates_components_and_lines_of_sight(folder):
    problem = volcano.problem_of(volcano.load(folder), errors="one_number", rank=3)
    seen = ["gnss_east", "gnss_north", "gnss_up", "ascending", "descending"]
    assert list(problem.modality) == seen == list(problem.discrepancies[1].sd)
    prior = problem.discrepancies[1].correlation
    assert (prior.parameters["lower"], prior.parameters["upper"]) == (-0.25, 1.0)
    points = volcano.load(folder)["gnss"]
    u = displacement(points.easting, points.northing, *SOURCE)
    for i, name in enumerate(seen[:3]):
        np.testing.assert_allclose(problem.modality[name].data, u[:, i], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("source", ["mctigue", "sill", "spheroid"])
def test_other_sources_have_their_own_unknowns(folder, source):
    problem = volcano.problem(folder, source=source, errors="stated")
    shape = {"mctigue": ["radius"], "sill": [], "spheroid": ["flatness"]}[source]
    assert [p.name for p in problem.latents] == [*PUBLISHED, *shape]


# --- Unimak ------------------------------------------------------------------------------------


@pytest.fixture
def unimak(tmp_path):
    """Write a station and a pixel of each track at Unimak, in the formats of the files."""
    station = "%Name Lon Lat\nAC10 -164.4 54.7 -0.007 0.001 0.004 0.00003 0.00004 0.0001\n"
    (tmp_path / "unimak_gnss_NOAM_AB06.txt").write_text(station)
    for track, azimuth in (("asc", -11.0), ("des", 191.0)):
        header = "%Reference (Lon,Lat): -164.4,54.5, Dimensions: 100,50, Extent: -165,-164,54,55\n"
        rows = f"{header}-164.6 54.5 {azimuth} 35.0 0.002 0.000004 0 1 0 1\n"
        (tmp_path / f"unimak_{track}_ref.csv").write_text(2 * rows)
    return tmp_path


def test_unimak_is_read_in_metres_and_lines_of_sight(unimak):
    scenes = volcano.load(unimak, "unimak")
    assert scenes["gnss"].displacement.values.tolist() == [[-0.007, 0.001, 0.004]]
    assert scenes["gnss"].displacement.attrs["units"] == "m/yr"
    # The satellite looks to the right: from the west flying north, from the east flying south.
    rising, falling = (scenes[track].look.values[0, 0] for track in ("ascending", "descending"))
    for look, east in ((rising, -1), (falling, 1)):
        assert np.linalg.norm(look) == pytest.approx(1.0)
        assert look[2] == pytest.approx(np.cos(np.radians(35.0)))
        assert np.sign(look[0]) == east and abs(look[1]) < 0.12
    assert len(scenes["ascending"].look) == 2
    # A block of one pixel, a hundredth of a degree of latitude by a fiftieth of longitude.
    degree = 111_200 * np.sqrt(np.cos(np.radians(54.6)) / 5_000)
    np.testing.assert_allclose(scenes["ascending"].width, degree, rtol=1e-12)


def test_local_metres_are_those_of_the_tangent_plane():
    def geocentric(longitude, latitude):
        lam, phi = np.radians(longitude), np.radians(latitude)
        across = 6_378_137 / np.sqrt(1 - 0.00669438 * np.sin(phi) ** 2)
        polar = (1 - 0.00669438) * across * np.sin(phi)
        return np.stack(
            [across * np.cos(phi) * np.cos(lam), across * np.cos(phi) * np.sin(lam), polar]
        )

    places = np.random.default_rng(0).uniform([-164.9, 54.4], [-164.1, 54.8], (20, 2)).T
    lam, phi = np.radians(-164.5), np.radians(54.6)
    east = [-np.sin(lam), np.cos(lam), 0.0]
    north = [-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)]
    offset = geocentric(*places) - geocentric(-164.5, 54.6)[:, None]
    np.testing.assert_allclose(local_metres(*places).T, np.array([east, north]) @ offset, atol=20)


def test_unimak_has_two_sources_and_nothing_published(unimak):
    problem = volcano.problem(unimak, place="unimak", errors="white")
    names = {p.name.split("_")[0] for p in problem.latents}
    assert names == {"westdahl", "fisher"}
    frame = problem.discrepancies[1]
    assert frame.name == "gnss_frame"
    np.testing.assert_allclose(frame.covariance["gnss", "gnss"], 0.005**2 * np.eye(3))
    with pytest.raises(ValueError, match="nothing is published for unimak"):
        volcano.problem(unimak, place="unimak", errors="independent")


def test_means_over_wide_blocks_are_left_out(unimak):
    scenes = volcano.load(unimak, "unimak")
    wide = float(scenes["ascending"].width[0])
    kept = study.near_points(scenes, widest=0.9 * wide)
    assert [len(scene.look) for scene in kept.values()] == [1, 0, 0]
    kept = study.near_points(scenes, widest=1.1 * wide)
    assert [len(scene.look) for scene in kept.values()] == [1, 2, 2]


def test_errors_of_instruments_have_planes_air_and_a_factor_on_formal_errors(unimak):
    scenes = volcano.load(unimak, "unimak")
    problem = volcano.problem_of(scenes, place="unimak", errors="instruments", rank=4)
    scale = problem.modality["gnss"].noise.scale
    assert scale.parameters["mu"] == pytest.approx(np.log(7.5))
    assert problem.modality["ascending"].noise.scale.parameters["mu"] == 0.0
    *_, air, plane = problem.discrepancies
    assert set(air.sd) == {"ascending", "descending"}
    moved = scenes["descending"].assign_coords(
        easting=("descending_pixel", [0.0, 100.0]), northing=("descending_pixel", [0.0, 0.0])
    )
    plane = volcano.planes(place_of("unimak"), {**scenes, "descending": moved})
    # Half of 100 m to either side, with a slope of 2 mm/yr over 100 km.
    expected = (2e-8 * 50.0) ** 2 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(plane.covariance["descending", "descending"], expected)


def test_radar_is_compared_with_gnss_where_it_sees_stations():
    rng = np.random.default_rng(3)
    places, moved = rng.uniform(0.0, 2e4, (8, 2)), rng.normal(0.0, 5e-3, (8, 3))
    look = np.array([-0.6, 0.0, 0.8])
    points = {"easting": ("station", places[:, 0]), "northing": ("station", places[:, 1])}
    gnss = xr.Dataset(
        {"displacement": (("station", "component"), moved)}, {**points, "station": range(8)}
    )
    # One pixel 10 m beside each station but the last, which sees four fifths and a constant.
    easting, northing = places[:7].T
    track = xr.Dataset(
        {
            "displacement": ("pixel", 0.8 * moved[:7] @ look + 0.002),
            "look": (("pixel", "once", "axis"), np.tile(look, (7, 1, 1))),
        },
        {"easting": ("pixel", easting + 10.0), "northing": ("pixel", northing)},
    )
    scenes = {"gnss": gnss, "ascending": track}
    share = study.seen_share(scenes, radius=100.0)
    np.testing.assert_allclose(share.share, 0.8, rtol=1e-12)
    np.testing.assert_allclose(share.sd, 0.0, atol=1e-9)
    gap = study.collocated(scenes, radius=100.0).sel(track="ascending")
    expected = -0.2 * moved[:7] @ look
    np.testing.assert_allclose(gap[:7], expected - np.median(expected), atol=1e-12)
    assert np.isnan(gap[7])


@pytest.mark.slow
def test_a_ratio_of_rates_multiplies_what_radar_sees(unimak):
    problem = volcano.problem(unimak, place="unimak", errors="stated", own_rates=True)
    sources = {"westdahl_x": -1e4, "westdahl_y": -9e3, "westdahl_depth": 7e3}
    sources |= {"westdahl_volume_change": 5e6, "fisher_volume_change": -1e5}
    sources |= {"fisher_x": 8e3, "fisher_y": 8e3, "fisher_depth": 6e3, "fisher_radar_rate": 1.0}
    tables = [
        bj.linearize(problem, at=sources | {"westdahl_radar_rate": ratio}) for ratio in (1.0, 0.8)
    ]
    one, other = (tree["linearization"] for tree in tables)
    assert float(other["westdahl_radar_rate"]) == pytest.approx(0.8)
    left = {
        name: [float(tree["chi2"].sel(modality=name)) for tree in (one, other)]
        for name in ("gnss", "ascending")
    }
    assert left["gnss"][0] == pytest.approx(left["gnss"][1], rel=1e-12)
    assert left["ascending"][0] != pytest.approx(left["ascending"][1], rel=1e-3)


# --- one correlation number ----------------------------------------------------------------------


def test_correlation_of_what_is_seen_is_that_of_the_field():
    looks = np.vstack([np.eye(3), [[-0.6, -0.1, 0.79], [0.5, -0.1, 0.86]]])
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    field = np.random.default_rng(0).standard_normal((40_000, 3))
    drawn = np.corrcoef((field @ looks.T).T)
    implied = study.correlation_between(looks)
    np.testing.assert_allclose(drawn, implied, atol=5 / np.sqrt(40_000))
    assert np.linalg.matrix_rank(implied) == 3
    for i in (3, 4):
        assert study.unexplained_share(implied, looks[i], i) == 0.0
        assert study.unexplained_share(study.with_one_number(5, 0.3), looks[i], i) > 1.0
    with pytest.raises(ValueError, match="between -0.25 and 1"):
        study.with_one_number(5, -0.3)


# --- held-out stations ---------------------------------------------------------------------------


def test_a_left_out_station_is_gone(folder):
    scenes = volcano.load(folder)
    rest = study.without_station(scenes, 2)
    assert rest["gnss"].station.values.tolist() == [1, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="no station 9"):
        study.without_station(scenes, 9)


def test_thinning_keeps_all_stations(folder):
    scenes = volcano.load(folder)
    thinned = study.thin(scenes, every=4)
    assert [len(scene.look) for scene in thinned.values()] == [6, 5, 5]
    assert thinned["ascending"].easting[1] == scenes["ascending"].easting[4]


@pytest.mark.slow
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
        shifted = {n: v + (3e3 if n == "x" else 0.0) for n, v in tree["posterior"].items()}
        return xr.DataTree.from_dict({"posterior": xr.Dataset(shifted)})

    monkeypatch.setattr(study, "TRUSTED_K", float(trusting.pareto_k.median()))
    refitted = study.leave_one_station_out(problem, tree, refit, draws=60)
    poor = trusting.pareto_k > study.TRUSTED_K
    assert poor.any()
    assert asked == trusting.station.values[poor].tolist()
    assert np.array_equal(refitted.refitted, poor)
    assert np.array_equal(np.abs(refitted.error).max("component") > 0.01, poor)


def test_coverage_counts_stations_and_gives_the_exact_interval():
    inside, low, high = study.coverage([0.1] * 13 + [0.99], 0.9)
    assert inside == 13
    assert (low, high) == pytest.approx((0.6613, 0.9982), abs=1e-4)  # Clopper & Pearson 13 of 14


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("errors", "words"), [("white", "contradict each other"), ("correlated", "")]
)
def test_campi_flegrei_is_told_to_contradict_itself_unless_errors_are_shared(errors, words):
    scenes = study.thin(volcano.load(real_data()), every=16)
    report, _ = study.contradiction(volcano.problem_of(scenes, errors=errors, rank=40))
    assert words in report.attrs["words"][0]
    assert (float(report["sigma"]) > 3.0) == bool(words)


@pytest.mark.slow
def test_published_sources_of_unimak_are_found():
    problem = volcano.problem(real_data("unimak"), place="unimak", errors="white")
    local = bj.linearize(problem, starts=2, backend="interpreted")["linearization"]
    assert 6e3 < float(local["westdahl_depth"]) < 8.5e3  # Xue et al. (2020): 7 to 8 km
    assert 4e6 < float(local["westdahl_volume_change"]) < 7e6
    assert 4e3 < float(local["fisher_depth"]) < 7e3
    assert float(local["fisher_volume_change"]) < -1e6


@pytest.mark.parametrize(
    ("source", "place", "volume", "misfit", "tolerance"),
    # Trasatti (2022), tests mogi1BI, mctigue1BI, sill2BI: posterior means, and chi-squared a datum
    # of radar and of GNSS.  Of McTigue's sphere mean strength and radius are not quite one source;
    # the sill is Fialko's crack of 1 km radius, of volume 2 radius^3 pressure / shear modulus.
    [
        ("mogi", (426_322.78, 4_518_829.4, 2_619.50), 5.0581e6, (5.003, 14.954), 1e-3),
        ("mctigue", (426_323.74, 4_518_830.1, 2_612.21), 5.084e6, (5.015, 14.907), 0.03),
        ("sill", (426_185.81, 4_518_586.7, 3_807.73), 6.700e6, (4.452, 43.688), 0.05),
    ],
)
def test_published_sources_leave_the_published_misfit(source, place, volume, misfit, tolerance):
    scenes = volcano.load(real_data())
    points = {a: np.concatenate([s[a].values for s in scenes.values()]) for a in volcano.PLANE}
    shape = {"radius": 600.6} if source == "mctigue" else {}
    moved = volcano.SOURCES[source].displacement(*points.values(), *place, volume, **shape).eval()
    chi2 = {}
    for name, operator in volcano.observation_operators(scenes).items():
        scene = scenes[name]
        left = scene.displacement.values.ravel() - operator @ moved.ravel()
        chi2[name] = np.sum((left / scene.sd.values.ravel()) ** 2)
    pixels = sum(scenes[track].displacement.size for track in volcano.TRACKS)
    found = (chi2["ascending"] + chi2["descending"]) / pixels, chi2["gnss"] / 42
    assert found == pytest.approx(misfit, rel=tolerance)
