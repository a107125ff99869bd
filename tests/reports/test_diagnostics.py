"""Planted faults are found, named and given a cure; sound chains are left in peace."""

import re

import numpy as np
import pytest
import xarray as xr

from bayesjoint.reports import diagnose


def tree(draws=500, shift=0.0, walk=False, energy_walk=False, **stats):
    """Return four chains of a scalar and a small field (seed 0), one of them shifted."""
    rng = np.random.default_rng(0)
    level = rng.standard_normal((4, draws))
    if walk:
        level = np.cumsum(level, axis=1) / 10
    level[0] += shift
    energy = rng.standard_normal((4, draws))
    if energy_walk:
        energy = np.cumsum(energy, axis=1)
    sample_stats = {
        "diverging": np.zeros((4, draws), bool), "maxdepth_reached": np.zeros((4, draws), bool),
        "n_steps": np.full((4, draws), 7), "energy": energy, **stats,
    }  # fmt: skip
    dims = ("chain", "draw")
    posterior = xr.Dataset(
        {"level": (dims, level), "field": ((*dims, "x"), rng.standard_normal((4, draws, 500)))}
    )
    stats_of = xr.Dataset({name: (dims, values) for name, values in sample_stats.items()})
    groups = {"posterior": posterior, "sample_stats": stats_of}
    return xr.DataTree.from_dict(groups)


def test_sound_chains_are_good():
    report = diagnose(tree())
    assert report.attrs["verdict"] == "good"
    assert report.attrs["text"].endswith("The chains agree.")
    assert report["ess_bulk"] > 1000 and report["steps_per_draw"] == 7
    expected = 7 * 2000 / report["ess_bulk"].item()
    assert report["gradients_per_effective_draw"].item() == pytest.approx(expected)


def many(share):
    wrong = np.zeros((4, 500), bool)
    wrong[:, : int(500 * share)] = True
    return wrong


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        ({"shift": 3.0}, "bad", "The chains differ .* of level.: draw longer"),
        ({"shift": 3.0}, "bad", "stay apart .chain 0 from chains 1, 2 and 3."),
        ({"draws": 75}, "fair", "effective draws: . times as many"),
        ({"walk": True}, "bad", "The chains differ"),
        ({"diverging": many(0.01)}, "fair", "20 divergences.*target_accept"),
        ({"energy_walk": True}, "fair", "energy moves slowly.*narrower prior"),
        ({"maxdepth_reached": many(0.1)}, "good", "10 % of the trees reached full depth"),
        ({"n_steps": np.full((4, 500), 1023)}, "good", "far from Gaussian"),
    ],
)
def test_a_planted_fault_is_named_with_its_cure(fault, verdict, words):
    report = diagnose(tree(**fault))
    assert report.attrs["verdict"] == verdict
    assert re.search(words, report.attrs["text"]), report.attrs["text"]


def test_another_maximum_is_told():
    dt = tree()
    dt["linearization"] = xr.Dataset(
        {"log_posterior": -10.0},
        attrs={"lower_modes": [-12.5], "latents": ["level", "field"], "hyperparameters": []},
    )
    assert "another maximum, 2.5 nats lower" in diagnose(dt).attrs["text"]


def with_modes(dt, started, weights):
    dt["posterior"].attrs |= {"mode_of_chain": started, "mode_weights": weights}
    return diagnose(dt).attrs


def test_chains_that_stay_at_their_modes_are_named():
    attrs = with_modes(tree(shift=9.0), [1, 0, 0, 0], [0.8, 0.2])
    assert attrs["verdict"] == "bad"
    assert "chain 0 stays at one and chains 1, 2 and 3 at another" in attrs["text"]
    assert "hold 0.2 and 0.8 of the posterior" in attrs["text"]
    assert "effective draws" not in attrs["text"]  # more draws would not help


def test_a_chain_that_left_its_mode_says_nothing_of_weights():
    text = with_modes(tree(shift=9.0), [1, 1, 0, 0], [0.8, 0.2])["text"]
    assert "do not move between them" in text and "Laplace" not in text


def test_chains_that_left_their_modes_agree():
    attrs = with_modes(tree(), [0, 0, 0, 1], [0.8, 0.2])
    assert attrs["verdict"] == "good"
    assert "several modes; chains started at each" in attrs["text"]


def test_a_mode_without_a_chain_is_not_good():
    attrs = with_modes(tree(), [0, 0, 0, 0], [0.8, 0.2])
    assert attrs["verdict"] == "fair"
    assert "hold about 0.2 of the posterior" in attrs["text"]


def test_draws_are_right_where_they_are_dear_and_nothing_is_wrong():
    steps = np.full((4, 500), 1023)
    assert "The draws are right" in diagnose(tree(n_steps=steps)).attrs["text"]
    text = diagnose(tree(n_steps=steps, diverging=many(0.01))).attrs["text"]
    assert "far from Gaussian" in text and "The draws are right" not in text


def test_without_draws_it_says_so():
    with pytest.raises(ValueError, match="no group 'posterior'"):
        diagnose(xr.DataTree())


def test_a_single_chain_is_not_said_to_agree():
    dt = tree()
    one = {name: node.to_dataset().isel(chain=[0]) for name, node in dt.children.items()}
    report = diagnose(xr.DataTree.from_dict(one))
    assert np.isnan(report["r_hat"]) and report.attrs["worst"] == ""
    assert "nan" not in report.attrs["text"] and "agree" not in report.attrs["text"]
