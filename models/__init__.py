"""A package, so that the recipes, and the benchmarks, import what they share by its place: `models.recipes`."""
