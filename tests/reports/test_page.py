import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from bayesjoint.page import report, trust
from bayesjoint.page.contents import contents_of
from bayesjoint.page.figures import _contradiction
from bayesjoint.page.fitting import fit_of
from bayesjoint.page.numbers import digits, with_sd
from bayesjoint.page.words import structure
from bayesjoint.reports import alignment
from tests.reports import factory


@pytest.fixture(scope="module")
def tree():
    return factory.tree(factory.make(), draws=250)


@pytest.fixture
def words_only(monkeypatch):
    """Leave out the figures, which take most of the time."""
    monkeypatch.setattr("bayesjoint.page.figures.sections", lambda page: [])


def text_of(page) -> str:
    """All words of the page, without pictures and style."""
    html = page.read_text(encoding="utf-8")
    html = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", html.replace("&#39;", "'"))


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tree, tmp_path_factory):
    return report(tree, tmp_path_factory.mktemp("page") / "page.html", title="Basin <1>")


def test_one_file_that_needs_no_network(page):
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"'](?!data:)", html)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert html.count("data:image/png;base64,") >= 9
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    assert len(html) < 5e6


def test_titles_are_escaped(page):
    assert "<title>Basin &lt;1&gt;</title>" in page.read_text(encoding="utf-8")


def test_the_page_answers_the_reader(page):
    text = text_of(page)
    for question in (
        "What is known?",
        "What is not?",
        "Which data set said it?",
        "Do the data fit?",
    ):
        assert question in text
    assert "The chains agree" in text and "density: " in text
    assert "kg/m³" in text and "degrees of freedom" in text
    for title in (
        "Predictive check",
        "Resolution",
        "Point spread of density",
        "Leakage",
        "Spectrum",
        "Can the draws be trusted",
    ):
        assert title in text


def test_numbers_of_the_table_are_those_of_the_draws(tree, page):
    draws = tree["posterior"]["depth_to_top"]
    sd = float(draws.std(ddof=1))
    assert with_sd(float(draws.mean()), sd, "m") in text_of(page)


@pytest.mark.slow
def test_preview(dense, tmp_path):
    text = text_of(report(factory.preview(dense), tmp_path / "preview.html"))
    assert "Preview: nothing was sampled" in text and "gravity and arrivals" in text
    assert "r-hat" not in text and "Predictive check" not in text


def test_points_are_averaged(pair, tmp_path, words_only):
    text = text_of(report(factory.at_points(pair), tmp_path / "points.html"))
    assert "2 draws, averaged here" in text


def test_departures_and_conditions_are_said(tmp_path, words_only):
    dense = factory.make(coupled=True)
    tree = factory.preview(
        dense, powers=[1.0, 1 / 6], errors="correlated", truncation_bound=0.3, converged=0,
        lower_modes=[-3.0, -4.0],
    )  # fmt: skip
    text = text_of(report(tree, tmp_path / "page.html"))
    assert "Tempered likelihoods, on request: raised to a power (arrivals to 0.167)" in text
    assert "divide among data sets is not unique" in text
    assert "what was left out is at most 0.3" in text
    assert "Best fit not reached" in text and "Local numbers" in text
    assert "2 lower maxima" in text


@pytest.mark.parametrize(
    ("others", "as_high", "told"),
    [
        (2, 0, "2 lower maxima of the posterior beside the best fit."),
        (1, 1, "1 maximum of the posterior beside the best fit, of about the same height."),
        (3, 1, "3 maxima of the posterior beside the best fit, 1 of about the same height and 2 "
               "lower."),
    ],
)  # fmt: skip
def test_maxima_are_counted_by_height(others, as_high, told):
    assert trust._maxima(others, as_high) == told


def test_chains_that_disagree_are_said_first(tree, tmp_path, words_only):
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    shift = xr.DataArray([0.0, 0.0, 0.0, 300.0], dims="chain")
    posterior = groups["posterior"]
    groups["posterior"] = posterior.assign(depth_to_top=posterior["depth_to_top"] + shift)
    text = text_of(report(xr.DataTree.from_dict(groups), tmp_path / "page.html"))
    assert "Read this first The chains do not agree: do not use these numbers" in text


def test_energy_that_creeps_is_minded(tree, tmp_path, words_only):
    text = text_of(report(tree, tmp_path / "page.html"))
    assert "The chains agree " in text and "roughly" not in text
    groups = {name: node.to_dataset() for name, node in tree.children.items()}
    walk = np.cumsum(np.random.default_rng(0).standard_normal((4, 250)), axis=1)
    groups["sample_stats"] = groups["sample_stats"].assign(energy=(("chain", "draw"), walk))
    text = text_of(report(xr.DataTree.from_dict(groups), tmp_path / "page.html"))
    assert "The chains agree roughly" in text


@pytest.mark.parametrize(
    ("chi2", "words"),
    [
        (100.0, "errors are too small by a factor of about"),
        (6.0, "as good as its errors allow"),
    ],
)
def test_misfits_in_words(chi2, words, tmp_path, words_only):
    tree = factory.preview(factory.make())
    ds = tree["linearization"].to_dataset()
    ds["chi2"] = ds["chi2"] * 0 + chi2
    text = text_of(report(xr.DataTree.from_dict({"linearization": ds}), tmp_path / "page.html"))
    assert words in text


