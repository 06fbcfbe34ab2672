from .catalogue import (
    RIVALS as RIVALS,
    RivalModel as RivalModel,
    missing_reason as missing_reason,
    permuted_labels as permuted_labels,
    spread_settings as spread_settings,
)
from .read_outs import (
    PENALTIES as PENALTIES,
    READ_OUTS as READ_OUTS,
    LogisticReadOut as LogisticReadOut,
    RidgeReadOut as RidgeReadOut,
    read_out as read_out,
)
