"""Convert ``emeg.yaml`` to the objects that the server should hold.

There is one function for each kind of object; none of them sends requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from emeg.hashing import canonical_json, hash_json
from emeg.service.forms import with_choices
from emeg.service.settings import Archive, Schedule, ServiceConfig
from emeg.version import __version__

FLOWS = {
    "ingest": "emeg.flows.ingest.ingest_flow",
    "shard": "emeg.flows.shard.shard_flow",
    "tokenize": "emeg.flows.tokenize.tokenize_flow",
    "train-tokenizer": "emeg.flows.train_tokenizer.train_tokenizer_flow",
    "pretrain": "emeg.flows.pretrain.pretrain_flow",
    "finetune": "emeg.flows.finetune.finetune_flow",
    "evaluate": "emeg.flows.evaluate.evaluate_flow",
    "generate": "emeg.flows.evaluate.generate_flow",
    "grow": "emeg.flows.grow.grow_flow",
    "verify": "emeg.flows.verify.verify_flow",
    "tidy": "emeg.flows.tidy.tidy_flow",
    "pipeline": "emeg.flows.pipeline.pipeline_flow",
}
"""Flow -> its import path. Deployments name modules, so that they run from an installed package without a checkout."""

QUEUE_OF = {
    "ingest": "data",
    "shard": "data",
    "tokenize": "data",
    "grow": "data",
    "verify": "data",
    "tidy": "data",
    "train-tokenizer": "training",
    "pretrain": "training",
    "pipeline": "training",
    "finetune": "evaluation",
    "evaluate": "evaluation",
    "generate": "evaluation",
}
"""Flow -> the work queue of its runs."""

REQUEST_RETRIES = 12
"""How often a run repeats a request to a server that does not answer, after 2, 4, 8, … s: for 2.3 hours."""

ROOT = "{{ event.resource['emeg.root'] }}"
"""Template of an automation: the store of the product that the event names."""


@dataclass(frozen=True)
class Resource:
    """One object on the server."""

    kind: str
    """work pool, work queue, concurrency limit, notification block, deployment or automation."""
    name: str
    """Name on the server, unique in its kind."""
    fields: Mapping[str, Any]
    """Fields that the file decides; all others stay as they are on the server."""


def owner_tag(settings: ServiceConfig) -> str:
    """Return the tag of every deployment, and so of every run, that belongs to the file."""
    return f"emeg:{settings.name}"


def wanted(settings: ServiceConfig) -> list[Resource]:
    """Return all objects that the file declares, each after those that it refers to."""
    deployments = list(_deployments(settings))
    return [
        Resource("work pool", settings.work_pool, {"type": "process"}),
        *_queues(settings),
        *_limits(settings, deployments),
        *_blocks(settings),
        *deployments,
        *_chains(settings),
        *_alerts(settings),
    ]


def _queues(settings: ServiceConfig) -> Iterator[Resource]:
    for name, limit in settings.queues.model_dump().items():
        yield Resource("work queue", f"{settings.work_pool}/{name}", {"concurrency_limit": limit})


def _limits(settings: ServiceConfig, deployments: Sequence[Resource]) -> Iterator[Resource]:
    """Yield one limit for each store and archive host that a deployment uses."""
    used = {name for resource in deployments for name in limits_of(resource)}
    for name in sorted(used):
        is_store = name.startswith(f"emeg-{settings.name}-store-")
        limit = settings.limits.store if is_store else settings.limits.archive_host
        yield Resource("concurrency limit", name, {"limit": limit})


def limits_of(deployment: Resource) -> list[str]:
    """Return the concurrency limits that a run of the deployment takes part in."""
    return [name for name in deployment.fields["job_variables"]["env"].get("EMEG_LIMITS", "").split(",") if name]


def _blocks(settings: ServiceConfig) -> Iterator[Resource]:
    for name, notification in settings.notifications.items():
        yield Resource("notification block", f"emeg-{settings.name}-{name}", {"url": notification.url})


def _deployments(settings: ServiceConfig) -> Iterator[Resource]:
    for name, archive in settings.archives.items():
        config = {"archive": archive.archive, "root": settings.stores[archive.store], **archive.options}
        yield _deployment(
            settings,
            "ingest",
            name,
            {"config": config},
            store=archive.store,
            schedule=archive.schedule,
            archive=archive,
        )
    for name, training in settings.trainings.items():
        config = {"root": settings.stores[training.store], **training.options}
        yield _deployment(
            settings, training.verb, name, {"config": config}, store=training.store, schedule=training.schedule
        )
    named = {(training.verb, name) for name, training in settings.trainings.items()}
    for store, root in settings.stores.items():
        for verb in ("shard", "tokenize", "train-tokenizer", "pretrain", "finetune", "evaluate", "generate"):
            if (verb, store) not in named:
                yield _deployment(settings, verb, store, {"config": {"root": root}}, store=store)
        if settings.chains.shard_after:
            parameters = {"root": root, "threshold": settings.chains.shard_after}
            yield _deployment(settings, "grow", store, parameters, store=store)
        yield from _maintenance(settings, store, root)


def _maintenance(settings: ServiceConfig, store: str, root: str) -> Iterator[Resource]:
    work = settings.maintenance
    if work.verify:
        parameters = {"config": {"root": root}}
        yield _deployment(settings, "verify", store, parameters, store=store, schedule=work.verify)
    if work.tidy:
        keep = {"keep_days": work.keep_days, "keep_unfinished_days": work.keep_unfinished_days}
        yield _deployment(settings, "tidy", store, {"config": {"root": root, **keep}}, store=store, schedule=work.tidy)


def _deployment(
    settings: ServiceConfig,
    flow: str,
    name: str,
    parameters: dict[str, Any],
    *,
    store: str,
    schedule: Schedule | None = None,
    archive: Archive | None = None,
) -> Resource:
    limits = [f"emeg-{settings.name}-store-{store}"]
    if archive is not None and (host := archive_host(archive.archive)):
        limits.append(f"emeg-{settings.name}-host-{host}")
    environment = {
        "EMEG_LIMITS": ",".join(limits),
        "EMEG_QUARANTINE_SHARE": str(settings.quarantine_share),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "emeg",
        "PREFECT_CLIENT_MAX_RETRIES": str(REQUEST_RETRIES),
    }
    schema, description = flow_schema(flow)
    return Resource(
        "deployment",
        f"{flow}/{name}",
        {
            "description": description,
            "entrypoint": FLOWS[flow],
            "parameters": parameters,
            "parameter_openapi_schema": with_choices(schema, settings, settings.stores[store]),
            "enforce_parameter_schema": True,
            "tags": sorted([owner_tag(settings), "emeg", QUEUE_OF[flow]]),
            "work_pool_name": settings.work_pool,
            "work_queue_name": QUEUE_OF[flow],
            "job_variables": {"env": environment},
            "concurrency_limit": 1 if flow == "ingest" else None,
            "version": __version__,
            "schedules": [] if schedule is None else [_schedule(schedule)],
        },
    )


def _schedule(schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": {"cron": schedule.cron, "timezone": schedule.timezone, "day_or": True},
        "active": schedule.active,
        "slug": f"{schedule.cron} {schedule.timezone}",  # what Prefect's page shows as the schedule's name
    }


def archive_host(archive: str) -> str:
    """Return the host or bucket that an archive is read from, for names of limits; empty for a local folder."""
    scheme, _, rest = archive.removeprefix("anonymous:").partition(":")
    if not rest or archive.startswith("/"):
        return ""
    host = urlsplit(f"{scheme}:{rest}").netloc or scheme
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in host.lower())


@cache
def flow_schema(flow: str) -> tuple[dict[str, Any], str]:
    """Return the JSON schema of a flow's parameters, for the form and for checks, and its description."""
    import importlib

    from prefect.utilities.callables import parameter_schema

    module, _, function = FLOWS[flow].rpartition(".")
    found = getattr(importlib.import_module(module), function)
    return parameter_schema(found).model_dump_for_openapi(), str(found.description or "")


