"""`Device` and what it says: learning, scoring, adapters, recording, keys, another model."""
