"""A store that is damaged says so: a flipped byte or a missing file is no wrong number."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._sampler import marker as _marker
from bayesjoint._sampler import reading as _reading
from bayesjoint._sampler import store as _store
from tests.test_store import SETTINGS, interrupted_in, lengths, whole_problem

EVERY = 20  # files, of those that the quick test damages


@pytest.fixture(scope="module")
def problem():
    return whole_problem()


@pytest.fixture(scope="module")
def stored(problem, tmp_path_factory):
    """An unfinished run of two checkpoints, 20 of 50 draws, and its tree."""
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch:
        interrupted_in(1, patch)
        with pytest.warns(UserWarning, match="interrupted"):
            bj.sample(problem, draws=50, store=path, **SETTINGS)
    return path, bj.open_store(path)


def outcomes(path, tree, file):
    """Read a damaged store and ask to go on; return what was said, "" where all is right."""
    said = []
    try:
        found = bj.open_store(path)
        for name in tree.children:
            xr.testing.assert_identical(found[name].to_dataset(), tree[name].to_dataset())
        said.append("")
    except ValueError as error:
        said.append(str(error))
    except UserWarning as warning:
        said.append(str(warning))
    try:
        known = _store.opened_to_write(path, resume=True, overwrite=False)
        found = _store.sampler_of(path, known)
        exact = _store.sampler_of(path, _marker.read(path))
        for one, other in zip(found, exact, strict=True):
            xr.testing.assert_identical(one, other)
        said.append("")
    except ValueError as error:
        said.append(str(error))
    for text in filter(None, said):
        assert "run.zarr' is damaged: " in text and "restore the folder" in text, (file, text)
        assert "group '" in text or "'zarr.json'" in text, (file, text)
    return said


def flipped(data, rng):
    """Return bytes of which one bit is another."""
    data = bytearray(data)
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


@pytest.mark.filterwarnings("error:.*damaged:UserWarning")
@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_or_a_missing_file_is_told_or_does_no_harm(stored, tmp_path, every):
    """Of every file; reading and going on (seed 5 of the bits)."""
    source, tree = stored
    path, rng = tmp_path / "run.zarr", np.random.default_rng(5)
    shutil.copytree(source, path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    told = {"flip": 0, "missing": 0}
    for file in [path / "zarr.json", *files[::every]]:
        data = file.read_bytes()
        file.write_bytes(flipped(data, rng))
        told["flip"] += any(outcomes(path, tree, file))
        file.unlink()
        said = outcomes(path, tree, file)
        assert any(said), f"{file} is not missed"
        assert "missing" in said[1], (file, said)
        file.write_bytes(data)
    assert outcomes(path, tree, path) == ["", ""]
    assert told["flip"] > 0.7 * len(files[::every])  # some bits of JSON mean nothing


@pytest.mark.parametrize(
    "gone, match",
    [
        ("posterior", "group 'posterior' is missing"),
        (
            "log_likelihood_conditional/first",
            "group 'log_likelihood_conditional', array 'first' is missing",
        ),
        ("posterior/theta/c/0/1", "group 'posterior', array 'theta': chunk 0/1 is missing"),
        ("zarr.json", "its 'zarr.json' is missing"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_written(problem, stored, tmp_path, gone, match):
    path = tmp_path / "run.zarr"
    shutil.copytree(stored[0], path)
    node = path / gone
    node.unlink() if node.is_file() else shutil.rmtree(node)
    before = contents(path)
    with pytest.raises(ValueError, match=f"run.zarr' is damaged: {match}"):
        bj.open_store(path)
    for settings in ({"resume": True}, {}, {"overwrite": True}):
        with pytest.raises(ValueError, match=f"is damaged: {match}|unfinished run, 16 draws"):
            bj.sample(problem, draws=50, store=path, **settings, **SETTINGS)
    assert contents(path) == before


def contents(path: Path) -> dict:
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_draws_stay_readable_where_only_the_record_of_the_chains_is_damaged(
    problem, stored, tmp_path
):
    path = tmp_path / "run.zarr"
    shutil.copytree(stored[0], path)
    chunk = path / "checkpoints/point/c/1/0/0"
    chunk.write_bytes(flipped(chunk.read_bytes(), np.random.default_rng(6)))
    with pytest.warns(UserWarning, match="array 'point' .*the draws are whole; the run cannot"):
        assert lengths(bj.open_store(path)) == lengths(stored[1])
    with pytest.raises(ValueError, match="group 'checkpoints', array 'point' cannot be read"):
        bj.sample(problem, draws=50, store=path, resume=True, **SETTINGS)


def test_a_large_tree_is_checked_as_it_is_used(stored, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    shutil.copytree(stored[0], path)
    chunk = path / "posterior/theta/c/0/1"
    chunk.write_bytes(flipped(chunk.read_bytes(), np.random.default_rng(7)))
    monkeypatch.setattr(_reading, "IN_MEMORY", 1)
    tree = bj.open_store(path)
    exact = stored[1]["posterior"]["first_response"]
    first = tree["posterior"]["first_response"]
    np.testing.assert_array_equal(first[:, ::-3].values, exact[:, ::-3].values)
    assert first.shape == exact.shape
    with pytest.raises(ValueError, match="group 'posterior', array 'theta' cannot be read"):
        tree["posterior"]["theta"].load()
