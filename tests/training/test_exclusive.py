"""Two trainings of one model: the second waits, reports which process trains, and then finds the model."""

import re
import threading
import time

from emeg.store import Store
from emeg.training.exclusive import training_alone


def test_a_second_training_waits_and_says_who_trains_since_when(tmp_path):
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
