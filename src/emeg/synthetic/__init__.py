"""An archive made from physics: people, their sources, and the devices that record them, as a BIDS dataset.

```
people ──▶ sources ──▶ activity ──┐
   └──▶ devices ──▶ leadfield ────┴──▶ recording ──▶ files (BIDS) ──▶ archive
```

Everything follows from a seed, offline; the truth (flat and noisy channels, frequencies, simultaneous recordings)
is written beside the data, where no reader of the data looks.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
