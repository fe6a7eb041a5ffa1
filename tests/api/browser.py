"""Opens pages in Chromium, without a window."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--allow-file-access-from-files",
    "--virtual-time-budget=10000",
)


def report_of(folder: Path, page: str) -> Any:
    """Open the `page`, HTML, which may ask for files in `folder`; return the JSON that its `<pre id="report">` shows.

    The test is skipped where there is no Chromium.
    """
    if not (program := shutil.which("chromium")):
        pytest.skip("Chromium is not installed")
    (folder / "page.html").write_text(page)
    command = [program, *OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder}/page.html"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return json.loads(unescape(re.findall(r'<pre id="report">(.*?)</pre>', shown)[0]))
