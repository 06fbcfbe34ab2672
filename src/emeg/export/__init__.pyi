from .config import ExportBidsConfig as ExportBidsConfig, ExportBidsResult as ExportBidsResult
from .publishing import export_bids as export_bids
