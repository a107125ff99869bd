"""The figure of the chains: faults that were planted are seen, few draws are no trouble."""

import numpy as np
import pytest
import xarray as xr

from bayesjoint import plots
from tests.reports.test_plots import drawn


def chains(chains=4, draws=60, cells=5, **stats):
    """Return chains of a scalar and a field, seed 0, with steps and energy."""
    random, dims = np.random.default_rng(0), ("chain", "draw")
    level, energy = random.standard_normal((2, chains, draws))
    posterior = {
        "level": (dims, level, {"units": "m"}),
        "field": ((*dims, "x"), random.standard_normal((chains, draws, cells))),
    }
    recorded = {
        "diverging": np.zeros((chains, draws), bool), "n_steps": np.full((chains, draws), 7),
        "maxdepth_reached": np.zeros((chains, draws), bool), "energy": energy, **stats,
    }  # fmt: skip
    sample_stats = xr.Dataset({name: (dims, values) for name, values in recorded.items()})
    groups = {"posterior": xr.Dataset(posterior), "sample_stats": sample_stats}
    return xr.DataTree.from_dict(groups)


def text_on(texts, part):
    return any(part in text for text in texts)


@pytest.mark.filterwarnings("error")
def test_chains_are_drawn_with_their_verdict():
    texts = drawn(plots.plot_diagnostics(chains(draws=500)))
    assert text_on(texts, "Chains: good. Largest r-hat 1.0") and text_on(texts, "no divergences")
    assert text_on(texts, "Gradients: 7 a draw") and "chain 3" in texts
    dt = chains()
    level = dt["posterior/level"]
    dt["posterior/level"] = level + xr.DataArray([0.0, 0.0, 0.0, 9.0], dims="chain")
    texts = drawn(plots.plot_diagnostics(dt))
    assert text_on(texts, "Chains: bad") and "Ranks: level" in texts


@pytest.mark.filterwarnings("error")
def test_faults_of_steps_are_drawn():
    diverging = np.arange(240).reshape(4, 60) % 50 == 3
    texts = drawn(plots.plot_diagnostics(chains(diverging=diverging, maxdepth_reached=diverging)))
    assert text_on(texts, "5 divergences") and text_on(texts, "| divergence of a chain")
    assert text_on(texts, "2% at full depth")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draws", [1, 2, 3, 60])
def test_a_single_chain_is_compared_half_by_half(draws):
    texts = drawn(plots.plot_diagnostics(chains(chains=1, draws=draws)))
    assert text_on(texts, "r-hat compares chains")
    assert ("first half" in texts) == (draws > 1)
    assert text_on(texts, "too few draws") == (draws < 4)


@pytest.mark.parametrize(("shift", "surplus"), [(1e-9, 0.0), (10.0, 50.0)])
def test_ranks_are_flat_unless_chains_differ(shift, surplus):
    level = np.random.default_rng(0).permuted(np.tile(np.arange(200.0), (2, 1)) / 20, axis=1)
    level[1] += shift
    posterior = xr.Dataset({"level": (("chain", "draw"), level)})
    dt = xr.DataTree.from_dict({"posterior": posterior})
    axes = [ax for part in plots.plot_diagnostics(dt).subfigs for ax in part.axes]
    (ax,) = [ax for ax in axes if ax.get_title(loc="left") == "Ranks: level"]
    largest = [np.abs(line.get_ydata()).max() for line in ax.get_lines()[1:]]
    assert largest == pytest.approx([surplus] * 2, abs=0.5)


@pytest.mark.filterwarnings("error")
def test_chains_of_large_fields_and_many_latents_are_drawn():
    texts = drawn(plots.plot_diagnostics(chains(cells=10_000)))
    assert "field" in texts
    dt = chains()
    many = {f"gain_{i}": dt["posterior/level"] + 0.0 for i in range(40)}
    dt["posterior"] = dt["posterior"].to_dataset().assign(many)
    texts = drawn(plots.plot_diagnostics(dt))
    assert sum(text.startswith("gain ") for text in texts) == 22  # with level and field 24


@pytest.mark.filterwarnings("error")
def test_chains_without_statistics_are_drawn():
    dt = chains()
    del dt["sample_stats"]
    texts = drawn(plots.plot_diagnostics(dt))
    assert "no energy was stored" in texts and "no steps were stored" in texts
