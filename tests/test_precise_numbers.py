"""Numbers that rounding, overflow or a Gram matrix used to spoil, against closed forms."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import integrate, optimize, stats

import bayesjoint as bj
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


@pytest.mark.parametrize("size", SIZES[:4])
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
