"""SimPEG as an oracle, where it is installed: `pip install "simpeg==0.26.*"`.

Vectors of SimPEG have the first axis fastest: order F of an array over (x, y, ..).
"""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._graph.compile import INTERPRETED
from bayesjoint._local.mode import maximum_a_posteriori
from tests.helpers import data
from tests.structural import SD, add, log_p

simpeg = pytest.importorskip("simpeg")
discretize = pytest.importorskip("discretize")

from simpeg import data_misfit, maps, optimization, regularization  # noqa: E402
from simpeg.inverse_problem import BaseInvProblem  # noqa: E402
from simpeg.simulation import LinearSimulation  # noqa: E402

WIDTHS = {
    "even": [np.full(6, 2.0), np.full(5, 1.0)],
    "uneven": [np.array([4.0, 2.0, 1.0, 1.5, 3.0]), np.array([1.0, 1.5, 2.5, 4.0])],
    "even 3-D": [np.full(4, 2.0), np.full(3, 1.0), np.full(3, 5.0)],
    "uneven 3-D": [np.array([3.0, 2.0, 1.0, 2.0]), np.array([1.0, 1.5, 2.5]), np.ones(3)],
}


@pytest.fixture(params=WIDTHS)
def mesh(request):
    return discretize.TensorMesh(WIDTHS[request.param])


def grid_of(mesh):
    centres = [mesh.cell_centers_x, mesh.cell_centers_y]
    centres += [mesh.cell_centers_z] if mesh.dim == 3 else []
    return bj.Grid(**dict(zip("xyz", centres, strict=False)))


def wires(mesh):
    return maps.Wires(("a", mesh.n_cells), ("b", mesh.n_cells))


def length_of(grid):
    return np.prod(grid.extent) ** (1 / len(grid.dims))


def weights_of(mesh, grid, weight):
    """Weights that turn the volumes of the grid into those of the mesh."""
    shares = grid.volumes / grid.volumes.sum()
    return weight * mesh.cell_volumes.reshape(grid.shape, order="F") / shares


def flat(arrays):
    return np.concatenate([np.ravel(array, order="F") for array in arrays])


def with_gradient(coupling, grid, values):
    inputs, build = add(coupling, grid)
    density = build.log_priors[coupling.name]
    function = pytensor.function(inputs, [density, *pt.grad(density, inputs)], mode=INTERPRETED)
    value, *parts = function(*values)
    return float(value), flat(parts)


def pair(grid, rng):
    return [SD[name] * rng.normal(size=grid.shape) for name in "ab"]


def factor_of(grid):
    """What `-log p` is in units of SimPEG's objective, for a weight of one."""
    return 0.5 * length_of(grid) ** 4 / (SD["a"] * SD["b"]) ** 2


def test_the_face_form_is_that_of_simpeg(mesh, rng):
    grid = grid_of(mesh)
    values = pair(grid, rng)
    theirs = regularization.CrossGradient(mesh, wires(mesh))
    factor = factor_of(grid)
    ours = bj.CrossGradient("a", "b", weight=weights_of(mesh, grid, 1.0), form="face")
    value, gradient = with_gradient(ours, grid, values)
    assert value == pytest.approx(-factor * theirs(flat(values)), rel=1e-10)
    np.testing.assert_allclose(gradient, -factor * theirs.deriv(flat(values)), rtol=1e-8)


def test_volumes_agree_on_an_even_mesh_only(rng):
    for name, same in (("even", True), ("uneven", False)):
        mesh = discretize.TensorMesh(WIDTHS[name])
        grid = grid_of(mesh)
        assert np.allclose(grid.volumes.ravel(order="F"), mesh.cell_volumes) is same
        if same:
            values = pair(grid, rng)
            theirs = regularization.CrossGradient(mesh, wires(mesh))(flat(values))
            found = log_p(bj.CrossGradient("a", "b", weight=3.0, form="face"), grid, values)
            factor = 3.0 * factor_of(grid) / mesh.cell_volumes.sum()
            assert found == pytest.approx(-factor * theirs, rel=1e-10)


def test_a_mask_is_its_active_cells(mesh, rng):
    grid = grid_of(mesh)
    values = pair(grid, rng)
    mask = rng.random(grid.shape) < 0.7
    active = mask.ravel(order="F")
    some = maps.Wires(("a", active.sum()), ("b", active.sum()))
    theirs = regularization.CrossGradient(mesh, some, active_cells=active)
    ours = bj.CrossGradient("a", "b", weight=weights_of(mesh, grid, 1.0), form="face", mask=mask)
    expected = theirs(np.concatenate([np.ravel(v, order="F")[active] for v in values]))
    assert log_p(ours, grid, values) == pytest.approx(-factor_of(grid) * expected, rel=1e-10)


def test_joint_total_variation_is_that_of_simpeg(mesh, rng):
    grid = grid_of(mesh)
    values, scales = pair(grid, rng), {"a": 1.0, "b": 1.0}
    theirs = regularization.JointTotalVariation(mesh, wires(mesh), eps=0.01)
    length = length_of(grid)
    ours = bj.JointTotalVariation(
        "a", "b", weight=weights_of(mesh, grid, 1.0), epsilon=0.1 * length, scales=scales,
        form="face",
    )  # fmt: skip
    value, gradient = with_gradient(ours, grid, values)
    assert value == pytest.approx(-length * theirs(flat(values)), rel=1e-10)
    np.testing.assert_allclose(gradient, -length * theirs.deriv(flat(values)), rtol=1e-8)


