"""Nothing drawn is lost: runs that are stopped in any way are read and resumed."""

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import bayesjoint as bj
from bayesjoint._sampler import nuts as _nuts
from bayesjoint._sampler import store as _store
from tests.test_linearization import two_sensors

SETTINGS = {"chains": 2, "tune": 100, "random_seed": 3, "progress": False, "prior_draws": 10,
            "backend": "interpreted", "checkpoint": 10}  # fmt: skip
PROBLEM = (1.0, 2.0, 0.5, 0.8, 0.1, 0.2, 0.5)
CHILD = f"""
import bayesjoint as bj
from tests.test_linearization import two_sensors
import sys
bj.sample(two_sensors(*{PROBLEM}), draws=int(sys.argv[2]), store=sys.argv[1], resume=True,
          **{SETTINGS})
"""


@pytest.fixture(scope="module")
def problem():
    return two_sensors(*PROBLEM)


@pytest.fixture(scope="module")
def whole(problem, tmp_path_factory):
    """A run of 60 draws that nothing stopped."""
    store = tmp_path_factory.mktemp("store") / "whole.zarr"
    return bj.sample(problem, draws=60, store=store, **SETTINGS), store


def lengths(tree):
    """Return how many draws of each chain the groups that grow hold, thinned ones checked."""
    grown = [tree[g] for g in tree.children if not g.startswith("prior")]
    grown = [(g.sizes["draw"], g.attrs.get("thinned", 1)) for g in grown if "draw" in g.sizes]
    found = {draws for draws, step in grown if step == 1}
    assert all(kept == -(-max(found) // step) for kept, step in grown)
    return found


def test_a_store_holds_what_is_returned_and_nothing_of_the_sampler(whole):
    tree, store = whole
    again = bj.open_store(store)
    assert set(again.children) == set(tree.children)
    assert not {"sampler", "checkpoints"} & set(tree.children)
    for name in tree.children:
        xr.testing.assert_identical(again[name].to_dataset(), tree[name].to_dataset())
    assert again["posterior"]["draw"].values.tolist() == list(range(60))


@pytest.mark.parametrize("stop", [30, 33])
def test_a_resumed_run_goes_on(problem, whole, tmp_path, stop):
    """To the very draws of an uninterrupted run where it stopped at a checkpoint."""
    store = tmp_path / "run.zarr"
    first = bj.sample(problem, draws=stop, store=store, **SETTINGS)
    tree = bj.sample(problem, draws=60, store=store, resume=True, **SETTINGS)
    assert lengths(tree) == {60}
    found, exact = (t["posterior"]["theta"].values for t in (tree, whole[0]))
    np.testing.assert_array_equal(found[:, :stop], first["posterior"]["theta"].values)
    if stop == 30:
        np.testing.assert_array_equal(found, exact)
    steps = tree["sample_stats"]["step_size_bar"]
    assert (steps.max("draw") == steps.min("draw")).all()  # the step it had learnt


def test_resume_without_a_run_starts_one(problem, tmp_path):
    tree = bj.sample(problem, draws=10, store=tmp_path / "new.zarr", resume=True, **SETTINGS)
    assert lengths(tree) == {10}


def interrupted_in(part, monkeypatch):
    """Let the draws of one checkpoint be cut short by the user."""
    real, calls = _nuts._wait, []

    def wait(running, peek):
        trees, complete = real(running, peek)
        calls.append(1)
        if len(calls) < part + 2:  # the first is the warm-up
            return trees, complete
        return [tree.isel(draw=slice(0, 7 - i)) for i, tree in enumerate(trees)], False

    monkeypatch.setattr(_nuts, "_wait", wait)


@pytest.mark.parametrize("stored", [True, False])
def test_an_interrupt_keeps_the_draws(problem, tmp_path, monkeypatch, stored):
    store = tmp_path / "run.zarr" if stored else None
    with monkeypatch.context() as patch:
        interrupted_in(2 if stored else 0, patch)
        with pytest.warns(UserWarning, match="interrupted: .* of 50 draws"):
            tree = bj.sample(problem, draws=50, store=store, **SETTINGS)
    made = 26 if stored else 6  # the shorter of both chains
    assert lengths(tree) == {made} and np.isfinite(tree["posterior"]["theta"]).all()
    if stored:
        assert lengths(bj.sample(problem, draws=50, store=store, resume=True, **SETTINGS)) == {50}


@pytest.mark.parametrize("group", ["posterior", "log_prior", "checkpoints"])
def test_a_full_disk_loses_nothing_that_was_recorded(problem, tmp_path, monkeypatch, group):
    store, real, written = tmp_path / "run.zarr", _store._append, []

    def append(path, name, *rest):
        written.append(name)
        if name == group and written.count(name) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(_store, "_append", append)
        with pytest.raises(OSError, match="disk is full; the 20 draws a chain .* are safe"):
            bj.sample(problem, draws=50, store=store, **SETTINGS)
    assert lengths(bj.open_store(store)) == {20}
    tree = bj.sample(problem, draws=50, store=store, resume=True, **SETTINGS)
    assert lengths(tree) == {50}


@pytest.mark.parametrize("written", [("drawn",), ("drawn", "point", "sampling_time")])
def test_a_record_cut_short_is_no_checkpoint(problem, whole, tmp_path, written):
    """Arrays of the record have grown, their values were not written when the run was killed."""
    store = tmp_path / "run.zarr"
    bj.sample(problem, draws=30, store=store, **SETTINGS)
    for name in written:
        array = zarr.open_array(store, path=f"checkpoints/{name}", mode="r+")
        array.resize((array.shape[0] + 1, *array.shape[1:]))
    tree = bj.sample(problem, draws=60, store=store, resume=True, **SETTINGS)
    np.testing.assert_array_equal(tree["posterior"]["theta"], whole[0]["posterior"]["theta"])


def test_a_resumed_run_has_its_own_number_of_chains(problem, tmp_path, capsys):
    store = tmp_path / "run.zarr"
    bj.sample(problem, draws=20, store=store, **SETTINGS)
    settings = {**SETTINGS, "chains": 4, "progress": True}
    tree = bj.sample(problem, draws=40, store=store, resume=True, **settings)
    assert tree["posterior"].sizes["chain"] == 2 and lengths(tree) == {40}
    assert "of 2 chains" in capsys.readouterr().out


def test_an_unfinished_run_is_not_overwritten_and_a_finished_one_is(problem, tmp_path, monkeypatch):
    store = tmp_path / "run.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(_store.ZarrOutput, "note", lambda self, attrs: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            bj.sample(problem, draws=20, store=store, **SETTINGS)
    with pytest.raises(ValueError, match="unfinished run, 20 draws of each chain; go on with"):
        bj.sample(problem, draws=20, store=store, **SETTINGS)
    bj.sample(problem, draws=20, store=store, resume=True, **SETTINGS)
    assert lengths(bj.sample(problem, draws=10, store=store, **SETTINGS)) == {10}


def test_other_things_are_not_taken_for_a_run(problem, whole, tmp_path):
    other = two_sensors(*PROBLEM[:-1], 0.4)
    with pytest.raises(ValueError, match="holds a run of another problem"):
        bj.sample(other, draws=70, store=whole[1], resume=True, **SETTINGS)
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ValueError, match="exists and is no zarr store"):
        bj.sample(problem, draws=10, store=tmp_path, **SETTINGS)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(FileNotFoundError, match="there is no run in it"):
        bj.open_store(tmp_path)


def killed_at_random(store: Path, draws: int, rng, count: int) -> int:
    """Kill a run at random moments, resume it each time; return how often it was killed."""
    root, kills, held = Path(__file__).parents[1], 0, 0
    while kills < count:
        child = subprocess.Popen([sys.executable, "-c", CHILD, store, str(draws)], cwd=root)
        while child.poll() is None and _store.recorded(store) <= held:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        tree = bj.open_store(store)
        assert lengths(tree) == {_store.recorded(store)} and _store.recorded(store) >= held
        assert np.isfinite(tree["posterior"]["theta"]).all()
        held, kills = _store.recorded(store), kills + 1
        if held >= draws:
            break
    return kills


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_nine_loses_no_checkpoint(problem, whole, tmp_path, count):
    """The resumed run has the very draws of one that was not killed (seed 4 of the moments)."""
    store, draws = tmp_path / "run.zarr", 60 if count == 1 else 1500
    killed_at_random(store, draws, np.random.default_rng(4), count)
    tree = bj.sample(problem, draws=draws, store=store, resume=True, **SETTINGS)
    assert lengths(tree) == {draws}
    if count == 1:
        exact = whole[0]
    else:
        exact = bj.sample(problem, draws=draws, store=tmp_path / "whole.zarr", **SETTINGS)
    for name in ("posterior", "posterior_predictive", "log_likelihood_joint"):
        xr.testing.assert_equal(tree[name].to_dataset(), exact[name].to_dataset())
