"""Read, create, change and remove each kind of object on the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emeg.service.api import Api
from emeg.service.settings import ServiceConfig
from emeg.service.wanted import Resource, automation_name, fingerprint, owner_tag

MARK = "emeg.yaml "
"""Start of the mark in the description of automations; the fingerprint of the wanted object follows."""


@dataclass
class Known:
    """Objects of the server that concern a file."""

    resources: dict[tuple[str, str], Mapping[str, Any]]
    """(kind, name) -> fields that can be compared with those of the file."""
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, name) -> id on the server."""
    owned: set[tuple[str, str]] = field(default_factory=set)
    """Objects that belong to the file; they are removed when it no longer names them."""


def read_server(api: Api, settings: ServiceConfig) -> Known:
    """Read all objects that the file may concern, in a few requests."""
    known = Known({})
    for read in (_read_pool, _read_limits, _read_blocks, _read_deployments, _read_automations):
        read(api, settings, known)
    return known


def _add(known: Known, kind: str, name: str, fields: Mapping[str, Any], row: Mapping[str, Any], *, owned: bool) -> None:
    known.resources[kind, name] = fields
    known.ids[kind, name] = str(row["id"])
    if owned:
        known.owned.add((kind, name))


def _read_pool(api: Api, settings: ServiceConfig, known: Known) -> None:
    pool = api.ask("GET", f"/work_pools/{settings.work_pool}")
    if pool is None:
        return
    _add(known, "work pool", settings.work_pool, {"type": pool["type"]}, pool, owned=False)
    for row in api.all(f"/work_pools/{settings.work_pool}/queues/filter"):
        name = f"{settings.work_pool}/{row['name']}"
        fields = {"concurrency_limit": row["concurrency_limit"]}
        _add(known, "work queue", name, fields, row, owned=row["description"] == owner_tag(settings))


def _read_limits(api: Api, settings: ServiceConfig, known: Known) -> None:
    for row in api.all("/v2/concurrency_limits/filter"):
        is_ours = row["name"].startswith(f"emeg-{settings.name}-")
        _add(known, "concurrency limit", row["name"], {"limit": row["limit"]}, row, owned=is_ours)


def _read_blocks(api: Api, settings: ServiceConfig, known: Known) -> None:
    for row in api.all("/block_documents/filter", {"include_secrets": True}):
        name = str(row["name"])
        if name.startswith(f"emeg-{settings.name}-"):
            data = row["data"]
            url = (data.get("secrets") or {}).get("url") or data.get("url")
            _add(known, "notification block", name, {"url": url}, row, owned=True)


def _read_deployments(api: Api, settings: ServiceConfig, known: Known) -> None:
    flows = {row["id"]: row["name"] for row in api.all("/flows/filter")}
    known.ids |= {("flow", name): id_ for id_, name in flows.items()}
    for row in api.all("/deployments/filter"):
        limit = (row.get("global_concurrency_limit") or {}).get("limit")
        fields = {key: row.get(key) for key in DEPLOYMENT_FIELDS} | {"concurrency_limit": limit}
        fields["tags"] = sorted(row["tags"])
        fields["schedules"] = [
            {
                "schedule": {key: s["schedule"].get(key) for key in ("cron", "timezone", "day_or")},
                "active": s["active"],
                "slug": s["slug"],
            }
            for s in row["schedules"]
        ]
        name = f"{flows.get(row['flow_id'], '?')}/{row['name']}"
        _add(known, "deployment", name, fields, row, owned=owner_tag(settings) in row["tags"])


DEPLOYMENT_FIELDS = (
    "description",
    "entrypoint",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
    "version",
)
"""Fields of a deployment that are compared as they are."""


def _read_automations(api: Api, settings: ServiceConfig, known: Known) -> None:
    for row in api.all("/automations/filter"):
        mark = row["description"].partition(MARK)[2] if row["enabled"] else "switched off"
        is_ours = row["name"].startswith(automation_name(settings, ""))
        _add(known, "automation", row["name"], {"mark": mark}, row, owned=is_ours)


def comparable(resource: Resource, ids: Mapping[tuple[str, str], str]) -> Mapping[str, Any]:
    """Return the fields of a wanted object in the form in which the server's are read."""
    if resource.kind != "automation":
        return resource.fields
    return {"mark": fingerprint({**resource.fields, "ids": _targets(resource, ids)})}


def _targets(resource: Resource, ids: Mapping[tuple[str, str], str]) -> list[str]:
    targets = [("deployment", resource.fields.get("run")), ("notification block", resource.fields.get("notify"))]
    return [ids.get((kind, name), "new") for kind, name in targets if name]


