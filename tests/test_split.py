"""The split problem: its latents, couplings and covariance, against the separate problems."""

import pickle
from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._compiled.functions import ModelFunctions
from bayesjoint._compiled.latent_space import LatentSpace
from bayesjoint.couplings._group import digest
from bayesjoint.couplings.normaliser import Normaliser
from tests.helpers import STANDARD, data, log_density

GRID = bj.Grid(depth=np.arange(3.0), x=np.arange(4.0))
POINTS = np.linspace(0.0, 4.0, 6)


def volcano(**changes):
    """Two instruments see one displacement field, whose physics has an error of its own."""
    rng = np.random.default_rng(3)
    field = bj.linear_map(
        {"depth": rng.normal(size=(6, 1)), "volume": rng.normal(size=(6, 1))},
        name="displacement",
        input_units={"depth": "m"},
        coords={"x": POINTS},
    )
    sights = {"gnss": rng.normal(size=(4, 6)), "insar": rng.normal(size=(5, 6))}
    modalities = [
        bj.Modality(
            name, data(rng.normal(size=len(h)), f"{name}_point"), field,
            bj.GaussianNoise(sd=bj.Prior(pm.HalfNormal, sigma=0.3)), observe=h,
        )
        for name, h in sights.items()
    ]  # fmt: skip
    given = {
        "latents": [bj.Parameter(n, STANDARD, units="m") for n in ("depth", "volume")],
        "modalities": modalities,
        "discrepancy": bj.JointDiscrepancy(of=field, sd=0.4, on="x", length_scale=1.0),
    }
    return bj.JointProblem(**given | changes)


def test_shared_latents_are_copied_and_read_by_renamed_maps():
    split = volcano().split()
    assert list(split.latent) == ["depth__gnss", "volume__gnss", "depth__insar", "volume__insar"]
    for name, modality in split.modality.items():
        assert modality.forward.latents == (f"depth__{name}", f"volume__{name}")
        assert modality.forward.input_units == {f"depth__{name}": "m"}
        assert modality.forward.origin is volcano_map(split)
    assert split.latent["depth__gnss"].units == "m"
    again = split.split()
    assert list(again.latent) == list(split.latent)


def volcano_map(problem):
    return problem.discrepancies[0].of


def test_the_covariance_of_all_errors_stays_with_a_discrepancy_of_the_shared_map():
    problem = volcano()
    whole, apart = (ModelFunctions(p) for p in (problem, problem.split()))
    first, second = (f.errors(f.initial) for f in (whole, apart))
    np.testing.assert_allclose(first.variance, second.variance)
    crossed = (first.factor @ first.factor.T)[:4, 4:]
    assert np.abs(crossed).max() > 0.01
    np.testing.assert_allclose(second.factor @ second.factor.T, first.factor @ first.factor.T)


@pytest.mark.slow
def test_predictions_and_density_agree_where_the_copies_are_equal():
    problem = volcano()
    split = problem.split()
    values = {"depth": 0.3, "volume": -1.2, "gnss_sd": 0.2, "insar_sd": 0.4}
    copies = {f"{k}__{m}": values[k] for k in ("depth", "volume") for m in split.modality}
    whole, apart = (ModelFunctions(p) for p in (problem, split))
    one = LatentSpace(whole).point_of_values(values)
    two = LatentSpace(apart).point_of_values(values | copies)
    np.testing.assert_allclose(apart.outputs(two), whole.outputs(one), atol=1e-12)
    prior_of_copies = -0.5 * (0.3**2 + 1.2**2 + 2 * np.log(2 * np.pi))
    np.testing.assert_allclose(
        float(apart.density(two)[0]) - prior_of_copies, float(whole.density(one)[0]), rtol=1e-10
    )


def test_a_split_problem_is_pickled_with_its_shared_discrepancy():
    split = pickle.loads(pickle.dumps(volcano().split()))
    discrepancy = split.discrepancies[0]
    assert discrepancy.touches(split.modality) == ["gnss", "insar"]
    assert split.without("gnss").discrepancies[0].touches(split.without("gnss").modality) == [
        "insar"
    ]


