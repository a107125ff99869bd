"""Numbers that rounding, overflow or a Gram matrix used to spoil, against closed forms."""

from fractions import Fraction

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import integrate, optimize, stats
from scipy.linalg import block_diag

import bayesjoint as bj
from tests.gaussian import field_factor
from tests.helpers import STANDARD, data

# ---- a plain regression with unknown noise ----------------------------------------------------

SIGNS = np.r_[np.ones(10), -np.ones(10)]
SIZES = (82.0, 115.0, 182.0, 183.0, 1e4)
NOISES = {
    "half-normal": (bj.Prior(pm.HalfNormal, sigma=10.0), stats.halfnorm(scale=10.0)),
    "half-Cauchy": (bj.Prior(pm.HalfCauchy, beta=10.0), stats.halfcauchy(scale=10.0)),
    "gamma": (bj.Prior(pm.Gamma, alpha=2.0, beta=0.2), stats.gamma(2.0, scale=5.0)),
    "inverse gamma": (
        bj.Prior(pm.InverseGamma, alpha=3.0, beta=20.0),
        stats.invgamma(3.0, scale=20.0),
    ),
    "exponential": (bj.Prior(pm.Exponential, scale=10.0), stats.expon(scale=10.0)),
    "log-normal": (bj.Prior(pm.LogNormal, mu=2.0, sigma=1.0), stats.lognorm(1.0, scale=np.e**2)),
}


def regression(size, prior):
    slope = bj.Parameter("slope", STANDARD)
    noise = bj.GaussianNoise(sd=prior)
    seen = bj.Modality("m", data(size * SIGNS), bj.linear_map(np.ones((20, 1)), "slope"), noise)
    return bj.JointProblem(latents=[slope], modalities=[seen])


def best_sd(size, reference):
    """Return the noise sd at the maximum in white coordinates: the slope is zero by symmetry."""

    def cost(log_sd):
        sd = np.exp(log_sd)
        # The density of z is its own; z follows from sd by the tail that is accurate.
        tail = -stats.norm.isf(reference.sf(sd)) if reference.sf(sd) < 0.5 else None
        z = stats.norm.ppf(reference.cdf(sd)) if tail is None else tail
        return 20 * log_sd + 10 * (size / sd) ** 2 + z**2 / 2

    found = optimize.minimize_scalar(
        cost, bounds=(1.0, np.log(size)), method="bounded", options={"xatol": 1e-9}
    )
    return np.exp(found.x)


@pytest.mark.parametrize(
    "size", [SIZES[0], *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[1:4])]
)
@pytest.mark.parametrize("name", NOISES)
def test_a_noise_far_above_its_prior_is_found(name, size):
    prior, reference = NOISES[name]
    found = bj.linearize(regression(size, prior), backend="interpreted")["linearization"]
    assert found.attrs["converged"] == 1
    # The search ends at 1e-9 nats: the curvature in log sd is 40 at most.
    assert float(found["m_sd"]) == pytest.approx(best_sd(size, reference), rel=2e-5)


@pytest.fixture(scope="module")
def compiled_regression():
    return regression(82.0, NOISES["half-normal"][0])


@pytest.mark.parametrize("size", SIZES)
def test_both_backends_find_it_alike(compiled_regression, size):
    problem = compiled_regression.with_data(xr.Dataset({"m": data(size * SIGNS)}))
    found = [bj.linearize(problem, backend=b)["linearization"] for b in ("numba", "interpreted")]
    assert [ds.attrs["converged"] for ds in found] == [1, 1]
    assert float(found[0]["m_sd"]) == pytest.approx(float(found[1]["m_sd"]), rel=1e-8)


def test_sampled_noise_agrees_with_quadrature(compiled_regression):
    size, ss = 182.0, 20 * 182.0**2
    problem = compiled_regression.with_data(xr.Dataset({"m": data(size * SIGNS)}))
    tree = bj.sample(problem, draws=1000, tune=400, chains=2, random_seed=3)

    def density(sd, power=0):  # the slope integrated out; the largest value is near sd = 86
        log = -20 * np.log(sd / 86) - ss / 2 * (sd**-2 - 86**-2) - (sd**2 - 86**2) / 200
        return sd**power * np.exp(log) / np.sqrt(1 + 20 / sd**2)

    total, first = (integrate.quad(density, 50, 150, args=(k,))[0] for k in (0, 1))
    draws = tree["posterior"]["m_sd"]
    error = 4 * float(draws.std()) / np.sqrt(500)
    assert float(draws.mean()) == pytest.approx(first / total, abs=error)


