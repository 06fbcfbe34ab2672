"""Run emeg as a service on a Prefect server.

emeg.yaml ──deploy──▶ deployments, queues, limits, automations, notifications
up ──▶ server, worker, watcher, reports        status        down
work ──▶ executes runs        watch ──▶ marks runs whose process died
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
