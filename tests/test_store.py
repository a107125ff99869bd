"""Nothing drawn is lost: runs that are stopped in any way are read and resumed."""

import errno
import json
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._sampler import interrupts as _interrupts
from bayesjoint._sampler import lock as _lock
from bayesjoint._sampler import marker as _marker
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


def whole_problem():
    return two_sensors(*PROBLEM)


@pytest.fixture(scope="module")
def problem():
    return whole_problem()


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


def test_a_run_has_the_same_draws_without_a_store(problem, whole):
    tree = bj.sample(problem, draws=60, **SETTINGS)
    for name in ("posterior", "sample_stats", "posterior_predictive", "log_likelihood"):
        xr.testing.assert_equal(tree[name].to_dataset(), whole[0][name].to_dataset())


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
        traces, complete = real(running, peek)
        calls.append(1)
        if len(calls) < part + 2:  # the first is the warm-up
            return traces, complete
        _interrupts.ask()
        return [
            replace(t, points=t.points[: t.tuning + 7 - i]) for i, t in enumerate(traces)
        ], False

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


@pytest.mark.parametrize(
    "group",
    ["checkpoints", *(pytest.param(g, marks=pytest.mark.slow) for g in ("posterior", "log_prior"))],
)
def test_a_full_disk_loses_nothing_that_was_recorded(problem, tmp_path, monkeypatch, group):
    store, real, written = tmp_path / "run.zarr", _store.ZarrOutput._grown, []

    def grown(self, marker, name, *rest):
        written.append(name)
        if name == group and written.count(name) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, marker, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(_store.ZarrOutput, "_grown", grown)
        with pytest.raises(OSError, match="disk is full; the 20 draws a chain .* are safe"):
            bj.sample(problem, draws=50, store=store, **SETTINGS)
    assert lengths(bj.open_store(store)) == {20}
    tree = bj.sample(problem, draws=50, store=store, resume=True, **SETTINGS)
    assert lengths(tree) == {50}


