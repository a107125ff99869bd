"""Wrong derivatives that are wrong by little, in few columns, or in a part of the space only."""

import numpy as np
import pymc as pm
import pytest

import bayesjoint as bj
from bayesjoint._graph.derivatives import Derivative, check
from bayesjoint.problem import build
from tests.helpers import STANDARD, data, evaluator

SEEDS = range(12)


class Physics:
    """The map tanh(A x) in n latents, and what a user may get wrong or round."""

    def __init__(self, seed, columns, rows=20, density=1.0):
        self.rng = np.random.default_rng([14, seed])
        self.matrix = self.rng.normal(size=(rows, columns)) / np.sqrt(columns)
        self.matrix *= self.rng.random(self.matrix.shape) < density
        self.calls = 0

    def function(self, x):
        self.calls += 1
        return np.tanh(self.matrix @ x)

    def jacobian(self, x):
        return (1 - np.tanh(self.matrix @ x) ** 2)[:, None] * self.matrix

    def checked(self, factor=1.0, function=None, jacobian=None):
        """Check a Jacobian that is the right one times a factor, at three prior draws."""
        function, right = function or self.function, jacobian or self.jacobian
        tested = Derivative(
            "m", ["x"], lambda values: function(*values),
            vjp=lambda values, w: [(factor * right(*values)).T @ w],
            jvp=lambda values, tangents: (factor * right(*values)) @ tangents[0],
        )  # fmt: skip
        columns = self.matrix.shape[1]
        draws = [[self.rng.normal(size=columns)] for _ in range(3)]
        check(tested, draws, [np.ones(columns)])


@pytest.mark.parametrize("columns", [1, 5, 300])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_jacobian_that_is_one_per_cent_too_large_is_found(seed, columns):
    with pytest.raises(ValueError, match="map 'm': the derivative with respect to 'x' is wrong"):
        Physics(seed, columns).checked(1.01)


