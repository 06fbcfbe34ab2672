"""Work on a store that already holds recordings: withdraw a subject, find copies, count what is bad.

`withdrawal` removes a subject from every product; `copy_search` compares `fingerprints` of recordings through an index
of `landmarks`; `quality_counts` summarises the bad marks of a dataset; `retention` removes old work in progress.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
