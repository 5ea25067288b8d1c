import os
from pathlib import Path

import pytest

# Longer rounds, see `.ci/soak`.
SOAK = "ZERO_TEST_SOAK" in os.environ


@pytest.fixture(scope="session")
def conformance() -> Path:
    return Path(os.environ["ZERO_CONFORMANCE"])
