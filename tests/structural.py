"""Structural couplings for several tests: cases, grids, and values without a whole problem."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt

import bayesjoint as bj
from bayesjoint._graph.build import ModelBuild
from bayesjoint._graph.compile import UNOPTIMISED

GRIDS = {
    "1-D": bj.Grid(x=np.array([0.0, 1.0, 3.0, 4.0, 8.0, 9.0])),
    "2-D": bj.Grid(depth=np.array([1.0, 2.0, 4.0, 8.0]), x=np.sqrt(np.arange(1.0, 6.0))),
    "3-D": bj.Grid(x=np.array([0.0, 1.0, 3.0]), y=np.arange(2.0), z=np.arange(3.0) ** 1.5),
}
SD = {"a": 2.0, "b": 0.5, "c": 10.0}
EDGE = {"epsilon": 0.7}


@dataclass(frozen=True)
class Case:
    """A coupling, as a class with settings and the fields that it couples."""

    kind: type
    names: tuple[str, ...] = ("a", "b")
    settings: tuple[tuple[str, object], ...] = ()
    rate: int = 1  # power of the cell size at which it tends to its integral
    guided: bool = False
    least_squares: bool = True

    def __call__(self, grid, names=None, weight=7.0, **changes):
        settings = dict(self.settings) | changes
        if self.guided and "guide" not in settings:
            settings["guide"] = image(grid)
        return self.kind(*(names or self.names), weight=weight, **settings)


def case(kind, *names, rate=1, guided=False, **settings):
    least_squares = kind is bj.CrossGradient
    return Case(kind, names or ("a", "b"), tuple(settings.items()), rate, guided, least_squares)


CROSS, TV, SPARSITY = bj.CrossGradient, bj.JointTotalVariation, bj.JointSparsity
GUIDES = ("guide", "guide-central")  # a profile has a cross-gradient with a guide only
CASES = {
    "cross": case(CROSS),
    "cross-central": case(CROSS, form="central", rate=2),
    "cross-face": case(CROSS, form="face"),
    "cross-range": case(CROSS, normalisation="range", scales={"a": 3.0, "b": 0.4}),
    "cross-gradient": case(CROSS, normalisation="gradient", form="central", rate=2),
    "guide": case(CROSS, "a", guided=True),
    "guide-central": case(CROSS, "a", guided=True, form="central", rate=2),
    "guide-face": case(CROSS, "a", guided=True, form="face", normalisation="gradient"),
    "tv": case(TV, "a", "b", "c", **EDGE),
    "tv-single": case(TV, "a", form="central", rate=2, **EDGE),
    "tv-face": case(TV, form="face", scales={"b": 3.0}, **EDGE),
    "sparsity": case(SPARSITY, "a", "b", "c", nu=2.0, **EDGE),
    "sparsity-central": case(SPARSITY, form="central", rate=2, **EDGE),
}
ON_PROFILES = [n for n, made in CASES.items() if made.kind is not CROSS or n in GUIDES]
PLACES = [(n, dims) for n in CASES for dims in GRIDS if dims != "1-D" or n in ON_PROFILES]


def image(grid):
    axes = np.meshgrid(*[(c - c[0]) / np.ptp(c) for c in grid.centres.values()], indexing="ij")
    return np.sin(sum((i + 1.0) * axis for i, axis in enumerate(axes))) + axes[0] ** 2


def draw(case, grid, rng):
    return [SD[name] * rng.normal(size=grid.shape) for name in case.names]


def add(coupling, grid, sd=None, **prior):
    """Return inputs and what a model holds after the coupling was added to it."""
    sd = sd or SD
    prior = prior or {"length_scale": 0.3 * max(grid.extent)}
    fields = {n: bj.GaussianField(n, grid, sd=sd[n], **prior) for n in coupling.latents}
    build = ModelBuild(pm.Model())
    build.values.update({n: pt.tensor(n, shape=grid.shape) for n in coupling.latents})
    coupling.check(fields)
    with build.model:
        coupling.add_to_model(build, fields)
    return [build.values[n] for n in coupling.latents], build


def log_p(coupling, grid, values, **prior):
    """Return the log-density of a coupling for fields in physical units."""
    inputs, build = add(coupling, grid, **prior)
    function = pytensor.function(inputs, build.log_priors[coupling.name], mode=UNOPTIMISED)
    return float(function(*values))
