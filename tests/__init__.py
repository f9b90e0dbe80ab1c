"""A package, so that tests and scripts name what they share by its place: `tests.support.networks`."""
