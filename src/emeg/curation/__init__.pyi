from .copy_search import CopiesConfig as CopiesConfig, CopiesResult as CopiesResult, copies as copies
from .quality_counts import QualityCount as QualityCount, count_quality as count_quality
from .retention import TidyConfig as TidyConfig, TidyResult as TidyResult, tidy as tidy
from .trace import LineageConfig as LineageConfig, LineageResult as LineageResult, lineage as lineage
from .withdrawal import WithdrawConfig as WithdrawConfig, WithdrawResult as WithdrawResult, withdraw as withdraw
