"""An archive made from physics: people, their sources, and the devices that record them, as a BIDS dataset.

```
people ──▶ sources ──▶ activity ──┐
   └──▶ devices ──▶ leadfield ────┴──▶ recording ──▶ files (BIDS) ──▶ archive
```

Everything follows from a seed, offline; the truth (flat and noisy channels, frequencies, simultaneous recordings)
is written beside the data, where no reader of the data looks.
"""

from typing import TYPE_CHECKING, Any

from emeg.synthetic.config import SynthesizeConfig, SynthesizeResult

if TYPE_CHECKING:
    from emeg.synthetic.archive import synthesize

__all__ = ["SynthesizeConfig", "SynthesizeResult", "synthesize"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - module attribute
    if name == "synthesize":
        from emeg.synthetic.archive import synthesize

        return synthesize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