def test_a_point_with_an_infinite_curvature_shortens_the_step(monkeypatch):
    from bayesjoint._local import mode

    asked = []
    true = mode.curvature

    def curvature(functions, point):
        asked.append(point)
        if len(asked) == 2:  # the first step leads where nothing is known
            raise mode.NotFinite
        return true(functions, point)

    monkeypatch.setattr(mode, "curvature", curvature)
    found = bj.linearize(regression(82.0, NOISES["log-normal"][0]))["linearization"]
    assert found.attrs["converged"] == 1
    assert np.linalg.norm(asked[2] - asked[0]) < np.linalg.norm(asked[1] - asked[0])


# ---- spectra beyond 1e10 ------------------------------------------------------------------------


def jacobi_singular_values(matrix):
    """Return singular values by one-sided Jacobi rotations in extended precision."""
    a = np.array(matrix, dtype=np.longdouble)
    for _ in range(30):
        for i in range(a.shape[1] - 1):
            for j in range(i + 1, a.shape[1]):
                alpha, beta, gamma = a[:, i] @ a[:, i], a[:, j] @ a[:, j], a[:, i] @ a[:, j]
                if abs(gamma) <= np.finfo(np.longdouble).eps * np.sqrt(alpha * beta):
                    continue
                zeta = (beta - alpha) / (2 * gamma)
                t = np.copysign(1, zeta) / (abs(zeta) + np.sqrt(1 + zeta**2))
                c = 1 / np.sqrt(1 + t**2)
                a[:, i], a[:, j] = c * (a[:, i] - t * a[:, j]), c * (t * a[:, i] + a[:, j])
    return np.sort(np.sqrt(np.sum(a**2, axis=0)))[::-1]


def shaw(n):
    """Return the kernel of Shaw's problem, as in Hansen's Regularization Tools."""
    angle = (np.arange(n) + 0.5) * np.pi / n - np.pi / 2
    u = np.pi * (np.sin(angle)[:, None] + np.sin(angle))
    return np.pi / n * ((np.cos(angle)[:, None] + np.cos(angle)) * np.sinc(u / np.pi)) ** 2


@pytest.fixture(scope="module")
def shaw_tree():
    light = bj.Parameter("light", bj.Prior(pm.Normal, mu=0, sigma=5.0), coords={"angle": range(20)})
    noise = bj.GaussianNoise(sd=1e-6)
    seen = bj.Modality("m", data(np.ones(20)), bj.linear_map(shaw(20), "light"), noise)
    return bj.linearize(bj.JointProblem(latents=[light], modalities=[seen]))


def test_the_spectrum_of_shaws_problem_keeps_its_digits(shaw_tree):
    ds = shaw_tree["linearization"]
    exact = (jacobi_singular_values(shaw(20)) * 5e6) ** 2
    error = np.abs(ds["eigenvalues"].values - exact) / (1 + exact)
    assert np.all(error <= 4 * ds.attrs["spectrum_error"])
    assert ds.attrs["spectrum_error"] < 2e-8
    assert float(ds["eigenvalues"][12]) == pytest.approx(1.7273, abs=5e-5)
    dofs = float(bj.resolution(shaw_tree)["dofs"])
    assert dofs == pytest.approx(float(np.sum(exact / (1 + exact))), abs=1e-7)
    assert dofs == pytest.approx(12.6250, abs=5e-5)


def fractions(array):
    return [[Fraction(float(x)) for x in row] for row in np.atleast_2d(array)]


def exact_variances(factor, jacobian, noise):
    """Return diag of ``L (I + A^T A)^-1 L^T``, ``A = J L / noise``, in rational numbers."""
    rows, scale = fractions(jacobian), fractions(factor)
    seen = [
        [sum(j * scale[c][k] for c, j in enumerate(row)) / Fraction(float(sd)) for k in range(n)]
        for row, sd, n in ((row, sd, len(scale[0])) for row, sd in zip(rows, noise, strict=True))
    ]
    inverse = exact_inverse(seen, len(scale[0]))
    found = [
        sum(a * b * inverse[i][k] for i, a in enumerate(row) for k, b in enumerate(row))
        for row in scale
    ]
    return np.array([float(x) for x in found])


