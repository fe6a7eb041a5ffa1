"""How the page of the API looks in a browser. Skipped without Chromium."""

import json
from pathlib import Path

import pytest

import service.api
from service.api.key_file import add_key
from tests.api.browser import report_of
from tests.api.client import fake_app

PAGE = Path(service.api.__file__).with_name("docs.html")

OPENED = """
setTimeout(() => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  const { scrollWidth, clientWidth } = document.documentElement;
  const rows = document.querySelectorAll("td code").length;
  parent.postMessage({ rows, beyond: scrollWidth - clientWidth });
}, 500);
"""
WINDOW = """<!doctype html><iframe src="docs.html" style="width: WIDTHpx; height: 600px"></iframe>
<script>
addEventListener("message", ({ data }) => {
  const textContent = JSON.stringify(data);
  document.body.append(Object.assign(document.createElement("pre"), { id: "report", textContent }));
});
</script>
"""
"""The window itself cannot be as narrow as a phone's."""


@pytest.mark.parametrize("width", [320, 780])
def test_all_that_is_told_of_the_api_is_as_narrow_as_the_window(tmp_path: Path, width: int) -> None:
    add_key(tmp_path / "keys", "ward-3")
    document = json.dumps(fake_app(api_keys=str(tmp_path / "keys"), rate_limit=1).openapi())
    told = f"<script>window.fetch = async () => Response.json({document});</script>\n<script>"
    page = PAGE.read_text().replace("<script>", told, 1).replace("</body>", f"<script>{OPENED}</script></body>")
    (tmp_path / "docs.html").write_text(page)
    report = report_of(tmp_path, WINDOW.replace("WIDTH", str(width)))
    assert report["rows"] > 50
    assert report["beyond"] == 0


DRAWN = """
setTimeout(() => {
  const report = {
    types: [...document.querySelectorAll("main > details > summary > code:first-child")].map(one => one.textContent),
    told: [...document.querySelectorAll("td")].map(cell => cell.textContent),
  };
  const textContent = JSON.stringify(report);
  document.body.append(Object.assign(document.createElement("pre"), { id: "report", textContent }));
}, 500);
"""


def test_every_type_that_is_named_is_described_and_where_a_key_goes(tmp_path: Path) -> None:
    add_key(tmp_path / "keys", "ward-3")
    document = fake_app(api_keys=str(tmp_path / "keys")).openapi()
    told = f"<script>window.fetch = async () => Response.json({json.dumps(document)});</script>\n<script>"
    page = PAGE.read_text().replace("<script>", told, 1).replace("</body>", f"<script>{DRAWN}</script></body>")
    report = report_of(tmp_path, page)
    assert set(document["components"]["schemas"]) <= set(report["types"])
    assert {"array of Caution", '"loading" or "ready" or "failed"', '"base64"'} <= set(report["told"])
    assert {"Authorization: Bearer KEY", "X-API-Key: KEY"} <= set(report["told"])
