"""Content blocks as message parts."""

from typing import Any

import pytest

from ccr_asgi.formats.parts import Image, Part, PartReader, Text
from ccr_asgi.formats.tool_names import ToolNames
from ccr_asgi.quirks import Quirks
from tests.formats.requests import (
    PDF,
    PNG,
    assistant,
    body,
    conversation,
    image,
    refusal,
    result,
    text,
    tool,
    use,
    user,
)

TAKES_PDF = Quirks(pdf={"*": True})
TEXT_ONLY = Quirks(images={"*": False})
PDF_PART = {"type": "file", "file": {"filename": "document.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}


def document(source: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **fields}


def pdf(**fields: Any) -> dict[str, Any]:
    return document({"type": "base64", "media_type": "application/pdf", "data": PDF}, **fields)


def content_of(*blocks: dict[str, Any], quirks: Quirks | None = None) -> Any:
    return conversation(user(*blocks), quirks=quirks)[0]["content"]


def test_text_alone_is_a_string() -> None:
    assert content_of(text("a"), text("b")) == "a\n\nb"


def test_images_stand_in_their_place() -> None:
    assert content_of(text("a"), image(), text("b"), image("https://example.test/i.png")) == [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "text", "text": "b"},
        {"type": "image_url", "image_url": {"url": "https://example.test/i.png"}},
    ]


def test_an_image_for_a_text_only_model_becomes_a_placeholder() -> None:
    assert content_of(text("a"), image(), quirks=TEXT_ONLY) == "a\n\n[image left out: m takes no images]"


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "plain text": (document({"type": "text", "media_type": "text/plain", "data": "notes"}), "notes"),
    "plain text with a title": (
        document({"type": "text", "data": "notes"}, title="N", context="old", citations={"enabled": True}),
        "[document: N]\nold\n\nnotes",
    ),
    "a content string": (document({"type": "content", "content": "notes"}), "notes"),
    "content blocks": (document({"type": "content", "content": [text("a"), text("b")]}), "a\n\nb"),
    "a PDF by URL": (
        document({"type": "url", "url": "https://example.test/x.pdf"}),
        "[PDF at https://example.test/x.pdf, ",
    ),
    "a PDF for a model that takes none": (pdf(title="R"), "[document: R]\n\n[PDF left out: m takes no PDFs]"),
    "a search result": (
        {"type": "search_result", "title": "T", "source": "S", "content": [text("a"), text("b")]},
        "[search result: T (S)]\n\na\n\nb",
    ),
}


@pytest.mark.parametrize(("block", "expected"), SAID.values(), ids=SAID.keys())
def test_documents_as_text(block: dict[str, Any], expected: str) -> None:
    assert content_of(block).startswith(expected)
    assert PDF not in content_of(block)


def test_a_document_of_blocks_may_hold_images() -> None:
    found = content_of(document({"type": "content", "content": [text("a"), image()]}))
    assert [part["type"] for part in found] == ["text", "image_url"]


def test_a_pdf_is_a_file_part() -> None:
    assert content_of(pdf(), quirks=TAKES_PDF) == [PDF_PART]


@pytest.mark.parametrize("title", ["Report", "Report.pdf"])
def test_a_pdf_is_named_by_its_title(title: str) -> None:
    heading, part = content_of(pdf(title=title), quirks=TAKES_PDF)
    assert heading["text"] == f"[document: {title}]"
    assert part["file"]["filename"] == "Report.pdf"


RESULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a string": ({"content": " as it is\n"}, " as it is\n"),
    "absent": ({}, ""),
    "null": ({"content": None}, ""),
    "empty": ({"content": []}, ""),
    "an empty string": ({"content": ""}, ""),
    "texts": ({"content": [text("a"), text(""), text("b")]}, "a\n\nb"),
    "an error": ({"content": "it broke", "is_error": True}, "[error] it broke"),
    "no error": ({"content": "fine", "is_error": False}, "fine"),
    "an error without words": ({"is_error": True}, "[error] "),
    "a tool reference": ({"content": [{"type": "tool_reference", "tool_name": "X"}]}, "[tool available: X]"),
    "a search result": (
        {"content": [{"type": "search_result", "title": "T", "source": "S", "content": []}]},
        "[search result: T (S)]",
    ),
    "a document": ({"content": [document({"type": "text", "data": "d"})]}, "d"),
    "a PDF that is not taken": ({"content": [text("a"), pdf()]}, "a\n\n[PDF left out: m takes no PDFs]"),
}


@pytest.mark.parametrize(("fields", "expected"), RESULTS.values(), ids=RESULTS.keys())
def test_results(fields: dict[str, Any], expected: str) -> None:
    found = conversation(assistant(use("1")), user({"type": "tool_result", "tool_use_id": "1", **fields}))
    assert found[1] == {"role": "tool", "tool_call_id": "1", "content": expected}
    assert len(found) == 2


