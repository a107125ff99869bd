"""Other data of one problem: graphs are compiled once, results are those of a new problem."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gauges
import numpy as np
import pytensor
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.density import CompiledDensity
from bayesjoint._compiled.functions import ModelFunctions, compiled

SETTINGS = {"draws": 50, "tune": 100, "chains": 2, "random_seed": 3, "progress": False,
            "cores": 1, "prior_draws": 20}  # fmt: skip


def other_data(problem):
    moved = {n: m.data + (1.0 if n == "counts" else 0.7) for n, m in problem.modality.items()}
    return problem.with_data(xr.Dataset(moved))


def compilations(monkeypatch):
    """A list that takes the name of the first input of what is compiled from now on."""
    names, function = [], pytensor.function

    def noted(inputs, *more, **settings):
        names.extend(variable.name for variable in inputs[:1])
        return function(inputs, *more, **settings)

    monkeypatch.setattr(pytensor, "function", noted)
    return names


@pytest.mark.slow
@pytest.mark.parametrize("form", ["latent", "marginal"])
@pytest.mark.parametrize("backend", ["interpreted", "numba"])
def test_other_data_are_sampled_as_a_new_problem_is(form, backend, monkeypatch):
    first = gauges.make(form)
    bj.sample(first, **SETTINGS, backend=backend)
    second = other_data(first)
    names = compilations(monkeypatch)
    again = bj.sample(second, **SETTINGS, backend=backend)
    assert not {"unknowns", "batch"} & set(names)  # of the model; those of checks remain
    names = compilations(monkeypatch)
    anew = bj.sample(replace(second), **SETTINGS, backend=backend)
    assert {"unknowns", "batch"} <= set(names)
    for group in ("posterior", "log_likelihood", "posterior_predictive", "prior", "observed_data",
                  "linearization", "predictive_cdf"):  # fmt: skip
        xr.testing.assert_identical(
            again[group].to_dataset().drop_attrs(), anew[group].to_dataset().drop_attrs()
        )


@pytest.mark.slow
def test_a_tempered_density_takes_other_data():
    first = gauges.make(power=0.5)
    second = other_data(first)
    with compiled(first) as functions:
        functions.once(CompiledDensity, "interpreted")
    with compiled(second) as again:
        assert again is functions
        anew, point = ModelFunctions(second), functions.initial + 0.1
        expected = anew.density(point)
        for density in (again.density, again.once(CompiledDensity, "interpreted")):
            for value, wanted in zip(density(point), expected, strict=True):
                np.testing.assert_array_equal(value, wanted)


def test_weights_are_one_again():
    problem = gauges.make()
    with compiled(problem) as functions:
        before = functions.density(functions.initial)[0]
        functions.likelihood_weight.set_value(0.0)
    with compiled(problem) as functions:
        assert functions.density(functions.initial)[0] == before


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["interpreted", "numba"])
def test_the_density_of_the_prior_leaves_that_of_the_posterior_alone(backend):
    functions = ModelFunctions(gauges.make())
    density, point = CompiledDensity(functions, backend), functions.initial + 0.1
    before, prior = density(point)[0], density.without_data()
    assert prior(point)[0] > before
    assert density(point)[0] == before
    assert functions.likelihood_weight.get_value() == 1.0


def test_problems_derived_alike_share_what_is_compiled():
    first = gauges.make()
    second = other_data(first)
    assert first.split().pool is second.split().pool
    assert first.without("old").pool is second.without("old").pool
    assert first.without("old").pool is not first.without("new").pool
    assert first.without_data().pool is not first.pool
    assert first.replace(discrepancy=None).pool is not first.pool


def test_functions_are_lent_to_one_user_and_lost_by_an_error():
    problem = gauges.make()
    with compiled(problem) as one, compiled(problem) as two:
        assert one is not two
    assert len(problem.pool.idle) == 2
    with pytest.raises(RuntimeError), compiled(problem):
        raise RuntimeError
    assert len(problem.pool.idle) == 1
    assert not pickle.loads(pickle.dumps(problem)).pool.idle


@pytest.mark.slow
def test_threads_do_not_mix_their_data():
    problem = gauges.make()
    bj.linearize(problem, at={"level": 0.0, "rate": 10.0, "old_scale": 1.0})
    sets = [problem.with_data(problem.modality["old"].data.to_dataset(name="old") + shift)
            for shift in np.arange(4.0)]  # fmt: skip

    def misfit(one):
        tree = bj.linearize(one, at={"level": 0.0, "rate": 10.0, "old_scale": 1.0})
        return tree["linearization/chi2"].values

    with ThreadPoolExecutor(4) as executor:
        together = list(executor.map(misfit, sets))
    np.testing.assert_array_equal(together, [misfit(one) for one in sets])
