"""Train two ranks with separate run folders, as on two machines: stop after step 5, then resume, or to the end."""

import json
import logging
import os
import shutil
import sys
from pathlib import Path

from benchmarks._tiny import NETWORK, fork_ranks, make_store
from benchmarks.resume import free_port

from emeg.errors import EmegError, StoppedError
from emeg.training import TrainTokenizerConfig, train_tokenizer
from emeg.training.loop import trainer


def run(
    root: Path, scratch: Path, *, checkpoints: str | None, stop_at: int | None, port: int, keep: str = "last"
) -> list[str]:
    """Return the error of each rank, empty where there is none."""
    said = [scratch / f"said-{rank}" for rank in range(2)]

    def work(progress: object) -> None:
        rank = int(os.environ["RANK"])

        def stop(done: int, total: int, message: str) -> None:
            if done == stop_at:
                raise StoppedError("stopped")

        config = TrainTokenizerConfig(
            root=str(root),
            run_dir=str(scratch / f"node-{rank}"),
            checkpoints=checkpoints,
            overrides=NETWORK,
            sampling={"budget_channel_seconds": 12, "crop_s": 2.0, "micro_batches": 2},
            steps=6,
            keep=keep,
            log_every=1,
            checkpoint_every=4,
            validate_every=100,
            checkpoint_in_background=False,
            device="cpu",
            threads=1,
            launched=False,
            stall_after_s=20.0,
        )
        said[rank].write_text("")
        if rank == 1:  # another machine has not what lies on this one
            find = trainer.locate
            trainer.locate = lambda path: find(str(path).replace("node-0", "absent"))
        try:
            train_tokenizer(config, progress=stop)
        except EmegError as error:
            said[rank].write_text(str(error))
            os._exit(3)

    log = scratch / "log"
    fork_ranks(work, world=2, port=port, log=log).wait()
    return [path.read_text() for path in said]


def main(scratch: Path) -> None:
    logging.disable(logging.WARNING)
    base = scratch / "base"
    make_store(base, seconds=60.0)
    report = {}
    for name, checkpoints in (("own", None), ("shared", str(scratch / "checkpoints"))):
        root = scratch / name
        shutil.copytree(base, root, ignore=shutil.ignore_patterns("runs"))
        for rank in range(2):
            shutil.rmtree(scratch / f"node-{rank}", ignore_errors=True)
        run(root, scratch, checkpoints=checkpoints, stop_at=5, port=free_port())
        errors = run(root, scratch, checkpoints=checkpoints, stop_at=None, port=free_port())
        report[name] = {"errors": errors, "finished": any((root / "models").glob("*/config.json"))}
    root = scratch / "best"
    shutil.copytree(base, root, ignore=shutil.ignore_patterns("runs"))
    for rank in range(2):
        shutil.rmtree(scratch / f"node-{rank}", ignore_errors=True)
    errors = run(root, scratch, checkpoints=None, stop_at=None, port=free_port(), keep="best")
    report["best"] = {"errors": errors, "finished": any((root / "models").glob("*/config.json"))}
    (scratch / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