def test_a_modality_that_sees_the_errors_alone_stays_as_it_is():
    values = np.array([0.1, 0.4])
    channels = [
        bj.Modality(
            name, data(values, f"{name}_scan"), bj.linear_map(np.ones((2, 1)), "warmth"),
            bj.GaussianNoise(sd=0.1),
        )
        for name in ("first", "second")
    ]  # fmt: skip
    thermometer = bj.Modality(
        "thermometer", data(values, "reading"), None, bj.GaussianNoise(sd=0.1)
    )
    problem = bj.JointProblem(
        latents=[bj.Parameter("warmth", STANDARD)],
        modalities=[*channels, thermometer],
        discrepancy=bj.JointDiscrepancy(
            sd=1.0, loadings={"first": 0.3, "second": 0.4, "thermometer": 1.0}
        ),
    )
    split = problem.split()
    assert list(split.latent) == ["warmth__first", "warmth__second"]
    assert split.modality["thermometer"] is thermometer


def archie(porosity, factor):
    return factor * porosity


def fields(couplings, reads):
    """Two modalities on some of the fields a, b, c."""
    names = ("a", "b", "c")
    latents = [bj.GaussianField(n, GRID, sd=1.0, length_scale=2.0) for n in names]
    modalities = [
        bj.Modality(
            name, data(np.zeros(3), f"{name}_point"),
            bj.linear_map({n: np.ones((3, GRID.size)) for n in read}), bj.GaussianNoise(sd=1.0),
        )
        for name, read in reads.items()
    ]  # fmt: skip
    return bj.JointProblem(latents=latents, modalities=modalities, couplings=couplings)


COUPLINGS = [
    bj.CrossGradient("a", "b", weight=2.0, normalisation="range", scales={"a": 1.0, "b": 2.0}),
    bj.CrossGradient("a", guide=np.outer(np.arange(3.0), np.ones(4)), weight=2.0),
    bj.JointTotalVariation("a", "b", weight=2.0, epsilon=1.0, scales={"a": 1.0, "b": 3.0}),
    bj.JointSparsity("a", "b", weight=2.0, epsilon=1.0, nu=2.0),
    bj.CorrelatedFields("a", "b", correlation=bj.Prior(pm.Uniform, lower=-1, upper=1)),
    bj.PropertyRelation("b", given="a", function=archie, coefficients={"factor": 2.0}),
]


@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda c: type(c).__name__)
def test_a_coupling_of_other_names_is_the_same(coupling):
    renamed = coupling.renamed({"a": "first", "b": "second"})
    swapped = {"a": "first", "b": "second"}
    assert renamed.latents == tuple(swapped[name] for name in coupling.latents)
    assert renamed.name == coupling.name.replace("_a", "_first").replace("_b", "_second")
    for setting in ("weight", "epsilon", "nu", "form", "correlation", "coefficients"):
        assert getattr(renamed, setting, None) == getattr(coupling, setting, None)
    if getattr(coupling, "scales", None):
        assert dict(renamed.scales) == {swapped[k]: v for k, v in coupling.scales.items()}


