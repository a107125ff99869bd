"""What a store keeps comes back as it was: values, labels and attributes of any meaning."""

import datetime
import json

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._sampler import store as _store
from bayesjoint._sampler.packing import packed, unpacked
from tests.test_store import SETTINGS

# Each attribute that xarray, or the conventions that it follows, gives a meaning, and others that
# are not text or numbers.
ATTRS = {
    "units": "days since 2000-01-01", "calendar": "360_day", "scale_factor": 0.1,
    "add_offset": 3.0, "_FillValue": 2.0, "missing_value": 4, "dtype": "bool",
    "coordinates": "a b", "grid_mapping": "crs", "bounds": "edges", "cell_measures": "area: a",
    "_Unsigned": "true", "_Encoding": "utf-8", "_ARRAY_DIMENSIONS": ["s"], "compress": "s",
    "bayesjoint": "theirs", "long_name": "Schwere \u03b3", "count": 3, "levels": [1, 2, 3],
    "flag": True, "none": None, "empty": [], "nested": [[1], [2, "a"]], "nan": float("nan"),
    "time": pd.Timestamp("2020-01-01", tz="Europe/Paris"), "not_a_time": pd.NaT,
    "nanosecond": pd.Timestamp("2020-01-01T01:02:03.000000001"), "span": pd.Timedelta("3s"),
    "array": np.arange(3.0), "single": np.float32(0.1), "tuple": (1, (2, 3)),
    "mapping": {"x": {1: 2}}, "complex": 1 + 2j, "bytes": b"\x00\xff",
    "date": datetime.date(2020, 1, 2), "year": np.datetime64("2020", "Y"),
    "moment": datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    "objects": np.array([1, "a", None], dtype=object), "interval": pd.Interval(0, 1),
}  # fmt: skip

LABELS = {
    "numbers": np.array([1.5, -2.0, np.nan, np.inf]),
    "whole": np.array([1, 2, 3, 4], dtype="u2"),
    "other endian": np.array([1, 2, 3, 4], dtype=">i2"),
    "text": np.array(["a", "bb", "", '"\u03b3']),
    "times": pd.date_range("2000", periods=4),
    "missing time": pd.DatetimeIndex(["2000", None, "2001", "2002"]),
    "zoned times": pd.date_range("2000", periods=4, tz="Europe/Paris"),
    "spans": pd.to_timedelta([1, 2, 3, 4], unit="s"),
    "categories": pd.Categorical(list("abca"), categories=list("cbad"), ordered=True),
    "numbered categories": pd.Categorical([3, 1, 1, 2]),
    "intervals": pd.interval_range(0, 4),
    "periods": pd.period_range("2000", periods=4, freq="M"),
    "nullable": pd.Index([1, 2, None, 3], dtype="Int64"),
    "mixed": pd.Index([1, "a", None, (1, 2)], dtype=object),
    "dates": np.array([datetime.date(2000, 1, day) for day in (1, 2, 3, 4)]),
    "levels": pd.MultiIndex.from_product([[2, 1], ["b", "a"]], names=["x", "y"]),
}


def labelled(labels, values=(1.0, 2.0, 3.0, 4.0)):
    """Return values with labels along their dim, and beside it."""
    if isinstance(labels, pd.MultiIndex):
        coords = xr.Coordinates.from_pandas_multiindex(labels, "s")
    else:
        coords = {"s": ("s", labels, ATTRS), "beside": ("s", labels, {"units": "m"})}
    return xr.Dataset({"m": ("s", list(values), ATTRS)}, coords, ATTRS)


def same(value, other):
    assert type(value) is type(other), (value, other)
    if isinstance(value, np.ndarray):
        assert value.dtype == other.dtype


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_what_is_packed_is_plain_and_comes_back(labels):
    dataset = labelled(labels)
    variables, attrs = packed(dataset)
    json.dumps([attrs, *(v.attrs for v in variables.values())], allow_nan=False)
    assert all(v.dtype.kind in "biufcU" for v in variables.values())
    found = unpacked(variables, attrs)
    xr.testing.assert_identical(found, dataset)
    for name in dataset.variables:
        one, other = (ds[name].dtype for ds in (found, dataset))
        assert one == (other.newbyteorder("=") if isinstance(other, np.dtype) else other)
        for key, value in dataset[name].attrs.items():
            same(found[name].attrs[key], value)
    assert list(found.xindexes) == list(dataset.xindexes)