def test_overstated_errors_in_words(tmp_path, words_only):
    ds = factory.preview(factory.make())["linearization"].to_dataset()
    ds["n_data"] = ds["n_data"] * 0 + 900
    text = text_of(report(xr.DataTree.from_dict({"linearization": ds}), tmp_path / "page.html"))
    assert "errors are too large by a factor of about" in text


@pytest.mark.slow
def test_compromise_has_its_place(tree, tmp_path):
    joint = factory.make()
    alone = {
        k: factory.preview(replace(joint, jacobian={k: joint.jacobian[k]})) for k in joint.jacobian
    }
    text = text_of(report(tree, tmp_path / "page.html", separate=alone))
    assert "gravity by itself: χ² =" in text and "Compromise" in text
    assert "Do they contradict each other?" in text and "no draws, while others have some" in text


def test_tension_and_leave_one_out_have_their_place(tmp_path, words_only):
    from bayesjoint.reports.example import example_tree

    alone = {name: example_tree([name]) for name in ("gravity", "arrivals")}
    text = text_of(report(example_tree(), tmp_path / "page.html", separate=alone))
    assert "gravity and arrivals agree" in text and "ln S = " in text
    page = contents_of(example_tree(), alone)
    assert [picture.title for picture in _contradiction(page)] == ["Tension"]
    torn = page.leave_one_out.assign(p_value=page.leave_one_out["p_value"] * 0 + 1e-3)
    torn.attrs["words"] = ["gravity: data are not where others predict them", "arrivals: fine"]
    told = fit_of(replace(page, leave_one_out=torn))
    assert ("gravity", "data are not where others predict them") in told


def test_balance_and_alignment_have_their_place(tmp_path, words_only):
    dense = factory.make(coupled=True)
    tree = factory.tree(dense, draws=50)
    twin = {
        name: tree[name].to_dataset().assign(slowness=2.0 * tree[name]["density"])
        for name in ("posterior", "prior", "linearization")
    }
    ds = twin["linearization"].assign_attrs(latents=["density", "depth_to_top"])
    text = text_of(report(tree, tmp_path / "page.html"))
    assert "Does one drown another?" in text and "No modality drowns another" in text
    assert "Do the fields share structure?" not in text
    page = contents_of(tree, None)
    assert page.alignment is None and page.balance is not None
    alike = alignment(
        xr.DataTree.from_dict({k: twin[k] for k in ("posterior", "prior")}),
        pairs=[("density", "slowness")],
    )
    told = structure(replace(page, alignment=alike, linear=ds))
    assert told[0][0] == "density and slowness" and "structural similarity 1.00" in told[0][1]


def scalars_only(angle, path):
    from tests.reports.test_identifiability import two_scalars

    ds = two_scalars(angle)["linearization"].to_dataset()
    ds = ds.assign(
        eig_alone=("modality", [1.0]), eig_without=("modality", [0.0]), prior_distance=1.0,
        chi2=("modality", [3.0]), n_data=("modality", [3]),
    )  # fmt: skip
    return text_of(report(xr.DataTree.from_dict({"linearization": ds}), path))


def test_one_modality_and_scalars_only(tmp_path, words_only):
    text = scalars_only(0.1, tmp_path / "page.html")
    assert "depth and volume change trade off" in text
    assert "Which data set said it" not in text
    assert "not separable" not in text


def test_what_is_not_separable_is_said(tmp_path, words_only):
    text = scalars_only(0.0, tmp_path / "page.html")
    assert "depth and volume change: not separable some combination of them has no effect" in text


def test_faults(tree, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no group 'linearization'"):
        report(xr.DataTree(), tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="missing' does not exist; make it first"):
        report(tree, tmp_path / "missing" / "page.html")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"bayesjoint\[plots\]"):
        report(tree, tmp_path / "page.html")


@pytest.mark.parametrize(
    ("value", "sd", "units", "shown"),
    [
        (211.9234, 0.61, "Å", "211.92 ± 0.61 Å"),
        (2730.4, 41.0, "m", "2730 ± 41 m"),
        (4518830.31, 9.8, "m", "4\u202f518\u202f830.3 ± 9.8 m"),
        (5.0552e6, 4.84e4, "m3", "(5.055 ± 0.048) × 10⁶ m³"),
        (2.5e-4, 1.2e-5, "s/m", "(250 ± 12) × 10⁻⁶ s/m"),
        (21.88, 0.55, "1e-6", "(21.88 ± 0.55) × 10⁻⁶"),
        (-0.378, 0.05, "", "−0.378 ± 0.050"),
        (3.0, 0.0, "m", "3.000 m"),
        (np.nan, 1.0, "m", "– ± 1.0 m"),
        (0.0, 0.0, "", "0.000"),
    ],
)
def test_numbers_keep_the_digits_that_mean_something(value, sd, units, shown):
    assert with_sd(value, sd, units) == shown


@pytest.mark.parametrize(
    ("value", "sd", "known"),
    [
        (212.0, 0.43, 3),
        (212.0, 0.6, 2),
        (5.055e6, 4.8e4, 2),
        (0.02, 0.02, 0),
        (0.0, 1.0, 0),
        (1, 0, 0),
    ],
)
def test_certain_digits(value, sd, known):
    assert digits(value, sd) == known


@pytest.mark.slow
def test_page_shows_the_discrepancy_that_was_drawn(tmp_path):
    from bayesjoint.reports.example import example_tree

    with_one = text_of(report(example_tree(discrepancy=0.4), tmp_path / "page.html"))
    assert "errors of the physics rather than for noise" in with_one
