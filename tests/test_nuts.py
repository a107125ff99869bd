"""Chains continue where they ended, with nutpie's metric held at what the warm-up had learnt."""

import time

import arviz as az
import numpy as np
import pytest
import xarray as xr
from nutpie import sample

from bayesjoint._compiled.coordinates import Coordinates
from bayesjoint._compiled.density import _Locked
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler.traces import read

SIZE = 6
STARTS = (np.ones(SIZE), np.array([0.1, 5.0, 1e-3, 3.0, 2.0, 1e-7]))
SD = np.array([0.1, 1.0, 3.0, 0.5, 20.0, 1.0])


class Normal:
    """An independent normal density, as the sampler sees a compiled one."""

    _failed = 0  # points at which a map fails

    def __init__(self, sd):
        self.sd, self.fatal = sd, []

    def __call__(self, point):
        return -0.5 * float(np.sum((point / self.sd) ** 2)), -point / self.sd**2

    at = _Locked.at


@pytest.fixture(scope="module")
def rotated():
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((SIZE, 2)))[0]
    return Coordinates.around(rng.standard_normal(SIZE), vectors, np.array([-0.9, 0.5]))


def test_coordinates_go_there_and_back(rotated):
    u = np.random.default_rng(1).standard_normal((3, SIZE))
    scaled = rotated.with_scale(np.arange(1.0, SIZE + 1))
    points = scaled.points(u)
    change = np.eye(SIZE) + (rotated.vectors * rotated.stretch) @ rotated.vectors.T
    exact = scaled.centre + change @ (scaled.scale * u[0])
    np.testing.assert_allclose(points[0], exact)
    np.testing.assert_allclose(scaled.from_point(points[1]), u[1])


def test_both_forms_of_the_factors_are_one_change():
    """A tall factor where few directions are informed, a square one where most are."""
    rng = np.random.default_rng(2)
    for rank in (2, 5):
        vectors = np.linalg.qr(rng.standard_normal((8, rank)))[0]
        coordinates = Coordinates.around(np.zeros(8), vectors, np.full(rank, -0.5))
        u = rng.standard_normal(8)
        np.testing.assert_allclose(
            coordinates.points(u[None])[0], u - 0.5 * vectors @ (vectors.T @ u)
        )
        np.testing.assert_allclose(coordinates.from_point(coordinates.points(u[None])[0]), u)


def test_rows_without_information_are_left_out():
    vectors = np.zeros((100, 1))
    vectors[:4, 0] = 0.5
    vectors[50] = 1e-5
    coordinates = Coordinates.around(np.zeros(100), vectors, np.array([-0.99]))
    support = coordinates.factors[0]
    assert set(support) == {0, 1, 2, 3}
    u = np.random.default_rng(3).standard_normal(100)
    np.testing.assert_allclose(coordinates.from_point(coordinates.points(u[None])[0]), u)


@pytest.mark.parametrize("start", STARTS)
def test_a_continued_chain_has_the_metric_that_it_is_given(start):
    density, scale = Normal(np.ones(SIZE)), np.array([1.0, 0.5, 2.0, 1.0, 0.1, 1.5])
    fixed = _nuts._with_metric(
        density, Coordinates.around(np.zeros(SIZE)), _nuts.Chain(start, 0.3, scale)
    )
    gradient = np.abs(fixed.scale * start)  # of u at the start, unit sd
    metric = fixed.scale * gradient**-0.5  # nutpie's: |g|^-1/2
    np.testing.assert_allclose(metric, scale, rtol=1e-12)


def test_nutpie_takes_its_first_metric_from_the_gradient():
    """The fact that `nuts._with_metric` rests on, read from nutpie itself."""
    start = STARTS[1]
    model = Normal(np.ones(SIZE)).at(Coordinates.around(np.zeros(SIZE)), start)
    tree = sample(
        model, draws=2, tune=1, chains=1, seed=1, progress_bar=False, save_warmup=True,
        step_size_adapt_method="0.3", store_mass_matrix=True,
    )  # fmt: skip
    metric = tree["warmup_sample_stats"]["mass_matrix_inv"].values[0]
    np.testing.assert_allclose(metric[0], np.abs(start) ** -0.5, rtol=1e-6)
    later = tree["sample_stats"]["mass_matrix_inv"].values
    assert np.isnan(later).all()  # no other metric follows


