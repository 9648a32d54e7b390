"""XML of strangers to elements: no document type, so no entities and nothing from outside; bounded depth and count."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from contracts.errors import BadInput

MAX_DEPTH, MAX_ELEMENTS = 32, 1_000_000


def parse_xml(content: bytes, source: str) -> Element:
    """Return the root element; names are without their namespaces, and attributes are left out.

    Raises BadInput, which names the file `source`, for XML that is broken, has a document type, or exceeds a bound.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise BadInput(
                source, f"element {count:,}", f"give at most {MAX_ELEMENTS:,} elements, {MAX_DEPTH} inside each other"
            )
        builder.start(name.rpartition(" ")[2], {})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(" ")[2])

    def refuse(name: str, *_: object) -> None:
        raise BadInput(source, f"<!DOCTYPE {name}", "remove the document type: its entities are not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BadInput(source, f"line {error.lineno}", f"this is not XML: {expat.ErrorString(error.code)}") from None
    return builder.close()


def text_of(element: Element, path: str) -> str:
    """Return the text of a part of an element, "" where there is none."""
    return (element.findtext(path) or "").strip()
