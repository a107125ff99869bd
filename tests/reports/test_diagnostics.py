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
        ({"draws": 75}, "fair", "effective draws: . times as many"),
        ({"walk": True}, "bad", "The chains differ"),
        ({"diverging": many(0.01)}, "fair", "20 divergences.*target_accept"),
        ({"energy_walk": True}, "fair", "energy moves slowly.*narrower prior"),
        ({"maxdepth_reached": many(0.1)}, "good", "10% of the trees reached full depth"),
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


def test_without_draws_it_says_so():
    with pytest.raises(ValueError, match="no group 'posterior'"):
        diagnose(xr.DataTree())


def test_a_single_chain_is_not_said_to_agree():
    dt = tree()
    one = {name: node.to_dataset().isel(chain=[0]) for name, node in dt.children.items()}
    report = diagnose(xr.DataTree.from_dict(one))
    assert np.isnan(report["r_hat"]) and report.attrs["worst"] == ""
    assert "nan" not in report.attrs["text"] and "agree" not in report.attrs["text"]
