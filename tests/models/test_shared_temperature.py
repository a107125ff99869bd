"""Two channels that share a black body: Planck's function, the calibration, and closed forms."""

import doctest

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

import bayesjoint as bj
from case_studies import shared_temperature as study
from tests.chance import CHANCE, by_chance

model = study.model
CHANNELS = list(model.WAVENUMBERS)
SMALL = {"scenes": 2, "scans": 3}


# --- physics -----------------------------------------------------------------------------------


def test_planck_integrates_to_stefan_and_boltzmann():
    temperature = 288.0
    total = np.pi * quad(lambda nu: model.radiance(temperature, nu), 1e-3, 1.5e4, limit=400)[0]
    # 5.670400e-8 W/(m2 K4) of the same CODATA set, here in mW.
    assert total == pytest.approx(5.670400e-5 * temperature**4, rel=1e-6)


@pytest.mark.parametrize("temperature", [250.0, 288.0, 310.0])
def test_planck_peaks_where_wien_says(temperature):
    peak = minimize_scalar(
        lambda nu: -model.radiance(temperature, nu), bounds=(100.0, 1500.0), method="bounded",
        options={"xatol": 1e-8},
    ).x  # fmt: skip
    root = brentq(lambda x: 3.0 * np.expm1(x) - x * np.exp(x), 1.0, 5.0)  # 2.8214
    assert peak == pytest.approx(root * temperature / model.C2, rel=1e-6)


@pytest.mark.parametrize("channel", CHANNELS)
def test_brightness_temperature_inverts_planck(channel):
    wavenumber, temperatures = model.WAVENUMBERS[channel], np.linspace(180.0, 340.0, 50)
    found = model.brightness_temperature(model.radiance(temperatures, wavenumber), wavenumber)
    np.testing.assert_allclose(found, temperatures, rtol=1e-10)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("scene", [270.0, 288.0, 300.0])
def test_loadings_are_derivatives_of_the_calibration(channel, scene):
    wavenumber, step = model.WAVENUMBERS[channel], 1e-3
    up, down = (model.calibrated(scene, error, wavenumber) for error in (step, -step))
    assert model.loading(scene, wavenumber) == pytest.approx((up - down) / (2 * step), rel=1e-8)
    assert model.calibrated(scene, 0.0, wavenumber) == pytest.approx(scene, rel=1e-12)


def test_loadings_that_are_used():
    """Near one, unlike by less than a hundredth, and right for all scenes to 5 %."""
    loads = model.loadings()
    assert 0.0 < loads["channel_4"] - loads["channel_5"] < 0.01
    for channel, used in loads.items():
        scenes = model.brightness(np.array([284.0, 296.0]), 2.5, channel)  # two sd of the prior
        exact = model.loading(scenes, model.WAVENUMBERS[channel])
        np.testing.assert_allclose(used, exact, rtol=0.05)


# --- measurements --------------------------------------------------------------------------------


def test_simulated_errors_are_those_of_the_budget():
    """Errors of 400 runs of one scan, seeds 0 to 399: sds to four standard errors, 14 %."""
    runs = [model.simulate(1, 1, seed).squeeze("scan").squeeze("at") for seed in range(400)]
    fourth, fifth = (
        np.array([float(r[c] - model.brightness(r["surface"], r["vapour"], c)) for r in runs])
        for c in CHANNELS
    )
    readings = np.array([float(r["thermometer"] - r["black_body_error"]) for r in runs])
    within = 4 / np.sqrt(2 * 400)
    for errors, load in zip((fourth, fifth), model.loadings().values(), strict=True):
        assert errors.std() == pytest.approx(np.hypot(0.35 * load, 0.05), rel=within)
    assert (fourth - fifth).std() == pytest.approx(0.05 * np.sqrt(2), rel=within)
    assert readings.std() == pytest.approx(np.hypot(0.1, 0.05), rel=within)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"errors": "some"}, "errors='some' is unknown"),
        ({"thermometer": "often"}, "thermometer='often' is unknown"),
        ({"errors": "none", "thermometer": "always"}, "there is no common error"),
        ({"data": "here"}, "must be a Dataset"),
        ({"scans": 0}, "one scene and one scan"),
    ],
)
def test_what_can_not_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        model.problem(**arguments)


