"""Anthropic content blocks as the parts that other APIs' messages are made of: text, images and files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ccr_asgi.formats.fields import ARRAY, BOOLEAN, OBJECT, STRING, check, describe, optional, refuse, required
from ccr_asgi.formats.system_prompt import TEXT_OR_BLOCKS, join_texts, text_blocks
from ccr_asgi.formats.tool_names import ToolNames

ERROR_PREFIX = "[error] "
"""What marks a failed tool's result, since other APIs have no field for it."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that is not blank."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image, by an http(s) or a `data:` URL."""

    url: str


@dataclass(frozen=True, slots=True)
class File:
    """A PDF, by a `data:` URL."""

    filename: str
    url: str


Part = Text | Image | File


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: its parts in their order, a failure marked in their text."""

    parts: list[Part]

    @property
    def text(self) -> str:
        """All its texts as one."""
        return join_texts([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def attachments(self) -> list[Part]:
        """Its parts that are no text."""
        return [part for part in self.parts if not isinstance(part, Text)]


class PartReader:
    """Reads content blocks for one model: what it cannot take becomes a placeholder text.

    Every method takes the JSON path of what it reads, and raises a RequestError for what is not of Anthropic's form
    or has no counterpart.
    """

    def __init__(self, model: str, *, images: bool, pdf: bool, names: ToolNames) -> None:
        self._model = model
        self._images = images
        self._pdf = pdf
        self._names = names
        self._readers: Mapping[str, Callable[[dict[str, Any], str], list[Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "search_result": self._search_result,
            "tool_reference": self._tool_reference,
        }

    def parts(self, kind: str, block: dict[str, Any], path: str, also_accepted: tuple[str, ...] = ()) -> list[Part]:
        """The parts of a user's block of type `kind`; none for a blank text."""
        if (read := self._readers.get(kind)) is None:
            raise refuse(f"{path}.type", describe(kind), "one of " + ", ".join((*self._readers, *also_accepted)))
        return read(block, path)

    def result(self, block: dict[str, Any], path: str) -> Result:
        """What a `tool_result` block holds; none of it where its content is absent or empty."""
        content = block.get("content")
        if isinstance(content, list):
            parts = [
                part for index, item in enumerate(content) for part in self._item(item, f"{path}.content[{index}]")
            ]
        elif content is None or isinstance(content, str):
            parts = text_parts(content or "")
        else:
            raise refuse(f"{path}.content", describe(content), "a string or an array of blocks")
        if not optional(block, "is_error", BOOLEAN, path):
            return Result(parts)
        if parts and isinstance(parts[0], Text):
            return Result([Text(ERROR_PREFIX + parts[0].text), *parts[1:]])
        return Result([Text(ERROR_PREFIX), *parts])

    def _item(self, item: object, path: str) -> list[Part]:
        block = check(item, OBJECT, path)
        return self.parts(required(block, "type", STRING, path), block, path)

    def _text(self, block: dict[str, Any], path: str) -> list[Part]:
        return text_parts(required(block, "text", STRING, path))

    def _image(self, block: dict[str, Any], path: str) -> list[Part]:
        source, kind = _source(block, path)
        match kind:
            case "base64":
                media_type = required(source, "media_type", STRING, f"{path}.source")
                if not media_type.startswith("image/"):
                    raise refuse(f"{path}.source.media_type", describe(media_type), "an image type such as image/png")
                url = f"data:{media_type};base64,{required(source, 'data', STRING, f'{path}.source')}"
            case "url":
                url = required(source, "url", STRING, f"{path}.source")
            case _:
                raise _unknown_source(kind, path, "'base64' or 'url'")
        if not self._images:
            return text_parts(f"[image left out: {self._model} takes no images]")
        return [Image(url)]

    def _document(self, block: dict[str, Any], path: str) -> list[Part]:
        source, kind = _source(block, path)
        title = optional(block, "title", STRING, path) or ""
        heading = [f"[document: {title}]"] if title else []
        if context := optional(block, "context", STRING, path):
            heading.append(context)
        match kind:
            case "text":
                body = text_parts(required(source, "data", STRING, f"{path}.source"))
            case "content":
                body = self._document_content(source, f"{path}.source")
            case "base64":
                body = [self._pdf_part(source, title, f"{path}.source")]
            case "url":
                url = required(source, "url", STRING, f"{path}.source")
                body = text_parts(f"[PDF at {url}, which {self._model} cannot open]")
            case _:
                raise _unknown_source(kind, path, "'text', 'content', 'base64' or 'url'")
        return [*text_parts("\n".join(heading)), *body]

    def _document_content(self, source: dict[str, Any], path: str) -> list[Part]:
        content = source.get("content")
        if isinstance(content, str):
            return text_parts(content)
        if not isinstance(content, list):
            raise refuse(f"{path}.content", describe(content), TEXT_OR_BLOCKS)
        parts = []
        for index, item in enumerate(content):
            block = check(item, OBJECT, f"{path}.content[{index}]")
            kind = required(block, "type", STRING, f"{path}.content[{index}]")
            if kind not in ("text", "image"):  # no documents within documents
                raise refuse(f"{path}.content[{index}].type", describe(kind), "'text' or 'image'")
            parts += self.parts(kind, block, f"{path}.content[{index}]")
        return parts

    def _pdf_part(self, source: dict[str, Any], title: str, path: str) -> Part:
        media_type = required(source, "media_type", STRING, path)
        if media_type != "application/pdf":
            raise refuse(f"{path}.media_type", describe(media_type), "'application/pdf'")
        data = required(source, "data", STRING, path)
        if not self._pdf:
            return Text(f"[PDF left out: {self._model} takes no PDFs]")
        filename = f"{(title or 'document').removesuffix('.pdf')}.pdf"
        return File(filename, f"data:{media_type};base64,{data}")

    def _search_result(self, block: dict[str, Any], path: str) -> list[Part]:
        title = required(block, "title", STRING, path)
        source = required(block, "source", STRING, path)
        texts = text_blocks(required(block, "content", ARRAY, path), f"{path}.content")
        return text_parts(join_texts([f"[search result: {title} ({source})]", *texts]))

    def _tool_reference(self, block: dict[str, Any], path: str) -> list[Part]:
        name = required(block, "tool_name", STRING, path)
        return text_parts(f"[tool available: {self._names.upstream(name)}]")


def text_parts(text: str) -> list[Part]:
    """`text` as one part, or none if it is blank: providers refuse empty parts, and a blank one says nothing."""
    return [Text(text)] if text.strip() else []


def _source(block: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    source = required(block, "source", OBJECT, path)
    return source, required(source, "type", STRING, f"{path}.source")


def _unknown_source(kind: str, path: str, accepted: str) -> Exception:
    found = "a file of Anthropic's Files API, which another provider cannot read" if kind == "file" else describe(kind)
    return refuse(f"{path}.source.type", found, accepted)