@pytest.mark.slow
def test_what_lies_beyond_the_last_record_is_not_read(problem, whole, tmp_path):
    """A checkpoint was being written when the run was killed; reading leaves it where it is."""
    store = tmp_path / "run.zarr"
    bj.sample(problem, draws=30, store=store, **SETTINGS)
    marker = _marker.read(store)
    bj.sample(problem, draws=40, store=store, resume=True, **SETTINGS)
    _marker.write(store, marker)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert lengths(bj.open_store(store)) == {30}
    assert before == {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    tree = bj.sample(problem, draws=60, store=store, resume=True, **SETTINGS)
    np.testing.assert_array_equal(tree["posterior"]["theta"], whole[0]["posterior"]["theta"])


@pytest.mark.parametrize(
    "other, match",
    [
        ({"chains": 4}, "give chains=2, not 4"),
        ({"tune": 200}, "give tune=100, not 200"),
        ({"random_seed": 4}, "give random_seed=3 or None, not 4"),
        ({"keep_white": True}, "give keep_white=False"),
        ({"target_accept": 0.95}, "give target_accept=0.8"),
    ],
)
def test_a_run_goes_on_with_its_own_settings(problem, whole, other, match):
    with pytest.raises(ValueError, match=match):
        bj.sample(problem, draws=70, store=whole[1], resume=True, **{**SETTINGS, **other})


def test_a_finished_run_is_replaced_when_told_and_an_unfinished_one_is_not(
    problem, tmp_path, monkeypatch
):
    store = tmp_path / "run.zarr"
    with monkeypatch.context() as patch:
        interrupted_in(2, patch)
        with pytest.warns(UserWarning, match="interrupted: 26 of 50"):
            bj.sample(problem, draws=50, store=store, **SETTINGS)
    for overwrite in (True, False):
        with pytest.raises(ValueError, match="unfinished run, 26 draws of each chain; go on with"):
            bj.sample(problem, draws=20, store=store, overwrite=overwrite, **SETTINGS)
    bj.sample(problem, draws=20, store=store, resume=True, **SETTINGS)
    assert "draws_asked" in bj.open_store(store)["posterior"].attrs
    with pytest.raises(ValueError, match="finished run, 26 draws .* give overwrite=True"):
        bj.sample(problem, draws=20, store=store, **SETTINGS)
    tree = bj.sample(problem, draws=10, store=store, overwrite=True, **SETTINGS)
    assert lengths(tree) == lengths(bj.open_store(store)) == {10}


def a_file(path):
    path.write_text("three years of work")


def a_folder(path):
    path.mkdir()
    a_file(path / "thesis.txt")


def a_zarr_store(path):
    xr.Dataset({"gravity": ("station", [1.0, 2.0])}).to_zarr(path, consolidated=False)


def an_old_zarr_store(path):
    xr.Dataset({"gravity": ("station", [1.0, 2.0])}).to_zarr(path, zarr_format=2)


@pytest.mark.parametrize("make", [a_file, a_folder, a_zarr_store, an_old_zarr_store])
def test_what_is_not_ours_is_left_alone(problem, tmp_path, make):
    store = tmp_path / "survey.zarr"
    make(store)
    files = [store] if store.is_file() else [p for p in store.rglob("*") if p.is_file()]
    before = {path: path.read_bytes() for path in files}
    for settings in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(ValueError, match="survey.zarr' is a.* that bj.sample did not write"):
            bj.sample(problem, draws=10, store=store, **settings, **SETTINGS)
    with pytest.raises(FileNotFoundError, match="there is no run in it"):
        bj.open_store(store)
    assert before == {path: path.read_bytes() for path in files}


def test_a_run_of_another_problem_is_not_resumed(whole):
    other = two_sensors(*PROBLEM[:-1], 0.4)
    with pytest.raises(ValueError, match="another problem: data, priors or physics differ"):
        bj.sample(other, draws=70, store=whole[1], resume=True, **SETTINGS)
    data = xr.DataArray([0.4], {"first_time": [3.0]}, "first_time")
    first, second = whole_problem().modalities
    moved = bj.Modality("first", data, first.forward, first.noise)
    moved = whole_problem().replace(modalities=[moved, second])
    in_units = whole_problem().replace(latents=[whole_problem().latents[0].replace(units="m")])
    for changed in (moved, in_units):
        with pytest.raises(ValueError, match="names, shapes, coordinates or units differ"):
            bj.sample(changed, draws=70, store=whole[1], resume=True, **SETTINGS)


@contextmanager
def another_process(code, *arguments):
    """Run code beside this process until it is no longer needed."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(condition, seconds=120.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_a_reader_of_a_running_run_and_a_second_writer_do_no_harm(problem, tmp_path):
    """The run looked at has the draws of one that nobody looked at, and so has every look."""
    store, draws = tmp_path / "run.zarr", 150
    with another_process(CHILD, store, draws) as child:
        until(lambda: _store.recorded(store))
        with pytest.raises(BlockingIOError, match=f"is being written by process {child.pid} on "):
            bj.sample(problem, draws=draws, store=store, resume=True, **SETTINGS)
        looks = []
        while child.poll() is None:
            looks.append(bj.open_store(store))
        assert child.returncode == 0, child.stderr.read()
    assert not _lock.lock_of(store).exists()
    found = bj.open_store(store)
    exact = bj.sample(problem, draws=draws, store=tmp_path / "alone.zarr", **SETTINGS)
    assert lengths(found) == {draws} and looks
    for name in ("posterior", "posterior_predictive", "log_likelihood"):
        xr.testing.assert_equal(found[name].to_dataset(), exact[name].to_dataset())
    for tree in looks:
        (count,) = lengths(tree)
        for name in ("posterior", "log_likelihood"):
            part = exact[name].to_dataset().isel(draw=slice(0, count))
            xr.testing.assert_equal(tree[name].to_dataset(), part)


def test_the_lock_of_a_killed_run_is_told_and_taken_over(problem, tmp_path):
    store = tmp_path / "run.zarr"
    with another_process(CHILD, store, 5000) as child:
        until(lambda: _store.recorded(store))
        child.kill()
        child.wait()
    with pytest.warns(UserWarning, match=f"process {child.pid} on .* ended without releasing"):
        bj.sample(problem, draws=10, store=store, resume=True, **SETTINGS)
    held = {"process": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}
    _lock.lock_of(store).write_text(json.dumps(held))
    with pytest.raises(BlockingIOError, match="process 1 on elsewhere.* another machine; if that"):
        bj.sample(problem, draws=10, store=store, resume=True, **SETTINGS)


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the lock of the last one
        tree = bj.sample(problem, draws=draws, store=store, resume=True, **SETTINGS)
    assert lengths(tree) == {draws}
    if count == 1:
        exact = whole[0]
    else:
        exact = bj.sample(problem, draws=draws, store=tmp_path / "whole.zarr", **SETTINGS)
    for name in ("posterior", "posterior_predictive", "log_likelihood_joint"):
        xr.testing.assert_equal(tree[name].to_dataset(), exact[name].to_dataset())
