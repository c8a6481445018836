"""Figures, tables and the page that all domains share."""

from sciencevae.report.figures import image_grid, save_figure, style, training_figure
from sciencevae.report.html import write_report
from sciencevae.report.tables import table_html

__all__ = ["image_grid", "save_figure", "style", "table_html", "training_figure", "write_report"]
