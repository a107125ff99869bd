"""Suspiciousness, dimensionality and shifts, against closed forms of Gaussian linear problems."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import bayesjoint.reports as reports
from bayesjoint._kernels.quadratic import suspiciousness_weights, weighted_chi_squares
from bayesjoint.reports._tension_words import _with_sd, tension_words
from tests.chance import CHANCE, largest_z, uniform
from tests.reports import factory

SEED = 4  # of all problems made here


def alone(dense):
    return {k: replace(dense, jacobian={k: dense.jacobian[k]}) for k in dense.jacobian}


def of_dense(dense):
    """Return ln S and d in closed form, from the matrices."""

    def one(d):
        stacked, y = (np.concatenate(list(v.values())) for v in (d.jacobian, d.data))
        y = np.concatenate([d.data[k] for k in d.jacobian])
        hat = stacked @ d.posterior @ stacked.T
        left = y - hat @ y
        mean = -0.5 * (left @ left + np.trace(hat) + y.size * np.log(2 * np.pi))
        return mean, np.trace(hat @ hat) + 2.0 * left @ hat @ left

    (joint, d), parts = one(dense), [one(d) for d in alone(dense).values()]
    return joint - sum(p[0] for p in parts), sum(p[1] for p in parts) - d


@pytest.mark.parametrize("coupled", [False, True], ids=["uncoupled", "coupled"])
def test_the_preview_is_the_closed_form(coupled):
    dense = factory.make(SEED, coupled)
    report = reports.tension(
        factory.preview(dense), {k: factory.preview(d) for k, d in alone(dense).items()}
    )
    expected = of_dense(dense)
    np.testing.assert_allclose([report["ln_suspiciousness"], report["d"]], expected, rtol=1e-10)
    p_value = scipy.stats.chi2.sf(expected[1] - 2 * expected[0], expected[1])
    np.testing.assert_allclose(report["p_value"], p_value)
    assert float(scipy.stats.norm.sf(report["sigma"])) == pytest.approx(p_value / 2)


def test_draws_agree_with_the_closed_form_within_their_error():
    dense = factory.make(SEED)
    report = reports.tension(
        factory.tree(dense, draws=4000),
        {k: factory.tree(d, draws=4000, seed=2) for k, d in alone(dense).items()},
    )
    for name, expected in zip(("ln_suspiciousness", "d"), of_dense(dense), strict=True):
        error = float(report[f"{name}_mcse"])
        assert 0 < error < 0.5
        assert abs(float(report[name]) - expected) < 4 * error


def wide(seed, shift=0.0, n=30, strength=20.0):
    """A problem whose data alone inform; with a shift of the truth between its modalities."""
    random = np.random.default_rng([SEED, seed])
    base = factory.make()
    jacobian = {k: strength * random.standard_normal((n, base.size)) for k in factory.DIMS}
    truth = random.standard_normal(base.size)
    moved = truth.copy()
    moved[12] += shift
    data = {
        k: j @ (moved if k == "arrivals" else truth) + random.standard_normal(n)
        for k, j in jacobian.items()
    }
    return replace(base, jacobian=jacobian, data=data)


def judged(dense, null=None):
    trees = {k: factory.preview(d) for k, d in alone(dense).items()}
    return reports.tension(factory.preview(dense), trees, null)


def test_where_data_alone_inform_it_is_the_difference_of_the_parameters():
    dense = wide(0, strength=2000.0)
    first, second = alone(dense).values()
    gap = first.best - second.best
    chi2 = gap @ np.linalg.solve(first.posterior + second.posterior, gap)
    report = judged(dense)
    # The prior moves the estimates by 1e-4 of their sd.
    np.testing.assert_allclose(report["d"], dense.size, rtol=1e-3)
    np.testing.assert_allclose(report["ln_suspiciousness"], (dense.size - chi2) / 2, atol=1e-3)
    without = slice(0, dense.size - 1)  # the hyperparameter
    for i, fit in enumerate((first, second)):
        moved = (fit.best - dense.best)[without]
        gained = (fit.posterior - dense.posterior)[without, without]
        q_dm = moved @ np.linalg.solve(gained, moved)
        np.testing.assert_allclose(report["q_dm"][i], q_dm, rtol=1e-4)
    np.testing.assert_allclose(report["q_dm_d"], dense.size - 1)


@pytest.mark.slow
def test_p_values_of_consistent_data_are_uniform():
    found = [judged(wide(seed)) for seed in range(200)]
    names = ("p_value", "q_dm_p_value")
    assert uniform(*(np.array([np.ravel(r[name])[0] for r in found]) for name in names))


def test_a_shift_between_modalities_is_found_and_named():
    calm, torn = judged(wide(1)), judged(wide(1, shift=0.2))
    assert calm.attrs["words"][0].startswith("gravity and arrivals agree: ln S = ")
    assert float(torn["sigma"]) > 3
    first, *rest = torn.attrs["words"]
    assert first.startswith("gravity and arrivals contradict each other at ")
    assert any(text.startswith("depth to top: gravity says ") for text in rest)
    named = torn["difference"].sel(modality="gravity", modality_other="arrivals")
    assert str(named["parameter"].values[int(np.argmax(abs(named.values)))]) == "depth_to_top"
    np.testing.assert_allclose(
        named, -torn["difference"].sel(modality="arrivals", modality_other="gravity")
    )


@pytest.mark.slow
def test_the_power_against_a_shift_is_that_of_the_non_central_chi_squared():
    found, expected = [], []
    for seed in range(200):
        dense = wide(seed, shift=0.05)
        first, second = alone(dense).values()
        moved = np.zeros(dense.size)
        moved[12] = 0.05
        centre = moved @ np.linalg.solve(first.posterior + second.posterior, moved)
        limit = scipy.stats.chi2.isf(0.05, dense.size)
        expected.append(scipy.stats.ncx2.sf(limit, dense.size, centre))
        found.append(float(judged(dense)["p_value"]) < 0.05)
    power = np.mean(expected)
    assert 0.2 < power < 0.8
    # At most binomial: shares that differ scatter less.  A power wrong by 0.15 is noticed.
    assert abs(np.mean(found) - power) < largest_z() * np.sqrt(power * (1 - power) / 200)


def test_what_cannot_be_told_is_bounded():
    torn = wide(1, shift=5.0)
    report = judged(torn)
    assert report.attrs["words"][0].startswith(
        "gravity and arrivals contradict each other at more than 37."
    )
    simulated = judged(torn, null_of(wide(1), replicates=999))
    assert float(simulated["p_value"]) == pytest.approx(1e-3)
    assert "at more than 3.3 sigma" in simulated.attrs["words"][0]


def null_of(dense, replicates=4000):
    joint = np.concatenate(list(dense.jacobian.values()))
    split = scipy.linalg.block_diag(*dense.jacobian.values())
    weights, offset = suspiciousness_weights(joint, split)
    draws = weighted_chi_squares(weights, replicates, np.random.default_rng(SEED))
    values = xr.Dataset({"ln_suspiciousness": ("replicate", offset - 0.5 * draws)})
    return values.assign_attrs(exact=1)


def test_the_simulated_distribution_is_that_of_refits():
    dense = factory.make(SEED)
    random = np.random.default_rng(SEED)
    simulated = []
    for _ in range(500):
        truth = random.standard_normal(dense.size)
        data = {k: j @ truth + random.standard_normal(len(j)) for k, j in dense.jacobian.items()}
        simulated.append(of_dense(replace(dense, data=data))[0])
    null = null_of(dense)["ln_suspiciousness"].values
    assert scipy.stats.ks_2samp(simulated, null).pvalue > CHANCE


@pytest.mark.slow
def test_simulated_p_values_are_uniform_where_the_prior_informs():
    dense = factory.make(SEED)
    null, random, found = null_of(dense), np.random.default_rng(SEED), []
    for _ in range(200):
        truth = random.standard_normal(dense.size)
        data = {k: j @ truth + random.standard_normal(len(j)) for k, j in dense.jacobian.items()}
        found.append(judged(replace(dense, data=data), null))
    # The shift of each modality has its exact variance, whatever the prior.
    shifts = [[float(r["q_dm_p_value"][i]) for r in found] for i in range(2)]
    assert uniform([float(r["p_value"]) for r in found], *shifts)


def test_a_simulated_distribution_replaces_the_chi_squared_and_its_warning():
    dense = factory.make(SEED)
    plain, simulated = judged(dense), judged(dense, null_of(dense))
    assert "Prior and data decide together" in " ".join(plain.attrs["words"])
    assert "Prior and data decide together" not in " ".join(simulated.attrs["words"])
    assert simulated.attrs["p_value_of"] == "simulation"
    assert float(simulated["p_value_chi2"]) == float(plain["p_value"])
    rough = null_of(dense).assign_attrs(exact=0)
    assert "linearised at its best fit" in " ".join(judged(dense, rough).attrs["words"])


def test_it_says_what_it_was_compared_with():
    dense = factory.make(SEED)
    null = null_of(dense)
    assert "The p-value is that of chi-squared with d" in " ".join(judged(dense).attrs["words"])
    assert (
        "Compared with 4,000 simulated consistent data sets." in judged(dense, null).attrs["words"]
    )
    held = judged(dense, null.assign_attrs(exact=0, hyperparameters=["gravity_sd"])).attrs["words"]
    assert "settings of the errors (gravity sd) held as in the joint fit." in " ".join(held)
    few = null.isel(replicate=slice(50)).assign_attrs(exact=0, refitted=1)
    few["ln_suspiciousness"][:10] = np.nan
    refitted = judged(dense, few)
    assert refitted.attrs["p_value_of"] == "refits"
    assert (refitted.attrs["null_replicates"], refitted.attrs["null_failed"]) == (40, 10)
    said = " ".join(refitted.attrs["words"])
    assert "Compared with 40 simulated consistent data sets, all fits repeated for each" in said
    assert "10 more could not be fitted" in said and "linearised at its best fit" not in said
    kept = few["ln_suspiciousness"].values[10:]
    expected = (1 + np.sum(kept <= float(refitted["ln_suspiciousness"]))) / 41
    assert float(refitted["p_value"]) == pytest.approx(expected)


def test_few_replicates_bound_what_can_be_told():
    few = null_of(wide(1), replicates=40).assign_attrs(refitted=1)
    first = judged(wide(1, shift=5.0), few).attrs["words"][0]
    assert first.startswith("gravity and arrivals pull apart at more than 2.3 sigma")
    assert first.endswith("as fewer than one in 41 consistent data sets would.")


def test_dimensions_that_are_not_positive_give_nan_and_the_reason():
    dense = factory.make(SEED)
    apart = replace(dense, jacobian={k: 0.01 * j for k, j in dense.jacobian.items()})
    trees = {k: factory.preview(d) for k, d in alone(apart).items()}
    report = reports.tension(factory.preview(dense), trees)
    assert np.isnan(report["p_value"]) and np.isnan(report["sigma"])
    assert "is not positive" in report.attrs["reason"]
    assert "null=bj.tension_null(problem)" in report.attrs["words"][0]


def test_numbers_end_where_their_sd_does():
    assert _with_sd(425_512.3, 112.0) == "425510 ± 110"
    assert _with_sd(-3.14159, 0.0123) == "−3.142 ± 0.012"
    assert _with_sd(1.5e9, 2e8) == "1.5e+09 ± 2e+08"


def test_faults():
    dense = factory.make(SEED)
    joint, trees = (
        factory.preview(dense),
        {k: factory.preview(d) for k, d in alone(dense).items()},
    )
    with pytest.raises(ValueError, match=r"joint fit \(gravity, arrivals.* given: gravity"):
        reports.tension(joint, {"gravity": trees["gravity"]})
    with pytest.raises(ValueError, match="give the tree of problem.split"):
        reports.tension(factory.preview(dense, errors="correlated"), trees)
    with pytest.raises(ValueError, match="the joint fit is tempered .gravity: power 0.5"):
        reports.tension(factory.preview(dense, powers=[0.5, 1.0]), trees)
    with pytest.raises(ValueError, match="the joint fit: no draws, while others have some"):
        sampled = {k: factory.tree(d, draws=20) for k, d in alone(dense).items()}
        reports.tension(joint, sampled)
    with pytest.raises(ValueError, match="linearized elsewhere than at its best fit"):
        reports.tension(factory.preview(dense, at="values"), trees)


def test_where_the_prior_informs_the_words_are_the_call_to_make():
    dense = factory.make(SEED)
    report = reports.tension(
        factory.preview(dense), {k: factory.preview(d) for k, d in alone(dense).items()}
    )
    assert report.attrs["prior_informs"] == 1
    call = (
        "bj.tension(joint, separate, null=bj.tension_null(problem)), problem being the "
        "JointProblem of 'gravity', 'arrivals'."
    )
    assert any(text.endswith(call) for text in report.attrs["words"])
    given = report.assign_attrs(apart="split", fitted_anew=["gravity_scale"])
    call = "bj.tension(joint, split, null=bj.tension_null(problem, refit=True)), problem being"
    assert any(call in text for text in tension_words(given))


def test_words_of_fits_with_errors_of_their_own_claim_less():
    report = judged(wide(1, shift=0.2)).assign_attrs(fitted_anew=["gravity_sd"])
    assert tension_words(report)[0].startswith("gravity and arrivals seem to contradict each other")
    unknown = report.assign(sigma=np.nan, p_value=np.nan).assign_attrs(reason="d is negative")
    assert not any("The p-value" in text for text in tension_words(unknown))