# Gravity and magnetics over one section.


def section(kind):
    if kind == "even":
        return discretize.TensorMesh([np.full(10, 10.0), np.full(6, 8.0)])
    x = np.array([20.0, 12.0, 8.0, 8.0, 8.0, 8.0, 12.0, 20.0])
    return discretize.TensorMesh([x, np.array([4.0, 6.0, 9.0, 13.0, 19.0])])


def kernels(mesh):
    """Attraction of line masses, and the field of vertical line dipoles, at stations above."""
    stations = np.linspace(0.0, mesh.h[0].sum(), 14)
    across = mesh.cell_centers[:, 0] - stations[:, None]
    below = mesh.cell_centers[:, 1] + 3.0
    square = across**2 + below**2
    gravity = mesh.cell_volumes * below / square
    magnetics = mesh.cell_volumes * (below**2 - across**2) / square**2
    return {"a": gravity / np.abs(gravity).max(), "b": magnetics / np.abs(magnetics).max()}


def truths(mesh):
    x, y = mesh.cell_centers.T
    inside = np.exp(-(((x - 45.0) / 20.0) ** 2) - ((y - 18.0) / 10.0) ** 2)
    return {"a": inside, "b": 0.6 * inside + 0.3 * (x > 70.0)}


NOISE, WEIGHT = 0.03, 30_000.0  # of data, of the cross-gradient in SimPEG's objective


def objective_of_simpeg(mesh, matrices, observed):
    """Return misfits, penalty, and the matrices of the quadratic parts of the penalty."""
    both, misfits, smoothing = wires(mesh), [], []
    for name in "ab":
        simulation = LinearSimulation(G=matrices[name], model_map=getattr(both, name))
        made = simpeg.data.Data(
            simulation.survey, dobs=observed[name], standard_deviation=np.full(14, NOISE)
        )
        misfits.append(data_misfit.L2DataMisfit(made, simulation))
        smoothing.append(
            regularization.WeightedLeastSquares(
                mesh,
                mapping=getattr(both, name),
                alpha_s=0.01,
                alpha_x=1.0,
                alpha_y=1.0,
                reference_model=np.zeros(2 * mesh.n_cells),
            )  # fmt: skip
        )
    penalty = smoothing[0] + smoothing[1] + WEIGHT * regularization.CrossGradient(mesh, both)
    size, start = mesh.n_cells, np.zeros(2 * mesh.n_cells)
    halves = [np.asarray(part.deriv2(start).todense()) / 2 for part in smoothing]
    return misfits[0] + misfits[1], penalty, [halves[0][:size, :size], halves[1][size:, size:]]


def minimum_of_simpeg(misfit, penalty, size):
    optimiser = optimization.InexactGaussNewton(
        maxIter=100, cg_maxiter=200, cg_rtol=1e-6, cg_atol=0.0, tolF=1e-14, tolX=1e-10, tolG=1e-8
    )
    problem = BaseInvProblem(misfit, penalty, optimiser, beta=1.0)
    start = np.full(size, 1e-3)
    problem.startup(start)
    return optimiser.minimize(problem.evalFunction, start)


def maximum(fields, modalities, *couplings):
    problem = bj.JointProblem(latents=fields, modalities=modalities, couplings=couplings)
    functions = ModelFunctions(problem)
    mode = maximum_a_posteriori(functions)
    assert mode.converged
    return flat(functions.compile([functions.build.values[n] for n in "ab"])(mode.point))


def modality(name, matrix, observed):
    forward = bj.linear_map(matrix, name)
    return bj.Modality(f"over_{name}", data(observed), forward, bj.GaussianNoise(sd=NOISE))


@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_the_maximum_of_the_posterior_is_its_minimum(kind, rng):
    """Smallness and smoothness of SimPEG are the precision of a field; one objective, two codes."""
    mesh = section(kind)
    grid, matrices, truth = grid_of(mesh), kernels(mesh), truths(mesh)
    observed = {n: matrices[n] @ truth[n] + NOISE * rng.standard_normal(14) for n in "ab"}
    misfit, penalty, precision = objective_of_simpeg(mesh, matrices, observed)
    theirs = minimum_of_simpeg(misfit, penalty, 2 * mesh.n_cells)
    order = np.arange(grid.size).reshape(grid.shape, order="F").ravel()  # F to C
    fields = [
        bj.GaussianField(name, grid, precision=matrix[np.ix_(order, order)])
        for name, matrix in zip("ab", precision, strict=True)
    ]
    sd = [np.sqrt(np.mean(np.diag(np.linalg.inv(matrix)))) for matrix in precision]
    weight = weights_of(mesh, grid, WEIGHT * (sd[0] * sd[1]) ** 2 / length_of(grid) ** 4)
    modalities = [modality(n, matrices[n][:, order], observed[n]) for n in "ab"]
    coupling = bj.CrossGradient("a", "b", weight=weight, form="face")
    ours, alone = maximum(fields, modalities, coupling), maximum(fields, modalities)
    norm = np.linalg.norm(theirs)
    assert np.linalg.norm(ours - theirs) < 0.002 * norm
    assert np.linalg.norm(alone - theirs) > 0.1 * norm  # the coupling matters
    heights = [misfit(m) + penalty(m) for m in (ours, theirs, alone)]
    assert heights[0] == pytest.approx(heights[1], rel=1e-5)
    assert heights[2] > 1.01 * heights[1]
