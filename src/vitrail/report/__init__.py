"""One evaluation as one HTML file that needs nothing else: no network, no script, no other file."""

from vitrail.report.content import Example, Figure, ReportContent
from vitrail.report.html import write_report

__all__ = ["Example", "Figure", "ReportContent", "write_report"]
