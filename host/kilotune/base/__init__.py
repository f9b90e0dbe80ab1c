"""Base models: what a device starts from, trained on healthy vibration (needs TensorFlow)."""

from __future__ import annotations
