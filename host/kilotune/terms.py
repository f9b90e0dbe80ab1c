"""The words that the image, the device, the command line and the report share."""

from __future__ import annotations

Q10 = 1024.0  # scores, losses and thresholds on the wire are log2 in 1/1024
