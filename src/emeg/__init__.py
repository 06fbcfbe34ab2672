"""emeg: public EEG and MEG archives in, a foundation model of brain signals and its worth out.

archive → recordings → corpus → BrainTokenizer → tokens → BrainOmni → fine-tuned task → report
"""

import lazy_loader as lazy

from emeg.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