def problem_with(labels):
    """Return a level seen by four data that carry every attribute."""
    data = labelled(labels)["m"].assign_attrs(units="m", history="units are checked elsewhere")
    if "beside" in data.coords:
        data["s"].attrs["units"] = "days since 2000-01-01"
    return bj.JointProblem(
        latents=[bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))],
        modalities=[
            bj.Modality("m", data, bj.linear_map(np.ones((4, 1)), "level"), bj.GaussianNoise(sd=1))
        ],
    )


class Both(_store.ZarrOutput):
    """Streams a run to a store, and keeps it in memory beside."""

    made: list = []

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.memory = _store.MemoryOutput()
        self.made.append(self)

    def begin(self, *arguments):
        self.memory.begin(*arguments)
        super().begin(*arguments)

    def append(self, *arguments):
        self.memory.append(*arguments)
        super().append(*arguments)

    def note(self, *arguments):
        self.memory.note(*arguments)
        super().note(*arguments)


@pytest.mark.parametrize("kind", ["numbers", "times", "levels"])
def test_the_tree_of_a_store_is_that_of_memory(kind, tmp_path, monkeypatch):
    """All groups, all variables, all attributes; twelve draws in three checkpoints."""
    monkeypatch.setattr(_store, "ZarrOutput", Both)
    labels = np.array([4.0, 3.0, 1.0, 2.0]) if kind == "numbers" else LABELS[kind]
    problem = problem_with(labels)
    settings = {**SETTINGS, "checkpoint": 5}
    returned = bj.sample(problem, draws=12, store=tmp_path / "run.zarr", **settings)
    memory, again = Both.made[-1].memory.tree(), bj.open_store(tmp_path / "run.zarr")
    assert set(memory.children) == set(again.children) == set(returned.children)
    for name in memory.children:
        one, other, third = (t[name].to_dataset() for t in (memory, again, returned))
        xr.testing.assert_identical(one, other)
        xr.testing.assert_identical(one, third)
        assert set(one.xindexes) == set(other.xindexes)
        for variable in one.variables:
            assert one[variable].dtype == other[variable].dtype, (name, variable)
            for key, value in one[variable].attrs.items():
                same(other[variable].attrs[key], value)
    kept = again["observed_data"]["m"].attrs
    assert kept["scale_factor"] == 0.1 and kept["time"] == ATTRS["time"]


class Projection:
    def __str__(self):
        return "UTM 32N"


def test_what_a_store_cannot_hold_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("bayesjoint.sampling.compiled", lambda problem: 1 / 0)
    coords = {"s": range(4), "beside": ("s", [Projection() for _ in range(4)])}
    data = xr.DataArray(np.ones(4), coords, "s", attrs={"crs": Projection()})
    forward, noise = bj.linear_map(np.ones((4, 1)), "level"), bj.GaussianNoise(sd=1.0)

    def run(data):
        latents = [bj.Parameter("level", bj.Prior(pm.Normal, mu=0.0, sigma=1.0))]
        problem = bj.JointProblem(
            latents=latents, modalities=[bj.Modality("m", data, forward, noise)]
        )
        bj.sample(problem, draws=10, store=tmp_path / "run.zarr", **SETTINGS)

    with pytest.raises(ValueError, match="modality 'm': .* 'beside': values of type Projection"):
        run(data)
    with (
        pytest.raises(ZeroDivisionError),
        pytest.warns(UserWarning, match="'crs' of 'm' is of type Projection, .* keeps as text"),
    ):
        run(data.drop_vars("beside"))
    assert not (tmp_path / "run.zarr").exists()
