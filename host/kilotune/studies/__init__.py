"""Whole experiments: streaming, evaluation, before and after, benchmark, the demo."""
