"""The registry decides which subjects are trained on and which labels mean one subject, wherever the file lies."""

from tests.messages import refusal

from emeg.data import Corpus, ShardConfig, shard
from emeg.data.corpus.registered import registered
from emeg.errors import UserError


def test_tasks_unseen_devices_and_shared_people(store, add_recording):
    for i in range(6):
        for dataset in ("ds000117", "ds003645"):
            add_recording(f"{i}", dataset=dataset)
    for dataset in ("ds006036", "ds005697", "ds003478", "in-a-folder-of-ours"):
        add_recording("1", dataset=dataset)
    store.write_json(
        {"dataset": "in-a-folder-of-ours", "entry": "ds002778"}, "catalog", "datasets", "in-a-folder-of-ours.json"
    )
    corpus = Corpus.open(store, shard(ShardConfig(root=str(store.root), held_out=0.4, validation=0.2)).corpus)
    subjects = corpus.subjects
    assert all(subjects[f"ds000117/{i}"] == subjects[f"ds003645/{i}"] for i in range(6))
    closed = ("ds006036", "ds005697", "ds003478", "in-a-folder-of-ours")
    assert {subjects[f"{dataset}/1"] for dataset in closed} == {"held_out"}
    assert {subjects[f"ds000117/{i}"] for i in range(6)} == {"train", "validation", "held_out"}
    assert set(corpus.manifest["registry"]["held_out"]) == set(closed)
    assert "ds002778 is a task" in corpus.manifest["registry"]["held_out"]["in-a-folder-of-ours"]


def test_a_corpus_of_a_task_alone_is_refused(store, add_recording):
    for i in range(4):
        add_recording(f"{i}", dataset="ds002778")
    with refusal(UserError, "ds002778", action="datasets"):
        shard(ShardConfig(root=str(store.root)))


def test_what_the_registry_does_not_know_changes_nothing(people):
    rules = registered(people, {"a", "b"})
    assert not rules
    corpus = Corpus.open(people, shard(ShardConfig(root=str(people.root), held_out=0.3, validation=0.2)).corpus)
    assert "registry" not in corpus.manifest
