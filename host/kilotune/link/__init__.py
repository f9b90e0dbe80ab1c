"""The host's end of the serial protocol (docs/SPEC.md, section 3): frames, messages, keys, streams."""
