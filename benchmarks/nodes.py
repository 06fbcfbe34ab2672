"""Train on two nodes in network namespaces, compare their codebooks, disconnect one node, and resume.

Each node is a network namespace with a virtual network card on a bridge of the host, and with its own host name and
hosts file. Both share the disk, as the nodes of a cluster do. Each node runs one launcher with one rank; torchrun's
c10d rendezvous is on the first node. The benchmark needs root and iproute2.

* ``bitwise_equal``: after 50 steps of the tokenizer, both ranks hold the same codebooks and weights, bit for bit;
* ``cutoff_s``: seconds from the moment when the second node's link goes down until both launchers have ended, with
  exit code 75 and an error that names the cause;
* ``resumed``: with the link up again, the same two commands continue the training.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._tiny import NETWORK, make_store

STEPS, LIMIT_S = 50, 120.0
PORT = 29400
ROOT = Path(__file__).parents[1]


def ip(*arguments: str) -> None:
    """Run ``ip``; raise with its error output if it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Node:
    """Network namespace with one network card."""

    def __init__(self, tag: str, number: int, count: int) -> None:
        self.name = f"{tag}n{number}"
        self.link = f"{tag}v{number}"
        self.address = f"10.77.{int(tag[-2:], 16)}.{number + 1}"
        self._etc = Path("/etc/netns") / self.name
        self._etc.mkdir(parents=True)
        others = [f"10.77.{int(tag[-2:], 16)}.{other + 1} {tag}n{other}" for other in range(count)]
        (self._etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *others]) + "\n")
        (self._etc / "nsswitch.conf").write_text("hosts: files\n")
        (self._etc / "resolv.conf").write_text("")
        ip("netns", "add", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", "eth0", "up")

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Run a command on this node."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        renamed = f'hostname {self.name} && exec "$@"'  # torchrun sends its host name to the other nodes
        with log.open("ab") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", renamed, "sh", *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
            )

    def cut(self, *, off: bool) -> None:
        """Set the node's link down (`off`) or up."""
        ip("link", "set", self.link, "down" if off else "up")

    def close(self) -> None:
        """Remove the namespace and its files."""
        ip("netns", "delete", self.name)
        for file in self._etc.iterdir():
            file.unlink()
        self._etc.rmdir()


@contextmanager
def two_nodes() -> Iterator[list[Node]]:
    """Create two nodes and a bridge between them; remove them afterwards."""
    tag = f"em{os.getpid() % 256:02x}"
    ip("link", "add", f"{tag}br", "type", "bridge")
    nodes: list[Node] = []
    try:
        for number in range(2):
            nodes.append(Node(tag, number, 2))
            ip("link", "set", nodes[-1].link, "master", f"{tag}br")
            ip("link", "set", nodes[-1].link, "up")
        ip("link", "set", f"{tag}br", "up")
        yield nodes
    finally:
        for node in nodes:
            node.close()
        ip("link", "delete", f"{tag}br")


def config_of(root: Path, nodes: list[Node], steps: int) -> dict[str, Any]:
    """Return the configuration of the training."""
    return {
        "root": str(root),
        "overrides": NETWORK,
        "steps": steps,
        "ramp_steps": 10,
        "sampling": {"budget_channel_seconds": 40, "crop_s": 2.0, "micro_batches": 2},
        "log_every": 1,
        "checkpoint_every": 5,
        "validate_every": 25,
        "device": "cpu",
        "threads": 1,
        "nodes": 2,
        "rendezvous": f"{nodes[0].name}:{PORT}",
        "stall_after_s": 20.0,
    }


def start_all(nodes: list[Node], config: dict[str, Any], log: Path, *, dump: Path | None = None) -> list[Any]:
    """Start the same training on every node; with `dump`, every rank writes the hashes of its parameters there."""
    file = log.with_suffix(".json")
    file.write_text(json.dumps(config))
    module = ["-m", "emeg.cli", "train-tokenizer", "--config", str(file)]
    if dump is not None:
        module = ["-m", "benchmarks._dump_ranks", str(file), str(dump)]
    return [
        node.start([sys.executable, *module], log.with_name(f"{log.name}-{number}.log"))
        for number, node in enumerate(nodes)
    ]


