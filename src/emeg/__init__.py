"""emeg: public EEG and MEG archives in, a foundation model of brain signals and its worth out.

archive → recordings → corpus → BrainTokenizer → tokens → BrainOmni → fine-tuned task → report
"""

__version__ = "0.1.0"
