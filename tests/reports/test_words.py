"""Sentences: what they name, and what they do not say."""

import re
import warnings

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr

import bayesjoint as bj
from bayesjoint._sampler.progress import Followed
from bayesjoint.page.contents import contents_of
from bayesjoint.page.words import known, opening
from bayesjoint.reports import _numbers, diagnose, identifiability, predictive_check
from bayesjoint.reports._ends import at_ends
from bayesjoint.reports._impossible import impossible
from bayesjoint.sampling import _warn
from tests.helpers import STANDARD, data
from tests.reports import factory

SEED = 3


# ---- percentages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100 %"), (0.9999, "99.9 %"), (0.9951, "99.5 %"), (0.83, "83 %"), (0.071, "7.1 %"),
        (0.0123, "1.2 %"), (0.00123, "0.12 %"), (1e-5, "less than 0.01 %"), (0.0, "0 %"),
        (12.0, "1,200 %"), (-0.2, "−20 %"), (np.nan, "an unknown share"), (0.1, "10 %"),
        (0.995, "99.5 %"),
    ],
)  # fmt: skip
def test_percentages_have_no_powers_of_ten_and_do_not_round_to_all(share, text):
    assert _numbers.percent(share) == text


@pytest.mark.parametrize("share", np.concatenate([np.logspace(-8, 2, 200), [0.5, 0.99999, 1.0]]))
def test_a_percentage_is_what_it_says(share):
    text = _numbers.percent(share, signed=True)
    assert "e" not in text.replace("less than", "")
    if not text.startswith("less"):
        number = float(text.strip("+ %").replace(",", ""))
        assert number == pytest.approx(100 * share, rel=0.06)
    assert (text == "+100 %") == (share == 1.0)


def test_no_sentence_formats_percentages_by_itself():
    """Only fixed figures and the helper: ``.2g`` of a share of 1 is "1e+02"."""
    from pathlib import Path

    root = Path(bj.__file__).parent
    own = re.compile(r"\{[^{}]*:[+]?\.\d[ge]\} %")
    found = [p.name for p in root.rglob("*.py") if own.search(p.read_text())]
    assert found == []
    assert _numbers.short(123.4) == "120" and _numbers.short(1.44) == "1.4"
    assert _numbers.data(1) == "1 datum" and _numbers.data(2) == "2 data"


# ---- maps that are not defined everywhere ------------------------------------------------------


def groups_of(prior, posterior, diverging=0):
    """Return a tree of a scalar ``scale`` and a modality ``m`` with a response to it."""
    dims, count = ("chain", "draw"), posterior.shape[1]
    flags = np.zeros(posterior.shape, dtype=bool)
    flags.ravel()[:diverging] = True
    linear = xr.Dataset(
        {"scale": 1.0, "log_posterior": 0.0}, {"latent_of_cell": ("cell", ["scale"])},
        attrs={"latents": [], "hyperparameters": ["scale"]},
    )  # fmt: skip
    response = np.sqrt(prior - 0.2)[..., None]
    return xr.DataTree.from_dict({
        "posterior": xr.Dataset({"scale": (dims, posterior)}),
        "sample_stats": xr.Dataset({"diverging": (dims, flags)}, {"draw": np.arange(count)}),
        "prior": xr.Dataset({"scale": (dims, prior), "m_response": ((*dims, "x"), response)}),
        "observed_data": xr.Dataset({"m": ("x", [1.0])}),
        "linearization": linear,
    })  # fmt: skip


