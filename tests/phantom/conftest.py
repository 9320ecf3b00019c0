import phantom_cache
import pytest


@pytest.fixture(autouse=True)
def own_phantoms(monkeypatch): monkeypatch.setattr(phantom_cache, 'enabled', False)