@pytest.mark.parametrize(
    ("columns", "wrong"), [(300, 1.1), (3_000, 1.01), (3_000, 0.0), (300, 1.01)]
)
@pytest.mark.parametrize("density", [1.0, 0.1])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_wrong_column_is_found_and_named(seed, columns, wrong, density):
    physics = Physics(seed, columns, density=density)
    heavy = np.argsort(np.linalg.norm(physics.matrix, axis=0))[columns // 2 :]
    factor, column = np.ones(columns), int(physics.rng.choice(heavy))
    factor[column] = wrong
    with pytest.raises(ValueError, match=f"worst entry is datum [0-9]+, element {column}: "):
        physics.checked(factor)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_wrong_row_is_found(seed):
    physics = Physics(seed, 300, rows=500)
    factor = np.ones((500, 1))
    factor[123] = 1.5
    with pytest.raises(ValueError, match="worst entry is datum 123, element"):
        physics.checked(factor)


@pytest.mark.parametrize("columns", [1, 30, 3_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_jacobian_passes_in_few_evaluations(seed, columns):
    physics = Physics(seed, columns)
    physics.checked()
    assert physics.calls <= 3 * 33


ROUGH = {
    "single precision": lambda f: lambda x: f(x).astype("float32"),
    "printed to five digits": lambda f: lambda x: np.round(f(x), 5),
    "a solver's noise": lambda f: lambda x: f(x) + 1e-6 * np.sin(1e9 * x.sum() + np.arange(20)),
    "a large offset": lambda f: lambda x: 1e6 + f(x),
}


@pytest.mark.parametrize("kind", ROUGH)
@pytest.mark.parametrize("columns", [1, 30, 1_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_right_jacobian_of_a_rough_output_passes_and_a_wrong_one_does_not(seed, columns, kind):
    physics = Physics(seed, columns)
    rough = ROUGH[kind](physics.function)
    physics.checked(function=rough)
    with pytest.raises(ValueError, match="is wrong"):
        physics.checked(1.1, function=rough)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_jacobian_in_single_precision_passes(seed):
    physics = Physics(seed, 300)
    physics.checked(jacobian=lambda x: physics.jacobian(x).astype("float32"))


@pytest.mark.parametrize("columns", [1, 30, 1_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_kinks_pass_also_at_the_kink_itself(seed, columns):
    physics = Physics(seed, columns)

    def kinked(x):
        return np.abs(physics.matrix @ x) + np.maximum(x.mean(), 0.0)

    def one_sided(x):
        slope = np.where(physics.matrix @ x >= 0, 1.0, -1.0)[:, None] * physics.matrix
        return slope + (x.mean() >= 0) / x.size

    physics.checked(function=kinked, jacobian=one_sided)
    tested = Derivative(
        "m", ["x"], lambda values: kinked(*values),
        vjp=lambda values, w: [one_sided(*values).T @ w],
        jvp=lambda values, tangents: one_sided(*values) @ tangents[0],
    )  # fmt: skip
    check(tested, [[np.zeros(columns)]], [np.ones(columns)])


def test_an_approximate_jacobian_of_a_solver_passes():
    """A kernel that is off by 0.1 % everywhere, as of codes for surface waves."""
    physics = Physics(0, 200)
    physics.checked(1 + 1e-3 * physics.rng.normal(size=(20, 200)))


# In a part of the space only.


def partly_wrong(beyond):
    """A square whose slope is taken twice beyond a value that the prior hardly reaches."""
    return bj.numpy_map(
        lambda v: np.array([v**2]),
        "speed",
        jacobian=lambda v: np.array([[2 * v * (2.0 if v > beyond else 1.0)]]),
        name="square",
    )


def seen(forward, value, sd=0.01):
    speed = bj.Parameter("speed", bj.Prior(pm.Normal, mu=2.0, sigma=0.1))
    modality = bj.Modality("m", data([value]), forward, bj.GaussianNoise(sd=sd))
    return bj.JointProblem(latents=[speed], modalities=[modality])


def test_a_derivative_that_is_wrong_at_the_mode_alone_is_found():
    problem = seen(partly_wrong(2.5), 7.29)  # at the mode the speed is 2.7, seven sd from the prior
    with pytest.raises(ValueError, match=r"map 'square': .* \(at the maximum a posteriori\)"):
        bj.linearize(problem, starts=1)


def test_a_derivative_that_is_wrong_where_the_chains_are_is_found(monkeypatch):
    monkeypatch.setattr("bayesjoint.linearization.recheck", lambda *arguments: None)
    problem = seen(partly_wrong(2.5), 7.29)
    with pytest.raises(ValueError, match=r"map 'square': .* \(at the end of the warm-up\)"):
        bj.sample(problem, draws=20, tune=50, chains=1, random_seed=1, progress=False)


def test_a_right_derivative_passes_there():
    bj.linearize(seen(partly_wrong(np.inf), 7.29), starts=1)


# What a derivative returns.


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"jacobian": lambda x: None}, "jacobian returned None; is a return missing"),
        (
            {"jacobian": lambda x: np.ones((2, 1), complex)},
            "what jacobian returned: these are complex",
        ),
        (
            {"jvp": lambda v, t: np.ones(3), "vjp": lambda v, w: w.sum()},
            r"jvp returned an array of shape \(3,\); 2 needed, one number an output",
        ),
        (
            {"jvp": lambda v, t: np.ones(2) * t[0], "vjp": lambda v, w: None},
            "vjp returned None; is a return missing",
        ),
        (
            {"jvp": lambda v, t: np.ones(2) * t[0], "vjp": lambda v, w: [w, w]},
            "vjp returned 2 arrays for 1 latents",
        ),
        (
            {"jvp": lambda v, t: np.ones(2) * t[0], "vjp": lambda v, w: w},
            r"vjp for 'x' returned an array of shape \(2,\); 1 needed, one number an element",
        ),
        ({"jacobian": lambda x: 1 / 0}, "its derivative fails at a prior draw with ZeroDivision"),
    ],
)
def test_what_a_derivative_returns_is_refused_by_name(actions, message):
    forward = bj.numpy_map(lambda x: x * np.ones(2), "x", name="m", **actions)
    modality = bj.Modality("d", data(np.zeros(2)), forward, bj.GaussianNoise(sd=1.0))
    with pytest.raises(ValueError, match=f"map 'm': .*{message}"):
        bj.JointProblem(latents=[bj.Parameter("x", STANDARD)], modalities=[modality])


# Finite differences.


def differences(function, steps=True, known=None):
    forward = bj.numpy_map(function, "x", finite_differences=steps, name="sim")
    modality = bj.Modality("m", data(np.zeros(3)), forward, bj.GaussianNoise(sd=1.0))
    latent = known or bj.Parameter("x", bj.Prior(pm.Normal, mu=1.0, sigma=0.5))
    return bj.JointProblem(latents=[latent], modalities=[modality])


FREQUENCIES = np.array([1.0, 2.0, 3.0])


def jittery(seed=0, size=1e-4):
    rng = np.random.default_rng(seed)
    return lambda x: np.sin(FREQUENCIES * x) * (1 + size * rng.normal(size=3))


def rough(x):
    return np.sin(FREQUENCIES * x) * (1 + 1e-4 * np.sin(1e9 * x))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jittery(), r"the simulator repeats itself only to [0-9.e-]+ of its output"),
        (rough, r"the simulator is rough, it jumps by [0-9.e-]+ of its output"),
        (
            lambda x: np.sin(FREQUENCIES * x).astype("float32"),
            "the simulator is rough, it jumps by [0-9]e-08 of its output",
        ),
        (lambda x: np.round(np.sin(FREQUENCIES * x), 4), "over a step of [0-9.e-]+ in 'x'"),
    ],
)
def test_noise_of_a_simulator_is_told_as_such(function, message):
    with pytest.raises(ValueError, match=rf"map 'sim': .*{message}.* give a longer step") as told:
        differences(function)
    assert "finite_differences={'x': " in str(told.value)


