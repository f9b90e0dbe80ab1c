"""What a device learned: the adapter with its calibration, merging, and proof of its origin."""
