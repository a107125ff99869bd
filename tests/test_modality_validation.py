"""Modalities left out by refit, against closed forms, quadrature, and contradictions put in."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats
from scipy.integrate import quad

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint.couplings._group import digest
from bayesjoint.couplings.normaliser import Normaliser
from bayesjoint.studies._left_out import own_prior
from tests.chance import by_chance
from tests.helpers import STANDARD, data
from tests.stations import KINDS, SIZE, WITHIN, Case

DRAWS = 1_000
FAST = {"draws": 400, "chains": 2, "progress": False, "backend": "interpreted"}
SCALE = bj.Prior(pm.LogNormal, mu=-1.0, sigma=0.5)
FACTOR = "discrepancy_correlation_factor"
GROUPS = {"gnss": WITHIN.ravel(), "insar": np.arange(WITHIN.size, SIZE)}


def exact_refit(case, left_out):
    """Return a tree as from `sample`, with independent draws of the closed form."""
    problem = case.problem.without(left_out)
    kept = np.setdiff1d(np.arange(SIZE), GROUPS[left_out])
    mean, covariance = case.posterior(kept)
    rng = np.random.default_rng(7)
    values = rng.multivariate_normal(mean, covariance, (2, DRAWS), method="cholesky")
    draws = {n: (("chain", "draw"), values[..., i]) for i, n in enumerate("ab")}
    linearized = bj.linearize(problem)["linearization"].to_dataset()
    observed = xr.Dataset(problem.labelled_data)
    groups = {"posterior": xr.Dataset(draws), "linearization": linearized}
    return xr.DataTree.from_dict({**groups, "observed_data": observed})


@pytest.fixture(scope="module", params=KINDS)
def found(request):
    """Return a case, and both of its modalities left out."""
    case = Case(request.param)
    refitted = {name: exact_refit(case, name) for name in GROUPS}
    return case, bj.leave_modality_out(case.problem, draws=DRAWS, random_seed=0, refitted=refitted)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_data_are_predicted_with_the_errors_of_the_others(found, name):
    case, report = found
    mean, covariance = case.prediction(GROUPS[name])
    predicted = report[f"{name}_predicted"].values.reshape(DRAWS, -1)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(predicted.mean(axis=0) - mean) < 4.5 * sd / np.sqrt(DRAWS))
    # Sd of a sampled covariance: sqrt((c_ij^2 + c_ii c_jj) / n).
    error = np.sqrt((covariance**2 + np.outer(sd**2, sd**2)) / DRAWS)
    assert np.all(np.abs(np.cov(predicted.T) - covariance) < 4.5 * error)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_the_density_of_all_data_together(found, name):
    case, report = found
    row, (mean, covariance) = report.sel(modality=name), case.prediction(GROUPS[name])
    measured = case.data[GROUPS[name]]
    expected = stats.multivariate_normal.logpdf(measured, mean, covariance)
    assert row["pareto_k"] < 0.7
    assert abs(row["log_density"] - expected) < 4.5 * row["log_density_mcse"]
    distance = (measured - mean) @ np.linalg.solve(covariance, measured - mean)
    p_value, size = stats.chi2.sf(distance, mean.size), mean.size
    # A share of data sets, at a density that has an error of its own.
    error = np.sqrt(p_value * (1 - p_value) / DRAWS)
    error += 2 * row["log_density_mcse"] * stats.chi2.pdf(distance, size)
    assert abs(row["p_value"] - p_value) < 4.5 * error
    fair = stats.multivariate_normal.entropy(mean, covariance)  # of all data sets it predicts
    average = float(row["log_density_predicted"].mean())
    assert average == pytest.approx(-fair, abs=4.5 * np.sqrt(size / 2 / DRAWS) + 0.05)


@pytest.mark.parametrize("name", GROUPS)
def test_what_the_data_would_teach(found, name):
    case, report = found
    before = case.posterior(np.setdiff1d(np.arange(SIZE), GROUPS[name]))
    after = case.posterior(np.arange(SIZE))
    shift, precision = after[0] - before[0], np.linalg.inv(before[1])
    expected = 0.5 * (np.trace(precision @ after[1]) - 2 + shift @ precision @ shift)
    expected += 0.5 * (np.linalg.slogdet(before[1])[1] - np.linalg.slogdet(after[1])[1])
    # Mean and covariance before are known from DRAWS draws: each term to 2 / sqrt(DRAWS).
    error = 4.5 * np.sqrt(2 / DRAWS) * (1 + shift @ precision @ shift)
    assert float(report["gain"].sel(modality=name)) == pytest.approx(expected, abs=error)


def test_the_report_is_labelled_as_the_data(found):
    case, report = found
    assert report["gnss_predicted"].dims == ("sample", "station", "component")
    assert report["gnss_pit"].dims == ("station", "component")
    xr.testing.assert_equal(
        report["insar_measured"].drop_vars("insar_t", errors="ignore"),
        case.problem.modality["insar"].data.drop_vars("t", errors="ignore"),
    )
    below = report["insar_predicted"] < report["insar_measured"]
    np.testing.assert_allclose(report["insar_pit"], below.mean("sample"))


def test_the_refit_with_fewest_draws_says_how_many_are_used():
    case = Case("independent")
    refitted = {name: exact_refit(case, name) for name in GROUPS}
    few = refitted["insar"].isel(draw=slice(0, 30))
    report = bj.leave_modality_out(
        case.problem, draws=50, random_seed=0, refitted={**refitted, "insar": few}
    )
    assert report.sizes["sample"] == report.attrs["draws"] == 30
    assert "30 predicted data sets are too few" in report.attrs["words"][-1]


@pytest.mark.slow
def test_left_out_data_do_not_enter():
    """Whatever they are, and with the scale of their errors unknown, the prediction is the same."""
    case = Case("discrepancy")
    gnss = case.problem.modality["gnss"]
    unknown = replace(gnss, noise=bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=0.2)))
    sds = {"gnss": bj.Prior(pm.HalfNormal, sigma=0.5), "insar": 0.8}
    problem = case.problem.replace(
        modalities=[unknown, case.problem.modality["insar"]],
        discrepancy=bj.JointDiscrepancy(
            sd=sds, correlation=bj.Prior(pm.Uniform, lower=0.0, upper=0.9), on="t", length_scale=0.7
        ),
    )
    moved = problem.with_data((gnss.data + 100.0).rename("gnss").to_dataset())
    settings = {"draws": 200, "random_seed": 2, "nuts": FAST}
    first, second = (bj.leave_modality_out(p, "gnss", **settings) for p in (problem, moved))
    np.testing.assert_array_equal(first["gnss_predicted"], second["gnss_predicted"])
    np.testing.assert_array_equal(
        first["log_density_predicted"].values, second["log_density_predicted"].values
    )
    assert first["p_value"].item() > 0.05 > 0.01 > second["p_value"].item()


# --- one level, by quadrature -------------------------------------------------------------------

LEVEL = bj.Parameter("level", STANDARD)


def gauges(modalities, discrepancy=None):
    """Return modalities that see one level, ``{name: (values, noise)}``."""
    return bj.JointProblem(
        latents=[LEVEL],
        modalities=[
            bj.Modality(
                name, data(values, f"{name}_time"),
                bj.linear_map(np.ones((len(values), 1)), "level", name=name), noise,
            )
            for name, (values, noise) in modalities.items()
        ],
        discrepancy=discrepancy,
    )  # fmt: skip


def level_without(values, variance):
    """Return mean and sd of the level given mean-like data of a total variance each."""
    precision = 1.0 + len(values) / variance
    return np.sum(values) / variance / precision, precision**-0.5


def log_density_of(report, name, density, mean, sd):
    """Check the log-density against an average over a Gaussian number."""
    peak = max(density(x) for x in np.linspace(mean - 8 * sd, mean + 8 * sd, 401))
    ends = (mean - 12 * sd, mean + 12 * sd)
    total = quad(
        lambda x: np.exp(density(x) - peak) * stats.norm.pdf(x, mean, sd), *ends, limit=400
    )[0]
    row = report.sel(modality=name)
    assert row["pareto_k"] < 0.7
    assert abs(row["log_density"] - peak - np.log(total)) < 4.5 * row["log_density_mcse"]


@pytest.mark.slow
def test_heavy_tails_are_predicted_from_their_noise():
    old, new = np.array([0.3, 0.5]), np.array([0.1, 0.9, 3.0])
    noise = bj.StudentTNoise(sd=0.4, nu=4)
    problem = gauges({"old": (old, bj.GaussianNoise(sd=0.5)), "new": (new, noise)})
    report = bj.leave_modality_out(
        problem, "new", draws=800, random_seed=1, nuts=FAST | {"chains": 4}
    )
    mean, sd = level_without(old, 0.25)
    log_density_of(report, "new", lambda x: stats.t.logpdf(new, 4, x, 0.4).sum(), mean, sd)
    # 800 predictions, nearly independent by their noise, of three data: half lie below the mean.
    below = (report["new_predicted"] < mean).sum("sample").values
    assert all(by_chance(hits, 800, 0.5, comparisons=3) for hits in below)


def test_counts_are_predicted_from_their_noise():
    old, new = np.array([0.8, 1.2]), np.array([1.0, 4.0])
    counter = bj.Modality(
        "new", data(new, "new_time"),
        bj.pytensor_map(lambda level: pm.math.exp(level) * np.ones(2), ["level"]),
        bj.PoissonNoise(),
    )  # fmt: skip
    level = gauges({"old": (old, bj.GaussianNoise(sd=0.5))})
    problem = level.replace(modalities=[*level.modalities, counter])
    report = bj.leave_modality_out(problem, "new", random_seed=1, nuts=FAST)
    mean, sd = level_without(old, 0.25)
    log_density_of(report, "new", lambda x: stats.poisson.logpmf(new, np.exp(x)).sum(), mean, sd)
    assert np.all(report["new_predicted"] == np.round(report["new_predicted"]))
    halves = (report["new_predicted"] == report["new_measured"]).mean("sample") / 2
    below = (report["new_predicted"] < report["new_measured"]).mean("sample")
    np.testing.assert_allclose(report["new_pit"], below + halves)


@pytest.mark.slow
def test_heavy_tails_beside_a_shared_discrepancy():
    """Level plus discrepancy of one datum, given the other, is Gaussian; then tails are added."""
    old, new, correlation = np.array([0.9]), np.array([1.4]), 0.8
    noises = bj.GaussianNoise(sd=0.3), bj.StudentTNoise(sd=0.2, nu=4)
    problem = gauges(
        {"old": (old, noises[0]), "new": (new, noises[1])},
        bj.JointDiscrepancy(sd={"old": 0.7, "new": 0.5}, correlation=correlation),
    )
    report = bj.leave_modality_out(
        problem, "new", draws=800, random_seed=1, nuts=FAST | {"chains": 4}
    )
    joint = np.array([[1 + 0.49 + 0.09, 1 + 0.28], [1 + 0.28, 1 + 0.25]])
    mean = joint[1, 0] / joint[0, 0] * old[0]
    sd = np.sqrt(joint[1, 1] - joint[1, 0] ** 2 / joint[0, 0])
    log_density_of(report, "new", lambda x: stats.t.logpdf(new, 4, x, 0.2).sum(), mean, sd)


@pytest.mark.slow
def test_an_unknown_scale_of_what_is_left_out_has_its_prior():
    old, new = np.array([0.2, 0.4, 0.1]), np.array([1.5])
    scale = bj.Prior(pm.LogNormal, mu=-1.0, sigma=0.5)
    problem = gauges(
        {"old": (old, bj.GaussianNoise(sd=0.3)), "new": (new, bj.GaussianNoise(sd=scale))}
    )
    report = bj.leave_modality_out(
        problem, "new", draws=800, random_seed=1, nuts=FAST | {"chains": 4}
    )
    mean, sd = level_without(old, 0.09)

    def given_log_scale(x):
        return stats.norm.logpdf(new[0], mean, np.hypot(sd, np.exp(x)))

    log_density_of(report, "new", given_log_scale, -1.0, 0.5)


# --- words ---------------------------------------------------------------------------------------


def coupled_pair():
    """Two coupled fields, the second seen with an unknown scale and error of its own."""
    grid = bj.Grid(z=np.arange(3.0), x=np.arange(3.0))
    fields = [bj.GaussianField(name, grid, sd=1.0, length_scale=2.0) for name in "ab"]
    rows = {name: np.random.default_rng(3).normal(size=(4, 9)) for name in "ab"}
    noises = {"a": bj.GaussianNoise(sd=0.5), "b": bj.GaussianNoise(sd=SCALE)}
    modalities = [
        bj.Modality(f"of_{n}", data(np.zeros(4), f"site_{n}"), bj.linear_map(rows[n], n), noises[n])
        for n in "ab"
    ]
    weight, over = bj.Prior(pm.Uniform, lower=0.0, upper=300.0), np.r_[0.0, np.geomspace(0.3, 300)]
    known = bj.CrossGradient("a", "b", weight=1.0)
    problem = bj.JointProblem(latents=fields, modalities=modalities, couplings=[known])
    made_for = digest(known, problem.latent, [known], [])
    table = Normaliser(over, 4 / (1 + over), 0.01 / (1 + over), made_for)
    unknown = bj.CrossGradient("a", "b", weight=weight, normaliser=table)
    sd = {"of_a": SCALE, "of_b": SCALE}
    errors = bj.JointDiscrepancy(sd=sd, correlation=bj.Prior(pm.LKJCorr, eta=2, n=2))
    return problem.replace(couplings=[unknown], discrepancy=errors)


@pytest.mark.slow
def test_settings_of_what_is_left_out_have_their_prior_beside_a_coupling():
    functions, rng = ModelFunctions(coupled_pair()), np.random.default_rng(8)
    space = functions.once(LatentSpace)
    drawn = {u.name: own_prior(functions, u, 600, rng) for u in space.unknowns if u.of_errors}
    for name in ("of_b_sd", "discrepancy_sd_of_b"):
        assert stats.kstest(drawn[name].ravel(), "norm").pvalue > 0.01
    where, place = space.names.index("discrepancy_correlation"), functions.slices[FACTOR]
    points = np.tile(functions.initial, (600, 1))
    points[:, place] = drawn["discrepancy_correlation"]
    correlations = np.array([space.values(point)[where].item() for point in points])
    # LKJ(eta = 2) of two: (r + 1) / 2 has the beta distribution of 2 and 2.
    assert stats.kstest((correlations + 1) / 2, stats.beta(2, 2).cdf).pvalue > 0.01


@pytest.mark.slow
def test_words_say_which_modality_the_others_fail_to_predict():
    sharp, blunt = bj.GaussianNoise(sd=0.1), bj.GaussianNoise(sd=0.5)
    agreed = np.random.default_rng(3).normal(0.5, 0.1, (2, 8))
    problem = gauges(
        {"one": (agreed[0], sharp), "two": (agreed[1], sharp), "odd": (np.full(8, 2.0), blunt)}
    )
    report = bj.leave_modality_out(problem, random_seed=1, nuts=FAST)
    first, *others = report.attrs["words"]
    assert first.startswith("The others fail to predict odd, ")
    assert "p < 0.005." in first
    for name in ("one", "two"):
        assert any(s.startswith(f"The others predict {name} as they should") for s in others)
    assert not any("Nothing but" in sentence for sentence in others)


@pytest.mark.slow
def test_a_small_contradiction_in_many_data_shows_in_what_they_would_teach():
    """Four sd of the level apart: next to nothing in the distance of 400 data."""
    rng = np.random.default_rng(5)
    many = rng.normal(0.0, 1.0, 400)
    many += 4 * np.sqrt(1 / 400 + 0.01) - many.mean()
    problem = gauges(
        {"few": ([0.0], bj.GaussianNoise(sd=0.1)), "many": (many, bj.GaussianNoise(sd=1.0))}
    )
    row = bj.leave_modality_out(problem, "many", random_seed=1, nuts=FAST)
    assert row["p_value"].item() > 0.05
    assert row["p_value_gain"].item() < 0.01
    assert "would move the unknowns further than they allow" in row.attrs["words"][0]


def test_data_that_are_closer_than_claimed_are_told():
    still = {
        "few": ([0.0], bj.GaussianNoise(sd=0.1)),
        "still": (np.zeros(40), bj.GaussianNoise(sd=1)),
    }
    report = bj.leave_modality_out(gauges(still), "still", random_seed=1, nuts=FAST)
    assert report.attrs["words"][0].startswith("The others predict still more closely than they")


@pytest.mark.slow
def test_words_say_what_nothing_else_sees():
    problem = gauges({"old": ([0.3], bj.GaussianNoise(sd=0.5))})
    drift = bj.Parameter("drift", STANDARD, coords={"axis": ["east", "north"]})
    forward = bj.linear_map({"level": np.ones((2, 1)), "drift": np.eye(2)})
    moving = bj.Modality("moving", data([0.2, 0.1], "time"), forward, bj.GaussianNoise(sd=0.5))
    problem = problem.replace(
        latents=[*problem.latents, drift], modalities=[*problem.modalities, moving]
    )
    report = bj.leave_modality_out(problem, random_seed=1, nuts=FAST)
    unseen = report["unseen"].sel(modality="moving").to_series()
    assert unseen[unseen].index.tolist() == ["drift[east]", "drift[north]"]
    assert not report["unseen"].sel(modality="old").any()
    assert (
        "Nothing but moving sees drift[east], drift[north]: there the prior predicts."
        in report.attrs["words"]
    )


@pytest.mark.slow
def test_an_instrument_that_sees_no_unknown_is_predicted_all_the_same():
    """By the errors of the others alone, and the others by its own."""
    cause = bj.JointDiscrepancy(loadings={"old": 1.0, "watch": 1.0}, sd=0.5)
    problem = gauges({"old": ([0.3, 0.6], bj.GaussianNoise(sd=0.1))})
    watch = bj.Modality("watch", data([0.2, 0.5], "time"), None, bj.GaussianNoise(sd=0.05))
    problem = problem.replace(modalities=[*problem.modalities, watch], discrepancy=cause)
    report = bj.leave_modality_out(problem, random_seed=1, nuts=FAST)
    prior, shared = np.ones((2, 2)), 0.25 * np.eye(2)
    covariance = np.block([[prior + shared + 0.01 * np.eye(2), shared],
                           [shared, shared + 0.0025 * np.eye(2)]])  # fmt: skip
    measured = np.array([0.3, 0.6, 0.2, 0.5])
    whole = stats.multivariate_normal(cov=covariance).logpdf(measured)
    for name, rest in {"watch": slice(0, 2), "old": slice(2, 4)}.items():
        alone = stats.multivariate_normal(cov=covariance[rest, rest]).logpdf(measured[rest])
        row = report.sel(modality=name)
        assert abs(row["log_density"] - (whole - alone)) < 4.5 * row["log_density_mcse"]


def test_data_that_no_unknown_reaches():
    """Independent noise about zero: one density for all draws, and nothing to learn."""
    problem = gauges({"old": ([0.3], bj.GaussianNoise(sd=0.1))})
    noise = bj.Modality("noise", data([0.2, 0.5], "time"), None, bj.GaussianNoise(sd=0.3))
    own = bj.JointDiscrepancy(sd={"noise": 0.4})
    problem = problem.replace(modalities=[*problem.modalities, noise], discrepancy=own)
    row = bj.leave_modality_out(problem, "noise", random_seed=1, nuts=FAST).squeeze("modality")
    expected = stats.norm.logpdf([0.2, 0.5], 0, 0.5).sum()
    assert row["log_density"].item() == pytest.approx(expected, rel=1e-6)
    assert row["log_density_mcse"].item() < 1e-10
    assert row["gain"].item() == row["dofs"].item() == 0.0


def test_the_figure_shows_data_and_density(found):
    case, report = found
    figure = bj.plot_leave_modality_out(report)
    gnss, insar = figure.subfigs
    (below,), (right,) = insar.subfigs[0].axes, insar.subfigs[1].axes
    apart = report["insar_measured"] - report["insar_predicted"].median("sample")
    drawn = [line.get_ydata() for line in below.lines if len(line.get_ydata()) == apart.size]
    assert any(np.allclose(values, apart) for values in drawn)
    row = report.sel(modality="insar")
    assert right.lines[0].get_xdata()[0] == float(row["log_density"])
    assert f"p = {float(row['p_value']):.2g}" in right.get_title("left")
    assert [ax.get_title("left") for ax in gnss.subfigs[0].axes] == ["component 0", "component 1"]


# --- refusals ------------------------------------------------------------------------------------

TWO = {"old": ([0.1], bj.GaussianNoise(sd=0.1)), "new": ([0.2], bj.GaussianNoise(sd=0.1))}
THREE = {**TWO, "other": ([0.3], bj.GaussianNoise(sd=0.1))}
HEAVY = {"old": ([0.1], bj.StudentTNoise(sd=0.1, nu=4)), "new": TWO["new"]}
SHARED = bj.JointDiscrepancy(sd={"old": 0.1, "new": 0.1}, correlation=0.5)
PAIRS = bj.JointDiscrepancy(
    sd=dict.fromkeys(THREE, 0.1), correlation=bj.Prior(pm.LKJCorr, eta=2, n=3)
)


@pytest.mark.parametrize(
    ("problem", "settings", "message"),
    [
        (gauges({"old": TWO["old"]}), {}, "has 1 modality; two or more can predict each other"),
        (gauges(TWO), {"modality": "tilt"}, r"no modality \['tilt'\]; there are \['old', 'new'\]"),
        (gauges(TWO), {"draws": 24}, "draws=24; 25 are the least"),
        (
            gauges(TWO),
            {"refitted": {"tilt": xr.DataTree()}},
            r"refitted= names \['tilt'\]; left out are",
        ),
        (gauges(HEAVY, SHARED), {"modality": "new"}, "'old' shares .* noise is not Gaussian.*give"),
        (gauges(THREE, PAIRS), {}, "unknown correlation for each pair.*common correlation"),
    ],
)
def test_what_cannot_be_left_out_is_refused(problem, settings, message):
    with pytest.raises(ValueError, match=message):
        bj.leave_modality_out(problem, **settings)


def test_a_tempered_neighbour_is_refused():
    problem = gauges(TWO)
    tempered = [replace(problem.modality["old"], power=0.5), problem.modality["new"]]
    problem = problem.replace(modalities=tempered, discrepancy=replace(SHARED, form="latent"))
    with pytest.raises(ValueError, match=r"'old' shares .* is tempered \(power 0.5\)"):
        bj.leave_modality_out(problem, "new")


@pytest.mark.slow
def test_a_refit_with_the_modality_is_refused():
    problem = gauges(TWO)
    tree = bj.sample(problem, random_seed=1, **FAST)
    with pytest.raises(ValueError, match=r"with the data \['new', 'old'\], not with \['old'\]"):
        bj.leave_modality_out(problem, "new", refitted={"new": tree})
