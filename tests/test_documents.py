"""What docs/data.md says: its code runs in one go, and what it calls refused is refused."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from tests.faithful import letters, problem

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
DATES = pd.date_range("2020", periods=3)
SPAN = np.timedelta64(30, "D")
MISSING_DATE = pd.DatetimeIndex(["2020", None, "2021"])


@pytest.mark.filterwarnings("ignore:the chains do not agree", "ignore:.*effective draws")
def test_the_code_runs_in_the_order_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        before = dict(names)
        exec(code, names)
        if "slope" in names and "slope" not in before:
            np.testing.assert_allclose(names["posterior"]["slope"], 0.9995, atol=5e-5)
    assert names["predicted"].dims == ("chain", "draw", "y", "x")
    xr.testing.assert_equal(names["unstacked"], names["predicted"])
    np.testing.assert_array_equal(names["row"]["radar_response"], names["predicted"].sel(y=1.0))
    assert names["stacked"].size == 4


def seen(times, length_scale=SPAN):
    data = xr.DataArray([1.0, 2.0, 4.0], {"time": times}, "time")
    errors = bj.JointDiscrepancy(sd={"m": 1.0}, on="time", length_scale=length_scale)
    return problem(data, discrepancy=errors)


def sds(*labels):
    return bj.GaussianNoise(sd=pd.Series([1.0, 2.0, 3.0], index=list(labels)))


def in_units(units):
    return bj.GaussianNoise(sd=xr.DataArray(0.1, attrs={"units": units}))


def on_two_kinds():
    length = xr.DataArray([1.0, 2.0], dims="x", attrs={"units": "m"})
    return bj.Grid(x=length, time=DATES)


REFUSED = {
    "complex": lambda: problem(letters() * 1j),
    "text": lambda: problem(xr.DataArray(list("abc"), dims="s")),
    "dates": lambda: problem(xr.DataArray(DATES.values, dims="s")),
    "NaN": lambda: problem(letters([1.0, np.nan, 2.0])),
    "infinite": lambda: problem(letters([1.0, np.inf, 2.0])),
    "masked sd": lambda: problem(letters(), bj.GaussianNoise(sd=np.ma.masked_equal([1, 2, 3], 2))),
    "NaN in a matrix": lambda: problem(letters(), matrix=np.array([[1.0], [np.nan], [2.0]])),
    "NaT": lambda: seen(MISSING_DATE),
    "foreign labels": lambda: problem(letters(), sds("a", "b", "x")),
    "labels twice": lambda: problem(letters(), sds("a", "b", "b")),
    "new data": lambda: problem(letters()).with_data({"m": letters()[:2]}),
    "dims": lambda: problem(letters(), bj.GaussianNoise(sd=xr.DataArray(np.ones(3), dims="q"))),
    "units": lambda: problem(letters(units="m"), in_units("s")),
    "percent of metres": lambda: problem(letters(units="m"), in_units("%")),
    "axes of two kinds": lambda: bj.GaussianField("f", on_two_kinds(), sd=1.0, length_scale=3.0),
    "plain length scale": lambda: seen(DATES, 3.0),
    "months": lambda: seen(DATES, np.timedelta64(1, "M")),
    "counts": lambda: problem(xr.DataArray([1e19, 1.0, 2.0], dims="s"), bj.PoissonNoise()),
    "negative scale": lambda: bj.GaussianNoise(sd=bj.Prior(pm.Normal, mu=0.0, sigma=1.0)),
    "flat": lambda: bj.Parameter("th", bj.Prior(pm.Flat)),
    "chain": lambda: problem(letters().rename(s="chain")),
    "variable": lambda: problem(letters().rename(s="m_response")),
}  # fmt: skip


@pytest.mark.parametrize("which", REFUSED)
def test_what_is_called_refused_is(which):
    with pytest.raises(ValueError, match=r"[;,:] ") as told:
        REFUSED[which]()
    assert "bayesjoint" in str(told.traceback[-1].path)
