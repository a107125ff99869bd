"""What correlated errors do: sweeps against closed forms, the cost of a wrong correlation."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._errors.processes import correlation_factor
from bayesjoint._kernels.cross_correlation import BlockErrors, correlation_interval
from bayesjoint._kernels.errors import ErrorCovariance
from bayesjoint._kernels.shared_errors import SharedErrors
from bayesjoint._kernels.singular import SingularErrors
from bayesjoint._problem.settled import settled
from bayesjoint.studies._local_problem import LocalProblem
from bayesjoint.studies._sweep_rows import Along
from bayesjoint.studies._sweep_settings import sweep_settings
from bayesjoint.studies._swept_errors import block_errors, swept_discrepancy, swept_errors
from tests.chance import by_chance, largest_z
from tests.gaussian import gaussian_case
from tests.helpers import STANDARD, data

# Sensitivities and sds of the discrepancy of two sensors; noise variances.
PAIRS = {
    "alike": ((1.0, 0.9), (0.8, 1.0), (0.1, 0.2)),
    "unlike": ((1.0, 0.3), (1.0, 1.5), (0.05, 0.1)),
    "opposed": ((1.0, -0.5), (1.0, 1.0), (0.1, 0.1)),
    "out of reach": ((1.0, 1.0), (1.0, 1.0), (0.5, 0.5)),
    "almost alone": ((1.0, 1e-3), (1.0, 1.0), (0.1, 0.1)),
}
CORRELATIONS = np.linspace(-0.99, 0.99, 41)


def sensors(gains, sds, noise, correlation=0.5, prior_sd=1.0, **settings):
    """Return sensors that read one level, or columns of several latents, n times each."""
    gains = {f"s{i}": np.atleast_2d(np.asarray(g, dtype=float)) for i, g in enumerate(gains)}
    parts = range(next(iter(gains.values())).shape[1])
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=prior_sd), units="K",
                         coords={"part": [f"p{i}" for i in parts]})  # fmt: skip
    modalities = [
        bj.Modality(name, on_time(len(gain), f"i_{name}"), bj.linear_map(gain, "level"),
                    bj.GaussianNoise(sd=np.sqrt(variance)))
        for (name, gain), variance in zip(gains.items(), noise, strict=True)
    ]  # fmt: skip
    settings = {"sd": dict(zip(gains, sds, strict=True)), "correlation": correlation} | settings
    return bj.JointProblem(
        latents=[level], modalities=modalities, discrepancy=bj.JointDiscrepancy(**settings)
    )


def on_time(count, dim):
    return data(np.zeros(count), dim, {"time": (dim, np.arange(float(count)))})


def information(c, gains, a, b):
    first, second = gains
    return (b * first**2 + a * second**2 - 2 * c * first * second) / (a * b - c**2)


def turning_point(gains, a, b):
    """Return c* of least information, among its two roots the one inside."""
    roots = [p / q for p, q in ((b * gains[0], gains[1]), (a * gains[1], gains[0])) if q]
    return min(roots, key=abs)


@pytest.fixture(scope="module")
def sweeps():
    return {
        name: bj.discrepancy_sweep(sensors(*settings), CORRELATIONS)
        for name, settings in PAIRS.items()
    }


@pytest.mark.parametrize("name", PAIRS)
def test_two_sensors_follow_the_closed_form(sweeps, name):
    gains, sds, noise = PAIRS[name]
    a, b = (sd**2 + r for sd, r in zip(sds, noise, strict=True))
    sweep = sweeps[name].isel(parameter=0)
    exact = information(CORRELATIONS * sds[0] * sds[1], gains, a, b)
    np.testing.assert_allclose(sweep["information"], exact, rtol=1e-10)
    np.testing.assert_allclose(sweep["information_marginal"], exact, rtol=1e-10)
    np.testing.assert_allclose(sweep["posterior_sd"], (1.0 + exact) ** -0.5, rtol=1e-10)
    np.testing.assert_allclose(sweep["eig"], 0.5 * np.log1p(exact), rtol=1e-10)
    np.testing.assert_allclose(sweep["eig_total"], sweep["eig"], rtol=1e-10)
    np.testing.assert_allclose(sweep["dofs"], exact / (1.0 + exact), rtol=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_the_turning_point_is_that_of_the_closed_form(sweeps, name):
    gains, sds, noise = PAIRS[name]
    sweep = sweeps[name].isel(parameter=0)
    a, b = (sd**2 + r for sd, r in zip(sds, noise, strict=True))
    exact = turning_point(gains, a, b) / (sds[0] * sds[1])
    for key in ("turning_point", "turning_point_posterior"):
        if abs(exact) < 1.0:
            assert abs(float(sweep[key]) - exact) < 1e-10
        else:
            assert np.isnan(sweep[key])
            assert sweep[f"{key}_note"].item().startswith("out of reach: more correlation hurts")


def test_effects_are_told_by_the_posterior_sd(sweeps):
    for name, sweep in sweeps.items():
        ratio = sweep["posterior_sd"] / sweep["posterior_sd"].sel(correlation=0.0)
        expected = np.where(ratio > 1.01, "hurts", np.where(ratio < 0.99, "helps", "neutral"))
        np.testing.assert_array_equal(sweep["effect"], expected, err_msg=name)
        np.testing.assert_allclose(sweep["relative_sd"], ratio)
    assert sweeps["alike"]["own_effect"].item() == "hurts"
    assert sweeps["opposed"]["own_effect"].item() == "helps"
    assert "the correlation of 0.5 helps" in sweeps["opposed"].attrs["sentences"][0]


def test_alignment_is_that_with_sum_and_difference(sweeps):
    gains, sds, noise = PAIRS["unlike"]
    scaled = np.array(gains) / np.sqrt(np.square(sds) + noise)
    cosines = np.abs([scaled.sum(), scaled[0] - scaled[1]]) / np.sqrt(2) / np.linalg.norm(scaled)
    sweep = sweeps["unlike"].isel(parameter=0)
    for correlation, (leading, trailing) in ((0.99, cosines), (-0.99, cosines[::-1])):
        at = sweep.sel(correlation=correlation)
        np.testing.assert_allclose([at["alignment_leading"], at["alignment_trailing"]],
                                   [leading, trailing], rtol=1e-10)  # fmt: skip
    assert np.isnan(sweep["alignment_leading"].sel(correlation=0.0))


MATRIX = np.array([[1.0, 0.6, 0.3], [0.6, 1.0, -0.4], [0.3, -0.4, 1.0]])
SDS, NOISE = np.array([0.5, 1.0, 0.8]), np.array([0.1, 0.2, 0.1])
GAINS = np.random.default_rng(3).normal(size=(3, 5, 2))


def several(correlation=MATRIX, **settings):
    return sensors(GAINS, SDS, NOISE, correlation, **settings)


def moved(correlation):
    matrix = MATRIX.copy()
    matrix[0, 1] = matrix[1, 0] = correlation
    return matrix


def exact(matrix, kernel=None, sds=SDS, noise=NOISE):
    """Return information, posterior covariance, nats and degrees of freedom of `several`."""
    kernel = np.eye(5) if kernel is None else kernel
    covariance = np.kron(matrix * np.outer(sds, sds), kernel) + np.diag(np.repeat(noise, 5))
    jacobian = GAINS.reshape(15, 2)
    found = jacobian.T @ np.linalg.solve(covariance, jacobian)
    posterior = np.linalg.inv(found + np.eye(2))
    return found, posterior, -0.5 * np.linalg.slogdet(posterior)[1], np.trace(posterior @ found)


def assert_exact(row, *args, **settings):
    found, posterior, eig, dofs = exact(*args, **settings)
    variance = np.diag(posterior)
    np.testing.assert_allclose(row["information"], np.diag(found), rtol=1e-9)
    np.testing.assert_allclose(row["information_marginal"], 1.0 / variance - 1.0, rtol=1e-9)
    np.testing.assert_allclose(row["posterior_sd"], np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(row["eig"], -0.5 * np.log(variance), rtol=1e-9)
    np.testing.assert_allclose(row["dofs"], 1.0 - variance, rtol=1e-9)
    np.testing.assert_allclose([row["eig_total"], row["dofs_total"]], [eig, dofs], rtol=1e-9)


def test_a_pair_moves_alone_and_invalid_matrices_are_marked():
    sweep = bj.discrepancy_sweep(several(), [-0.999, -0.2, 0.4, 0.9], pair=("s0", "s1"))
    for bound in correlation_interval(MATRIX, 0, 1):
        assert abs(np.linalg.det(moved(bound))) < 1e-12
    np.testing.assert_array_equal(sweep["valid"], [False, True, True, False])
    assert "must lie between" in sweep["reason"].values[0] and not sweep["reason"].values[1]
    assert sweep["posterior_sd"].isel(correlation=[0, 3]).isnull().all()
    assert "2 of 4 points are left out" in sweep.attrs["sentences"][-1]
    for correlation in (-0.2, 0.4):
        assert_exact(sweep.sel(correlation=correlation), moved(correlation))


@pytest.mark.parametrize("bound", [1.0, -1.0])
def test_errors_that_are_one_are_swept_with_the_others(bound):
    problem = sensors([[1.0], [0.5]], [1.0, 2.0], [0.01, 0.04])
    sweep = bj.discrepancy_sweep(problem, [-1.0, 0.3, 1.0])
    covariance = np.array([[1.01, 2.0 * bound], [2.0 * bound, 4.04]])
    gains = np.array([1.0, 0.5])
    expected = gains @ np.linalg.solve(covariance, gains)
    np.testing.assert_allclose(sweep["information"].sel(correlation=bound), expected, rtol=1e-10)
    stated = problem.replace(
        discrepancy=bj.JointDiscrepancy(sd={"s0": 1.0, "s1": 2.0}, correlation=bound, form="latent")
    )
    contraction = bj.identifiability(bj.linearize(stated))["contraction"]
    np.testing.assert_allclose(contraction, 1.0 - 1.0 / (1.0 + expected), rtol=1e-9)


def test_a_singular_matrix_of_three_is_that_of_two_causes():
    sweep = bj.discrepancy_sweep(several(0.2), [-0.5])
    assert_exact(sweep.sel(correlation=-0.5), np.eye(3) * 1.5 - 0.5)
    factor = correlation_factor(-0.5, 3)
    assert factor.shape == (3, 2)
    np.testing.assert_allclose(factor @ factor.T, np.eye(3) * 1.5 - 0.5, atol=1e-15)


def test_a_posterior_sd_is_largest_where_it_turns():
    sweep = bj.discrepancy_sweep(several(), [0.0], pair=("s1", "s2"))
    for part in range(2):
        at = float(sweep["turning_point_posterior"][part])
        matrices = [MATRIX.copy() for _ in range(3)]
        for matrix, correlation in zip(matrices, (at - 1e-3, at, at + 1e-3), strict=True):
            matrix[1, 2] = matrix[2, 1] = correlation
        before, there, after = (exact(m)[1][part, part] for m in matrices)
        assert there > max(before, after)


def test_a_correlation_common_to_three_has_its_own_bound():
    sweep = bj.discrepancy_sweep(several(0.2), [-0.51, -0.49, 0.99])
    np.testing.assert_array_equal(sweep["valid"], [False, True, True])
    assert_exact(sweep.sel(correlation=-0.49), np.eye(3) * 1.49 - 0.49)
    with pytest.raises(ValueError, match="give the pair"):
        bj.discrepancy_sweep(several(), [0.1])


def test_sd_and_length_scale_make_a_grid():
    problem = several(0.3, on="time", length_scale=2.0, smoothness=0.5)
    sweep = bj.discrepancy_sweep(
        problem, [0.0, 0.7], sd_factor={"s1": [1.0, 2.0]}, length_scale=[1.0, 3.0]
    )
    assert sweep["information"].dims == ("correlation", "sd_factor", "length_scale", "parameter")
    assert sweep["turning_point"].dims == ("sd_factor", "length_scale", "parameter")
    kernel = np.exp(-np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0))) / 3.0)
    row = sweep.sel(correlation=0.7, sd_factor=2.0, length_scale=3.0)
    assert_exact(row, np.full((3, 3), 0.7) + 0.3 * np.eye(3), kernel, SDS * [1.0, 2.0, 1.0])


def test_correlations_that_differ_stay_while_the_sd_is_swept():
    sweep = bj.discrepancy_sweep(several(), sd_factor=[0.5, 1.0])
    assert_exact(sweep.sel(sd_factor=0.5), MATRIX, sds=SDS / 2)
    np.testing.assert_allclose(sweep["relative_sd"].sel(sd_factor=1.0), 1.0, rtol=1e-12)
    assert set(sweep["effect"].sel(sd_factor=0.5).values) == {"helps"}


def test_a_shared_cause_keeps_its_loadings_while_its_sd_is_swept():
    loads = {"s0": 1.0, "s1": 0.5, "s2": -1.0}
    problem = several(None, sd=0.3, loadings=loads)
    sweep = bj.discrepancy_sweep(problem, sd_factor=[2.0])
    assert_exact(sweep.sel(sd_factor=2.0), np.ones((3, 3)), sds=0.6 * np.array([*loads.values()]))
    assert "turning_point" not in sweep


def test_unknown_settings_of_the_errors_are_held_at_the_point():
    given = several().discrepancy
    sds = given.sd | {"s1": bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5)}
    unknown = bj.Prior(pm.Uniform, lower=-0.4, upper=0.9)
    apart = bj.JointDiscrepancy(sd={"s2": 0.4}, name="apart")
    problem = several().replace(discrepancy=[replace(given, sd=sds, correlation=unknown), apart])
    values = {"level": np.zeros(2), "discrepancy_sd_s1": 2.0, "discrepancy_correlation": 0.2}
    sweep = bj.discrepancy_sweep(problem, [0.5], at=values, discrepancy="discrepancy")
    assert sweep.attrs["own_correlation"] == pytest.approx(0.2)
    sds, noise = SDS * [1.0, 2.0, 1.0], NOISE + [0.0, 0.0, 0.16]
    matrix = 0.5 * np.eye(3) + 0.5
    assert_exact(sweep.sel(correlation=0.5), matrix, sds=sds, noise=noise)


def test_an_unknown_matrix_is_held_pair_by_pair():
    given = several().discrepancy
    unknown = replace(given, correlation=bj.Prior(pm.LKJCorr, eta=2.0, n=3))
    values = {"discrepancy_correlation": MATRIX[np.triu_indices(3, 1)]}
    held = settled(unknown, "discrepancy", values)
    np.testing.assert_array_equal(held.correlation, MATRIX)


def test_fields_are_rows_as_a_whole():
    case = gaussian_case(n=12, shape=(3, 4))
    sweep = bj.discrepancy_sweep(case.problem, [0.6])
    _, posterior = case.posterior()
    blocks = np.split(np.sqrt(np.diag(posterior)), 2)
    rms = [np.sqrt(np.mean(sd**2)) for sd in blocks]
    np.testing.assert_allclose(sweep["posterior_sd"][0], rms, rtol=1e-8)
    dofs = np.diag(case.resolution()).reshape(2, -1).sum(axis=1)
    np.testing.assert_allclose(sweep["dofs"][0], dofs, rtol=1e-8)
    assert list(sweep["parameter"].values) == ["density", "slowness"]


def test_a_factor_of_low_rank_is_reduced_without_error():
    """Data beyond the rank of a process are many; they are reduced to it."""
    time = {name: np.linspace(0.0, 10.0, 40) for name in "ab"}
    gains = {"a": np.sin(time["a"])[:, None], "b": np.cos(time["b"])[:, None]}
    level = bj.Parameter("level", STANDARD, coords={"part": [0]})
    modalities = [
        bj.Modality(name, data(np.zeros(40), f"i_{name}", {"time": (f"i_{name}", time[name])}),
                    bj.linear_map(gains[name], "level"), bj.GaussianNoise(sd=0.3))
        for name in "ab"
    ]  # fmt: skip
    problem = bj.JointProblem(
        latents=[level], modalities=modalities,
        discrepancy=bj.JointDiscrepancy(
            sd={"a": 0.5, "b": 1.0}, correlation=0.6, on="time", length_scale=3.0,
            grid=bj.Grid(time=np.linspace(-3.0, 13.0, 33)), rank=9,
        ),
    )  # fmt: skip
    functions = ModelFunctions(problem)
    whitened = functions.errors(functions.initial).whiten(np.concatenate([*gains.values()]))
    sweep = bj.discrepancy_sweep(problem, [0.6])
    assert float(sweep["information"][0, 0]) == pytest.approx(np.sum(whitened**2), rel=1e-10)


TWELVE = np.random.default_rng(4).normal(size=(4, 12, 2))
GRID = bj.Grid(time=np.linspace(-3.0, 14.0, 18))
SHARED = {
    "paired": {},
    "in time": {"on": "time", "length_scale": 3.0},
    "leading modes": {"on": "time", "length_scale": 3.0, "rank": 5},
    "grid": {"on": "time", "length_scale": 3.0, "grid": GRID},
    "leading modes of a grid": {"on": "time", "length_scale": 3.0, "grid": GRID, "rank": 7},
    "own variances": {"noise": [np.linspace(0.1, 0.4, 12), 0.2, 0.1, 0.3]},
    "shared cause": {"on": "time", "length_scale": 3.0, "correlation": None, "sd": 0.7,
                     "loadings": {"s0": 1.0, "s2": -0.5, "s1": 0.3}},
}  # fmt: skip


def at_shared_places(noise=(0.1, 0.2, 0.1, 0.3), **settings):
    """Return three modalities at the same times, and a fourth with a discrepancy of its own."""
    sds = dict(zip(("s2", "s0", "s1"), SDS, strict=True))
    problem = sensors(TWELVE, (0.5,) * 4, noise, sd={"s3": 0.5}, correlation=None, name="own")
    shared = bj.JointDiscrepancy(**{"sd": sds, "correlation": 0.3} | settings)
    return problem.replace(discrepancy=[shared, problem.discrepancy])


@pytest.mark.parametrize("name", SHARED)
def test_shared_places_are_swept_mode_by_mode(name):
    """The same numbers as with the dense covariance, at any sd, correlation and length scale."""
    settings = SHARED[name]
    local = LocalProblem(at_shared_places(**settings), None, "sweep")
    swept = swept_discrepancy(local, "sweep", "discrepancy", None)
    factors = np.array([1.0, 2.0, 0.5, 1.0])
    length = 1.5 if "on" in settings else None
    modal = Along(local, swept_errors(local, swept, length), swept, factors)
    dense = Along(local, block_errors(local, swept, length), swept, factors)
    assert isinstance(modal.errors, SharedErrors)
    for correlation in (-0.4, 0.0, 0.9):
        expected = dense.row(correlation)
        for key, found in modal.row(correlation).items():
            np.testing.assert_allclose(found, expected[key], rtol=1e-8, err_msg=key)
    for row in local.rows:
        for turns in ("turning_point", "turning_point_posterior"):
            place, note = getattr(modal, turns)(row)
            assert place == pytest.approx(getattr(dense, turns)(row)[0], rel=1e-8, nan_ok=True)
            assert note == getattr(dense, turns)(row)[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"on": "time", "length_scale": 3.0, "noise": SHARED["own variances"]["noise"]},
        {"sd": dict.fromkeys(("s0", "s3"), 0.5)},
    ],
)
def test_unequal_noise_and_other_discrepancies_take_the_dense_form(settings):
    local = LocalProblem(at_shared_places(**settings), None, "sweep")
    swept = swept_discrepancy(local, "sweep", "discrepancy", None)
    assert isinstance(swept_errors(local, swept, None), BlockErrors)


def test_information_diverges_until_rank_is_lost_and_is_then_refused():
    """With noise to nothing, and correlation to one, the difference of sensors becomes free."""
    left = 10.0 ** -np.arange(1, 13)
    problem = sensors((1.0, 0.5), (1.0, 1.0), (1e-14, 1e-14))
    sweep = bj.discrepancy_sweep(problem, 1.0 - left).isel(parameter=0)
    shown = sweep.where(sweep["valid"], drop=True)["information"]
    assert shown.size == 10
    for found, rest in zip(shown, left, strict=False):
        exact_value = fraction_information(found["correlation"], (1.0, 0.5), (1.0, 1.0), 1e-14)
        assert float(found) == pytest.approx(exact_value, rel=1e-15 / rest)
    assert np.all(np.diff(np.log10(shown.values)[1:]) > 0.95)
    assert sweep["information"][-2:].isnull().all()
    assert "free of error to working precision" in sweep["reason"].values[-1]


def fraction_information(correlation, gains, sds, variance):
    """Return the information of two sensors without rounding."""
    rho, r, *numbers = map(Fraction, map(float, (correlation, variance, *gains, *sds)))
    first, second, one, two = numbers
    a, b, c = one**2 + r, two**2 + r, rho * one * two
    return float(information(c, (first, second), a, b))


@pytest.mark.parametrize("left", [1e-2, 1e-6, 1e-10, 1e-15])
@pytest.mark.parametrize("variance", [1e-2, 1e-10, 1e-20, 1e-30])
def test_errors_of_nearly_one_cause_keep_their_digits(left, variance):
    """The covariance is never squared where that loses the small part."""
    factor = np.diag([1.0, 0.5]) @ np.linalg.cholesky([[1.0, 1.0 - left], [1.0 - left, 1.0]])
    errors = ErrorCovariance(np.full(2, variance), factor, (1, 1))
    whitened = errors.whiten(np.array([1.0, 2.0]))
    expected = fraction_information(1.0 - left, (1.0, 2.0), (1.0, 0.5), variance)
    assert float(whitened @ whitened) == pytest.approx(expected, rel=1e-8)


def test_errors_without_noise_in_a_combination_are_refused():
    one_cause = ErrorCovariance(np.full(2, 1e-14), np.ones((2, 1)), (1, 1), None, ("a", "b"))
    with pytest.raises(SingularErrors, match="noise of modality 'a' is only 1e-07 of the sd"):
        one_cause.solve(np.ones(2))
    two_of_three = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    dense = ErrorCovariance(np.full(3, 1e-30), two_of_three, (1, 1, 1), None, ("a", "b", "c"))
    with pytest.raises(SingularErrors, match="of modalities 'b' and 'c' are so strongly"):
        dense.whiten(np.ones(3))
    problem = sensors(
        (1.0, 0.5), (1.0, 1.0), (1e-14, 1e-14), sd=1.0, correlation=None,
        loadings={"s0": 1.0, "s1": 1.0},
    )  # fmt: skip
    fault = r"of modalities 's0' and 's1' are so strongly .*down to 1e-07 .*give more noise"
    with pytest.raises(ValueError, match=fault):
        bj.linearize(problem, at={"level": np.zeros(1)})


@pytest.mark.parametrize("left", [1e-3, 1e-6, 1e-9, 1e-13])
def test_errors_at_shared_places_are_right_or_refused(left):
    functions = ModelFunctions(sensors((1.0, 2.0), (1.0, 0.5), (1e-20, 1e-20), 1.0 - left))
    errors = functions.errors(functions.initial)
    if left < 1e-12:
        with pytest.raises(SingularErrors, match="'s0' and 's1' are so strongly correlated"):
            errors.whiten(np.array([1.0, 2.0]))
        return
    whitened = errors.whiten(np.array([1.0, 2.0]))
    expected = fraction_information(1.0 - left, (1.0, 2.0), (1.0, 0.5), 1e-20)
    assert float(whitened @ whitened) == pytest.approx(expected, rel=1e-15 / left)


def test_what_makes_no_sense_is_refused():
    problem = sensors(*PAIRS["alike"])
    with pytest.raises(ValueError, match="no discrepancy"):
        bj.discrepancy_sweep(problem.replace(discrepancy=None), [0.1])
    with pytest.raises(ValueError, match="nuts_at=1.2 makes no valid"):
        bj.discrepancy_sweep(problem, [0.1], nuts_at=[1.2])
    loaded = bj.JointDiscrepancy(sd=1.0, loadings={"s0": 1.0, "s1": 0.5})
    with pytest.raises(ValueError, match="states loadings and no correlation"):
        bj.discrepancy_sweep(problem.replace(discrepancy=loaded), [0.1])
    local = LocalProblem(problem, None, "sweep")
    with pytest.raises(ValueError, match="give two of the modalities"):
        swept_discrepancy(local, "sweep", None, ("s0", "s3"))
    with pytest.raises(ValueError, match="name one of"):
        swept_discrepancy(local, "sweep", "clouds", None)
    swept = swept_discrepancy(local, "sweep", None, None)
    for given, fault in (
        ((None, None, None), "nothing is swept"),
        (([], None, None), "is empty or not finite"),
        ((None, [-1.0], None), "must be positive"),
        ((None, {"s5": [1.0]}, None), "sd_factor= names"),
        ((None, None, [1.0]), "has no length scale"),
    ):
        with pytest.raises(ValueError, match=fault):
            sweep_settings(swept, *given)


@pytest.mark.slow  # samples
def test_nuts_finds_the_linearized_sd():
    problem = sensors((1.0, 0.6), (1.0, 1.5), (0.1, 0.1), 0.3, prior_sd=2.0)
    nuts = {"draws": 1000, "chains": 2, "random_seed": 1, "progress": False}
    sweep = bj.discrepancy_sweep(problem, [-0.8, 0.8], nuts_at=[-0.8, 0.8], nuts=nuts)
    sampled = sweep["posterior_sd_sampled"].rename(nuts_correlation="correlation")
    error = sweep["posterior_sd_sampled_mcse"].values
    assert np.all(error < 0.05 * sampled)
    assert np.all(np.abs(sampled - sweep["posterior_sd"]) < 4.0 * error)


# ---- the cost of a wrong correlation ------------------------------------------------------

ALIKE = ((np.ones((10, 1)), np.ones((10, 1))), (1.0, 1.0), (0.1, 0.1), 0.8)
KAPPAS = [-0.5, 0.0, 0.5, 0.95]


@pytest.fixture(scope="module")
def cost():
    """Two sensors of one level, ten times each: the sum of all twenty is all they say."""
    return bj.discrepancy_cost(sensors(*ALIKE, prior_sd=3.0), KAPPAS, random_seed=1)


def test_the_cost_is_that_of_the_closed_form(cost):
    """The mean of twenty data, with variance (1 + rho + r) / 20, shrunk to the prior."""
    variance = {rho: (1.1 + rho) / 20.0 for rho in [*KAPPAS]} | {"none": 0.1 / 20.0}
    for rho in KAPPAS:
        models = {"joint": (rho, rho), "independent": (rho, 0.0), "none": (rho, "none"),
                  "reversed": (0.0, rho)}  # fmt: skip
        for case, (truth, model) in models.items():
            row = cost.sel(correlation=rho, case=case).isel(parameter=0)
            posterior = 1.0 / (1.0 / 9.0 + 1.0 / variance[model])
            gain = posterior / variance[model]
            spread = np.sqrt((1.0 - gain) ** 2 * 9.0 + gain**2 * variance[truth])
            reach = stats.norm.ppf(0.95) * np.sqrt(posterior)
            expected = 2.0 * stats.norm.cdf(reach / spread) - 1.0
            assert float(row["coverage_expected"]) == pytest.approx(expected, rel=1e-9)
            assert float(row["width"]) == pytest.approx(2.0 * reach, rel=1e-9)
            # Of 200 replicates: sixteen rows of three comparisons.
            assert abs(row["rmse"] / spread - 1.0) < largest_z(48) / np.sqrt(400.0)
            assert abs(row["bias"]) < largest_z(48) * row["bias_mcse"]
            assert by_chance(200 * row["coverage"], 200, expected, comparisons=48)
            assert row["coverage_lower"] < row["coverage"] < row["coverage_upper"]


def test_who_knows_the_correlation_covers_and_who_does_not_falls_short(cost):
    assert cost.attrs["method"] == "exact"
    joint = cost["coverage"].sel(case="joint").isel(parameter=0)
    assert all(by_chance(200 * share, 200, 0.9, comparisons=4) for share in joint.values)
    # With which replicates agree, as was seen above.
    independent, none = (
        cost["coverage_expected"].sel(case=case).isel(parameter=0)
        for case in ("independent", "none")
    )
    assert float(independent.sel(correlation=0.95)) < 0.8
    assert np.all(none.sel(correlation=[0.0, 0.5, 0.95]) < 0.4)


def test_refits_of_a_linear_map_are_exact(cost):
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0, sigma=3.0))
    modalities = [
        bj.Modality(f"s{i}", data(np.zeros(10), f"i_{i}"), bj.pytensor_map(tenfold, ["level"]),
                    bj.GaussianNoise(sd=np.sqrt(0.1))) for i in range(2)
    ]  # fmt: skip
    problem = sensors(*ALIKE).replace(latents=[level], modalities=modalities)
    found = bj.discrepancy_cost(problem, [-0.5], replicates=200, random_seed=1, at={"level": 0.0})
    assert found.attrs["method"] == "refit"
    for name in ("bias", "rmse", "width", "coverage"):
        np.testing.assert_allclose(found[name][0], cost[name].sel(correlation=-0.5), atol=1e-9)
    assert found["coverage_expected"].isnull().all()


def tenfold(level):
    return level * np.ones(10)


def test_refits_of_a_curved_map_cover():
    """The logarithm of a level, well known: the posterior is nearly Gaussian in its white form."""
    level = bj.Parameter("level", bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5), units="K")
    modalities = [
        bj.Modality(f"s{i}", data(np.ones(10), f"i_{i}"), bj.pytensor_map(tenfold, ["level"]),
                    bj.GaussianNoise(sd=0.05)) for i in range(2)
    ]  # fmt: skip
    discrepancy = bj.JointDiscrepancy(sd={"s0": 0.2, "s1": 0.2}, correlation=0.8)
    problem = bj.JointProblem(latents=[level], modalities=modalities, discrepancy=discrepancy)
    found = bj.discrepancy_cost(problem, [0.8], random_seed=2, at={"level": 1.0})
    found = found.isel(correlation=0, parameter=0)
    assert by_chance(200 * found["coverage"].sel(case="joint"), 200, 0.9)
    assert found["coverage"].sel(case="none") < 0.5


def test_the_cost_of_fields_is_over_their_cells():
    case = gaussian_case(n=12, shape=(3, 4))
    cost = bj.discrepancy_cost(case.problem, [0.6, 1.5], random_seed=3)
    assert list(cost["valid"].values) == [True, False]
    assert cost["coverage"].sel(correlation=1.5).isnull().all()
    joint = cost.sel(correlation=0.6, case="joint")
    np.testing.assert_allclose(joint["coverage_expected"], 0.9, rtol=1e-9)
    assert np.all(np.abs(joint["coverage"] - 0.9) < 4.0 * np.sqrt(0.09 / 200.0))
    _, posterior = case.posterior()
    rms = np.sqrt(np.diag(posterior).reshape(2, -1).mean(axis=1))
    np.testing.assert_allclose(joint["width"], 2.0 * stats.norm.ppf(0.95) * rms, rtol=1e-8)


def test_a_cost_that_cannot_be_told_is_refused():
    problem = sensors(*PAIRS["alike"])
    with pytest.raises(ValueError, match="replicates=1"):
        bj.discrepancy_cost(problem, [0.1], replicates=1)
    first, second = problem.modalities
    tailed = bj.Modality("s1", second.data, second.forward, bj.StudentTNoise(sd=0.1, nu=4))
    with pytest.raises(ValueError, match="'s1' has noise that is not Gaussian"):
        bj.discrepancy_cost(
            problem.replace(modalities=[first, tailed]), [0.1], at={"level": np.zeros(1)}
        )


@pytest.mark.filterwarnings("error")
def test_sweep_and_cost_are_drawn(sweeps, cost):
    figure = bj.plot_discrepancy_sweep(sweeps["alike"])
    figure.canvas.draw()
    information, sd, *_ = figure.axes
    at = float(sweeps["alike"]["turning_point"][0])
    marks = [line.get_xdata() for line in information.lines if line.get_marker() == "o"]
    assert [float(x[0]) for x in marks] == [at]
    assert {text.get_text() for text in sd.texts} == {"hurts", "helps"}
    with pytest.raises(ValueError, match="missing"):
        bj.plot_discrepancy_sweep(cost)
    with pytest.raises(ValueError, match="give one to 6 of"):
        bj.plot_discrepancy_sweep(sweeps["alike"], parameters=["depth"])
    with pytest.raises(ValueError, match=r"the settings \[\]; select one value"):
        bj.plot_discrepancy_sweep(sweeps["alike"].isel(correlation=0))
    figure = bj.plot_discrepancy_cost(cost)
    figure.canvas.draw()
    assert len(figure.axes) == 3
    with pytest.raises(ValueError, match="missing; give what bj.discrepancy_cost returns"):
        bj.plot_discrepancy_cost(sweeps["alike"])