@pytest.mark.parametrize("function", [jittery(1), rough])
def test_the_step_is_the_users(function):
    """The truncation error of a step h is h^2 / 6 of the third derivative."""
    made = build(differences(function, {"x": 0.02}))
    x, response = made.values["x"], made.responses["m"]
    import pytensor.tensor as pt

    at, slopes = evaluator(made, [x, pt.grad(response.sum(), x)])(x_white=0.3)
    expected = FREQUENCIES @ np.cos(FREQUENCIES * at)
    bias = 0.02**2 / 6 * np.sum(FREQUENCIES**3)
    noise = 4 * 1e-4 * np.sqrt(3) / (np.sqrt(2) * 0.02)  # four sd of the jitter
    assert slopes == pytest.approx(expected, abs=bias + noise)


def test_a_stated_step_that_is_too_short_for_the_noise_is_told():
    with pytest.raises(ValueError, match="over a step of 1e-05 in 'x' are off by"):
        differences(jittery(2), {"x": 1e-5})


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"y": 0.1}, "finite_differences names 'y', which it does not read"),
        ({"x": 0.0}, "the step of 'x' is 0.0; give a positive number"),
        ({"x": "small"}, "the step of 'x' is 'small'; give a positive number"),
        ({"x": np.nan}, "the step of 'x' is nan; give a positive number"),
        (0.1, "finite_differences is 0.1; give True, or the step of each latent"),
    ],
)
def test_steps_that_are_none(steps, message):
    with pytest.raises(ValueError, match=message):
        bj.numpy_map(rough, "x", finite_differences=steps)


def test_differences_of_a_map_that_ignores_a_latent():
    with pytest.raises(ValueError, match="derivative with respect to 'x' is zero everywhere"):
        differences(lambda x: np.ones(3))


def test_a_jittery_simulator_with_its_own_derivative_is_told_and_not_refused():
    forward = bj.numpy_map(
        jittery(3), "x", name="sim",
        jacobian=lambda x: (FREQUENCIES * np.cos(FREQUENCIES * x))[:, None],
    )  # fmt: skip
    modality = bj.Modality("m", data(np.zeros(3)), forward, bj.GaussianNoise(sd=1.0))
    latent = bj.Parameter("x", bj.Prior(pm.Normal, mu=1.0, sigma=0.5))
    with pytest.warns(UserWarning, match="map 'sim': the simulator repeats itself only to"):
        bj.JointProblem(latents=[latent], modalities=[modality])
