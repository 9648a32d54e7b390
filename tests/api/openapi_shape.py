"""Shape of the OpenAPI document: parameters and response fields with their types, without names of schemas or prose.

`python -m tests.api.openapi_shape` writes openapi_shape.txt, after an addition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PINNED = Path(__file__).with_name("openapi_shape.txt")
Schema = Mapping[str, Any]


def shape(document: Schema) -> list[str]:
    """Return one line per parameter, media type and response field, sorted."""
    lines: list[str] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                required = " required" if parameter.get("required") else ""
                kind = _kind(document, parameter["schema"])
                lines.append(f"{route} {parameter['in']} {parameter['name']}: {kind}{required}")
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    lines.append(f"{route} {status} {media_type}")
                    fields = _fields(document, content.get("schema", {}), "") if status == "200" else ()
                    lines += [f"{route} {status} {field}" for field in fields]
    return sorted(lines)


def _fields(document: Schema, schema: Schema, prefix: str) -> Iterator[str]:
    schema = _resolved(document, schema)
    for option in schema.get("anyOf", ()):
        yield from _fields(document, option, prefix)
    if schema.get("type") == "array":
        yield from _fields(document, schema["items"], f"{prefix}[]")
    for name, field in schema.get("properties", {}).items():
        required = " required" if name in schema.get("required", ()) else ""
        yield f"{prefix}.{name}: {_kind(document, field)}{required}"
        yield from _fields(document, field, f"{prefix}.{name}")


def _kind(document: Schema, schema: Schema) -> str:
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        return " | ".join(_kind(document, option) for option in schema["anyOf"])
    if "enum" in schema:
        return "enum " + ",".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"array of {_kind(document, schema['items'])}"
    return f"{kind} {schema['format']}" if "format" in schema else kind


def _resolved(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


if __name__ == "__main__":
    from typing import cast

    from api.app import create_app
    from contracts.settings import Settings
    from warehouse.client import Warehouse

    PINNED.write_text("\n".join(shape(create_app(cast(Warehouse, None), Settings()).openapi())) + "\n")
