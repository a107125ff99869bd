"""The examples in the docstrings of the public names run, and every public name has one."""

import doctest
import inspect

import pytest

import bayesjoint as bj


def examples(name):
    value = getattr(bj, name)
    finder = doctest.DocTestFinder(recurse=False)
    return [t for t in finder.find(value, name, globs={}) if t.examples]


SLOW = {"calibrate_coupling", "coupling_sweep", "design_weight", "report", "tabulate_normaliser"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in bj.__all__]
)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write a file
    found = examples(name)
    assert found, f"the docstring of {name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        report = []
        runner.run(test, out=report.append)
        assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("name", bj.__all__)
def test_the_first_line_is_a_sentence(name):
    lines = (inspect.getdoc(getattr(bj, name)) or "").splitlines()
    assert lines and lines[0].endswith("."), f"{name}: {lines[:1]}"
