"""Names of users meet none of the package's own: all that PyMC and ArviZ can hold can be used."""

import re

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from matplotlib.text import Text

import bayesjoint as bj
from bayesjoint import _names, plots
from bayesjoint._names import plain, user
from bayesjoint._problem import names as problem_names
from bayesjoint.linearization import tree_of
from bayesjoint.problem import build
from bayesjoint.reports import _read
from bayesjoint.reports.example import example_fields
from bayesjoint.reports.example_units import example_units
from tests.helpers import STANDARD

# Beside each other a latent, a dim and a modality or another latent: see `walks`.
ROLES = ("earth", "drift", "gain", "z", "x", "channel", "gravity", "wave", "arrivals")
ORDINARY = {role: role for role in (*ROLES, "station", "ray", "easting")}
AWKWARD = {
    "earth": "dofs", "drift": "prior_sd", "gain": "eigenvalues", "wave": "n_data",
    "z": "cell", "x": "point", "channel": "parameter", "station": "datum", "ray": "mode",
    "gravity": "row", "arrivals": "joint", "easting": "latent",
}  # fmt: skip


def made(names):
    """Return one problem under any names: two fields, a scalar, a vector and two modalities."""
    shape, rng = {names["z"]: np.arange(7.0), names["x"]: np.arange(8.0)}, np.random.default_rng(2)
    grid, gains = bj.Grid(**shape), {names["channel"]: ["a", "b"]}
    latents = [
        bj.GaussianField(names["earth"], grid, sd=1.0, length_scale=2.0, units="kg/m3"),
        bj.Parameter(names["drift"], STANDARD),
        bj.Parameter(names["gain"], STANDARD, coords=gains),
        bj.GaussianField(names["wave"], grid, sd=0.5, length_scale=3.0),
    ]
    modalities = []
    for name, dim, read in (("gravity", "station", (0, 1, 2)), ("arrivals", "ray", (0, 1, 3))):
        sizes = {latents[i].name: int(np.prod(latents[i].shape)) for i in read}
        matrices = {key: rng.normal(size=(5, size)) for key, size in sizes.items()}
        coords = {names[dim]: np.arange(5.0), names["easting"]: (names[dim], rng.normal(size=5))}
        values = xr.DataArray(rng.normal(size=5), coords, names[dim])
        noise = bj.GaussianNoise(sd=0.5)
        modalities.append(bj.Modality(names[name], values, bj.linear_map(matrices), noise))
    error = bj.JointDiscrepancy(sd={names["arrivals"]: 0.3}, name="error")
    return bj.JointProblem(latents=latents, modalities=modalities, discrepancy=error)


REPORTS = {
    "resolution": lambda tree, of: bj.resolution(tree),
    "resolution_matrix": lambda tree, of: bj.resolution_matrix(
        tree, into=of["wave"], source=of["earth"]
    ),
    "point_spread": lambda tree, of: bj.point_spread(
        tree, of["earth"], **{of["z"]: 3.0, of["x"]: 2.0}
    ),
    "identifiability": lambda tree, of: bj.identifiability(tree),
    "leakage": lambda tree, of: bj.leakage(tree),
    "information": lambda tree, of: bj.information(tree),
    "balance": lambda tree, of: bj.balance(tree, equalise=True),
    "summary": lambda tree, of: bj.summary(tree),
    "data_worth": lambda tree, of: bj.data_worth(tree, of["drift"]),
    "compromise": lambda tree, of: bj.compromise(tree, {of["arrivals"]: tree}),
}


@pytest.fixture(scope="module")
def ordinary():
    return bj.linearize(made(ORDINARY), backend="interpreted")


def own_names(tree):
    """Return the names that the package gave, in the linearization and in every report."""
    found = {name for name in _names._names(_read.linearization(tree)) if plain(name) == name}
    for report in REPORTS.values():
        found |= _names._names(report(tree, ORDINARY))
    return sorted(found - set(ORDINARY))


