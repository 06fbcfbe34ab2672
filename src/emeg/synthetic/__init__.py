"""Simulate an archive: subjects, their sources and the devices that record them, as a BIDS dataset.

```
people ──▶ sources ──▶ activity ──┐
   └──▶ devices ──▶ leadfield ────┴──▶ recording ──▶ files (BIDS) ──▶ archive
```

All data follow from a seed. The truth (flat and noisy channels, frequencies, simultaneous recordings) is written to
``sourcedata/``, which ingest does not read.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