@pytest.fixture
def undefined():
    random = np.random.default_rng(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return groups_of(random.uniform(size=(1, 500)), random.normal(0.5, 0.05, (4, 500)), 3)


def test_the_modality_whose_map_gives_nan_is_named(undefined):
    share = impossible(undefined)["m"]
    assert share == pytest.approx(0.2, abs=4.5 * np.sqrt(0.16 / 500))
    text = diagnose(undefined).attrs["text"]
    assert "3 divergences: a map gives NaN or infinity, that of modality 'm' at" in text
    assert "target_accept" not in text
    undefined["posterior"].attrs |= {"r_hat": 1.0, "diagnostics": text}
    with pytest.warns(UserWarning, match="modality 'm' at"):
        _warn(undefined, 500, 0)


def test_chains_that_disagree_are_warned_of(undefined):
    undefined["posterior"].attrs |= {"r_hat": 2.6, "diagnostics": "The chains differ."}
    undefined["sample_stats"]["diverging"][:] = False
    with pytest.warns(UserWarning, match=r"r-hat 2.60: do not use these draws. The chains differ"):
        _warn(undefined, 500, 0)


# ---- parameters at an end of their prior -------------------------------------------------------


def uniform(random):
    return random.uniform(size=(1, 500))


def normal(random):
    return random.standard_normal((1, 500))


def half_normal(random):
    return np.abs(random.standard_normal((1, 500)))


@pytest.mark.parametrize(
    ("prior", "posterior", "end"),
    [
        (uniform, lambda r, s: 1.0 - np.minimum(r.exponential(0.1, s), 1.0), "upper"),
        (uniform, lambda r, s: np.minimum(r.exponential(0.1, s), 1.0), "lower"),
        (uniform, lambda r, s: r.normal(0.8, 0.05, s), None),
        (uniform, lambda r, s: r.uniform(size=s), None),
        (normal, lambda r, s: r.normal(3.0, 0.3, s), "upper"),
        (normal, lambda r, s: r.normal(1.0, 0.5, s), None),
        (normal, lambda r, s: r.standard_normal(s), None),
        (half_normal, lambda r, s: r.normal(3.5, 0.2, s), "upper"),
        (half_normal, lambda r, s: np.abs(r.normal(0.0, 0.03, s)), "lower"),
        (half_normal, lambda r, s: r.normal(1.0, 0.2, s), None),
    ],
)
def test_a_parameter_at_an_end_of_its_prior_is_told(prior, posterior, end):
    random = np.random.default_rng(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        dt = groups_of(prior(random), posterior(random, (4, 500)))
    told = at_ends(dt)
    if end is None:
        assert told == []
        return
    (text,) = told
    assert text.startswith(f"scale sits at the {end} end of its prior, where 5 % of the prior and")
    report = diagnose(dt)
    assert report.attrs["at_ends"] == told and report.attrs["text"].endswith(text)


# ---- a long vector -----------------------------------------------------------------------------


def test_a_long_vector_is_spoken_of_once():
    """Twenty gains, each confounded with the offset of its own station: one sentence."""
    count = 20
    gains = bj.Parameter("gain", STANDARD, coords={"station": np.arange(count)})
    problem = bj.JointProblem(
        latents=[gains],
        modalities=[bj.Modality("m", data(np.ones(count), "place"),
                                bj.linear_map(np.eye(count), "gain"), bj.GaussianNoise(sd=0.01))],
        discrepancy=bj.JointDiscrepancy(sd={"m": 1.0}),
    )  # fmt: skip
    words = identifiability(bj.linearize(problem)).attrs["words"]
    assert len(words) == 1
    assert words[0].startswith("gain: of 20 of its 20 elements up to 99.9 % of the posterior")


# ---- one datum ---------------------------------------------------------------------------------


def one_datum():
    random, dims = np.random.default_rng(SEED), ("chain", "draw", "x")
    mean = random.normal(1.0, 0.1, (4, 250, 1))
    return xr.DataTree.from_dict({
        "posterior": xr.Dataset({"m_response": (dims, mean)}),
        "posterior_predictive": xr.Dataset({"m": (dims, random.normal(mean, 0.3))}),
        "observed_data": xr.Dataset({"m": ("x", [1.1])}),
    })  # fmt: skip


def test_quantities_that_cannot_vary_have_no_p_value():
    p_value = predictive_check(one_datum())["p_value"].sel(block="m")
    assert np.isnan(p_value.sel(quantity=["sd", "autocorrelation"])).all()
    assert p_value.sel(quantity=["mean", "largest", "chi2"]).notnull().all()


def test_a_quantity_that_replications_never_reach_keeps_its_p_value():
    dt = one_datum()
    still = dt["posterior"]["m_response"].to_dataset(name="m")
    two = {
        name: xr.concat([ds, ds], "x")
        for name, ds in {
            "posterior_predictive": still,
            "posterior": dt["posterior"].to_dataset(),
        }.items()
    }
    two["observed_data"] = xr.Dataset({"m": ("x", [1.1, 5.0])})
    p_value = predictive_check(xr.DataTree.from_dict(two))["p_value"].sel(block="m")
    assert float(p_value.sel(quantity="sd")) == 0.0


def test_one_datum_is_a_datum():
    problem = bj.JointProblem(
        latents=[bj.Parameter("level", STANDARD)],
        modalities=[bj.Modality("m", data([0.3], "x"), bj.linear_map(np.ones((1, 1)), "level"),
                                bj.GaussianNoise(sd=0.5))],
    )  # fmt: skip
    tree = bj.linearize(problem)
    assert "The 1 datum of m determines" in opening(contents_of(tree, None))
    alone = bj.compromise(tree, {"m": tree}).attrs["words"]
    assert "for 1 datum;" in alone[0]


def test_titles_of_one_datum_have_no_p_value():
    import matplotlib.pyplot as plt

    random, dims = np.random.default_rng(SEED), ("chain", "draw", "x")
    dt = xr.DataTree.from_dict({
        "log_likelihood": xr.Dataset({"m": (dims, random.normal(-1, 0.1, (4, 250, 1)))}),
        "predictive_cdf": xr.Dataset({"m": (dims, random.uniform(size=(4, 250, 1)))}),
    })  # fmt: skip
    figure = bj.plots.plot_leave_one_out(dt)
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center")]
    plt.close(figure)
    assert any(title.startswith("m: log predictive density") for title in titles)
    assert not any("nan" in title for title in titles)


# ---- credit ------------------------------------------------------------------------------------


def siren():
    """Distance and inclination from a wave, a velocity whose constant is unknown, a jet."""
    latents = [
        bj.Parameter("distance", bj.Prior(pm.Normal, mu=40.0, sigma=10.0), units="Mpc"),
        bj.Parameter("cosine", bj.Prior(pm.Normal, mu=0.9, sigma=0.2)),
        bj.Parameter("hubble", bj.Prior(pm.Normal, mu=70.0, sigma=20.0)),
    ]
    wave = bj.pytensor_map(
        lambda d, c: pt.stack([40.0 * (1 + c**2) / 2 / d, 40.0 * c / d]), ["distance", "cosine"]
    )
    recession = bj.pytensor_map(lambda d, h: (d * h).reshape((1,)), ["distance", "hubble"])
    modalities = [
        bj.Modality("gw", data([0.905, 0.9], "polarisation"), wave, bj.GaussianNoise(sd=0.03)),
        bj.Modality("velocity", data([2800.0], "galaxy"), recession, bj.GaussianNoise(sd=150.0)),
        bj.Modality("radio", data([0.9], "jet"), bj.linear_map(np.ones((1, 1)), "cosine"),
                    bj.GaussianNoise(sd=0.03)),
    ]  # fmt: skip
    return bj.JointProblem(latents=latents, modalities=modalities)


def test_credit_is_what_is_lost_without_a_data_set():
    """The velocity adds next to nothing to the distance, though alone it would tell of it."""
    problem = siren()
    tree = bj.linearize(problem, at={"distance": 40.0, "cosine": 0.9, "hubble": 70.0})
    report = identifiability(tree)
    at = {"distance": 40.0, "cosine": 0.9, "hubble": 70.0}
    for name in problem.modality:
        without = problem.without(name)
        rest = identifiability(bj.linearize(without, at={k: at[k] for k in without.latent}))
        for parameter in ("distance", "cosine", "hubble"):
            kept = (
                float(rest["contraction"].sel(parameter=parameter))
                if parameter in rest["parameter"]
                else 0.0
            )
            lost = float(report["contraction"].sel(parameter=parameter)) - kept
            credit = report["contraction_by_modality"].sel(modality=name, parameter=parameter)
            assert float(credit) == pytest.approx(lost, abs=1e-9)
    velocity = report.sel(modality="velocity", parameter="distance")
    assert float(velocity["contraction_by_modality"]) < 0.001
    assert float(velocity["contraction_alone"]) == pytest.approx(0.425, abs=0.01)
    told = dict(known(contents_of(tree, None)))
    (distance,) = [rest for lead, rest in told.items() if lead.startswith("distance")]
    assert "without gw" in distance and "without velocity" not in distance
    assert "velocity alone would take 43 % of its prior variance" in distance


# ---- mirror modes ------------------------------------------------------------------------------


def mirror(line):
    """``x^2`` is 1, seen sharply, and a line that tells the sign."""
    square = bj.pytensor_map(lambda x: (x**2).reshape((1,)), ["x"])
    return bj.JointProblem(
        latents=[bj.Parameter("x", STANDARD)],
        modalities=[
            bj.Modality("square", data([1.0], "a"), square, bj.GaussianNoise(sd=0.02)),
            bj.Modality("line", data([line], "b"), bj.linear_map(np.ones((1, 1)), "x"),
                        bj.GaussianNoise(sd=0.1)),
        ],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_nearest_of_two_modes_is_compared(sign):
    problem = mirror(sign)
    joint = bj.linearize(problem, backend="interpreted")
    alone = {k: bj.linearize(v, backend="interpreted") for k, v in problem.separate().items()}
    found = sorted(float(node["x"]) for node in alone["square"].children.values())
    np.testing.assert_allclose(found, [-0.9998, 0.9998], atol=1e-3)
    fit = bj.compromise(joint, alone)
    distance = fit["distance_own_sd"].sel(modality="square", latent="x")
    assert float(distance) < 1.0
    words = " ".join(fit.attrs["words"])
    assert "contradict" not in words and "the fit of square alone has 2 maxima" in words
    split = bj.linearize(problem.split(), backend="interpreted")
    for apart in (alone, split):
        report = bj.tension(joint, apart)
        assert float(abs(report["difference"]).max()) < 1.0
        assert float(report["value"].sel(modality="square", parameter="x")) * sign > 0
        assert "2 maxima of about the same height" in report.attrs["words"][-1]
    told = identifiability(alone["square"]).attrs["words"]
    assert told[-1].startswith("The posterior has 2 maxima, 2 of about the same height")
    assert identifiability(joint).attrs["words"] == []


def test_data_sets_that_do_contradict_are_still_told():
    problem = mirror(-2.0)
    joint = bj.linearize(problem, backend="interpreted")
    alone = {k: bj.linearize(v, backend="interpreted") for k, v in problem.separate().items()}
    assert "contradict" in " ".join(bj.compromise(joint, alone).attrs["words"])


# ---- progress ----------------------------------------------------------------------------------


def test_the_last_line_of_progress_tells_the_effective_size_of_all_draws(capsys):
    random = np.random.default_rng(SEED)
    points = random.standard_normal((2, 400, 3))

    class State:
        divergences, latest_num_steps = 0, 7

        def __init__(self, count):
            self.finished_draws = count

    with Followed(True, chains=2, tune=0, draws=400) as followed:
        followed.console = type(followed.console)(force_terminal=False, width=200)
        followed.peek(points[:, :20])
        for count in (200, 400):
            for chain in range(2):
                followed.watch(chain)([State(count)])
        followed.advanced(points, np.zeros(2))
    lines = [line for line in capsys.readouterr().out.splitlines() if "of 2 chains" in line]
    assert lines[-1].startswith("100% of 2 chains: 400 of 400 draws")
    sizes = [float(re.search(r"ESS of a chain (\d+)", line).group(1)) for line in lines]
    assert sizes[-1] > 200 > sizes[0]
    assert sum(line.startswith("100%") for line in lines) == 1


def test_looks_at_running_chains_go_on_though_the_first_is_dear(monkeypatch):
    """The first look compiles, 30 s; of the ten seconds after it each has a look."""
    from types import SimpleNamespace

    from bayesjoint._sampler import nuts

    clock, looks = [0.0], []

    def peek(*given):
        looks.append(clock[0])
        clock[0] += 0.01 if len(looks) > 1 else 30.0
        return 0.01 if len(looks) > 1 else 30.0

    class Sampler:
        def wait(self, timeout):
            clock[0] += timeout
            if clock[0] < 42.0:
                raise TimeoutError
            return "results"

    monkeypatch.setattr(nuts, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(nuts, "_peek", peek)
    monkeypatch.setattr(nuts, "read", lambda results: f"trace of {results}")
    assert nuts._wait([Sampler()], lambda points: None) == (["trace of results"], True)
    assert sum(look > 30.0 for look in looks) >= 8


def test_the_factory_has_no_words_too_many():
    """No sentence of the reports holds a power of ten or a NaN."""
    contents = contents_of(factory.tree(factory.make()), None)
    for text in [opening(contents), *(rest for _, rest in known(contents))]:
        assert not re.search(r"\de[+-]\d|nan", text), text
