"""Models that a foundation model is compared with, all with the same number of settings to choose from.

RIVALS ──settings──▶ fitted on training windows ──▶ chosen on validation windows ──▶ test windows predicted once

`catalogue` lists them; `spectral_features`, `spatial_features`, `frequency_tags` and `time_series_features` compute
features, `read_outs` classify them linearly, `network_estimator` trains `networks` or `braindecode_models`.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