def exact_inverse(rows, n):
    """Return ``(I + A^T A)^-1`` in rational numbers, by Gauss and Jordan."""
    left = [
        [Fraction(i == k) + sum(row[i] * row[k] for row in rows) for k in range(n)]
        + [Fraction(i == k) for k in range(n)]
        for i in range(n)
    ]
    for k in range(n):
        pivot = left[k][k]
        left[k] = [x / pivot for x in left[k]]
        for i in range(n):
            if i != k and left[i][k]:
                times = left[i][k]
                left[i] = [x - times * y for x, y in zip(left[i], left[k], strict=True)]
    return [row[n:] for row in left]


def test_cell_sds_and_resolution_of_shaws_problem(shaw_tree):
    ds = shaw_tree["linearization"].to_dataset()
    exact = exact_variances(5.0 * np.eye(20), shaw(20), np.full(20, 1e-6))
    np.testing.assert_allclose(ds["posterior_sd"] ** 2, exact, rtol=1e-6)
    resolution = bj.resolution(shaw_tree)["light"]
    np.testing.assert_allclose(resolution, 1.0 - exact / 25.0, atol=1e-7)
    leaked = float(bj.leakage(shaw_tree).sum("source").max())
    assert leaked == pytest.approx(1.0, abs=1e-9)


# ---- posterior sds far below prior sds ----------------------------------------------------------

SCALES = (1e-30, 1e-12, 1.0, 1e12, 1e30)


def sds_everywhere(tree, name):
    """Return the sd of a scalar as each report gives it."""
    return {
        "stored": float(tree["linearization"]["posterior_sd"][0]),
        "summary": float(bj.summary(tree)["sd"].sel(parameter=name)),
        "data_worth": float(bj.data_worth(tree, name)["sd"]),
    }


@pytest.mark.parametrize("unit", SCALES)
@pytest.mark.parametrize(
    "noise", [1e-30, 1e-5, *(pytest.param(noise, marks=pytest.mark.slow) for noise in (1.0, 1e5))]
)
def test_a_sharply_seen_number_has_the_sd_of_its_noise(unit, noise):
    """``Normal(0, 1e3)`` seen with noise 1e-5 has sd 1e-5, in whatever unit."""
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1e3 * unit))
    sds = bj.GaussianNoise(sd=noise * unit)
    seen = bj.Modality("m", data([2.0 * unit]), bj.linear_map(np.eye(1), "level"), sds)
    tree = bj.linearize(bj.JointProblem(latents=[level], modalities=[seen]))
    expected = unit / np.sqrt(1e-6 + noise**-2)
    for report, sd in sds_everywhere(tree, "level").items():
        assert sd == pytest.approx(expected, rel=1e-8), report
    worth = bj.data_worth(tree, "level", candidates={"level": xr.DataArray([1.0], dims="c")},
                          candidate_sd=noise * unit)  # fmt: skip
    more = unit / np.sqrt(1e-6 + 2 * noise**-2)
    np.testing.assert_allclose(worth["sd_without_datum"], 1e3 * unit, rtol=1e-8)
    np.testing.assert_allclose(worth["sd_without_modality"], 1e3 * unit, rtol=1e-8)
    np.testing.assert_allclose(worth["sd_with_candidate"], more, rtol=1e-8)


