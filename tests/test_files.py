"""Trees are DataTrees like any other: they go to files and back, and are copied and pickled."""

import copy
import pickle

import arviz as az
import numpy as np
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._sampler import reading as _reading
from bayesjoint._sampler.packing import guarded
from tests.helpers import STANDARD
from tests.test_store import SETTINGS, whole_problem

KINDS = ["sampled", "of a store", "of a large store", "linearised"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    problem, store = whole_problem(), tmp_path_factory.mktemp("store") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch:
        stored = bj.sample(problem, draws=20, store=store, **SETTINGS)
        patch.setattr(_reading, "IN_MEMORY", 1)
        large = bj.open_store(store)
    sampled = bj.sample(problem, draws=20, **SETTINGS)
    made = [sampled, stored, large, bj.linearize(problem, backend="interpreted")]
    return dict(zip(KINDS, made, strict=True))


def require_same(found, tree):
    """Same groups, values and attributes; files make scalars of lists of one."""
    assert set(found.children) == set(tree.children)
    for name in tree.children:
        one, other = found[name].to_dataset().load(), tree[name].to_dataset().load()
        xr.testing.assert_equal(one, other)
        for dataset, with_attrs in zip(with_all(one), with_all(other), strict=True):
            assert dataset.attrs.keys() == with_attrs.attrs.keys()
            for key, value in with_attrs.attrs.items():
                np.testing.assert_array_equal(
                    np.atleast_1d(dataset.attrs[key]), np.atleast_1d(value)
                )


def with_all(dataset):
    return [dataset, *(dataset[name] for name in sorted(map(str, dataset.variables)))]


@pytest.mark.parametrize("kind", KINDS)
def test_netcdf_zarr_and_copies_hold_the_tree(trees, kind, tmp_path):
    tree = trees[kind]
    tree.to_netcdf(tmp_path / "tree.nc")
    with az.from_netcdf(tmp_path / "tree.nc") as read:
        require_same(read, tree)
    tree.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    require_same(az.from_zarr(tmp_path / "tree.zarr", consolidated=False), tree)
    for same in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree)), tree.copy(deep=True)):
        require_same(same, tree)
        for name in tree.children:
            xr.testing.assert_identical(same[name].to_dataset(), tree[name].to_dataset())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_reports_of_a_tree_from_a_file_are_those_of_the_tree(trees, kind, tmp_path):
    tree = trees[kind]
    tree.to_netcdf(tmp_path / "tree.nc")
    with az.from_netcdf(tmp_path / "tree.nc") as read:
        for report in (bj.summary, bj.resolution, bj.identifiability, bj.information, bj.balance):
            xr.testing.assert_identical(report(read), report(tree))


@pytest.mark.parametrize("kind", KINDS[:3])
def test_arviz_takes_the_tree(trees, kind):
    tree = trees[kind]
    assert az.extract(tree)["theta"].sizes == {"sample": 40}
    assert az.summary(tree, var_names=["theta"]).shape[0] == 1
    values = {"theta": tree["posterior"]["theta"].values}
    again = az.from_dict({"posterior": values})
    np.testing.assert_array_equal(again["posterior"]["theta"], values["theta"])


def test_values_that_other_writers_would_scale_are_not_written(tmp_path):
    """Written with such attributes they would come back as other numbers: xarray says no."""
    for key in ("scale_factor", "add_offset", "_FillValue", "missing_value"):
        attrs = {key: 2.0}
        dataset = xr.Dataset({"m": ("s", np.ones(4), attrs)})
        tree = guarded(xr.DataTree.from_dict({"observed_data": dataset}))
        with pytest.raises(ValueError, match=key):
            tree.to_netcdf(tmp_path / "tree.nc")
        assert tree["observed_data"]["m"].attrs == attrs


def test_coordinates_beside_the_dims_leave_summary_alone():
    easting = {"station": list("abc"), "easting": ("station", [1.0, 2.0, 4.0])}
    data = xr.DataArray([1.0, 2.0, 4.0], easting, "station")
    line = bj.linear_map(np.ones((3, 1)), "level")
    level = bj.Parameter("level", STANDARD)
    problem = bj.JointProblem(
        latents=[level], modalities=[bj.Modality("m", data, line, bj.GaussianNoise(sd=0.1))]
    )
    tree = bj.sample(problem, draws=20, **SETTINGS)
    table = az.summary(tree, round_to="none")
    assert list(table.index) == ["level", *(f"m_response[{s}]" for s in "abc")]
    np.testing.assert_allclose(
        table["mean"].astype(float), tree["posterior"]["level"].mean().item(), rtol=1e-9
    )
    for group in ("observed_data", "posterior_predictive"):
        assert tree[group]["m"]["easting"].values.tolist() == [1.0, 2.0, 4.0]
