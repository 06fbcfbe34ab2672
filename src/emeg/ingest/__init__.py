"""From an archive of recordings to standardised recordings in the store.

archive ─listing─▶ Source ─transfer─▶ local files ─readers, sidecars─▶ raw ─sensors─▶ picks
                     └─ known? skip                                       ├─kernel─▶ 0.1-96 Hz, 256 Hz
                                                                          ├─quality─▶ gates, bad channels
                                                                          └─events
                          all of it ─▶ store: recording, events, catalogue row (last), or a quarantine record
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
