"""What every folder above may use: files written completely or not at all, locks, and strict JSON records."""
