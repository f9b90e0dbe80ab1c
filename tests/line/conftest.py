"""Models are shared with tests/host, the measured line with tests/bench."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("host", "bench", "line")]
