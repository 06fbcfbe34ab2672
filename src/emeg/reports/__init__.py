"""Write self-contained HTML pages about the products of a store.

catalogue, quarantine ─┐
models (histories) ────┼─▶ gather ─▶ plots (SVG) ─▶ page (Jinja2) ─▶ reports/<report>/index.html
evaluation ────────────┘
catalogue, quarantine, marks, measures ─▶ plots ─▶ reports/quality-<hash>/index.html, one per dataset
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
