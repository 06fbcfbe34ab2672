"""Jobs on a Kubernetes API server, through kubectl: followed, adopted, created again after a failure, and deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks._tiny import NETWORK, make_store
from tests.integration.kubernetes_api import Cluster, cluster, missing

from emeg.errors import StoppedError
from emeg.store import Store
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.follow import follow, read_standing
from emeg.training.launch.jobs import find_job
from emeg.training.loop.rank import find_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("kubernetes") / "store"
    make_store(folder, people=5, seconds=40.0)
    return folder


@pytest.fixture
def api(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with cluster(tmp_path) as (found, environment):
        environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield found


def training(store: Path, *, seed: int, steps: int) -> TrainTokenizerConfig:
    values = {"root": str(store), "steps": steps, "seed": seed, "ramp_steps": 10, "log_every": 1, "checkpoint_every": 5}
    values |= {"validate_every": 1000, "final_segments": 2, "device": "cpu", "threads": 1, "overrides": NETWORK}
    values |= {"sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2}}
    values |= {"launcher": "kubernetes", "kubernetes": {"submit": True}}
    return TrainTokenizerConfig.checked(values, source="test")


class FollowerDiedError(Exception):
    """Stands for the end of the process that follows."""


def test_a_failed_job_is_created_again_and_a_new_follower_adopts_the_one_that_runs(store: Path, api: Cluster):
    config = training(store, seed=0, steps=60)
    submitted = train_tokenizer(config)
    run = find_run(config, submitted.model, {})
    killed = []

    def watch(done: int, total: int, message: str) -> None:
        step = read_standing(run).step
        if step >= 8 and not killed:
            killed.append(find_job(run.folder).job)
            api.kill(api.jobs[killed[0]])
        if len(api.created) == 2:
            raise FollowerDiedError

    with pytest.raises(FollowerDiedError):
        follow("train-tokenizer", config, submitted, progress=watch, poll_s=0.5)
    again = train_tokenizer(config)
    assert again.job.split()[-1] == submitted.job.split()[-1]
    result = follow("train-tokenizer", config, again, progress=lambda *_: None, poll_s=0.5)
    assert Store.open(store).has("models", result.model)
    assert len(api.created) == 2  # the first and the one after its failure, none by the new follower
    assert len(api.deleted) == 1
    second = api.jobs[find_job(run.folder).job].log.read_text()
    assert "going on from" in second


def test_cancelling_the_follower_deletes_the_job_after_a_checkpoint(store: Path, api: Cluster):
    config = training(store, seed=1, steps=4000)
    submitted = train_tokenizer(config)
    run = find_run(config, submitted.model, {})
    with pytest.raises(StoppedError):
        follow(
            "train-tokenizer",
            config,
            submitted,
            progress=lambda *_: None,
            is_cancelled=lambda: read_standing(run).step >= 3,
            poll_s=0.5,
        )
    assert api.deleted == api.created == [find_job(run.folder).job]
    assert list((run.folder / "checkpoints").glob("last-*.sha256"))


def test_a_job_that_never_works_fails_with_the_end_of_its_pods_log(store: Path, api: Cluster):
    api.command = "echo no-module-named-emeg; exit 3"
    config = training(store, seed=2, steps=20)
    submitted = train_tokenizer(config)
    with pytest.raises(RuntimeError) as caught:
        follow("train-tokenizer", config, submitted, progress=lambda *_: None, restarts=1, poll_s=0.5)
    assert "no-module-named-emeg" in str(caught.value).splitlines()[-1]
    assert len(api.created) == 2
