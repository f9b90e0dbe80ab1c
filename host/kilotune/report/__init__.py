"""A self-contained HTML page that shows what a device learned, and how much that helps."""

from kilotune.report.data import Budget, Point, ReportData, Scores, Span, Spectrum, Table
from kilotune.report.page import render

__all__ = ["Budget", "Point", "ReportData", "Scores", "Span", "Spectrum", "Table", "render"]
