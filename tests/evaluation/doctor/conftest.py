from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.doctor import patients
from tests.evaluation.doctor.patients import PICTURES, TOLD_TIMES, VECTORS


@pytest.fixture(scope="session")
def healthy(cache_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of seconds, each of another kind, all healthy but ``told``, which is told the time. Tests must not change them."""
    place = tmp_path_factory.mktemp("healthy")
    points, which = patients.arcs(2_000)
    np.savez(place / "colours.npz", patients.colours(800))
    np.savez(place / "points.npz", points, which)
    np.save(place / "bits.npy", patients.beats(1_000))
    return {
        "digits": patients.trained(place / "digits", "digits", 6_000, PICTURES),
        "colours": patients.trained(place / "colours", str(place / "colours.npz"), 6_000, PICTURES),
        "points": patients.trained(place / "points", str(place / "points.npz"), 64 * 400, VECTORS),
        "told": patients.trained(place / "told", str(place / "points.npz"), 64 * 500, VECTORS + TOLD_TIMES),
        "bits": patients.trained(place / "bits", str(place / "bits.npy"), 64 * 200, VECTORS + "[schedule]\nT = 50\n"),
    }
