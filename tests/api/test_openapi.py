"""The OpenAPI document says what the service does."""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest

from service.api import problems
from service.api.negotiation import Representation
from service.api.openapi import ANSWER
from service.api.schemas import Problem, SegmentationAnswer
from tests.api.client import fake_app, running
from tests.doubles import draw, png

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    described: Json = json.loads(json.dumps(fake_app().openapi()))
    return described


@pytest.fixture
def segment(document: Json) -> Json:
    described: Json = document["paths"]["/segment/{modality}"]["post"]
    return described


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_reference_leads_somewhere(document: Json) -> None:
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_path_for_machines_is_described(document: Json) -> None:
    assert set(document["paths"]) == {
        "/segment/{modality}",
        "/models",
        "/models/{modality}",
        "/livez",
        "/readyz",
        "/metrics",
    }


def test_operations_are_named_as_a_generated_client_should_name_its_methods(document: Json) -> None:
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert names == ["segment", "models", "card", "livez", "readyz", "metrics"]


def test_pictures_are_described_and_exemplified_as_base64_of_png(document: Json) -> None:
    for schema in ("Mask", "Picture"):
        data = document["components"]["schemas"][schema]["properties"]["data"]
        assert (data["contentEncoding"], data["contentMediaType"]) == ("base64", "image/png")
    assert b64decode(ANSWER["mask"]["data"], validate=True) == b"\x89PNG\r\n\x1a\n"


def test_the_parameters_are_described(segment: Json) -> None:
    named = {(parameter["in"], parameter["name"]): parameter for parameter in segment["parameters"]}
    assert set(named) == {
        ("path", "modality"),
        ("query", "threshold"),
        ("query", "all_components"),
        ("query", "probability"),
        ("query", "frame"),
        ("header", "X-Request-Timeout-Ms"),
        ("header", "X-Request-ID"),
    }
    assert all(parameter["description"] for parameter in named.values())


def test_both_kinds_of_body_are_described(segment: Json) -> None:
    content = segment["requestBody"]["content"]
    form = content.pop("multipart/form-data")["schema"]
    assert set(form["properties"]) == {"image", "reference"}
    assert form["required"] == ["image"]
    assert {"image/png", "image/jpeg", "image/tiff", "application/octet-stream"} <= set(content)


def test_every_representation_is_described(segment: Json) -> None:
    assert set(segment["responses"]["200"]["content"]) == {str(one) for one in Representation}


@pytest.mark.anyio
@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text; version=1.0.0"])
async def test_every_format_of_the_metrics_is_described(accept: str, document: Json) -> None:
    async with running(fake_app()) as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
    described = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert answer.headers["Content-Type"].partition(";")[0] in described


def test_every_status_that_an_error_can_have_has_an_example_of_each_of_its_kinds(segment: Json) -> None:
    for kind, status in problems.STATUS.items():
        if status in {401, 500}:
            continue
        content = segment["responses"][str(status)]["content"]
        assert set(content) == {"application/problem+json"}
        example = content["application/problem+json"]["examples"][problems.slug(kind)]["value"]
        assert Problem.model_validate(example).status == status


def test_the_example_of_an_answer_is_one() -> None:
    assert SegmentationAnswer.model_validate(ANSWER).model_dump() == ANSWER


@pytest.mark.anyio
async def test_the_example_that_is_served_has_all_that_its_schema_requires() -> None:
    async with running(fake_app()) as client:
        served = (await client.get("/openapi.json")).json()
    example = served["paths"]["/segment/{modality}"]["post"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]
    assert example == ANSWER
    required = served["components"]["schemas"]
    assert set(required["SegmentationAnswer"]["required"]) <= set(example)
    assert set(required["Iou"]["required"]) <= set(example["iou"])


def test_every_field_of_an_answer_is_there_whatever_is_in_it(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert set(schema["required"]) == set(schema["properties"]), name


def test_every_operation_says_what_any_other_problem_looks_like(document: Json) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        assert set(operation["responses"]["default"]["content"]) == {"application/problem+json"}


@pytest.mark.anyio
async def test_an_answer_looks_like_its_example() -> None:
    async with running(fake_app()) as client:
        body = (await client.post("/segment/retina", content=png(draw()))).json()
    assert list(body) == list(ANSWER)
    for name, example in ANSWER.items():
        if isinstance(example, dict):
            assert set(body[name]) == set(example)


def test_the_headers_of_every_answer_are_described(document: Json) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for response in operation["responses"].values():
                assert {"X-Request-ID", "Server-Timing", "Cache-Control", "X-Content-Type-Options"} <= set(
                    response["headers"]
                ), path


@pytest.mark.anyio
@pytest.mark.parametrize("accept", list(Representation))
async def test_an_answer_has_no_other_headers_than_those_described(accept: str, segment: Json) -> None:
    async with running(fake_app()) as client:
        answer = await client.post("/segment/retina", content=png(draw()), headers={"Accept": accept})
    told = {name.lower() for name in segment["responses"]["200"]["headers"]}
    assert set(answer.headers) - told == {"content-type", "content-length"}