def automation_name(settings: ServiceConfig, name: str) -> str:
    """Return the name of an automation; the start says which file it belongs to."""
    return f"emeg {settings.name}: {name}"


def _chains(settings: ServiceConfig) -> Iterator[Resource]:
    for store, root in settings.stores.items():
        if settings.chains.evaluate_models:
            model = "{{ event.resource['prefect.resource.name'] }}"
            config = {"root": _template(ROOT), "model": _template(model)}
            trigger = _event("emeg.model.published", {"emeg.root": root, "emeg.role": "encoder"})
            yield Resource(
                "automation",
                automation_name(settings, f"evaluate new models of {store}"),
                {"trigger": trigger, "run": f"evaluate/{store}", "parameters": {"config": config, "finetune": config}},
            )
        if settings.chains.shard_after:
            yield Resource(
                "automation",
                automation_name(settings, f"shard new recordings of {store}"),
                {"trigger": _event("emeg.recordings.ingested", {"emeg.root": root}), "run": f"grow/{store}"},
            )


def _template(text: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": text}


def _event(name: str, match: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Reactive",
        "expect": [name],
        "match": dict(match),
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }


MESSAGES = {
    "failed": ("Failed: {{ flow.name }}/{{ flow_run.name }}", "{{ flow_run.state.message }}"),
    "crashed": ("Crashed: {{ flow.name }}/{{ flow_run.name }}", "{{ flow_run.state.message }}"),
    "late": ("Late: {{ flow.name }}/{{ flow_run.name }}", "It was due at {{ flow_run.expected_start_time }}."),
    "quarantine": (
        "Many refused recordings in {{ event.resource['prefect.resource.name'] }}",
        "{{ event.payload.n_quarantined }} of {{ event.payload.n_sources }} recordings of {{ event.payload.root }} were"
        " refused. `emeg catalog` and the quality page list the reasons.",
    ),
    "disk": (
        "Disk nearly full on {{ event.resource['prefect.resource.name'] }}",
        "{{ event.payload.free_gib }} GiB are free at {{ event.payload.path }}.",
    ),
}
"""Alert -> subject and body of its message, as templates of Prefect."""


def _alerts(settings: ServiceConfig) -> Iterator[Resource]:
    for name, notification in settings.notifications.items():
        for alert in notification.alerts:
            subject, body = MESSAGES[alert]
            if alert in ("failed", "crashed", "late"):
                body += "\nRun: {{ flow_run|ui_url }}"
            yield Resource(
                "automation",
                automation_name(settings, f"tell {name} of {alert}"),
                {
                    "trigger": _alert_trigger(settings, alert),
                    "notify": f"emeg-{settings.name}-{name}",
                    "subject": subject,
                    "body": body,
                },
            )


def _alert_trigger(settings: ServiceConfig, alert: str) -> dict[str, Any]:
    if alert == "quarantine":
        return _event("emeg.quarantine.high", {})
    if alert == "disk":
        return _event("emeg.disk.low", {})
    ours = {"prefect.resource.id": f"prefect.tag.{owner_tag(settings)}", "prefect.resource.role": "tag"}
    run = {"match": {"prefect.resource.id": "prefect.flow-run.*"}, "match_related": ours}
    if alert != "late":
        return _event(f"prefect.flow-run.{alert.capitalize()}", {}) | run
    started = [f"prefect.flow-run.{state}" for state in ("Pending", "Running", "Cancelled", "Crashed", "Completed")]
    return {
        "type": "event",
        "posture": "Proactive",
        "after": ["prefect.flow-run.Late"],
        "expect": started,
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": settings.late_after_s,
        **run,
    }


def fingerprint(fields: Mapping[str, Any]) -> str:
    """Return the mark by which the server's copy of an automation or a block is compared."""
    return hash_json(canonical_json(fields))
