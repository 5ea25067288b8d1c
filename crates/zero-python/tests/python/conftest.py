import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def conformance() -> Path:
    return Path(os.environ["ZERO_CONFORMANCE"])