# --- closed forms --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stated():
    """Return posterior sds of the toolkit, for each model of the errors."""
    return {e: study.posterior_sd(model.problem(errors=e, **SMALL)) for e in model.ERRORS}


@pytest.mark.slow
@pytest.mark.parametrize("errors", model.ERRORS)
def test_toolkit_agrees_with_dense_algebra(stated, errors):
    covariance = study.covariance(**SMALL, errors=errors)
    _, posterior = study.gain(study.design(**SMALL), covariance, study.prior_of(2)[1])
    np.testing.assert_allclose(stated[errors], np.sqrt(np.diag(posterior)), rtol=1e-8)
    assert list(stated[errors].index) == ["surface[0]", "surface[1]", "vapour[0]", "vapour[1]"]


@pytest.mark.slow
def test_posterior_mean_is_that_of_dense_algebra():
    data = model.simulate(**SMALL, seed=4)
    linear = bj.linearize(model.problem(data))["linearization"]
    mean, sd = study.prior_of(2)
    matrix = study.design(**SMALL)
    weights, _ = study.gain(matrix, study.covariance(**SMALL), sd)
    values = np.concatenate([data[channel].values for channel in CHANNELS])
    expected = mean + weights @ (values - matrix @ mean)
    np.testing.assert_allclose([*linear["surface"], *linear["vapour"]], expected, rtol=1e-8)


def test_averaging_law():
    """Detectors average down as 1/sqrt(n); what the channels share stays, whatever is stated.

    By hand, with the weights w of the split window: variance |w|^2 0.05^2 / n + (w . loading)^2
    0.35^2; over 300 scans, 50 s, the error of the black body does not change.
    """
    counts = np.array([1, 10, 300])
    table = study.averaging(counts)
    weights, loads = study.split_window(), np.array(list(model.loadings().values()))
    np.testing.assert_allclose(weights, [3.5, -2.5])
    noise = 0.05**2 * (weights @ weights) / counts
    common = (0.35 * weights @ loads) ** 2
    own = ((0.35 * weights * loads) ** 2).sum() / counts
    for errors, left in {"shared": common, "independent": own, "none": 0.0}.items():
        np.testing.assert_allclose(table["stated"].sel(errors=errors), np.sqrt(noise + left), 1e-4)
        np.testing.assert_allclose(
            table["actual"].sel(errors=errors), np.sqrt(noise + common), 1e-4
        )
    assert study.floor() == pytest.approx(np.sqrt(common))


def test_the_whole_orbit_leaves_the_mean_of_the_covariance():
    table = study.averaging([16], over="scenes", fixed=10)
    assert study.floor(whole_orbit=True) / study.floor() == pytest.approx(0.889, abs=1e-3)
    noise = 0.05**2 * (study.split_window() ** 2).sum() / 160
    expected = np.sqrt(study.floor(whole_orbit=True) ** 2 + noise)
    assert float(table["stated"].sel(errors="shared")[0]) == pytest.approx(expected, rel=1e-4)


def test_the_difference_is_better_known_than_either_channel():
    """Sd of one pair of brightness temperatures, and of their difference, by hand."""
    errors = study.covariance(1, 1)
    difference = np.array([1.0, -1.0])
    loads = list(model.loadings().values())
    expected = np.sqrt(2 * 0.05**2 + (0.35 * np.subtract(*loads)) ** 2)  # 0.0707
    assert np.sqrt(difference @ errors @ difference) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(0.0707, abs=1e-4)
    assert (np.sqrt(np.diag(errors)) > 0.34).all()


