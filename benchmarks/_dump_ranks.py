"""``python -m benchmarks._dump_ranks CONFIG.json FOLDER``: train, and write hashes of each rank's parameters.

`benchmarks.nodes` starts this module on each node, where it launches the ranks. In a rank, the same module is the
worker: it trains, then writes a hash of every parameter and buffer, including the codebooks.
"""

import hashlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from emeg.training import TrainTokenizerConfig, launching


def main() -> None:
    """Launch the ranks of this node, or run one rank if torchrun started this process."""
    if "RANK" in os.environ:
        rank(Path(sys.argv[1]), sys.argv[2:])
        return
    config = TrainTokenizerConfig.checked(json.loads(Path(sys.argv[1]).read_bytes()), source=sys.argv[1])
    launching.WORKER = ("-m", "benchmarks._dump_ranks", sys.argv[2])
    launching.launch("train-tokenizer", config)


def rank(folder: Path, arguments: list[str]) -> None:
    """Train as one rank and write the hashes of its parameters into `folder`."""
    from emeg.training.launch import worker
    from emeg.training.loop import trainer

    fit = trainer.fit

    def fit_and_say(trainer: Any, module: Any, *rest: Any, **named: Any) -> None:  # noqa: ANN401
        fit(trainer, module, *rest, **named)
        state = module.network.state_dict()
        held = {name: hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest() for name, value in state.items()}
        report = {
            "tensors": held,
            "n_codebooks": sum("embed" in name for name in held),
            "address": socket.gethostbyname(socket.gethostname()),
        }
        (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(report))

    import emeg.training.stages.tokenizer_training

    emeg.training.stages.tokenizer_training.fit = fit_and_say  # type: ignore[attr-defined]
    code = worker.main(arguments)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
