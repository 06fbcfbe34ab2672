from .deployment import DeployConfig as DeployConfig, DeployResult as DeployResult, deploy as deploy
from .local import (
    DownConfig as DownConfig,
    ServiceStatus as ServiceStatus,
    StatusConfig as StatusConfig,
    UpConfig as UpConfig,
    down as down,
    status as status,
    up as up,
)
from .watcher import WatchConfig as WatchConfig, WatchResult as WatchResult, watch as watch
from .worker import WorkConfig as WorkConfig, WorkResult as WorkResult, work as work
