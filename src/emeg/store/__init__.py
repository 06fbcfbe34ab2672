"""What lies on disk or in a bucket: recordings, catalogue, events, quarantine, and publishing of every product.

``publishing`` ──staging folder, fsync, move──▶ ``<root>/<room>/<name>`` ──▶ ``has``, ``names``, ``only``
``write_recording`` ──▶ ``recordings/<id>.zarr`` ──▶ ``open_recording`` ──▶ ``Recording.read``
``publish_row`` ──▶ ``catalog/events/``, then ``catalog/recordings/`` ──▶ ``read_catalog``, ``read_events``
``quarantine`` ──▶ ``catalog/quarantine/`` ──▶ ``read_quarantine``, ``release``

zarr and pyarrow load on first use of a name that needs them.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
