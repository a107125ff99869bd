"""Every specification is changed with `replace`: a copy, checked as any other."""

from dataclasses import fields

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj

GRID = bj.Grid(z=xr.DataArray(np.arange(3.0), dims="z", attrs={"units": "m"}), x=np.arange(4.0))
FIELD = bj.GaussianField("a", GRID, sd=1.0, length_scale=2.0)
MODALITY = bj.Modality(
    "gravity", xr.DataArray(np.zeros(2), dims="station"), bj.linear_map(np.ones((2, 12)), "a"),
    bj.GaussianNoise(sd=0.1),
)  # fmt: skip
UNITS = {"labels": ["salt", "clay"], "proportions": [0.2, 0.8]}


def twice(a):
    return 2.0 * a


SPECIFICATIONS = {
    "Parameter": (bj.Parameter("depth", bj.Prior(pm.Normal, mu=0, sigma=1)), {"units": "km"}),
    "GaussianField": (FIELD, {"sd": 3.0}),
    "Modality": (MODALITY, {"power": 0.5}),
    "GaussianNoise": (MODALITY.noise, {"sd": 0.2}),
    "JointDiscrepancy": (bj.JointDiscrepancy(sd={"gravity": 0.1}), {"sd": {"gravity": 0.2}}),
    "CorrelatedFields": (bj.CorrelatedFields("a", "b", correlation=0.5), {"names": ("a", "c")}),
    "PropertyRelation": (bj.PropertyRelation("b", given="a", function=twice), {"given": "c"}),
    "PropertyMixture": (
        bj.PropertyMixture("rocks", means={"a": [1.0, 2.0]}, sds={"a": [0.1, 0.1]}, **UNITS),
        {"proportions": [0.5, 0.5]},
    ),
    "CrossGradient": (bj.CrossGradient("a", "b", weight=1.0), {"weight": 2.0}),
    "JointTotalVariation": (
        bj.JointTotalVariation("a", "b", weight=1.0, epsilon=0.3), {"latents": ("a", "c")},
    ),
    "JointSparsity": (bj.JointSparsity("a", weight=1.0, epsilon=0.3, nu=3.0), {"epsilon": 0.2}),
    "JointProblem": (bj.JointProblem(latents=[FIELD], modalities=[MODALITY]), {"modalities": ()}),
}  # fmt: skip


# Not the same object: values may be unpacked, and what a user gave is copied.
COPIED = (
    "means",
    "sds",
    "latents",
    "names",
    "coords",
    "length_scale",
    "data",
    "noise",
    "power",
    "proportions",
    "coefficients",
)


def same(one, other):
    """Return whether two settings are equal, arrays among them."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, xr.DataArray):
        return one.identical(other)
    return one is other or one == other


def settings_of(made):
    return {f.name: getattr(made, f.name) for f in fields(made) if f.init}


@pytest.mark.filterwarnings("ignore:.*no modality reaches")
@pytest.mark.parametrize("kind", SPECIFICATIONS)
def test_a_copy_differs_in_what_was_replaced_alone(kind):
    made, changes = SPECIFICATIONS[kind]
    before = settings_of(made)
    copy = made.replace(**changes)
    assert type(copy) is type(made) and type(made).__name__ == kind
    assert same(settings_of(made), before)  # which is frozen
    for name, value in before.items():
        if name in changes:
            assert same(getattr(copy, name), changes[name]) and not same(value, changes[name])
        else:
            kept = getattr(copy, name)
            shown = isinstance(value, xr.DataArray) and value.identical(kept)
            assert kept is value or shown or name in COPIED
    with pytest.raises(TypeError, match=f"{kind} has no setting 'colour' to replace; there are"):
        made.replace(colour="red")


def test_a_copy_is_checked():
    with pytest.raises(ValueError, match="sd must be positive"):
        FIELD.replace(sd=-1.0)


def test_a_grid_keeps_its_order_and_units():
    finer = GRID.replace(z=np.arange(0.0, 3.0, 0.5))
    assert finer.shape == (6, 4) and GRID.shape == (3, 4)
    assert GRID.replace(x=np.arange(5.0)).units == {"z": "m"}
    with pytest.raises(
        TypeError, match=r"Grid has no setting 'y' to replace; there are \['z', 'x'\]"
    ):
        GRID.replace(y=np.arange(2.0))
