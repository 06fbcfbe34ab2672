"""Policies of infra/s3 against the requests that an ingest, a corpus, a training and a check really make."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from aiobotocore.client import AioBaseClient
from benchmarks._tiny import NETWORK, add_recording

from emeg.data import ShardConfig, shard
from emeg.ingest import IngestConfig, ingest
from emeg.store import Store, VerifyConfig, verify
from emeg.training import TrainTokenizerConfig, train_tokenizer

POLICIES = Path(__file__).parents[1] / "infra/s3"

ACTION_OF = {
    "ListObjectsV2": "s3:ListBucket",
    "ListObjects": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
}
"""Request -> action that a policy must allow for it (Amazon S3, "Required permissions for API operations")."""


class Request(NamedTuple):
    """A request to S3."""

    operation: str
    bucket: str
    key: str
    prefix: str | None

    def is_allowed(self, policy: dict[str, Any]) -> bool:
        """Return whether a statement of a policy allows it."""
        return any(self._fits(statement) for statement in policy["Statement"])

    def _fits(self, statement: dict[str, Any]) -> bool:
        action = ACTION_OF[self.operation]
        of_bucket = action == "s3:ListBucket"
        resource = f"arn:aws:s3:::{self.bucket}" + ("" if of_bucket else f"/{self.key}")
        if action not in statement["Action"] or not any(fnmatchcase(resource, one) for one in statement["Resource"]):
            return False
        wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        return wanted is None or (self.prefix is not None and any(fnmatchcase(self.prefix, one) for one in wanted))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request of this process to S3, in order."""
    made: list[Request] = []
    call = AioBaseClient._make_api_call

    async def noting(self: AioBaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        keys = [parameters.get("Key", ""), *(one["Key"] for one in parameters.get("Delete", {}).get("Objects", []))]
        prefix = parameters.get("Prefix")
        made.extend(
            Request(operation, parameters.get("Bucket", ""), key, prefix) for key in keys if key or len(keys) == 1
        )
        return await call(self, operation, parameters)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", noting)
    return made


def policy(name: str, bucket: str) -> dict[str, Any]:
    text = (POLICIES / name).read_text()
    found: dict[str, Any] = json.loads(text.replace("ARCHIVE", bucket).replace("STORE", bucket))
    return found


def test_the_policies_allow_every_request_and_nothing_that_is_not_made(
    bucket: str, requests: list[Request], shared: Path, tmp_path: Path
):
    fs = fsspec.filesystem("s3")
    archive = f"{bucket.rpartition('/')[0]}-archive"
    fs.mkdir(archive.removeprefix("s3://"))
    fs.put(str(shared / "data/oddball/sub-02"), f"{archive}/sub-02", recursive=True)
    store = bucket.replace("/archive", "/store")
    requests.clear()
    ingest(IngestConfig.model_validate({"archive": archive, "root": store, "workers": 0}))
    ingest(IngestConfig.model_validate({"archive": archive, "root": store, "workers": 0}))
    for person in range(4):
        add_recording(Store.open(store), f"{person:02d}", 6, 40.0)
    shard(ShardConfig(root=store, held_out=0.25, validation=0.25))
    options = {"root": store, "run_dir": str(tmp_path), "steps": 2, "ramp_steps": 1, "device": "cpu", "threads": 1}
    options |= {"checkpoints": f"{store}/checkpoints", "launched": False, "overrides": NETWORK, "final_segments": 1}
    options |= {"sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}, "validation_segments": 1}
    train_tokenizer(TrainTokenizerConfig.checked(options, source="test"))
    verify(VerifyConfig(root=store))
    policies = {
        archive.removeprefix("s3://"): policy("read-archive.json", archive.removeprefix("s3://")),
        store.split("/")[2]: policy("write-store.json", store.split("/")[2]),
    }
    assert {request.bucket for request in requests} == set(policies)
    refused = sorted({request for request in requests if not request.is_allowed(policies[request.bucket])})
    assert not refused
    for name, allowed in policies.items():
        used = {ACTION_OF[request.operation] for request in requests if request.bucket == name}
        granted = {action for statement in allowed["Statement"] for action in statement["Action"]}
        assert granted - used <= ONLY_SOMETIMES


ONLY_SOMETIMES = {"s3:GetObjectVersion", "s3:AbortMultipartUpload"}
"""Actions that are needed only where a bucket has versions, or where an upload of a large file is interrupted."""
