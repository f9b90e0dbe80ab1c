"""What a device learned: the adapter and its calibration, merged, averaged and vouched for."""
