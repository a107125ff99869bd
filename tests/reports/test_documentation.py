import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import bayesjoint.page
import bayesjoint.plots
import bayesjoint.reports

PACKAGES = (bayesjoint.reports, bayesjoint.plots, bayesjoint.page)
MODULES = sorted(
    f"{package.__name__}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(package.__path__)
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_reports_and_pages_never_import_the_model():
    code = (
        "import sys, bayesjoint.reports, bayesjoint.plots, bayesjoint.page;"
        "found = {'pymc', 'pytensor', 'matplotlib', 'jinja2'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
