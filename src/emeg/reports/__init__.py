"""One self-contained HTML page from what lies in the store.

catalogue, quarantine ─┐
models (histories) ────┼─▶ gather ─▶ figures (SVG) ─▶ page (Jinja2) ─▶ reports/<report>/index.html
evaluation ────────────┘
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.reports.reporting import ReportConfig, ReportResult, report

__all__ = ["ReportConfig", "ReportResult", "report"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name in __all__:
        value = getattr(importlib.import_module("emeg.reports.reporting"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
