"""A package, so that tests and scripts can import what they share: `tests.support.networks`."""
