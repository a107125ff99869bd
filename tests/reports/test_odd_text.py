"""Names, units and labels that matplotlib or a browser would read as something else."""

import html

import numpy as np
import pytest

from bayesjoint import plots
from bayesjoint.page import report
from bayesjoint.plots import _style
from bayesjoint.reports.example import example_tree
from tests.reports import factory
from tests.reports.test_plots import EVERYWHERE, SAMPLED, drawn

ODD = ["$x_{$", "$\\frac$ $", "a $ b $ c", "<b>m</b>", "{x} & y", "[/m]"]


def with_odd_text(tree, text):
    """Return a tree whose units are that text, on every variable and coordinate."""
    tree = tree.copy(deep=True)
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        for variable in dataset.variables.values():
            if variable.attrs.get("units"):
                variable.attrs["units"] = text
        if dataset.variables:
            node.dataset = dataset
    return tree


@pytest.fixture(scope="module")
def posterior():
    return factory.tree(factory.make(), draws=60)


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("name", EVERYWHERE + SAMPLED)
def test_every_figure_shows_units_as_they_are(posterior, name, text):
    texts = drawn(getattr(plots, f"plot_{name}")(with_odd_text(posterior, text)))
    assert not any("mathdefault" in t and text in t for t in texts)


@pytest.mark.parametrize("text", ODD)
def test_units_are_drawn_letter_by_letter(posterior, text):
    figure = plots.plot_fit(with_odd_text(posterior, text))
    figure.canvas.draw()
    labels = figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))
    written = [label for label in labels if text in label.get_text()]
    assert written and not any(label.get_parse_math() for label in written)


@_style.styled
def logarithmic():
    figure = _style.new_figure(2.0)
    figure.subplots().semilogy([1.0, 2.0], [1e-3, 1e3])
    return figure


def test_powers_of_ten_stay_formulas():
    figure = logarithmic()
    figure.canvas.draw()
    (ax,) = figure.axes
    powers = [label for label in ax.get_yticklabels() if "mathdefault" in label.get_text()]
    assert powers and all(label.get_parse_math() for label in powers)


@pytest.mark.parametrize(
    "text", [*ODD[:2], *(pytest.param(text, marks=pytest.mark.slow) for text in ODD[2:])]
)
def test_the_page_is_written_and_escaped(tmp_path, text):
    tree = with_odd_text(example_tree(draws=40), text)
    path = tmp_path / "page.html"
    report(tree, path, title=text)
    page = path.read_text()
    assert html.escape(text, quote=False) in page.replace("&#39;", "'")
    assert "<b>m</b>" not in page
    assert np.char.find(page, "Traceback") < 0
