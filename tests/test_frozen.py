"""What a specification holds cannot be changed, and a problem does not notice attempts."""

import copy
import pickle
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from faithful import closed_form, posterior, require
from scipy import sparse
from test_odd_inputs import bases

import bayesjoint as bj
from bayesjoint.arrays import ReadOnly

CACHES = {"made", "spreads", "forms", "failures", "last", "pool", "simulator", "differences"}
VALUES = np.array([1.0, 2.0, 4.0])


def labelled(values=VALUES):
    coords = {"s": list("abc"), "height": ("s", [1.0, 2.0, 3.0])}
    return xr.DataArray(values, coords, "s", attrs={"units": "m"})


def unknown():
    spread = xr.DataArray([1.0, 2.0, 1.0], {"c": list("uvw")}, "c")
    prior = bj.Prior(pm.Normal, mu=np.zeros(3), sigma=spread)
    return bj.Parameter("v", prior, coords={"c": list("uvw")})


def problem(matrix=None, **settings):
    forward = bj.linear_map(np.eye(3) if matrix is None else matrix, "v")
    noise = bj.GaussianNoise(sd=settings.pop("sd", 0.5))
    seen = bj.Modality("m", labelled(), forward, noise, **settings)
    return bj.JointProblem(latents=[unknown()], modalities=[seen])


def specifications():
    made = {}
    for name, settings in bases().items():
        given = dict(settings)
        names = given.pop("*names", ())
        first = [given.pop("distribution")] if name == "Prior" else []
        first += [given.pop(key) for key in ("function", "matrix") if name.endswith("_map")
                  and key in given]  # fmt: skip
        made[name] = getattr(bj, name)(*first, *names, **given)
    grid = bj.Grid(x=np.arange(3.0), y=np.arange(2.0))
    coords = {"x": xr.DataArray([1.0, 2.0, 3.0], dims="x", attrs={"units": "m"})}
    made |= {
        "field": bj.GaussianField("f", grid, sd=1.0, length_scale={"x": 2.0, "y": 1.0}),
        "field of a precision": bj.GaussianField("f", grid, precision=sparse.csr_array(np.eye(6))),
        "maps": bj.linear_map({"a": sparse.csr_array(np.eye(3)), "b": np.eye(3)}, coords=coords),
        "problem": problem(observe=[np.eye(3)], sd=pd.Series(np.ones(3), list("abc"))),
        "problem of matrices": problem(sparse.csr_array(np.eye(3)), sd=labelled(np.ones(3))),
        "errors": bj.JointDiscrepancy(covariance={("m", "m"): np.eye(3)}),
        "noise": bj.CorrelatedNoise(covariance=pd.DataFrame(np.eye(3), list("abc"), list("abc"))),
    }
    return made


def open_to_change(path, value, found, seen):
    """Collect what can be changed of what a specification shows."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, Mapping):
        if not isinstance(value, ReadOnly) and type(value).__name__ != "mappingproxy":
            found.append(path)
        parts = {f"[{key!r}]": part for key, part in value.items()}
    elif isinstance(value, tuple):
        parts = {f"[{key}]": part for key, part in enumerate(value)}
    elif type(value).__module__.startswith("bayesjoint."):
        shown = [name for name in vars(value) if not name.startswith("_") and name not in CACHES]
        parts = {f".{name}": getattr(value, name) for name in shown}
    else:
        if _can_be_written(value):
            found.append(path)
        return
    for key, part in parts.items():
        open_to_change(path + key, part, found, seen)


def _can_be_written(value):
    if isinstance(value, list | set):
        return True
    if sparse.issparse(value) or isinstance(value, xr.DataArray):
        value = value.data
    if isinstance(value, pd.Series | pd.DataFrame):
        with pytest.raises(ValueError, match="read-only"):
            value.iloc[(0,) * value.ndim] = 7.0
        return False
    return isinstance(value, np.ndarray) and value.flags.writeable


def test_nothing_that_is_shown_can_be_changed():
    found = []
    for name, specification in specifications().items():
        open_to_change(name, specification, found, {})
    assert not found


def attempts(made):
    """Change what can be had of a problem; what refuses is right, too."""
    modality, latent = made.modality["m"], made.latent["v"]
    data = modality.data
    yield lambda: data.attrs.update(units="km")
    yield lambda: data.coords.__setitem__("s", list("cba"))
    yield lambda: setattr(data, "values", 100.0 + VALUES)
    yield lambda: setattr(modality.data.variable, "values", 100.0 + VALUES)
    yield lambda: data.__setitem__(slice(None), 9.0)
    yield lambda: modality.data["height"].values.__setitem__(0, 9.0)
    yield lambda: latent.prior.parameters.update(sigma=9.0)
    yield lambda: latent.prior.parameters["mu"].__setitem__(0, 9.0)
    yield lambda: latent.coords.__setitem__("c", list("wvu"))
    yield lambda: latent.coords["c"].__setitem__(0, "x")
    yield lambda: made.coords["s"].__setitem__(0, "x")
    yield lambda: made.labelled_data["m"].attrs.clear()
    yield lambda: made.latent.clear()
    yield lambda: made.modality.clear()
    yield lambda: modality.forward.matrices[0].__setitem__((0, 0), 9.0)
    yield lambda: modality.forward.coords.clear()
    yield lambda: modality.noise.sd.__setitem__(0, 9.0)
    yield lambda: setattr(modality.noise.sd, "values", 9.0 * VALUES)


def test_attempts_never_reach_the_posterior():
    made = problem(sd=labelled(np.full(3, 0.5)))
    for attempt in attempts(made):
        try:
            attempt()
        except (TypeError, ValueError, AttributeError):
            continue
    prior = np.diag([1.0, 4.0, 1.0])
    noise = 0.25 * np.eye(3)
    require(posterior(made, "v"), closed_form(np.eye(3), VALUES, noise, prior, np.zeros(3)))
    assert made.modality["m"].data.identical(labelled())
    assert list(made.labelled_data["m"]["s"].values) == list("abc")


def test_fixed_settings_travel():
    made = problem()
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        parameters = again.latent["v"].prior.parameters
        assert isinstance(parameters, ReadOnly)
        with pytest.raises(TypeError, match=r"replace\(\.\.\.\)"):
            parameters["mu"] = 1.0


def test_what_is_shown_may_be_copied_and_changed():
    other = problem().modality["m"].data.copy()
    other.attrs["units"] = "km"
    other[:] = 1.0
    assert other.attrs["units"] == "km"
