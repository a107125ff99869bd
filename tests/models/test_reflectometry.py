"""The reflectometry model against refnx, an independent code, and its own formulas."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.gradient import pullback
from scipy.optimize import least_squares

import bayesjoint as bj

refnx_reflect = pytest.importorskip("refnx.reflect")

FILE = Path(__file__).parents[2] / "models" / "reflectometry.py"
Q = np.geomspace(0.005, 0.4, 300)
FILM = [
    [0, 2.07, 0, 0],
    [10, 3.47, 0, 4],
    [212, 0.4, 0, 4],
]  # refnx: thickness, SLD, loss, roughness


def _load():
    spec = importlib.util.spec_from_file_location("reflectometry", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reflectometry"] = module
    spec.loader.exec_module(module)
    return module


model = _load()


def random_stack(seed: int, layers: int, lossy: bool) -> np.ndarray:
    """Media from silicon downwards, in the columns of refnx; the backing has a critical edge."""
    rng = np.random.default_rng(seed)
    stack = np.zeros((layers + 2, 4))
    stack[:, 0] = rng.uniform(1, 400, layers + 2)
    stack[:, 1] = rng.uniform(-0.6, 6.5, layers + 2)
    stack[0, 1], stack[-1, 1] = 2.07, 6.36
    stack[1:, 2] = rng.uniform(0, 0.01, layers + 1) if lossy else 0
    stack[1:, 3] = rng.uniform(0, 8, layers + 1)
    return stack


def reflectivity(q: np.ndarray, stack: np.ndarray) -> np.ndarray:
    thickness, sld, loss, roughness = stack.T
    curve = model.reflectivity(q, list(sld), list(thickness[1:-1]), list(roughness[1:]), list(loss))
    return pytensor.function([], curve, mode="FAST_COMPILE")()


def around_the_edge(stack: np.ndarray) -> np.ndarray:
    edge = np.sqrt(16e-6 * np.pi * (stack[-1, 1] - stack[0, 1]))
    return np.sort(np.append(Q, edge * (1 + np.array([-1e-3, -1e-8, 0, 1e-8, 1e-3]))))


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_reflectivity_is_that_of_refnx(layers, lossy):
    stack = random_stack(layers, layers, lossy)
    q = around_the_edge(stack)
    np.testing.assert_allclose(reflectivity(q, stack), refnx_reflect.abeles(q, stack), rtol=1e-8)


@pytest.mark.slow
def test_without_loss_everything_is_reflected_below_the_critical_edge():
    curve = reflectivity(np.linspace(1e-3, 0.0146, 20), random_stack(3, 2, lossy=False))
    np.testing.assert_allclose(curve, 1.0, rtol=1e-12)


def test_thick_evanescent_layers_do_not_overflow():
    stack = np.array([[0, 2.07, 0, 0], [1e6, 6.36, 0, 3], [0, 2.07, 0, 3]])
    np.testing.assert_allclose(reflectivity(np.array([0.005]), stack), 1.0, rtol=1e-12)


def test_a_stack_whose_parts_do_not_fit_says_what_it_needs():
    with pytest.raises(
        ValueError, match="4 media need 2 thicknesses and 3 roughnesses, got 1 and 3"
    ):
        model.reflectivity(Q, [2.07, 3.47, 1.0, 6.36], [10.0], [3.0, 3.0, 3.0])


def film_curve_and_gradient(q):
    values = [pt.dscalar(name) for name in "trshowlbc"]
    curve = model.FilmCurve(q)(*values)
    weights = pt.dvector("weights")
    pulled = pullback(curve, values, weights)
    settings = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
    return (
        pytensor.function(values, curve, **settings),
        pytensor.function([*values, weights], pulled, **settings),
    )


# thickness, roughness, SLD, hydration, oxide, wafer, solvent, scale, background
AT = np.array([212.0, 5.0, 0.4, 0.03, 10.0, 4.0, 6.36, 1.02, 20.0])


def test_gradient_is_that_of_finite_differences():
    curve, gradient = film_curve_and_gradient(Q)
    weights = np.random.default_rng(0).normal(size=Q.size) / curve(*AT)
    for index, pulled in enumerate(gradient(*AT, weights)):
        step = np.zeros(AT.size)
        step[index] = 1e-6 * AT[index]
        expected = weights @ (curve(*(AT + step)) - curve(*(AT - step))) / (2 * step[index])
        assert pulled == pytest.approx(expected, rel=1e-5)


def test_gradient_is_finite_at_and_around_the_critical_edge():
    q = around_the_edge(np.array([[0, 2.07, 0, 0], [0, 6.36, 0, 0]]))
    _, gradient = film_curve_and_gradient(q)
    for weights in np.eye(q.size):
        assert np.all(np.isfinite(gradient(*AT, weights)))


def integrated(q: np.ndarray, stack: np.ndarray, fwhm: float, reach: float) -> np.ndarray:
    """Average over the resolution on a very fine grid, out to ``reach`` sd."""
    steps = np.linspace(-reach, reach, 20_001)
    weights = np.exp(-0.5 * steps**2)
    nodes = q[:, None] * (1 + fwhm / np.sqrt(8 * np.log(2)) * steps)
    return refnx_reflect.abeles(nodes, stack) @ weights / weights.sum()


@pytest.mark.parametrize("solvent", [6.36, 3.47, -0.56])
def test_resolution_is_exact_but_for_the_kink_at_the_critical_edge(solvent):
    q = np.geomspace(0.007, 0.2, 99)
    stack = np.array([*FILM, [0, solvent, 0, 6]])
    edge = np.sqrt(16e-6 * np.pi * abs(solvent - 2.07))
    nodes, smearing = model.resolution_operator(q, 0.05, edge)
    error = smearing @ reflectivity(nodes, stack) / integrated(q, stack, 0.05, reach=8.0) - 1
    assert np.abs(error).max() < 1e-4
    assert np.abs(error[q > 0.02]).max() < 1e-6
    np.testing.assert_allclose(smearing.sum(axis=1), 1.0, rtol=1e-12)
    assert nodes.size < 400


def test_the_curve_is_nearly_smooth_as_the_critical_edge_crosses_the_nodes():
    q = np.geomspace(0.007, 0.2, 99)
    nodes, smearing = model.resolution_operator(q, 0.05, np.sqrt(16e-6 * np.pi * (6.36 - 2.07)))
    for solvent in 6.36 + np.array([-0.15, -0.08, 0.0, 0.03, 0.11]):  # three prior sd
        stack = np.array([*FILM, [0, solvent, 0, 6]])
        error = smearing @ reflectivity(nodes, stack) / integrated(q, stack, 0.05, reach=8.0) - 1
        assert np.abs(error).max() < 2e-4


def test_resolution_is_that_of_refnx_once_cut_off_where_refnx_does():
    """refnx ends its Gaussian at 3.5 sd and does not renormalise: it loses 4.7e-4 of the curve."""
    q = np.geomspace(0.007, 0.2, 40)
    stack = np.array([*FILM, [0, -0.56, 0, 6]])
    theirs = refnx_reflect.reflectivity(q, stack, bkg=0.0, dq=0.05 * q, quad_order=61)
    kept = 0.999534741841929  # of a Gaussian, within 3.5 sd
    np.testing.assert_allclose(integrated(q, stack, 0.05, reach=3.5), theirs / kept, rtol=1e-6)
    nodes, smearing = model.resolution_operator(q, 0.05, 0.0115)
    np.testing.assert_allclose(smearing @ reflectivity(nodes, stack), theirs / kept, rtol=2e-3)


def test_loader_gives_three_labelled_curves():
    curves = model.load_contrasts()
    assert list(curves) == ["heavy_water", "matched_water", "light_water"]
    for name, curve in curves.items():
        q = curve[f"{name}_q"]
        assert curve.sizes == {f"{name}_q": 99}
        assert q.attrs["units"] == "1/Å"
        assert np.all(np.diff(q) > 0)
        assert np.all(curve.sd > 0) and np.all(curve.reflectivity > 0)
        np.testing.assert_allclose(curve.log_q, np.log(q))


def test_loader_without_refnx_names_the_extra(monkeypatch):
    monkeypatch.setattr(model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "bayesjoint\[cases\]"'):
        model.load_contrasts()


def test_loader_names_the_files_that_are_missing(tmp_path):
    with pytest.raises(ValueError, match=r"has no e361r\.txt, e365r\.txt, e366r\.txt"):
        model.load_contrasts(tmp_path)


def test_global_fit_is_that_of_refnx():
    """Seven parameters, roughness fixed, as in refnx's own test of co-refinement.

    There the fit gives film 211.15 ± 0.2 Å, oxide 8.0 ± 0.3 Å and a misfit of 1,499 for 297 data;
    a misfit of five a datum is the reason for the noise scale.
    """
    curves = model.load_contrasts()
    blocks = [_fit_block(c, curves[c.name]) for c in model.CONTRASTS]

    def residuals(x):
        return np.concatenate(
            [block(*x[:4], background) for block, background in zip(blocks, x[4:], strict=True)]
        )

    start, scale = [212, 10, 1, 0.1, 15, 20, 20], [10, 5, 1, 0.1, 10, 10, 10]
    fit = least_squares(residuals, start, x_scale=scale)
    sd = np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))
    assert fit.x[0] == pytest.approx(211.15, abs=0.25)
    assert fit.x[1] == pytest.approx(8.0, abs=0.3)
    assert sd[:2] == pytest.approx([0.2, 0.26], abs=0.03)
    assert 2 * fit.cost == pytest.approx(1499, rel=0.02)


def _fit_block(contrast, curve):
    """Residuals over stated errors of one curve, in the space of R."""
    solvent = contrast.solvent_sld
    edge = np.sqrt(16e-6 * np.pi * abs(solvent - 2.07))
    nodes, smearing = model.resolution_operator(np.exp(curve.log_q.values), 0.05, edge)
    film, oxide, sld, hydration, background = inputs = pt.dscalars(5)
    wet = (1 - hydration) * sld + hydration * solvent
    ideal = model.reflectivity(nodes, [2.07, 3.47, wet, solvent], [oxide, film], [4.0, 3.0, 3.0])
    seen = pt.dot(smearing, ideal) + 1e-6 * background
    misfit = (seen - curve.reflectivity.values) / curve.sd.values
    return pytensor.function(inputs, misfit, mode="FAST_COMPILE")


@pytest.mark.parametrize(("errors", "unknowns"), [("scaled", 18), ("discrepancy", 20)])
def test_problem_builds(errors, unknowns):
    problem = model.problem(errors=errors)
    assert list(problem.modality) == ["heavy_water", "matched_water", "light_water"]
    built = bj.build_model(problem)
    assert len(built.free_RVs) == unknowns


def test_problem_refuses_errors_it_does_not_know():
    with pytest.raises(ValueError, match="'none' is unknown; use scaled, discrepancy or stated"):
        model.problem(errors="none")