def test_momenta_do_not_depend_on_where_a_chain_is_cut():
    """Two starts, one seed: steps of depth one differ by the starts alone (seed 7)."""
    density, found = Normal(np.ones(SIZE)), []
    for start in STARTS:
        chain = _nuts.Chain(start, 0.3, np.ones(SIZE))
        fixed = _nuts._with_metric(density, Coordinates.around(np.zeros(SIZE)), chain)
        tree = sample(
            density.at(fixed, fixed.from_point(start)), draws=1, tune=1, chains=1, seed=7,
            progress_bar=False, save_warmup=True, step_size_adapt_method="0.3",
            step_size_jitter=0.0, maxdepth=1,
        )  # fmt: skip
        moved = tree["warmup_posterior"]["point"].values[0, 0]
        found.append((moved - (1 - 0.3**2 / 2) * start) / 0.3)
    assert np.abs(found[0]).max() > 0.1
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_run_in_parts_has_the_moments_of_the_density():
    """40 parts of 50 draws (seed 11): mean and sd in Monte Carlo errors, steps as learnt."""
    density, settings = Normal(SD), _nuts.Settings(0.8)
    coordinates = Coordinates.around(np.zeros(SIZE))
    rng = np.random.default_rng(11)
    warm = _nuts.warm_up(
        density, coordinates, rng.standard_normal((2, SIZE)), 400, [1, 2], settings
    )
    chains, parts = warm.chains, []
    np.testing.assert_allclose(chains[0].scale, SD, rtol=0.3)
    for _ in range(40):
        part = _nuts.advance(
            density, coordinates, chains, 50, rng.integers(2**31, size=2), settings
        )
        assert part.complete and np.array_equal(part.chains[0].point, part.points[0, -1])
        chains = part.chains
        parts.append(part.points)
    draws = xr.Dataset({"x": (("chain", "draw", "i"), np.concatenate(parts, axis=1))})
    of_mean = draws["x"].mean(("chain", "draw")) / az.mcse(draws, method="mean")["x"]
    sd = draws["x"].std(("chain", "draw"))
    of_sd = (sd - SD) / az.mcse(draws, method="sd")["x"]
    assert np.abs(of_mean).max() < 4.5 and np.abs(of_sd).max() < 4.5


class Slow(Normal):
    def __call__(self, point):
        time.sleep(0.3)
        return super().__call__(point)


def test_a_chain_without_draws_is_looked_at():
    """Beside one that has some: a look shows what all have, which is nothing yet."""
    shown, start = [], np.ones(SIZE)
    settings = {"chains": 1, "tune": 1, "draws": 5, "seed": 1, "progress_bar": False,
                "blocking": False, "return_raw_trace": True}  # fmt: skip
    coordinates = Coordinates.around(np.zeros(SIZE))
    quick = sample(Normal(np.ones(SIZE)).at(coordinates, start), **settings)
    done = read(quick.wait())
    slow = sample(Slow(np.ones(SIZE)).at(coordinates, start), **settings)
    try:
        _nuts._peek(shown.append, [done], [slow])
    finally:
        slow.cancel()
    assert done.draws.shape == (5, SIZE)
    assert [points.shape for points in shown] == [(2, 0, SIZE)]


def test_chains_one_after_the_other_are_not_looked_at(monkeypatch):
    """A look needs draws of all chains."""
    monkeypatch.setattr(_nuts, "POLL", 0.0)
    monkeypatch.setattr("bayesjoint._sampler.interrupts.LOOK", 0.05)
    coordinates, start, shown = Coordinates.around(np.zeros(SIZE)), np.ones(SIZE), []
    chains = [_nuts.Chain(start, 0.3, np.ones(SIZE)) for _ in range(2)]
    for cores in (1, 2):
        settings = _nuts.Settings(0.8, max_depth=1, cores=cores)
        part = _nuts.advance(
            Slow(np.ones(SIZE)), coordinates, chains, 2, [1, 2], settings, peek=shown.append
        )
        assert part.points.shape == (2, 2, SIZE)
        assert bool(shown) == (cores == 2)
    assert {points.shape[0] for points in shown} == {2}
