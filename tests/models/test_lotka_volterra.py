"""The populations against an independent integrator, their posterior against posteriordb."""

import json
import os
from pathlib import Path
from zipfile import ZipFile

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp
from scipy.stats import f

import bayesjoint as bj
from models import lotka_volterra as model

BESIDE = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("BAYESJOINT_DATA") or BESIDE) / "posteriordb"
DRAWS = "hudson_lynx_hare-lotka_volterra.json"
NAMES = {  # ours, and those of posteriordb
    "alpha": "theta[1]", "beta": "theta[2]", "gamma": "theta[3]", "delta": "theta[4]",
    "hare_start": "z_init[1]", "lynx_start": "z_init[2]",
    "hare_sd": "sigma[1]", "lynx_sd": "sigma[2]",
}  # fmt: skip


def integrated(alpha, beta, gamma, delta, *starts, years):
    def slopes(t, logs):
        hare, lynx = np.exp(logs)
        return [alpha - beta * lynx, delta * hare - gamma]

    at = np.arange(years + 1.0)
    found = solve_ivp(slopes, (0.0, years), np.log(starts), t_eval=at, rtol=1e-11, atol=1e-12)
    return found.y.ravel()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"alpha": 0.7, "beta": 0.04}, {"lynx_start": 20.0}])
def test_populations_against_an_adaptive_integrator(change):
    values = {**model.TRUTH, **change}.values()
    found = model.log_populations(*values, years=20).eval()
    np.testing.assert_allclose(found, integrated(*values, years=20), atol=1e-6)


def test_an_explosion_stays_finite():
    values = {**model.TRUTH, "alpha": 2.5, "lynx_start": 1e-3}.values()
    assert np.isfinite(model.log_populations(*values, years=20).eval()).all()


def test_data_are_read_plain_and_zipped(tmp_path):
    pelts = {"N": 2, "ts": [1, 2], "y_init": [30, 4], "y": [[47.2, 6.1], [70.2, 9.8]]}
    text = json.dumps(pelts)
    with ZipFile(tmp_path / f"{model.FILE}.zip", "w") as archive:
        archive.writestr(model.FILE, text)
    zipped = model.load(tmp_path)
    (tmp_path / model.FILE).write_text(text)
    assert model.load(tmp_path).equals(zipped)
    assert zipped["lynx"].values.tolist() == [4.0, 6.1, 9.8]
    assert zipped["year"].values.tolist() == [1900.0, 1901.0, 1902.0]


def test_what_is_missing_in_the_data_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"hudson_lynx_hare\.json is missing"):
        model.load(tmp_path)
    pelts = {"ts": [1, 3], "y_init": [30, 4], "y": [[47.2, 6.1], [70.2, 9.8]]}
    (tmp_path / model.FILE).write_text(json.dumps(pelts))
    with pytest.raises(ValueError, match="for every year"):
        model.load(tmp_path)


@pytest.mark.parametrize("option", [{"years": 0}, {"noise": 0.0}])
def test_settings_that_make_no_sense_raise(option):
    with pytest.raises(ValueError, match="must be positive"):
        model.problem(**option)


@pytest.mark.slow
def test_the_simulated_series_share_their_equations():
    made = model.problem(years=3)
    assert [m.name for m in made.modalities] == ["hare", "lynx"]
    assert made.modalities[0].forward is made.modalities[1].forward
    exact = integrated(*model.TRUTH.values(), years=3).reshape(2, -1)
    errors = [m.data.values - logs for m, logs in zip(made.modalities, exact, strict=True)]
    assert np.std(errors) == pytest.approx(0.25, rel=0.8)  # of eight


def reference():
    """Return the draws of posteriordb under our names; skip where they are not."""
    if not (DATA / "draws" / f"{DRAWS}.zip").exists():
        pytest.skip(f"{DATA} is missing: the reference draws of posteriordb")
    with ZipFile(DATA / "draws" / f"{DRAWS}.zip") as archive:
        chains = json.loads(archive.read(DRAWS))
    return xr.Dataset(
        {ours: (("chain", "draw"), [c[theirs] for c in chains]) for ours, theirs in NAMES.items()}
    )


def with_squares(draws, centre):
    """Return the draws and their squared distances from a point."""
    return draws.merge(((draws - centre) ** 2).rename({name: f"{name}_squared" for name in draws}))


def scores(ours, exact):
    """Return the differences of means in Monte Carlo errors of both."""
    means = [draws.mean(("chain", "draw")).to_array() for draws in (ours, exact)]
    errors = [az.mcse(draws, method="mean").to_array() for draws in (ours, exact)]
    return ((means[0] - means[1]) / np.hypot(*errors)).values


def batches(draws, length=100):
    """Return means of batches of draws, longer than they remember (batch, quantity)."""
    values = draws.to_array().transpose("chain", "draw", "variable").values
    return values.reshape(-1, length, values.shape[-1]).mean(1)


def hotelling(ours, exact):
    """Return the p-value of all means at once (Hotelling's T-squared, unequal covariances).

    With the smaller number of batches as degrees of freedom it errs on the quiet side.
    """
    pair = [batches(ours), batches(exact)]
    difference = pair[0].mean(0) - pair[1].mean(0)
    covariance = sum(np.cov(means.T) / len(means) for means in pair)
    squared = difference @ np.linalg.solve(covariance, difference)
    count, size = min(map(len, pair)), len(difference)
    return f.sf(squared * (count - size) / (size * (count - 1)), size, count - size)


@pytest.mark.slow
def test_posterior_is_that_of_posteriordb():
    """Means of 8 parameters and squares, each and jointly, sds within 5 % (4 x 5,000, seed 1)."""
    exact = reference()
    exact = with_squares(exact, exact.mean())
    tree = bj.sample(
        model.problem(DATA), draws=5_000, random_seed=1, progress=False, prior_draws=10
    )
    ours = with_squares(tree["posterior"].to_dataset()[list(NAMES)], exact[list(NAMES)].mean())
    assert tree["posterior"].attrs["verdict"] != "bad"  # one divergence in 20,000 makes it fair
    spread = [draws[list(NAMES)].std(("chain", "draw")).to_array() for draws in (ours, exact)]
    np.testing.assert_allclose(spread[0] / spread[1], 1.0, atol=0.05)
    assert np.abs(scores(ours, exact)).max() < 4.5
    assert hotelling(ours, exact) > 1e-4
