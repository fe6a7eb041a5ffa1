"""The documents say what is so: settings, metrics, alerts, targets, dependencies and links are compared."""

import ast
import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.api import problems
from service.api.openapi import ANSWER
from service.api.schemas import SegmentationAnswer
from service.settings import Settings
from tests.api.client import fake_app, running

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs" / "api.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECORDS = sorted((ROOT / "docs" / "adr").glob("0*.md"))


def rows(document: str, first_cell: str) -> list[list[str]]:
    """Return the cells of those table rows whose first cell, a word in backticks, matches `first_cell`."""
    cells = [re.split(r"\s*\|\s*", line.strip("| ")) for line in document.splitlines() if line.startswith("| `")]
    return [row for row in cells if re.fullmatch(f"`{first_cell}`", row[0])]


def allowed(schema: Mapping[str, object]) -> str:
    """Return a setting's range, in the words of docs/operations.md, from its JSON schema."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])  # type: ignore[attr-defined]
    if "maximum" not in schema:
        return "path" if schema.get("format") == "path" else "text"
    least = f"above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else f"{schema['minimum']:g}"
    return f"{least} to {schema['maximum']:g}"


@pytest.fixture(scope="module")
def metrics() -> list[Metric]:
    """Every metric that a scrape sees."""

    async def scrape() -> str:
        async with running(fake_app()) as client:
            return (await client.get("/metrics")).text

    return list(text_string_to_metric_families(asyncio.run(scrape())))


def exposed_name(metric: Metric) -> str:
    """Return the name that a query uses; the parser drops a counter's suffix."""
    return metric.name + "_total" * (metric.type == "counter")


def test_the_settings_table_is_the_settings() -> None:
    schemas = Settings.model_json_schema()["properties"]
    expected = [
        [
            f"`ALNET_{name.upper()}`",
            f"`{field.default}`" if str(field.default) else "empty",
            allowed(schemas[name]),
            str(field.description).replace("<", r"\<"),
        ]
        for name, field in Settings.model_fields.items()
    ]
    assert [row for row in rows(OPERATIONS, "ALNET_[A-Z_]+") if len(row) == 4] == expected


def test_the_metrics_table_is_what_a_scrape_sees(metrics: list[Metric]) -> None:
    expected = {}
    for metric in metrics:
        labels = sorted({f"`{label}`" for sample in metric.samples for label in sample.labels} - {"`le`"})
        expected[f"`{exposed_name(metric)}`"] = [metric.type, ", ".join(labels), metric.documentation]
    assert {name: columns for name, *columns in rows(OPERATIONS, "(alnet|process)_[a-z_]+")} == expected


@pytest.mark.parametrize("file", ["alerts.yml", "grafana/dashboards/alnet.json"])
def test_alerts_and_dashboard_ask_only_for_series_that_exist(file: str, metrics: list[Metric]) -> None:
    exist = {sample.name for metric in metrics for sample in metric.samples}
    asked = set(re.findall(r"\balnet_[a-z_]+", (ROOT / "docker" / file).read_text()))
    assert asked
    assert asked <= exist


@pytest.mark.parametrize("file", ["alerts.yml", "grafana/dashboards/alnet.json"])
def test_alerts_and_dashboard_select_only_labels_that_exist(file: str, metrics: list[Metric]) -> None:
    exist = {pair for metric in metrics for sample in metric.samples for pair in sample.labels.items()}
    text = (ROOT / "docker" / file).read_text().replace("\\", "")
    asked = [
        (name, value)
        for name, values in re.findall(r'[{,](\w+)(?:=|!=|=~)"([^"]+)"', text)
        for value in values.split("|")
    ]
    assert asked
    assert [pair for pair in asked if pair[0] != "job" and pair not in exist] == []


def test_every_alert_has_advice_and_every_advice_an_alert() -> None:
    groups = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text())["groups"]
    alerts = [f"`{rule['alert']}`" for group in groups for rule in group["rules"]]
    assert [name for name, _ in rows(OPERATIONS, "Alnet[A-Za-z]+")] == alerts


def test_every_phony_target_exists_and_is_listed_by_help() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()
    assert re.findall(r"^([a-z]+):.* ## \S", MAKEFILE, re.MULTILINE) == phony


def test_make_help_is_a_table_of_two_columns() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len({len(target) for target in re.findall("^make [a-z]+ +", told, re.MULTILINE)}) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z]+)", code, re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    missing = [link for link in targets if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_heading_leads_to_one(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text())
    there = [(document.parent / file if file else document, anchor) for file, anchor in links if "://" not in file]
    assert [(file.name, anchor) for file, anchor in there if anchor not in anchors(file)] == []


def test_every_kind_of_problem_that_a_caller_can_meet_is_in_the_contract() -> None:
    told = {
        (name, int(status))
        for status, names in re.findall(r"^\| (\d{3}) \| (.*?) \|", API, re.MULTILINE)
        for name in re.findall("`([a-z-]+)`", names)
    }
    own = {"engine-failed", problems.INTERNAL}  # of the faults that are ours, a caller meets these two
    known = {(problems.slug(kind), status) for kind, status in problems.STATUS.items() if status != 500}
    assert told == known | {(name, 500) for name in own}


def declared_names() -> list[str]:
    """Return the names of all declared dependencies, those of the extras after the others, in the order of the file."""
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    return [re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in requirements]


def normal(name: str) -> str:
    """Return a distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_by(file: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.split(".")[0] for name in names}


def test_every_dependency_has_a_reason() -> None:
    assert [row[0] for row in rows(CONTRIBUTING, "[a-z-]+") if row[1]] == [f"`{name}`" for name in declared_names()]


def test_every_library_that_is_imported_is_declared() -> None:
    """What merely comes with another library has no least version, and may be older than what is called in it."""
    imported = set[str]().union(*map(imported_by, (ROOT / "service").rglob("*.py")))
    of_extras = {"httptools"}  # uvicorn[standard] says from which version on
    distributions = packages_distributions()
    libraries = {
        module: {normal(name) for name in distributions.get(module, [module])}
        for module in imported - sys.stdlib_module_names - {"service"} - of_extras
    }
    declared = set(map(normal, declared_names()))
    assert {module for module, names in libraries.items() if not names & declared} == set()


def test_every_dependency_is_pinned() -> None:
    pinned = {normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert set(map(normal, declared_names())) - pinned == set()


def test_the_changelog_begins_with_this_version() -> None:
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == __version__


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_a_decision_record_has_its_parts_and_is_listed(record: Path) -> None:
    text = record.read_text()
    assert re.match(rf"# {int(record.name[:4])}\. ", text)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert f"({record.name})" in (record.parent / "README.md").read_text()


def test_the_json_answer_of_the_api_document_is_openapis_example() -> None:
    [example] = re.findall(r"```json\n(.*?)\n```", API, re.DOTALL)
    assert json.loads(example) == ANSWER
    SegmentationAnswer.model_validate_json(example)


def test_the_example_answers_stages_add_up() -> None:
    *stages, total = ANSWER["latency_ms"].values()
    assert sum(stages) == pytest.approx(total)
