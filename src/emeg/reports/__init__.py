"""Self-contained HTML pages from what lies in the store.

catalogue, quarantine ─┐
models (histories) ────┼─▶ gather ─▶ figures (SVG) ─▶ page (Jinja2) ─▶ reports/<report>/index.html
evaluation ────────────┘
catalogue, quarantine, marks, measures ─▶ figures ─▶ reports/quality-<hash>/index.html, one a dataset
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.reports.quality_pages import QualityConfig, QualityResult, quality
    from emeg.reports.reporting import ReportConfig, ReportResult, report

_HOMES = {
    "QualityConfig": "quality_pages",
    "QualityResult": "quality_pages",
    "ReportConfig": "reporting",
    "ReportResult": "reporting",
    "quality": "quality_pages",
    "report": "reporting",
}

__all__ = ["QualityConfig", "QualityResult", "ReportConfig", "ReportResult", "quality", "report"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in _HOMES:
        value = getattr(importlib.import_module(f"emeg.reports.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
