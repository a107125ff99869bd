"""The report page: one HTML file that needs no network."""

from bayesjoint.page.render import report

__all__ = ["report"]