@pytest.mark.parametrize("sharp", [1e-3, 1e-9, 1e-15, 1e-30])
def test_a_field_of_which_a_part_is_seen_sharply(sharp):
    grid = bj.Grid(x=np.arange(12.0))
    field = bj.GaussianField("f", grid, sd=3.0, length_scale=2.0)
    gain = bj.Parameter("gain", bj.Prior(pm.Normal, mu=0.0, sigma=40.0))
    of_field, of_gain = np.zeros((5, 12)), np.array([0.0, 1.0, 0.5, 0.0, 1.0])[:, None]
    of_field[[0, 1, 2, 3], [2, 2, 5, 9]] = [1.0, 0.3, 1.0, 1.0]
    noise = np.array([sharp, 0.1, 1e-4, 0.5, 2.0])
    seen = bj.Modality(
        "m", data(np.ones(5)), bj.linear_map({"f": of_field, "gain": of_gain}),
        bj.GaussianNoise(sd=noise),
    )  # fmt: skip
    tree = bj.linearize(bj.JointProblem(latents=[field, gain], modalities=[seen]))
    factor = block_diag(field_factor(field), [[40.0]])
    exact = exact_variances(factor, np.hstack([of_field, of_gain]), noise)
    found = tree["linearization"]["posterior_sd"].values
    # A cell is a sum over the whole white variable, each term of it rounded.
    rounding = 2 * np.finfo(float).eps * 3.0
    np.testing.assert_allclose(found, np.sqrt(exact), rtol=1e-8, atol=rounding)
    assert float(bj.data_worth(tree, "gain")["sd"]) == pytest.approx(np.sqrt(exact[-1]), rel=1e-8)


def test_a_sharply_seen_number_beside_a_large_field(monkeypatch):
    """Where not all pairs are kept the rest of the prior is found by projection."""
    from bayesjoint._local import curvature

    grid = bj.Grid(x=np.arange(12.0))
    field = bj.GaussianField("f", grid, sd=3.0, length_scale=2.0)
    level = bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1e3))
    maps = {"f": np.eye(12)[:3], "level": np.array([[0.0], [1.0], [1.0]])}
    noise = np.array([0.2, 1e-4, 3e-4])
    seen = bj.Modality("m", data(np.ones(3)), bj.linear_map(maps), bj.GaussianNoise(sd=noise))
    problem = bj.JointProblem(latents=[field, level], modalities=[seen])
    monkeypatch.setattr(curvature, "DENSE_LIMIT", 5)
    tree = bj.linearize(problem)
    assert tree["linearization"].attrs["method"] == "rows of the data"
    factor = block_diag(field_factor(field), [[1e3]])
    exact = exact_variances(factor, np.hstack([maps["f"], maps["level"]]), noise)
    found = tree["linearization"]["posterior_sd"].values
    np.testing.assert_allclose(found, np.sqrt(exact), rtol=1e-8)


# ---- numbers under priors that are no Gaussians --------------------------------------------------


def seen_twice(prior, sd=50.0):
    depth = bj.Parameter("depth", prior, units="m")
    noise = bj.GaussianNoise(sd=sd)
    seen = bj.Modality("m", data([20.0, 21.0]), bj.linear_map(np.ones((2, 1)), "depth"), noise)
    return bj.JointProblem(latents=[depth], modalities=[seen])


def exact_moments(reference, sd):
    """Return mean, sd and both ends of 90 % by quadrature over the prior's own quantiles."""
    z = np.linspace(-9, 9, 400_001)
    m = np.where(z < 0, reference.ppf(stats.norm.cdf(z)), reference.isf(stats.norm.sf(z)))
    weight = np.exp(-0.5 * z**2 - (m - 20.5) ** 2 / sd**2)
    weight /= weight.sum()
    mean = weight @ m
    lower, upper = np.interp([0.05, 0.95], np.cumsum(weight), m)
    return {
        "mean": mean, "sd": np.sqrt(weight @ (m - mean) ** 2), "eti_lower": lower,
        "eti_upper": upper,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prior", "reference", "sd"),
    [
        (bj.Prior(pm.Uniform, lower=0.0, upper=1000.0), stats.uniform(0, 1000), 50.0),
        (bj.Prior(pm.Uniform, lower=0.0, upper=1000.0), stats.uniform(0, 1000), 1.0),
        (bj.Prior(pm.LogNormal, mu=3.0, sigma=1.0), stats.lognorm(1.0, scale=np.e**3), 20.0),
        (bj.Prior(pm.Gamma, alpha=2.0, beta=0.1), stats.gamma(2.0, scale=10.0), 30.0),
        (bj.Prior(pm.HalfCauchy, beta=5.0), stats.halfcauchy(scale=5.0), 10.0),
    ],
)
def test_linearised_intervals_stay_inside_the_prior(prior, reference, sd):
    tree = bj.linearize(seen_twice(prior, sd))
    table, exact = bj.summary(tree), exact_moments(reference, sd)
    for name, expected in exact.items():
        assert float(table[name][0]) == pytest.approx(expected, rel=2e-4), name
    assert table.attrs["local"] == 1
    report, words = bj.identifiability(tree), bj.balance(tree).attrs["words"][-1]
    if np.isinf(reference.std()):
        assert words.endswith("(near the point: its prior has no sd).")
        assert float(report["contraction"][0]) == float(report["contraction_linearised"][0])
    else:
        left = (exact["sd"] / reference.std()) ** 2
        assert 1.0 - float(report["contraction"][0]) == pytest.approx(left, rel=4e-4)
        assert float(report["weak_variance"][0]) == pytest.approx(left, rel=4e-4)
        assert "its prior has no sd" not in words