def create(api: Api, settings: ServiceConfig, resource: Resource, ids: dict[tuple[str, str], str]) -> None:
    """Create an object, and record its id."""
    row = _WRITERS[resource.kind](api, settings, resource, ids, None)
    ids[resource.kind, resource.name] = str(row["id"])


def update(api: Api, settings: ServiceConfig, resource: Resource, ids: dict[tuple[str, str], str]) -> None:
    """Change an object to what the file declares."""
    _WRITERS[resource.kind](api, settings, resource, ids, ids[resource.kind, resource.name])


def remove(api: Api, kind: str, name: str, found: str) -> None:
    """Remove an object."""
    routes = {
        "work queue": f"/work_pools/{name.partition('/')[0]}/queues/{name.partition('/')[2]}",
        "concurrency limit": f"/v2/concurrency_limits/{found}",
        "notification block": f"/block_documents/{found}",
        "deployment": f"/deployments/{found}",
        "automation": f"/automations/{found}",
    }
    api.ask("DELETE", routes[kind])


Ids = dict[tuple[str, str], str]
"""(kind, name) -> id on the server; also of flows, which deployments refer to."""


def _write_pool(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    return api.ask("POST", "/work_pools/", {"name": resource.name, "base_job_template": template, **resource.fields})


def _write_queue(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    pool, _, name = resource.name.partition("/")
    body = {"name": name, "description": owner_tag(settings), **resource.fields}
    if found is None:
        return api.ask("POST", f"/work_pools/{pool}/queues", body)
    return api.ask("PATCH", f"/work_pools/{pool}/queues/{name}", body)


def _write_limit(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    if found is None:
        return api.ask("POST", "/v2/concurrency_limits/", {"name": resource.name, "active": True, **resource.fields})
    return api.ask("PATCH", f"/v2/concurrency_limits/{found}", dict(resource.fields))


def _write_block(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    """Save the block through Prefect's own classes, which also register the type on a new server."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    url = resource.fields["url"]
    if url.startswith(("http://", "https://")) and "hooks.slack" not in url:
        block: Any = CustomWebhookNotificationBlock(
            name=resource.name,
            url="{{url}}",
            secrets={"url": url},
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
    else:  # every address that Apprise knows: Slack, mailto:// and others
        block = SlackWebhook(url=url)
    return {"id": block.save(resource.name, overwrite=True)}


def _write_deployment(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    flow, _, name = resource.name.partition("/")
    if found is not None:
        kept = {schedule["slug"] for schedule in resource.fields["schedules"]}
        for schedule in api.ask("GET", f"/deployments/{found}/schedules"):
            if schedule["slug"] not in kept:  # a list without it would leave it
                api.ask("DELETE", f"/deployments/{found}/schedules/{schedule['id']}")
        return api.ask("PATCH", f"/deployments/{found}", {**resource.fields})
    if ("flow", flow) not in ids:
        ids["flow", flow] = api.ask("POST", "/flows/", {"name": flow})["id"]
    options = {"collision_strategy": "ENQUEUE"} if resource.fields["concurrency_limit"] else None
    body = {"name": name, "flow_id": ids["flow", flow], "concurrency_options": options, **resource.fields}
    return api.ask("POST", "/deployments/", body)


def _write_automation(api: Api, settings: ServiceConfig, resource: Resource, ids: Ids, found: str | None) -> Any:  # noqa: ANN401
    fields = resource.fields
    if "run" in fields:
        action = {
            "type": "run-deployment",
            "source": "selected",
            "deployment_id": ids["deployment", fields["run"]],
            "parameters": fields.get("parameters"),
        }
    else:
        action = {
            "type": "send-notification",
            "block_document_id": ids["notification block", fields["notify"]],
            "subject": fields["subject"],
            "body": fields["body"],
        }
    body = {
        "name": resource.name,
        "description": f"{MARK}{comparable(resource, ids)['mark']}",
        "enabled": True,
        "trigger": fields["trigger"],
        "actions": [action],
    }
    if found is None:
        return api.ask("POST", "/automations/", body)
    return api.ask("PUT", f"/automations/{found}", body)


_WRITERS: dict[str, Callable[[Api, ServiceConfig, Resource, Ids, str | None], Any]] = {
    "work pool": _write_pool,
    "work queue": _write_queue,
    "concurrency limit": _write_limit,
    "notification block": _write_block,
    "deployment": _write_deployment,
    "automation": _write_automation,
}