@pytest.mark.parametrize(
    "coupling",
    [pytest.param(c, marks=pytest.mark.slow) if i in (1, 2, 3, 4) else c
     for i, c in enumerate(COUPLINGS)],
    ids=lambda c: type(c).__name__,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_couplings_follow_each_modality_and_equal_those_of_the_separate_problems(coupling):
    problem = fields([coupling], {"first": "ab", "second": "abc"})
    split, separate = problem.split(), problem.separate()
    assert [c.name for c in split.couplings] == [
        c.renamed({n: f"{n}__{m}" for n in "ab"}).name for m in separate for c in [coupling]
    ]
    assert list(split.latent)[-1] == "c"
    densities = [ModelFunctions(p) for p in (split, *separate.values())]
    rng = np.random.default_rng(1)
    apart = [rng.normal(size=f.size) for f in densities[1:]]
    point = densities[0].initial.copy()
    for (name, alone), functions, values in zip(
        separate.items(), densities[1:], apart, strict=True
    ):
        for variable, where in functions.slices.items():
            point[densities[0].slices[_moved(variable, name, alone)]] = values[where]
    found, *parts = (
        float(f.density(p)[0]) for f, p in zip(densities, [point, *apart], strict=True)
    )
    assert found == pytest.approx(sum(parts), rel=1e-10)


def _moved(variable, modality, alone):
    """Return the name of a free variable of a separate problem in the split one."""
    names = {n: n if n == "c" else f"{n}__{modality}" for n in alone.latent}
    if variable.startswith("correlation_"):
        return f"correlation_{names['a']}_{names['b']}_white"
    stem = variable.removesuffix("_white")
    return f"{names[stem]}_white"


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_a_coupling_between_modalities_is_left_out_and_latents_of_one_keep_their_names():
    problem = fields([COUPLINGS[0]], {"first": "a", "second": "bc"})
    split = problem.split()
    assert list(split.latent) == ["a", "b", "c"]
    assert split.couplings == ()
    assert split.modality["first"].forward is problem.modality["first"].forward


def test_a_normaliser_of_the_weight_serves_the_copies():
    weight = bj.Prior(pm.LogNormal, mu=0.0, sigma=0.3)
    plain = fields([bj.CrossGradient("a", "b", weight=1.0)], {"first": "abc", "second": "ab"})
    made_for = digest(plain.couplings[0], plain.latent, plain.couplings)
    grid = np.linspace(0.0, 4.0, 8)
    table = Normaliser(grid, 1.0 / (1.0 + grid), np.full(8, 1e-4), made_for)
    unknown = bj.CrossGradient("a", "b", weight=weight, normaliser=table)
    split = plain.replace(couplings=[unknown]).split()
    assert [c.normaliser.log_z(2.0) for c in split.couplings] == [table.log_z(2.0)] * 2


def test_what_is_held_is_known_in_the_problem_and_when_it_is_split():
    problem = volcano()
    held = problem.hold({"gnss_sd": 0.25})
    for made in (held, held.split()):
        hyper = [u.name for u in ModelFunctions(made).build.unknowns if u.kind == "hyperparameter"]
        assert hyper == ["insar_sd"]
    gnss, insar = problem.modalities
    known = problem.replace(modalities=[replace(gnss, noise=bj.GaussianNoise(sd=0.25)), insar])
    first, second = (log_density(bj.build_model(p)) for p in (held, known))
    names = {v.name for v in bj.build_model(known).value_vars}
    point = dict.fromkeys(names, 0.3)
    assert first(**point) == pytest.approx(second(**point), rel=1e-12)


@pytest.mark.slow
def test_a_tree_says_where_errors_are_held():
    problem = volcano()
    tree = bj.linearize(problem, backend="interpreted")
    held = problem.hold(tree)
    for name, modality in held.modality.items():
        assert modality.noise.sd == tree["linearization"][f"{name}_sd"]
    again = bj.linearize(held, backend="interpreted")["linearization"]
    assert list(again.attrs["hyperparameters"]) == []


def test_errors_of_hold_name_the_cure():
    with pytest.raises(
        ValueError,
        match=r"hold: there is no hyperparameter \['sd'\]; there are \['gnss_sd', 'insar_sd'\]",
    ):
        volcano().hold({"sd": 1.0})
    with pytest.raises(ValueError, match=r"at one point; give that of bj.linearize"):
        volcano().hold(xr.DataTree())


@pytest.mark.slow
def test_tension_names_the_errors_that_were_fitted_anew():
    insar = volcano().modality["insar"].data
    problem = volcano().with_data(xr.Dataset({"insar": insar.copy(data=np.linspace(-3.0, 3.0, 5))}))
    joint = bj.linearize(problem, backend="interpreted")
    held = problem.hold(joint)
    reports = [
        bj.tension(*(bj.linearize(p, backend="interpreted") for p in (given, given.split())))
        for given in (problem, held)
    ]
    assert [r.attrs["fitted_anew"] for r in reports] == [["gnss_sd", "insar_sd"], []]
    said = [any("fitted anew" in words for words in r.attrs["words"]) for r in reports]
    assert said == [True, False]
    # Nine data: only with known errors is d that of the two parameters.
    assert reports[0]["d"] < 0 and reports[1]["d"] == pytest.approx(2.0, abs=0.2)
