import pytest

from tests.reports import factory


@pytest.fixture(params=[False, True], ids=["uncoupled", "coupled"], scope="session")
def dense(request):
    return factory.make(coupled=request.param)


@pytest.fixture(scope="session")
def preview(dense):
    return factory.preview(dense)


@pytest.fixture(scope="session")
def sampled(dense):
    return factory.tree(dense)


@pytest.fixture(scope="session")
def pair(dense):
    """Two problems of the same kind, for trees linearized at draws."""
    return [dense, factory.make(seed=5, coupled=bool(dense.gamma.any()))]
