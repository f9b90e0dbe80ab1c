"""`Device` and its results: learning, scoring, adapters, recording, keys, replacing the model."""
