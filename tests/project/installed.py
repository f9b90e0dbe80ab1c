"""What an installed package does without the project's source: the twin computes, the native program the same.

    python tests/project/installed.py

Each wheel is tried with it, in a clean environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import kilotune
import numpy as np
from kilotune.studies.base_models import base_model


def main() -> None:
    told = subprocess.run([sys.executable, "-m", "kilotune", "--version"], capture_output=True, text=True, check=True)
    assert kilotune.__version__ in told.stdout
    image = kilotune.compile(base_model("vibration_ae_1k6"), method="bias")
    x = np.random.default_rng(1).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)
    learned = []
    for target in ("twin", "native"):
        with (
            tempfile.TemporaryDirectory() as state,
            kilotune.connect(target, image=image, state=Path(state)) as device,
        ):
            assert device.info().firmware == kilotune.__version__
            device.train(x, steps=20, lr=0.01)
            learned.append((device.infer(x).tobytes(), device.pull().blob))
    assert learned[0] == learned[1], "twin and native program differ"
    print(f"kilotune {kilotune.__version__} in {Path(kilotune.__file__).parent}: twin and native program agree")


if __name__ == "__main__":
    main()
