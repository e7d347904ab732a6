from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNSTIR_CACHE", str(root))
    return root
