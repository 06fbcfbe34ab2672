"""From the store to formats that others read.

catalogue ─where─▶ rows ─naming─▶ BIDS names
recording ─signals─▶ BrainVision (EEG), FIF (MEG)      ┐
sensors, seconds that are bad, events ─sidecars─▶ ..   ├─publishing─▶ one BIDS derivative dataset
registry, licences ─description─▶ ..                   ┘
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emeg.export.config import ExportBidsConfig, ExportBidsResult
    from emeg.export.publishing import export_bids

__all__ = ["ExportBidsConfig", "ExportBidsResult", "export_bids"]

_HOMES = {"ExportBidsConfig": "config", "ExportBidsResult": "config", "export_bids": "publishing"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"emeg.export.{_HOMES[name]}"), name)
