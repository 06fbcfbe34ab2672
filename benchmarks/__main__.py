"""Run every benchmark. The last line that each prints is its result as one JSON object."""

import subprocess
import sys
from pathlib import Path

failed = [
    module
    for module in sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
    if subprocess.run([sys.executable, "-m", f"benchmarks.{module}"], check=False).returncode != 0
]
if failed:
    sys.exit(f"failed: {', '.join(failed)}")