def test_the_reproduction_of_a_uniform_prior():
    tree = bj.linearize(seen_twice(bj.Prior(pm.Uniform, lower=0.0, upper=1000.0)))
    table = bj.summary(tree).isel(parameter=0)
    assert [round(float(table[k]), 1) for k in ("mean", "sd", "eti_lower", "eti_upper")] == [
        37.1, 25.2, 3.7, 84.1,
    ]  # fmt: skip
    balance = bj.balance(tree)
    assert float(balance["scale"][0]) == pytest.approx(1000 / np.sqrt(12), rel=1e-9)
    assert "prior sd: depth 289 m" in " ".join(balance.attrs["words"])
    assert "both linearised near the best fit" in bj.data_worth(tree, "depth").attrs["words"][0]


def test_maps_that_are_not_linear_go_through_the_quantile_function():
    depth = bj.Parameter("depth", bj.Prior(pm.Beta, alpha=2.0, beta=2.0))
    seen = bj.Modality(
        "m", data([0.05]), bj.pytensor_map(lambda d: (d**2).reshape((1,)), ["depth"]),
        bj.GaussianNoise(sd=0.1),
    )  # fmt: skip
    tree = bj.linearize(bj.JointProblem(latents=[depth], modalities=[seen]), starts=1)
    ds, table = tree["linearization"], bj.summary(tree).isel(parameter=0)
    prior, z = stats.beta(2, 2), float(ds["white_point"][0])
    slope = stats.norm.pdf(z) / prior.pdf(float(ds["depth"]))
    spread = float(ds["posterior_sd"][0]) / slope
    ends = prior.ppf(stats.norm.cdf(z + spread * stats.norm.ppf([0.05, 0.95])))
    np.testing.assert_allclose([table["eti_lower"], table["eti_upper"]], ends, rtol=1e-7)
    assert 0 < table["eti_lower"] < table["mean"] < table["eti_upper"] < 1


def test_a_vector_is_mapped_element_by_element():
    prior = bj.Prior(pm.Uniform, lower=[0.0, 10.0], upper=[1.0, 1000.0])
    levels = bj.Parameter("levels", prior, coords={"c": ["a", "b"]})
    seen = bj.Modality(
        "m", data([0.05, 20.5]), bj.linear_map(np.eye(2), "levels"),
        bj.GaussianNoise(sd=np.array([0.1, 50.0 / np.sqrt(2)])),
    )  # fmt: skip
    tree = bj.linearize(bj.JointProblem(latents=[levels], modalities=[seen]))
    expected = [
        stats.truncnorm((a - m) / s, (b - m) / s, m, s)
        for a, b, m, s in ((0, 1, 0.05, 0.1), (10, 1000, 20.5, 50 / np.sqrt(2)))
    ]
    table = bj.summary(tree)
    # The trapezoidal rule with steps of 0.01 sd has an error of 8e-6.
    np.testing.assert_allclose(table["mean"], [e.mean() for e in expected], rtol=2e-5)
    np.testing.assert_allclose(table["sd"], [e.std() for e in expected], rtol=2e-5)
    true = np.array([1.0, 990.0]) / np.sqrt(12)
    np.testing.assert_allclose(tree["linearization"]["true_prior_sd"], true, rtol=1e-12)


# ---- contraction against the prior itself ------------------------------------------------------