def wait_all(launchers: list[subprocess.Popen[bytes]], limit_s: float) -> tuple[list[int | None], float]:
    """Return the exit codes (`None` for a process that has not ended) and the seconds until the last one ended."""
    began = time.monotonic()
    codes: list[int | None] = []
    for launcher in launchers:
        try:
            codes.append(launcher.wait(timeout=max(0.1, limit_s - (time.monotonic() - began))))
        except subprocess.TimeoutExpired:
            codes.append(None)
            launcher.kill()
    return codes, time.monotonic() - began


def equal_ranks(scratch: Path, nodes: list[Node]) -> dict[str, Any]:
    """Train 50 steps and compare the parameters and buffers of the ranks."""
    root, dump = scratch / "equal", scratch / "dump"
    make_store(root, seconds=60.0)
    dump.mkdir()
    codes, seconds = wait_all(start_all(nodes, config_of(root, nodes, STEPS), scratch / "train", dump=dump), 280.0)
    held = [json.loads(path.read_text()) for path in sorted(dump.glob("rank-*.json"))]
    return {
        "codes": codes,
        "seconds": round(seconds, 1),
        "equal": len(held) == 2 and held[0]["tensors"] == held[1]["tensors"],
        "hosts": len({one["address"] for one in held}),
        "n_codebooks": held[0]["n_codebooks"] if held else 0,
    }


def cut_off(scratch: Path, nodes: list[Node]) -> dict[str, Any]:
    """Disconnect the second node after a few steps, reconnect it, and resume the training."""
    root = scratch / "cut"
    make_store(root, seconds=60.0)
    config = config_of(root, nodes, 400)
    launchers = start_all(nodes, config, scratch / "cut")
    wait_for_checkpoint(root, 120.0)
    nodes[1].cut(off=True)
    codes, seconds = wait_all(launchers, LIMIT_S)
    nodes[1].cut(off=False)
    newest = max(int(path.name[5:13]) for path in root.glob("runs/*/checkpoints/last-*.ckpt"))
    said = [log.read_text()[-1500:] for log in sorted(scratch.glob("cut-*.log"))]
    return {
        "codes": codes,
        "seconds": round(seconds, 1),
        "newest": newest,
        "said": [text.splitlines()[-1] for text in said],
    }


def resume(scratch: Path, nodes: list[Node], newest: int) -> dict[str, Any]:
    """Start the same run on both nodes again, check that it continues after step `newest`, and stop it later."""
    root = scratch / "cut"
    launchers = start_all(nodes, config_of(root, nodes, 400), scratch / "again")
    wait_for_checkpoint(root, 120.0, after=newest + 5)
    for launcher in launchers:
        launcher.terminate()
    codes, _ = wait_all(launchers, LIMIT_S)
    log = (scratch / "again-0.log").read_text()
    return {"codes": codes, "went_on": f"last-{newest:08d}" in log or "going on from" in log}


def wait_for_checkpoint(root: Path, limit_s: float, *, after: int = 0) -> None:
    """Wait until a checkpoint of a step later than `after` exists."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if any(int(path.name[5:13]) > after for path in root.glob("runs/*/checkpoints/last-*.ckpt.sha256")):
            return
        time.sleep(0.2)
    raise SystemExit(f"{root}: no checkpoint after {limit_s:.0f} s")


def main() -> None:
    """Measure, and print the result as one JSON object."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, two_nodes() as nodes:
        scratch = Path(folder)
        trained = equal_ranks(scratch, nodes)
        print(json.dumps(trained), flush=True)
        cut = cut_off(scratch, nodes)
        print(json.dumps(cut), flush=True)
        again = resume(scratch, nodes, cut["newest"])
        print(json.dumps(again), flush=True)
        for log in sorted(scratch.glob("*.log")):
            print(log.name, log.read_text()[-700:], file=sys.stderr)
    print(
        json.dumps(
            {
                "benchmark": "nodes",
                "bitwise_equal": bool(trained["equal"] and trained["hosts"] == 2 and trained["codes"] == [0, 0]),
                "train_s": trained["seconds"],
                "cutoff_s": cut["seconds"],
                "cutoff_exit_codes_ask_for_a_restart": cut["codes"] == [75, 75],
                "resumed": bool(again["went_on"] and again["codes"] == [75, 75]),
                "went_on_from": cut["newest"],
            }
        )
    )


if __name__ == "__main__":
    main()
