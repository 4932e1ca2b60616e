"""The report of a run: one page that opens anywhere, and the figures on it."""

from histoflow.report.page import render_page, write_page

__all__ = ["render_page", "write_page"]