@pytest.mark.parametrize("vapour_sd", [0.01, 1.0])
def test_errors_of_the_channels_with_another_correlation(vapour_sd):
    """Known vapour: correlation hurts the temperature. Unknown: it helps, as it does the vapour."""
    problem, rho = study.with_correlation(model.problem(**SMALL), 0.0, vapour_sd), [-0.6, 0.0, 0.6]
    sweep = bj.discrepancy_sweep(problem, rho)["posterior_sd"].transpose("correlation", "parameter")
    expected = [study.correlated_sd(r, vapour_sd, **SMALL) for r in rho]
    np.testing.assert_allclose(sweep, expected, rtol=1e-9)
    grows = np.diff(sweep.sel(parameter="surface[0]")) > 0
    assert grows.all() if vapour_sd == 0.01 else not grows.any()
    assert (np.diff(sweep.sel(parameter="vapour[0]")) < 0).all()


def test_full_correlation_is_one_cause(stated):
    found = study.correlated_sd(1.0, 1.0, **SMALL)
    np.testing.assert_allclose(found, stated["shared"], rtol=1e-8)


# --- thermometer ---------------------------------------------------------------------------------


def watched(when, sd, bias=0.0):
    settings = {"thermometer": when, "thermometer_sd": sd, "thermometer_bias": bias}
    return model.problem(**SMALL, **settings)


def test_a_perfect_thermometer_leaves_the_detectors_alone(stated):
    found = study.posterior_sd(watched("always", 1e-5))
    np.testing.assert_allclose(found, stated["none"], rtol=1e-5)


def test_a_useless_thermometer_is_none(stated):
    found = study.posterior_sd(watched("always", 1e5))
    np.testing.assert_allclose(found, stated["shared"], rtol=1e-6)


@pytest.mark.parametrize(("when", "count", "bias"), [("partly", 3, 0.05), ("always", 6, 10.0)])
def test_what_the_thermometer_tells(when, count, bias):
    """Dense algebra: readings tell of other scenes what the orbit correlates.

    With a bias of any size, they still tell how the error differs between scenes.
    """
    problem = watched(when, 0.1, bias)
    assert problem.modality["thermometer"].data.size == count
    posterior = study.watched(when, 0.1, bias, **SMALL)
    np.testing.assert_allclose(study.posterior_sd(problem), np.sqrt(np.diag(posterior)), rtol=1e-7)
    report = bj.information(bj.linearize(problem)).sel(modality="thermometer")
    without = study.watched("no", 0.1, bias, **SMALL)
    worth = 0.5 * (np.linalg.slogdet(without)[1] - np.linalg.slogdet(posterior)[1])
    assert float(report["eig_alone"]) == pytest.approx(0.0, abs=1e-10)
    assert float(report["eig_conditional"]) == pytest.approx(worth, rel=1e-6)
    assert worth > 0.05


# --- replicates ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coverage():
    return study.coverage(counts=(10,), replicates=200, seed=1)


def test_shared_errors_cover(coverage):
    """90 % intervals, 200 replicates of the full calibration: binomial sd 2.1 %, of an rms 5 %.

    Four quantities of two comparisons: stated sds that are wrong by a fifth are noticed.
    """
    covered = coverage["covered"].xs("shared", level="errors")
    assert all(by_chance(200 * share, 200, 0.9, comparisons=8) for share in covered)
    relative = (coverage["actual"] / coverage["stated"]).xs("shared", level="errors")
    tail = CHANCE / 16
    low, high = np.sqrt(chi2.ppf([tail, 1 - tail], 200) / 200)
    assert relative.between(low, high).all()


def test_other_models_of_the_errors_do_not(coverage):
    """Independent errors are too sure of means, and not sure enough of differences."""
    covered = coverage["covered"].droplevel("scans")
    far = 5 * np.sqrt(0.9 * 0.1 / 200)
    assert covered["scene", "none"] < 0.9 - far
    assert covered["orbit", "none"] < 0.9 - far
    assert covered["orbit", "independent"] < 0.9 - far
    assert covered["vapour", "independent"] > 0.99
    assert covered["contrast", "independent"] > 0.99


@pytest.mark.parametrize("module", [model, study])
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0
