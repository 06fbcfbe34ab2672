"""Make the pictures of the report page again: ``python docs/pictures/report.py [PAGE]``.

PAGE is the ``index.html`` of a report. Without it, a small demonstration is run in ``build/pictures`` first, which
takes some minutes. Needs Chromium; the pictures are screenshots of the page in a headless browser.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "pictures"
SMALL = [
    ["synthesize", "--out", "archive", "--n-subjects", "8", "--n-trials", "20", "--short-s", "30"],
    ["demo", "--root", "demo", "--archive", "archive", "--tokenizer-steps", "500", "--pretrain-steps", "150"],
]
"""Commands of the small demonstration."""

PICTURES = {
    "report.png": ("", (1180, 1210)),
    "report-reconstruction.png": ("main > :not(#reconstruction) {display: none}", (1180, 1180)),
    "report-task.png": ("main > :not(#task) {display: none}", (1180, 1740)),
}
"""File: rules that hide the other parts of the page, and the size of the window in pixels."""

MOST_BYTES = 200_000


def run_demo() -> Path:
    """Run the small demonstration and return the path of its report page."""
    WORK.mkdir(parents=True, exist_ok=True)
    for command in SMALL:
        done = subprocess.run(
            [sys.executable, "-m", "emeg.cli", *command], cwd=WORK, check=True, stdout=subprocess.PIPE, text=True
        )
    return Path(done.stdout.splitlines()[-1])


def take_picture(page: Path, target: Path, *, rules: str, size: tuple[int, int]) -> None:
    """Write a screenshot of the upper part of a page, with 64 colours.

    Parameters
    ----------
    page : Path
        HTML file.
    target : Path
        PNG file to write.
    rules : str
        Style rules added to the page.
    size : tuple of int
        Width and height of the window, pixels.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("docs/pictures/report.py: Chromium is not installed; install it, for example as package chromium")
    with tempfile.TemporaryDirectory() as folder:
        copy, raw = Path(folder) / "page.html", Path(folder) / "raw.png"
        text = page.read_text(encoding="utf-8")
        copy.write_text(text.replace("</head>", f"<style>{rules}</style></head>"), encoding="utf-8")
        switches = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        subprocess.run(
            [
                chromium,
                *switches,
                f"--user-data-dir={folder}/profile",
                f"--window-size={size[0]},{size[1]}",
                "--virtual-time-budget=8000",
                f"--screenshot={raw}",
                copy.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        few_colours = Image.open(io.BytesIO(raw.read_bytes())).convert("RGB").quantize(64)
    few_colours.save(target, optimize=True)
    if target.stat().st_size > MOST_BYTES:
        sys.exit(
            f"{target}: {target.stat().st_size} bytes, more than {MOST_BYTES}; make the picture smaller in PICTURES"
        )


def main() -> None:
    """Draw every picture."""
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else run_demo()
    for name, (rules, size) in PICTURES.items():
        take_picture(page, HERE / name, rules=rules, size=size)


if __name__ == "__main__":
    main()
