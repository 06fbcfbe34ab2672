"""Export recordings of a store to BIDS.

catalogue ─where─▶ rows ─naming─▶ BIDS names
recording ─signals─▶ BrainVision (EEG), FIF (MEG)      ┐
sensors, seconds that are bad, events ─sidecars─▶ ..   ├─publishing─▶ one BIDS derivative dataset
registry, licences ─description─▶ ..                   ┘
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
