import numpy as np
import pytest
import xarray as xr

import bayesjoint.reports as reports
from bayesjoint._kernels.structure import gradients_of, similarity
from bayesjoint.reports.example import example_fields
from tests.reports import factory

AXES = {"depth": np.array([0.0, 1.0, 2.5, 4.0, 5.0, 8.0]), "x": np.arange(7.0)}


def group(first, second, axes=AXES):
    """A group of a tree with draws of two fields, (draw, *grid), in one chain."""
    dims = ("chain", "draw", *axes)
    values = {"density": (dims, first[None]), "slowness": (dims, second[None])}
    return xr.Dataset(values, {k: v for k, v in axes.items()})


def rough(seed, axes=AXES, draws=80):
    """Return draws of smooth random fields."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((draws, *(len(v) for v in axes.values())))
    for axis, centres in enumerate(axes.values()):
        kernel = np.exp(-(((centres[:, None] - centres) / 2.0) ** 2))
        values = np.moveaxis(np.tensordot(kernel, values, axes=(1, axis + 1)), 0, axis + 1)
    return values


def tree_of(first, second, axes=AXES):
    prior = group(rough(10, axes), rough(11, axes), axes)
    return xr.DataTree.from_dict({"posterior": group(first, second, axes), "prior": prior})


@pytest.fixture(scope="module")
def fields():
    return rough(1), rough(2)


def test_similarity_of_planes_is_that_of_their_angle():
    x, y = np.meshgrid(np.arange(5.0), np.arange(4.0), indexing="ij")
    angle = np.radians(30.0)
    second = np.cos(angle) * x + np.sin(angle) * y
    tree = tree_of(
        np.stack([x, x]), np.stack([second, -second]), {"x": np.arange(5.0), "y": np.arange(4.0)}
    )
    report = reports.alignment(tree)
    np.testing.assert_allclose(report["similarity"], np.cos(angle) ** 2, rtol=1e-12)
    np.testing.assert_allclose(report["density_slowness_angle"], 30.0, rtol=1e-9)
    np.testing.assert_allclose(report["flat_share"], 0.0)


def test_similarity_against_a_loop_over_cells_in_three_dimensions():
    axes = {"y": np.array([0.0, 1.0, 3.0]), "depth": np.arange(4.0), "x": np.arange(3.0) * 2}
    first, second = rough(3, axes, 1)[0], rough(4, axes, 1)[0]
    crossed = whole = 0.0
    widths = {"y": [1.0, 1.5, 2.0], "depth": np.ones(4), "x": 2 * np.ones(3)}
    for cell in np.ndindex(first.shape):
        gradients = []
        for values in (first, second):
            gradient = []
            for axis, centres in enumerate(axes.values()):
                near = min(cell[axis], len(centres) - 2)  # forward, the last cell backward
                low, high = list(cell), list(cell)
                low[axis], high[axis] = near, near + 1
                step = centres[near + 1] - centres[near]
                gradient.append((values[tuple(high)] - values[tuple(low)]) / step)
            gradients.append(np.array(gradient))
        volume = np.prod([widths[k][i] for k, i in zip(axes, cell, strict=True)])
        crossed += volume * np.sum(np.cross(*gradients) ** 2)
        whole += volume * np.sum(gradients[0] ** 2) * np.sum(gradients[1] ** 2)
    tree = tree_of(first[None] * 1e3, second[None] * 1e3, axes)  # far from flat
    found = reports.alignment(tree)["similarity"].values[0, 0]
    np.testing.assert_allclose(found, 1 - crossed / whole, rtol=1e-9)


def test_a_mask_leaves_the_report_of_the_rest():
    """Of a box of cells it is that of a grid of the box."""
    axes, box = {"y": np.arange(6.0), "x": np.arange(7.0)}, (slice(1, 5), slice(2, 6))
    whole = [rough(seed, axes) for seed in (1, 2)]
    tree = tree_of(*whole, axes)
    inside = np.zeros((6, 7), dtype=bool)
    inside[box] = True
    mask = xr.DataArray(inside, axes, ("y", "x"))
    found = reports.alignment(tree, tree_of(*whole[::-1], axes), mask=mask.T)
    small, other = (
        xr.DataTree.from_dict({k: t[k].to_dataset().isel(y=box[0], x=box[1]) for k in t.children})
        for t in (tree, tree_of(*whole[::-1], axes))
    )
    expected = reports.alignment(small, other)
    for name in expected:
        np.testing.assert_allclose(
            found[name].where(mask, drop=True).transpose(*expected[name].dims)
            if "x" in expected[name].dims
            else found[name],
            expected[name], rtol=1e-9, err_msg=name,
        )  # fmt: skip
    assert found["density_slowness_edges"].where(~mask).isnull().all()
    with pytest.raises(
        ValueError, match=r"the mask: an array of shape \(5, 7\) given for their grid"
    ):
        reports.alignment(tree, mask=inside[1:])


def test_units_do_not_matter(fields):
    report = reports.alignment(tree_of(*fields))
    tree = tree_of(*fields)
    scaled = xr.DataTree.from_dict(
        {k: tree[k].to_dataset().assign(slowness=1e-6 * tree[k]["slowness"]) for k in tree.children}
    )
    for name in ("similarity", "flat_share", "density_slowness_edges", "prior_similarity"):
        np.testing.assert_allclose(reports.alignment(scaled)[name], report[name], rtol=1e-9)


def test_flat_cells_are_left_out_and_counted():
    found = gradients_of(
        np.array([[[0.0, 0.0, 1.0]] * 2]), np.array([[[0.0, 1.0, 2.0]] * 2]),
        [np.arange(2.0), np.arange(3.0)],
    )  # fmt: skip
    alike, flat = similarity(found, np.array([[1.0, 2.0, 3.0]] * 2), (0.1, 0.1))
    np.testing.assert_allclose((alike[0], flat[0]), (1.0, 1 / 6))
    alike, flat = similarity(found, np.ones((2, 3)), (10.0, 0.1))
    assert np.isnan(alike[0]) and flat[0] == 1.0


def test_fields_that_shrink_are_flattening(fields):
    report = reports.alignment(tree_of(0.5 * fields[0], 0.2 * fields[1]), tree_of(*fields))
    np.testing.assert_allclose(report["log_drop"], 2 * np.log(10.0), rtol=1e-9)
    parts = report["log_drop_part"].isel(pair=0)
    np.testing.assert_allclose(parts, [0.0, 2 * np.log(10.0), 0.0], atol=1e-9)
    words = " ".join(report.attrs["words"])
    assert ": flattening." in words
    np.testing.assert_allclose(report["narrowing_first"], 0.5)
    np.testing.assert_allclose(report["narrowing_second"], 0.8)
    assert "the posterior sd shrinks: density 50 % and slowness 80 %" in words
    assert "the data show no shared structure" in words
    assert "gained little" not in words
    flat = report["flat_share"].mean() - report["reference_flat_share"].mean()
    assert float(flat) > 0.05


def test_fields_that_turn_are_alignment(fields):
    nearly = fields[0] + 0.1 * fields[1]
    report = reports.alignment(tree_of(fields[0], nearly), reference=tree_of(*fields))
    np.testing.assert_allclose(report["log_drop_part"].sum("part"), report["log_drop"], rtol=1e-12)
    assert "alignment." in " ".join(report.attrs["words"])
    assert float(report["similarity"].mean()) > 0.95
    assert float(report["density_slowness_correlation"].min()) > 0.7
    assert float(report["correlation"].mean()) > 0.9


def test_edges_in_other_places_are_neither():
    mask = np.where(np.arange(7.0) < 3, 1.0, 0.02)
    first, second = rough(1), rough(2)
    other = tree_of(first * mask, second * mask[::-1])
    report = reports.alignment(other, reference=tree_of(first, second))
    assert float(report["log_drop_part"].sel(part="separation").item()) > 0.5
    np.testing.assert_allclose(report["log_drop_part"].sum("part"), report["log_drop"], rtol=1e-12)


def test_the_same_run_as_reference_stays(fields):
    report = reports.alignment(tree_of(*fields), reference=tree_of(*fields))
    np.testing.assert_allclose(report["log_drop_part"], 0.0, atol=1e-12)
    assert "stay as they are" in " ".join(report.attrs["words"])
    assert "gained little: shared edges are met by a flat" in report.attrs["words"][-1]


def test_separate_runs_as_reference(fields):
    tree = tree_of(*fields)
    each = {
        name: xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()[[name]]})
        for name in ("density", "slowness")
    }
    report = reports.alignment(tree, reference=each)
    np.testing.assert_allclose(report["log_drop"], 0.0, atol=1e-12)


def test_in_one_dimension_there_is_correlation_only():
    axes = {"depth": np.arange(9.0)}
    first, second = rough(1, axes), rough(2, axes)
    report = reports.alignment(tree_of(first, first + second, axes), tree_of(first, second, axes))
    assert report["similarity"].isnull().all() and report["log_drop"].isnull().all()
    expected = [np.corrcoef(a, a + b)[0, 1] for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(report["correlation"][0], expected, rtol=1e-9)
    assert "not defined in one dimension" in report.attrs["words"][0]


def test_three_fields_make_three_pairs(fields):
    tree = tree_of(*fields)
    wide = {
        k: tree[k].to_dataset().assign(porosity=tree[k]["density"] * 2.0) for k in tree.children
    }
    report = reports.alignment(xr.DataTree.from_dict(wide))
    assert list(report["pair"].values) == [
        "density_slowness", "density_porosity", "slowness_porosity",
    ]  # fmt: skip
    np.testing.assert_allclose(report["similarity"].sel(pair="density_porosity"), 1.0)
    chosen = reports.alignment(xr.DataTree.from_dict(wide), pairs=[("slowness", "porosity")])
    assert list(chosen["first"].values) == ["slowness"]


def test_a_flat_posterior_is_told(fields):
    report = reports.alignment(tree_of(0.05 * fields[0], fields[1]))
    assert any("similarity rests on the" in text for text in report.attrs["words"])
    flat = reports.alignment(tree_of(0 * fields[0], fields[1]), reference=tree_of(*fields))
    assert flat["similarity"].isnull().all()
    assert not any("fall" in text for text in flat.attrs["words"])


def test_faults(fields):
    tree = tree_of(*fields)
    with pytest.raises(ValueError, match="no group 'prior'.*sample the problem"):
        reports.alignment(xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()}))
    with pytest.raises(ValueError, match=r"two fields on one grid; there are density \(depth, x\)"):
        reports.alignment(factory.tree(factory.make(), draws=10))
    with pytest.raises(ValueError, match="no field 'porosity'; there are density, slowness"):
        reports.alignment(tree, pairs=[("density", "porosity")])
    with pytest.raises(ValueError, match="not two fields on one grid"):
        reports.alignment(tree, pairs=[("density", "density")])
    with pytest.raises(ValueError, match="'density' is on another grid"):
        reports.alignment(tree, reference=example_fields())
    lacking = xr.DataTree.from_dict({"posterior": tree["posterior"].to_dataset()[["density"]]})
    with pytest.raises(ValueError, match="reference has no field 'slowness'"):
        reports.alignment(tree, reference=lacking)
