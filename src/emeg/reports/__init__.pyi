from .hub_upload import (
    PushToHubConfig as PushToHubConfig,
    PushToHubResult as PushToHubResult,
    push_to_hub as push_to_hub,
)
from .compare_evaluations import (
    CompareConfig as CompareConfig,
    CompareResult as CompareResult,
    compare as compare,
)
from .write_quality_pages import QualityConfig as QualityConfig, QualityResult as QualityResult, quality as quality
from .write_report import ReportConfig as ReportConfig, ReportResult as ReportResult, report as report
