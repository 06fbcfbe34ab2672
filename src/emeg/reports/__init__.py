"""Self-contained HTML pages from what lies in the store.

catalogue, quarantine ─┐
models (histories) ────┼─▶ gather ─▶ figures (SVG) ─▶ page (Jinja2) ─▶ reports/<report>/index.html
evaluation ────────────┘
catalogue, quarantine, marks, measures ─▶ figures ─▶ reports/quality-<hash>/index.html, one a dataset
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