def renamed(tree, names):
    """Return the tree as if the problem had been made with other names."""
    ds = _read.linearization(tree)
    known = {user(old): user(new) for old, new in names.items() if user(old) in ds.variables}
    relabelled = {
        key: (coord.dims, np.array([names.get(str(v), str(v)) for v in coord.values], dtype=str))
        for key, coord in ds.coords.items()
        if coord.dtype.kind in "UO" and not key.startswith("user:")
    }
    attrs = {key: [names.get(v, v) for v in ds.attrs[key]] for key in ("latents", "modalities")}
    ds = ds.assign_coords(relabelled).rename(known).assign_attrs(attrs)
    return tree_of(ds)


def variables_of(report):
    """Return all arrays of a report by name; of an array, its values by the name None."""
    if isinstance(report, xr.Dataset):
        return dict(report.variables)
    return {name: coord.variable for name, coord in report.coords.items()} | {None: report.variable}


def new_name(name, names):
    """Return what a name, with its mark, is called where the problem has other names."""
    if name is None or name == plain(name):
        return name
    mark, old = name.removesuffix(plain(name)), plain(name)
    stem = old if old in names else next(k for k in names if old.startswith(f"{k}_"))
    return f"{mark}{names[stem]}{old.removeprefix(stem)}"


def assert_same(expected, found, names):
    """Hold a report with marks to the one of the problem of ordinary names."""
    arrays, others = variables_of(expected), variables_of(found)
    assert set(others) == {new_name(name, names) for name in arrays}
    for name, array in arrays.items():
        other = others[new_name(name, names)]
        assert other.dims == tuple(new_name(dim, names) for dim in array.dims)
        if array.dtype.kind in "fi":
            np.testing.assert_allclose(other.values, array.values, rtol=1e-8, atol=1e-10)
        elif name in ("latent", "modality", "into", "source", "modality_of_datum"):
            assert other.values.tolist() == [names.get(v, v) for v in array.values.tolist()]


def assert_released(marked, given):
    """Hold a report to the one with marks: users' names as they are, others told where they not."""
    told = dict(text.split(": ")[::-1] for text in given.attrs.get("renamed", []))
    arrays = variables_of(given)
    for name, array in variables_of(marked).items():
        if name is None or name.startswith("user:"):
            np.testing.assert_array_equal(arrays[name and plain(name)].values, array.values)
    others = {name for name in variables_of(marked) if name and not name.startswith("user:")}
    users = {plain(name) for name in variables_of(marked) if name and name.startswith("user:")}
    assert sorted(told.get(name, name) for name in set(arrays) - users - {None}) == sorted(
        plain(name) for name in others
    )


def walks(names):
    """Yield new names of all roles: each name is once a latent, once a dim, and something else."""
    for start in range(0, len(names), 3):
        chosen = [names[(start + i) % len(names)] for i in range(len(ROLES))]
        yield dict(zip(ROLES, chosen, strict=True))


def with_marked_names(monkeypatch, tree, names):
    """Return every report with its marks still on."""
    with monkeypatch.context() as patch:
        patch.setattr(_names, "released", lambda values: values)
        return {kind: report(tree, names) for kind, report in REPORTS.items()}


# ---- reports -------------------------------------------------------------------------------------


def test_a_user_may_take_every_name_that_the_package_has(ordinary, monkeypatch):
    names = own_names(ordinary)
    assert {"dofs", "mode", "cell", "prior_sd", "earth_joint", "x_source", "direction"} < set(names)
    expected = with_marked_names(monkeypatch, ordinary, ORDINARY)
    for taken in walks([*names, "point"]):
        found = with_marked_names(monkeypatch, renamed(ordinary, taken), taken)
        for kind, report in found.items():
            assert_same(expected[kind], report, taken)
            assert_released(report, _names.released(report))


@pytest.fixture(scope="module")
def awkward():
    return bj.linearize(made(AWKWARD), backend="interpreted")


def test_a_problem_of_awkward_names_has_the_numbers_of_the_ordinary_one(
    ordinary, awkward, monkeypatch
):
    expected = with_marked_names(monkeypatch, ordinary, ORDINARY)
    for kind, report in with_marked_names(monkeypatch, awkward, AWKWARD).items():
        assert_same(expected[kind], report, AWKWARD)
    assert_same(_read.linearization(ordinary), _read.linearization(awkward), AWKWARD)


