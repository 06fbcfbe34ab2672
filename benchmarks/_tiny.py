"""A small store and training in forked processes, shared by the benchmarks that interrupt runs."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emeg.sensors import Sensors
from emeg.store import CatalogRow, RecordingAttributes, Store, publish_row, write_recording

SFREQ = 256.0
NETWORK = {"n_filters": 2, "n_dim": 16, "n_neuro": 4, "n_head": 2, "codebook_dim": 16, "codebook_size": 16}


def make_store(root: Path, *, people: int = 6, channels: int = 6, seconds: float = 120.0) -> None:
    """Write recordings of rhythms with noise, and create a corpus from them."""
    from emeg.data import ShardConfig, shard

    store = Store.open(root, create=True)
    for person in range(people):
        add_recording(store, f"{person:02d}", channels, seconds)
    shard(ShardConfig(root=str(root), held_out=0.2, validation=0.2))


def add_recording(store: Store, subject: str, channels: int, seconds: float) -> None:
    """Write one recording of rhythms with noise, and its catalogue row."""
    rng = np.random.default_rng(int(subject))
    directions = np.random.default_rng(channels).normal(size=(channels, 3))
    sensors = Sensors(
        names=tuple(f"S{i}" for i in range(channels)),
        types=np.zeros(channels, np.int8),
        units=("V",) * channels,
        positions=0.09 * directions / np.linalg.norm(directions, axis=1, keepdims=True),
        orientations=np.zeros((channels, 3)),
        coils=np.ones(channels, np.int32),
    )
    time_s = np.arange(round(seconds * SFREQ)) / SFREQ
    sources = np.sin(2 * np.pi * (np.array([[1.5], [3.0], [6.0]]) * time_s + rng.uniform(size=(3, 1))))
    signal_CN = 30e-6 * (directions @ sources + 0.1 * rng.normal(size=(channels, len(time_s))))
    shared: dict[str, Any] = {"device": "x", "dataset": "d", "subject": subject, "config_hash": "c", "version": "0"}
    shared |= {"layout": sensors.layout_id, "source": f"{subject}.edf", "licence": "CC0"}
    write_recording(
        store,
        f"r{subject}",
        signal_CN.astype(np.float32),
        sensors=sensors,
        attributes=RecordingAttributes(sfreq=SFREQ, pass_band=(0.1, 96.0), **shared),
        bad=np.zeros((channels, int(np.ceil(seconds))), np.uint8),
    )
    row = CatalogRow(
        recording=f"r{subject}",
        modality="eeg",
        n_channels=channels,
        n_eeg=channels,
        n_magnetometers=0,
        n_gradiometers=0,
        sfreq_source=SFREQ,
        duration_s=seconds,
        pass_band_low=0.1,
        pass_band_high=96.0,
        n_events=0,
        **shared,
    )
    publish_row(store, row, [])


@dataclass(frozen=True)
class Ranks:
    """Forked processes, one for each rank of a training."""

    children: tuple[int, ...]
    pipe: int

    def wait(self) -> list[int]:
        """Wait for all ranks and return their exit codes in rank order."""
        os.close(self.pipe)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]

    def kill_after(self, step: int, delay_s: float) -> None:
        """Send SIGKILL to every rank `delay_s` seconds after rank 0 has reported the end of step `step`."""
        with os.fdopen(self.pipe, "r", closefd=False) as lines:
            for line in lines:
                if int(line) >= step:
                    break
        time.sleep(delay_s)
        for child in self.children:
            os.kill(child, signal.SIGKILL)


def fork_ranks(work: Callable[[Callable[..., None]], object], *, world: int, port: int, log: Path) -> Ranks:
    """Run `work(progress)` in `world` forked children with the environment variables that torchrun sets."""
    from emeg.training.launch.worker import find_verb

    for verb in ("train-tokenizer", "pretrain"):  # the parent imports all modules for its children
        find_verb(verb)
    reader, writer = os.pipe()
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            os.close(reader)
            _be_rank(work, rank, world, port, log, writer)
        children.append(child)
    os.close(writer)
    return Ranks(tuple(children), reader)


def _be_rank(work: Callable[..., object], rank: int, world: int, port: int, log: Path, pipe: int) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    code = 1
    try:
        if world > 1:
            os.environ |= torchrun_environment(rank, world, port)

        def progress(done: int, total: int, message: str) -> None:
            if rank == 0:
                with suppress(BrokenPipeError):  # the parent has closed its end
                    os.write(pipe, f"{done}\n".encode())

        work(progress)
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not pass into the exit handlers of its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def torchrun_environment(rank: int, world: int, port: int) -> Mapping[str, str]:
    """Return the environment variables that torchrun sets for a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "benchmark",
        "GLOO_SOCKET_IFNAME": "lo",
    }
