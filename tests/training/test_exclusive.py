"""Two trainings of one model: the second waits, reports which process trains, and then finds the model."""

import json
import os
import re
import threading
import time

from benchmarks._tiny import make_store
from tests.messages import refusal

from emeg.errors import TransientError
from emeg.store import Store
from emeg.training import TrainTokenizerConfig, train_tokenizer, verbs
from emeg.training.exclusive import training_across_machines, training_alone
from emeg.training.launch import worker
from emeg.training.launch.launcher import RETRY_CODE
from emeg.training.product_names import tokenizer_name


def test_a_second_training_waits_and_names_the_process_that_trains(tmp_path):
    store = Store.open(tmp_path, create=True)
    first_holds, first_may_end = threading.Event(), threading.Event()
    order: list[str] = []
    heard: list[str] = []

    def first() -> None:
        with training_alone(store, "abc", lambda *_: None):
            first_holds.set()
            first_may_end.wait(30)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    first_holds.wait(30)

    def listen(done: int, total: int, message: str) -> None:
        heard.append(message)
        first_may_end.set()

    began = time.monotonic()
    with training_alone(store, "abc", listen):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert time.monotonic() - began < 20
    assert re.search(r"process \d+ on \S+ trains this model since \d{4}-", heard[0])


def test_another_model_does_not_wait(tmp_path):
    store = Store.open(tmp_path, create=True)
    heard: list[str] = []
    with training_alone(store, "abc", lambda *_: None), training_alone(store, "def", lambda *a: heard.append(str(a))):
        pass
    assert heard == []


def test_the_first_rank_of_several_machines_refuses_a_model_that_is_trained_elsewhere(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "store", create=True)
    config = TrainTokenizerConfig.checked(
        {"root": str(tmp_path / "store"), "corpus": "c", "nodes": 2, "rendezvous": "a:1234"}, source="test"
    )
    asked, answer = tmp_path / "config.json", tmp_path / "answer.json"
    asked.write_text(config.model_dump_json())
    called = []

    def train(config, *, progress):
        called.append(config)
        with training_across_machines(store, "another"):  # this one is free
            return config

    monkeypatch.setattr(worker, "find_verb", lambda verb: (TrainTokenizerConfig, train))
    monkeypatch.setattr(worker, "stop_at_once", lambda result_file: None)
    monkeypatch.setenv("RANK", "0")
    arguments = ["train-tokenizer", str(asked), str(answer)]
    with training_alone(store, tokenizer_name(config), lambda *_: None):
        assert worker.main(arguments) == RETRY_CODE
        error = json.loads(answer.read_text())["error"]
        assert error["kind"] == "TransientError"
        assert f"process {os.getpid()}" in error["message"]
        monkeypatch.setenv("RANK", "1")
        assert worker.main(arguments) == 0  # the claim is the first rank's matter
    monkeypatch.setenv("RANK", "0")
    answer.unlink()
    assert worker.main(arguments) == 0
    assert len(called) == 2


def test_ranks_that_torchrun_has_started_claim_their_model(tmp_path, monkeypatch):
    make_store(tmp_path, people=5, channels=4, seconds=12.0)
    config = TrainTokenizerConfig.checked({"root": str(tmp_path), "device": "cpu", "steps": 1}, source="test")
    called = []
    monkeypatch.setattr(verbs, "_run", lambda verb, config, name, progress: called.append(name))
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    train_tokenizer(config)
    (name,) = called
    with training_alone(Store.open(tmp_path), name, lambda *_: None):
        with refusal(TransientError, name, f"process {os.getpid()}", action="command"):
            train_tokenizer(config)
        monkeypatch.setenv("RANK", "1")
        train_tokenizer(config)  # the claim is the first rank's matter
    assert called == [name, name]