def test_names_of_users_stay_and_the_others_are_told(awkward):
    linear = awkward["linearization"]
    assert linear["dofs"].dims == ("cell", "point")
    assert linear["eigenvalues"].dims == ("parameter",)
    assert linear["eigenvalues_"].dims == ("mode_",) or linear["eigenvalues_"].dims == ("mode",)
    told = dict(text.split(": ") for text in linear.attrs["renamed"])
    assert {"eigenvalues", "prior_sd", "cell", "n_data"} <= set(told)
    report = bj.resolution(awkward)
    assert report["dofs"].dims == ("cell", "point")
    assert report["dofs_"].dims == ()
    assert "dofs: dofs_" in report.attrs["renamed"]


def test_ordinary_names_change_nothing(ordinary):
    linear, report = ordinary["linearization"], bj.resolution(ordinary)
    assert "renamed" not in linear.attrs
    assert "renamed" not in report.attrs
    assert {"dofs", "partial_dofs", "eigenvalues", "earth"} <= set(report.data_vars)
    assert linear["prior_sd"].dims == ("cell",)
    assert report["earth"].dims == ("z", "x")


def test_a_tree_of_awkward_names_goes_through_files(awkward, tmp_path):
    awkward.to_zarr(tmp_path / "tree.zarr", consolidated=False)
    again = xr.open_datatree(tmp_path / "tree.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_allclose(bj.resolution(again.load()), bj.resolution(awkward))


@pytest.mark.slow
def test_figures_and_the_page_speak_of_names_as_they_are(awkward, tmp_path):
    figures = [
        plots.plot_resolution(awkward),
        plots.plot_point_spread(awkward, "dofs", cell=3.0, point=2.0),
        plots.plot_identifiability(bj.identifiability(awkward)),
        plots.plot_balance(awkward),
        plots.plot_compromise(awkward, {"joint": awkward}),
        plots.plot_posterior(awkward),
        plots.plot_information(awkward),
    ]
    for figure in figures:
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert texts
        assert not [text for text in texts if "user:" in text]
    assert "cell" in [ax.get_ylabel() for ax in figures[0].axes] + [
        ax.get_xlabel() for ax in figures[0].axes
    ]
    bj.report(awkward, tmp_path / "page.html")
    assert "user:" not in (tmp_path / "page.html").read_text()


def test_units_of_rock_beside_dims_of_such_names():
    tree = example_units()
    taken = {"depth": "unit", "x": "share", "velocity": "probability", "density": "entropy"}
    linear = tree["linearization"].to_dataset().rename(taken)
    linear = linear.assign_coords(rocks_property=["probability", "entropy"])
    again = {
        "posterior": tree["posterior"].to_dataset().rename(taken),
        "linearization": linear.assign_attrs(latents=["probability", "entropy"]),
    }
    expected, found = bj.membership(tree), bj.membership(xr.DataTree.from_dict(again))
    assert found["probability"].dims == ("unit_", "unit", "share")
    assert set(found.attrs["renamed"]) == {"unit: unit_", "share: share_"}
    np.testing.assert_array_equal(found["probability"], expected["probability"])
    np.testing.assert_array_equal(found["share_"], expected["share"])
    assert plots.plot_membership(xr.DataTree.from_dict(again)).axes


def test_pairs_of_fields_whose_names_run_together():
    tree = example_fields(alike=0.9)
    old = [str(name) for name in tree["posterior"].data_vars][:2]
    several = {}
    for group in ("posterior", "prior"):
        first, second = (tree[group][name] for name in old)
        fields = {"a": first, "b_c": second, "a_b": second, "c": first}
        several[group] = xr.Dataset({k: v.rename(k) for k, v in fields.items()})
    report = bj.alignment(xr.DataTree.from_dict(several), pairs=[("a", "b_c"), ("a_b", "c")])
    assert report["pair"].values.tolist() == ["a_b_c", "a_b_c_"]
    np.testing.assert_allclose(report["a_b_c_angle"], report["a_b_c__angle"])


def test_hold_reads_one_point_alone_whatever_a_dim_is_called():
    with pytest.raises(ValueError, match="is no tree of this problem at one point"):
        scale = bj.Prior(pm.HalfNormal, sigma=1.0)
        point = bj.Parameter("vector", STANDARD, coords={"point": ["a", "b"]})
        matrices = {"level": np.ones((2, 1)), "vector": np.eye(2)}
        noisy = line().replace(
            noise=bj.GaussianNoise(sd=1.0, scale=scale), forward=bj.linear_map(matrices)
        )
        problem = bj.JointProblem(latents=[LEVEL, point], modalities=[noisy])
        rng, draws = np.random.default_rng(0), ("chain", "draw")
        posterior = xr.Dataset(
            {
                "level": (draws, rng.normal(size=(1, 2))),
                "vector": ((*draws, "point"), rng.normal(size=(1, 2, 2))),
                "line_scale": (draws, np.full((1, 2), 0.5)),
            }
        )
        problem.hold(bj.linearize(problem, at=xr.DataTree.from_dict({"posterior": posterior})))


# ---- problems ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:no modality reaches")
def test_problems_are_made_with_every_name(ordinary):
    names = [*own_names(ordinary), "point", "sample", "quantity", "block", "gravity_sd"]
    latents = [bj.Parameter(name, STANDARD) for name in names]
    vectors = [
        bj.Parameter(f"p{i}", STANDARD, coords={name: ["a", "b"]}) for i, name in enumerate(names)
    ]
    assert bj.JointProblem(latents=latents, modalities=[]).latent.keys() == set(names)
    assert set(bj.JointProblem(latents=vectors, modalities=[]).coords) == set(names)
    level, forward = bj.Parameter("level", STANDARD), bj.linear_map(np.ones((2, 1)), "level")
    modalities = [
        bj.Modality(name, xr.DataArray([1.0, 2.0], dims="place"), forward, bj.GaussianNoise(sd=1.0))
        for name in names
    ]
    made = bj.JointProblem(latents=[level], modalities=modalities)
    assert made.modality.keys() == set(names)


def line(name="line", dims="place", coords=None, reads="level", **settings):
    values = xr.DataArray([1.0, 2.0], coords, dims)
    forward = bj.linear_map(np.ones((2, 1)), reads)
    settings = {"noise": bj.GaussianNoise(sd=1.0), **settings}
    return bj.Modality(name, values, forward, settings.pop("noise"), **settings)


LEVEL = bj.Parameter("level", STANDARD)
FIELD = bj.GaussianField("a", bj.Grid(z=[1.0, 2.0], x=[1.0, 2.0]), sd=1.0, length_scale=1.0)
SECOND = FIELD.replace(name="b")
UNKNOWN = bj.Prior(pm.HalfNormal, sigma=1.0)
CLASHES = {
    "line_response": ({}, "the predicted data of modality 'line'"),
    "level_white": ({}, "the white variable of latent 'level'"),
    "a_mode_x": ({"latents": [FIELD]}, "a dimension of the white variable of latent 'a'"),
    "a_sd": ({"latents": [FIELD.replace(sd=UNKNOWN)]}, "an unknown of latent 'a'"),
    "a_sd_white": ({"latents": [FIELD.replace(sd=UNKNOWN)]}, "the white variable of an unknown"),
    "line_scale": (
        {"modalities": [line(noise=bj.GaussianNoise(sd=1.0, scale=UNKNOWN))]},
        "an unknown of the noise of modality 'line'",
    ),
    "line_tempering": ({"modalities": [line(power=0.5)]}, "the tempering of modality 'line'"),
    "line_discrepancy": (
        {"discrepancy": bj.JointDiscrepancy(sd={"line": 1.0})}, "the discrepancy of modality 'line'"
    ),
    "discrepancy_sd_line": (
        {"discrepancy": bj.JointDiscrepancy(sd={"line": UNKNOWN})}, "an unknown of the discrepancy"
    ),
    "cross_gradient_a_b": (
        {"latents": [FIELD, SECOND], "couplings": [bj.CrossGradient("a", "b", weight=1.0)]},
        "the coupling 'cross_gradient_a_b'",
    ),
    "correlation_a_b": (
        {
            "latents": [FIELD, SECOND],
            "couplings": [
                bj.CorrelatedFields("a", "b", correlation=bj.Prior(pm.Uniform, lower=0, upper=0.9))
            ],
        },
        "an unknown of the coupling",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:no modality reaches")
@pytest.mark.parametrize("name", CLASHES)
def test_a_name_that_the_model_adds_is_refused_and_both_are_named(name):
    settings, other = CLASHES[name]
    settings = {"modalities": [line()], **settings}
    latents = [LEVEL, *settings.pop("latents", []), bj.Parameter(name, STANDARD)]
    with pytest.raises(ValueError, match="is both .*; rename one of them") as raised:
        bj.JointProblem(latents=latents, **settings)
    assert all(words in str(raised.value) for words in (repr(name), "the name of a latent", other))
    vector = bj.Parameter("vector", STANDARD, coords={name: ["a", "b"]})
    with pytest.raises(ValueError, match=f"'{name}' is both a dimension and {re.escape(other)}"):
        bj.JointProblem(latents=[*latents[:-1], vector], **settings)


def test_settings_that_are_known_take_no_name():
    """A latent called as a setting would be, were it unknown, is another thing."""
    other = bj.Parameter("a_sd", bj.Prior(pm.Normal, mu=5.0, sigma=0.1))
    data = xr.DataArray([1.0, 2.0], dims="place")
    forward = bj.linear_map({"a": np.ones((2, 4)), "a_sd": np.ones((2, 1))})
    tree = bj.linearize(
        bj.JointProblem(
            latents=[FIELD, other], modalities=[bj.Modality("m", data, forward, line().noise)]
        ),
        backend="interpreted",
    )
    np.testing.assert_allclose(tree["linearization/prior_sd"], [1.0] * 4 + [0.1], rtol=1e-8)


@pytest.mark.filterwarnings("ignore:no modality reaches")
@pytest.mark.parametrize("case", CLASHES)
def test_the_names_of_the_model_are_known_before_it_is_built(case):
    settings, _ = CLASHES[case]
    settings = {"modalities": [line()], **settings}
    latents = [LEVEL, *settings.pop("latents", [])]
    problem = bj.JointProblem(latents=latents, **settings)
    added, known = build(problem), problem_names.of_variables(problem)
    assert set(added.model.named_vars) - set(added.matrices) <= known
    assert set(added.model.coords) - set(problem.coords) <= known
    assert case in known


# ---- coordinates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chain", "draw", "__sample__"])
@pytest.mark.parametrize("kind", ["dimension", "coordinate"])
def test_names_of_draws_are_refused(name, kind):
    settings = {"dims": name} if kind == "dimension" else {"coords": {name: ("place", [1.0, 2.0])}}
    message = f"modality 'line': the {kind} '{name}' is needed by PyMC and ArviZ .*; rename it"
    with pytest.raises(ValueError, match=message):
        bj.JointProblem(latents=[LEVEL], modalities=[line(**settings)])


@pytest.mark.parametrize("name", [0, ("a", "b"), "two words", "a-b", ""])
def test_dims_must_be_words(name):
    shown = re.escape(repr(name))
    with pytest.raises(ValueError, match=rf"modality 'line': the dim\w* {shown} .*; rename it, as"):
        bj.JointProblem(latents=[LEVEL], modalities=[line(dims=[name])])
    with pytest.raises(ValueError, match=rf"latent 'vector': the dimension {shown} .*; rename it"):
        vector = bj.Parameter("vector", STANDARD, coords={name: ["a", "b"]})
        bj.JointProblem(latents=[LEVEL, vector], modalities=[line()])


@pytest.mark.parametrize("name", [3, "a/b"])
def test_coordinates_that_a_tree_cannot_hold_are_refused(name):
    with pytest.raises(ValueError, match="modality 'line': the coordinate .*; rename it"):
        bj.JointProblem(latents=[LEVEL], modalities=[line(coords={name: ("place", [1.0, 2.0])})])


def test_pymc_takes_what_ends_as_its_transformed_variables_for_them():
    with pytest.raises(ValueError, match="ends as PyMC's transformed variables do"):
        bj.JointProblem(latents=[LEVEL, bj.Parameter("a_log__", STANDARD)], modalities=[line()])


def test_coordinates_may_have_the_name_of_anything():
    places = ("place", [1.0, 2.0])
    taken = dict.fromkeys(["level", "line", "line_response", "line_level", "level_white"], places)
    problem = bj.JointProblem(latents=[LEVEL], modalities=[line(coords=taken)])
    (data,) = problem.labelled_data.values()
    assert set(data.coords) == {
        "line_level", "line_level_", "line_line", "line_line_response", "line_level_white"
    }  # fmt: skip
    simulated = bj.simulate(problem, random_seed=1)
    assert simulated["level"].dims == ()
    assert simulated["line"].dims == ("place",)


# ---- draws ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A stored run in which all names are those of reports or of ArviZ."""
    grid = bj.Grid(sample=np.arange(3.0), quantity=np.arange(2.0))
    names, places = ("similarity", "separation"), np.arange(4.0)
    latents = [bj.GaussianField(n, grid, sd=1.0, length_scale=2.0) for n in names]
    rng, modalities = np.random.default_rng(3), []
    for name, dim, read in zip(("joint", "elpd"), ("block", "pair"), names, strict=True):
        coords = {dim: places, "similarity": (dim, places), "p_value": (dim, places)}
        forward = bj.linear_map(rng.normal(size=(4, 6)), read)
        values = xr.DataArray(rng.normal(size=4), coords, dim)
        modalities.append(bj.Modality(name, values, forward, bj.GaussianNoise(sd=0.5)))
    problem = bj.JointProblem(latents=latents, modalities=modalities)
    store = tmp_path_factory.mktemp("names") / "run.zarr"
    tree = bj.sample(
        problem, draws=40, tune=40, chains=2, random_seed=1, backend="interpreted", store=store,
        progress=False, prior_draws=40,
    )  # fmt: skip
    return problem, tree, store


@pytest.mark.slow
def test_draws_bear_the_names_of_the_user(sampled):
    problem, tree, store = sampled
    posterior, data = tree["posterior"], tree["observed_data"]
    assert posterior["similarity"].dims == ("chain", "draw", "sample", "quantity")
    assert posterior["joint_response"].dims == ("chain", "draw", "block")
    assert {"joint_similarity", "elpd_similarity", "joint_p_value"} <= set(data.coords)
    assert set(tree["log_likelihood_joint"].data_vars) == {"joint", "elpd", "joint_"}
    again = bj.open_store(store)
    for name in tree.children:
        xr.testing.assert_allclose(again[name].to_dataset(), tree[name].to_dataset())


def test_reports_on_draws_keep_apart_what_is_the_users(sampled):
    _, tree, _ = sampled
    check = bj.predictive_check(tree)
    assert check["block"].values.tolist() == ["joint", "elpd", "joint_"]
    single = bj.leave_one_out(tree)
    assert single["joint_pit"].dims == ("block",)
    assert single["elpd_elpd"].dims == ("pair",)
    assert single["elpd"].dims == ("modality",)
    alike = bj.alignment(tree)
    assert alike["similarity"].dims == ("pair", "sample_")
    assert alike["similarity_separation_angle"].dims == ("sample", "quantity")
    assert alike.attrs["renamed"] == ["sample: sample_"]
    at_draws = bj.linearize(sampled[0], at=tree)
    assert at_draws["linearization/similarity"].dims == ("point", "sample", "quantity")
    assert bj.identifiability(tree)["contraction"].sizes["parameter"] == 12


def test_joint_likelihoods_are_those_of_all_data(sampled):
    values = sampled[1]["log_likelihood_joint"]
    np.testing.assert_allclose(values["joint"] + values["elpd"], values["joint_"], rtol=1e-10)


@pytest.mark.slow
def test_figures_and_the_page_of_draws(sampled, tmp_path):
    _, tree, _ = sampled
    figures = [plots.plot_predictive_check(tree), plots.plot_leave_one_out(tree)]
    figures += [plots.plot_alignment(tree), plots.plot_fit(tree), plots.plot_posterior(tree)]
    assert not [t for f in figures for t in f.findobj(Text) if "user:" in t.get_text()]
    bj.report(tree, tmp_path / "page.html")
    assert "user:" not in (tmp_path / "page.html").read_text()