LINK = "https://example.test/i.png"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ((text("a"), text("b"), image(LINK)), [Text("[error] a"), Text("b"), Image(LINK)]),
        ((image(LINK), text("a")), [Text("[error] "), Image(LINK), Text("a")]),
        ((text("a"), text("b")), [Text("[error] a"), Text("b")]),
    ],
)
def test_a_failure_is_marked_before_all_else(content: tuple[dict[str, Any], ...], expected: list[Part]) -> None:
    reader = PartReader("m", images=True, pdf=True, names=ToolNames())
    assert reader.result(result("1", *content, is_error=True), "p").parts == expected


def test_a_result_of_an_image_alone_points_to_it() -> None:
    found = conversation(assistant(use("1")), user(result("1", image())))
    assert found[1]["content"] == "[no text; see the attachment in the next user message]"
    assert found[2]["content"][0]["type"] == "image_url"


def test_a_result_with_an_image_for_a_text_only_model() -> None:
    found = conversation(assistant(use("1")), user(result("1", image())), quirks=TEXT_ONLY)
    assert found[1:] == [{"role": "tool", "tool_call_id": "1", "content": "[image left out: m takes no images]"}]


def test_a_pdf_of_a_result_follows_the_tool_messages() -> None:
    found = conversation(assistant(use("1")), user(result("1", text("a"), pdf())), quirks=TAKES_PDF)
    assert [found[1]["content"], found[2]["content"]] == ["a", [PDF_PART]]


def test_media_of_a_result_without_a_call_are_kept() -> None:
    assert content_of(result("9", image()))[1]["type"] == "image_url"


def test_a_tool_reference_names_the_tool_as_the_provider_knows_it() -> None:
    name = "mcp__" + "x" * 80
    reference = {"type": "tool_reference", "tool_name": name}
    request = body(assistant(use("1")), user(result("1", reference)), tools=[tool(name)])
    messages = conversation(*request["messages"], tools=request["tools"])
    assert messages[1]["content"].startswith("[tool available: mcp__xxx")
    assert name not in messages[1]["content"]


A_FILE = "found a file of Anthropic's Files API, which another provider cannot read; accepted: "
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an image file": ({"type": "image", "source": {"type": "file", "file_id": "f"}}, f".source.type: {A_FILE}'base64'"),
    "an image of another kind": ({"type": "image", "source": {"type": "x"}}, ".source.type: found the string 'x'; acc"),
    "an image of a kind between": (
        {"type": "image", "source": {"type": "blob"}},
        ".source.type: found the string 'blob'",
    ),
    "no source": ({"type": "image"}, ".source: found nothing; accepted: an object."),
    "a source's type": ({"type": "image", "source": {"type": 1}}, ".source.type: found the number 1; accepted: a str"),
    "no image": (
        {"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": ""}},
        ".source.media_type: found the string 'text/html'; accepted: an image type",
    ),
    "image data": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": 1.5}},
        ".source.data: found the number 1.5; accepted: a string.",
    ),
    "an image's url": ({"type": "image", "source": {"type": "url"}}, ".source.url: found nothing; accepted: a string."),
    "a document file": (document({"type": "file", "file_id": "f"}), f".source.type: {A_FILE}'text', 'content'"),
    "a document of another kind": (document({"type": "x"}), ".source.type: found the string 'x'; accepted: 'text'"),
    "a base64 document that is no PDF": (
        document({"type": "base64", "media_type": "text/plain", "data": ""}),
        ".source.media_type: found the string 'text/plain'; accepted: 'application/pdf'.",
    ),
    "a base64 document that is a program": (
        document({"type": "base64", "media_type": "application/java", "data": ""}),
        ".source.media_type: found the string 'application/java'; accepted: 'application/pdf'.",
    ),
    "a title": (pdf(title=[]), ".title: found an array; accepted: a string."),
    "a document's content": (
        document({"type": "content"}),
        ".source.content: found null; accepted: a string or an array of text blocks.",
    ),
    "a document in a document": (
        document({"type": "content", "content": [pdf()]}),
        ".source.content[0].type: found the string 'document'; accepted: 'text' or 'image'.",
    ),
    "a search result's text": (
        {"type": "search_result", "title": "T", "source": "S", "content": [image()]},
        ".content[0].type: found the string 'image'; accepted: 'text'.",
    ),
    "a result's content": (
        result("1") | {"content": 3},
        ".content: found the number 3; accepted: a string or an array",
    ),
    "a result's block": (result("1", 3, 4), ".content[0]: found the number 3; accepted: an object."),
    "a result's kind of block": (
        result("1", {"type": "browser_state"}, text("a")),
        ".content[0].type: found the string 'browser_state'; accepted: one of text, image, document",
    ),
    "a result in a result": (
        result("1", result("2"), text("a")),
        ".content[0].type: found the string 'tool_result'; accepted: one of text",
    ),
    "is_error": (result("1", "a", is_error="yes"), ".is_error: found the string 'yes'; accepted: true or false."),
}


@pytest.mark.parametrize(("block", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_has_no_counterpart_is_refused_by_its_path(block: dict[str, Any], expected: str) -> None:
    assert refusal(body(user(block, text("hi")))).startswith(f"messages[0].content[0]{expected}")


def test_a_file_is_refused_for_a_text_only_model_too() -> None:
    block = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    assert A_FILE in refusal(body(user(block, text("hi"))), TEXT_ONLY)
