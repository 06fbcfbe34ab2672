from .across_subjects import calibration_windows as calibration_windows
from .manifest import (
    ALONE as ALONE,
    CALIBRATION as CALIBRATION,
    SIDES as SIDES,
    SUPPORT as SUPPORT,
    TEST as TEST,
    TRAIN as TRAIN,
    UNUSED as UNUSED,
    VALIDATION as VALIDATION,
    VALIDATION_SUPPORT as VALIDATION_SUPPORT,
    Episode as Episode,
    Labelled as Labelled,
    Part as Part,
    Side as Side,
    SplitManifest as SplitManifest,
    split_rows as split_rows,
)
from .paper import make_paper_splits as make_paper_splits
from .rules import ACROSS as ACROSS, make_splits as make_splits
