"""Floors of dependencies, and a short tour that the lowest set of them must pass.

`make test-lowest` runs it, with some others, where the lowest versions are installed.
"""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj

ROOT = Path(__file__).parents[1]


def lowest():
    done = subprocess.run(
        [sys.executable, ROOT / ".ci/lowest.py"], capture_output=True, text=True, check=True
    )
    return dict(line.split("==") for line in done.stdout.split())


def test_every_dependency_states_a_floor_and_what_is_installed_is_above():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["plots"]]
    assert len(lowest()) == len(stated)
    for name, floor in lowest().items():
        found = importlib.metadata.version(name)
        assert numbers(found) >= numbers(floor), f"{name} {found} is below {floor}"


def numbers(version):
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


@pytest.mark.parametrize("backend", ["interpreted", "numba"])
def test_a_line_is_fitted_stored_and_read(tmp_path, backend):
    """Against the closed form, within 5 Monte Carlo errors of 1,000 draws (seed 1)."""
    x = np.arange(5.0)
    data = xr.DataArray(1.0 + 2.0 * x, {"x": ("x", x, {"units": "m"})}, "x", attrs={"units": "s"})
    normal = bj.Prior(pm.Normal, mu=0.0, sigma=10.0)
    problem = bj.JointProblem(
        latents=[bj.Parameter("level", normal, units="s"), bj.Parameter("slope", normal)],
        modalities=[
            bj.Modality(
                "line", data,
                bj.linear_map({"level": np.ones((5, 1)), "slope": x[:, None]}),
                bj.GaussianNoise(sd=0.5),
            )
        ],
    )  # fmt: skip
    bj.sample(
        problem, draws=500, tune=200, chains=2, random_seed=1, progress=False, backend=backend,
        prior_draws=10, store=tmp_path / "run.zarr",
    )  # fmt: skip
    tree = bj.open_store(tmp_path / "run.zarr")
    design = np.stack([np.ones(5), x], axis=1) / 0.5
    covariance = np.linalg.inv(design.T @ design + np.eye(2) / 100.0)
    mean = covariance @ design.T @ data.values / 0.5
    for name, exact, variance in zip(["level", "slope"], mean, np.diag(covariance), strict=True):
        draws = tree["posterior"][name]
        assert abs(float(draws.mean()) - exact) < 5 * np.sqrt(variance / 500)
        assert float(draws.std()) == pytest.approx(np.sqrt(variance), rel=0.15)
    assert set(bj.summary(tree)["parameter"].values) >= {"level", "slope"}