@pytest.mark.slow
def test_prior_sds_are_known_where_no_coupling_changes_them():
    grid = bj.Grid(x=np.arange(4.0))
    sd, mean = bj.Prior(pm.HalfNormal, sigma=2.0), bj.Prior(pm.Normal, mu=1.0, sigma=3.0)
    field = bj.GaussianField("f", grid, sd=sd, mean=mean, length_scale=1.0)
    gain = bj.Parameter("gain", bj.Prior(pm.LogNormal, mu=0.0, sigma=0.5))
    seen = bj.Modality(
        "m", data([1.0]), bj.linear_map({"f": np.ones((1, 4)), "gain": np.ones((1, 1))}),
        bj.GaussianNoise(sd=1.0),
    )  # fmt: skip
    ds = bj.linearize(bj.JointProblem(latents=[field, gain], modalities=[seen]))["linearization"]
    found = ds["true_prior_sd"].groupby("latent_of_cell").first()
    assert float(found.sel(latent_of_cell="f")) == pytest.approx(np.sqrt(4.0 + 9.0), rel=1e-9)
    log_normal = np.sqrt(np.expm1(0.25) * np.exp(0.25))
    assert float(found.sel(latent_of_cell="gain")) == pytest.approx(log_normal, rel=1e-9)
    half_normal = 2.0 * np.sqrt(1 - 2 / np.pi)
    assert float(found.sel(latent_of_cell="f_sd")) == pytest.approx(half_normal, rel=1e-9)


def draws_of(rng, sds, shape=(4, 500)):
    return {name: (("chain", "draw"), sd * rng.standard_normal(shape)) for name, sd in sds.items()}


def with_draws(noise, prior_draws, seed=1):
    """Return the tree of a number seen with a noise, and draws of its exact posterior."""
    level = bj.Parameter("level", STANDARD)
    seen = bj.Modality(
        "m", data([0.0]), bj.linear_map(np.eye(1), "level"), bj.GaussianNoise(sd=noise)
    )
    tree = bj.linearize(bj.JointProblem(latents=[level], modalities=[seen]))
    rng = np.random.default_rng(seed)
    left = 1.0 / np.sqrt(1.0 + noise**-2)
    tree["posterior"] = xr.DataTree(xr.Dataset(draws_of(rng, {"level": left})))
    tree["prior"] = xr.DataTree(xr.Dataset(draws_of(rng, {"level": 1.0}, (1, prior_draws))))
    return tree, 1.0 - left**2


def test_contraction_is_that_from_the_known_prior():
    """Exact 0.001: with 500 prior draws of seed 1 their own variance would add an error of 0.06."""
    tree, expected = with_draws(np.sqrt(999.0), 500)
    report = bj.identifiability(tree)
    error = float(report["contraction_error"][0])
    assert error == pytest.approx(np.sqrt(2 / 2000), rel=0.15)  # of 2,000 independent draws
    assert float(report["contraction"][0]) == pytest.approx(expected, abs=4 * error)
    fewer, _ = with_draws(np.sqrt(999.0), 50)  # the same posterior draws
    assert float(bj.identifiability(fewer)["contraction"][0]) == float(report["contraction"][0])


def test_the_error_counts_prior_draws_where_the_prior_is_not_known():
    tree, expected = with_draws(1.0, 500)
    ds = tree["linearization"].to_dataset()
    ds["true_prior_sd"] = ds["true_prior_sd"] * np.nan
    tree["linearization"] = xr.DataTree(ds)
    report = bj.identifiability(tree)
    error = float(report["contraction_error"][0])
    assert error == pytest.approx(0.5 * np.sqrt(2 / 2000 + 2 / 500), rel=0.2)
    assert float(report["contraction"][0]) == pytest.approx(expected, abs=4 * error)


def test_no_sentence_tells_a_contraction_below_its_error():
    from bayesjoint.page import words

    row = xr.Dataset({"contraction": 0.05, "contraction_error": 0.03, "mean": 1.0, "sd": 1.0,
                      "units": "", "parameter": "level"})  # fmt: skip
    assert words._weak(row, "hardly known")[1] == "no narrower than the prior"
    told = words._weak(row.assign(contraction=0.07), "hardly known")[1]
    assert told == "hardly known (7 % of its variance gone)"
