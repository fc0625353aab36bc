"""Describes JSON Schemas in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from services.openapi.documentation.markup import Content, Markup, element, inline, joined
from services.openapi.objects import SchemaObject

_PLACE = "#/components/schemas/"
_Bound = Literal["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"]
#: The lower and the upper bounds of a value, and what they count.
_BOUNDS: tuple[tuple[_Bound, _Bound, str], ...] = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)


def fields(schema: SchemaObject) -> Markup:
    """Return a list of the fields of an object or a form."""
    required = schema.get("required", ())
    return table(
        (
            name,
            field,
            name in required,
        )
        for name, field in schema.get("properties", {}).items()
    )


def table(rows: Iterable[tuple[str, SchemaObject, bool]]) -> Markup:
    """Return a list of names with their types, descriptions and limits."""
    listed = [
        joined(
            (
                element(
                    "dt",
                    element("code", name, class_="name"),
                    " ",
                    element("span", kind(schema), class_="kind"),
                    element("span", "required", class_="required") if is_required else None,
                ),
                element("dd", inline(schema.get("description", "")), " ", limits(schema)),
            )
        )
        for name, schema, is_required in rows
    ]
    return element("dl", *listed, class_="fields")


def kind(schema: SchemaObject) -> Markup:
    """Return the type of a value in words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_PLACE)
        return element("a", name, href=f"#schema-{name}")
    if "anyOf" in schema:
        return _listed([kind(each) for each in schema["anyOf"]])
    if "enum" in schema:
        return _listed([element("code", str(each)) for each in schema["enum"]])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return joined(("tuple of ", _listed([kind(each) for each in schema["prefixItems"]])))
        return joined(("list of ", kind(schema.get("items", {}))))
    if schema.get("type") == "object" and "additionalProperties" in schema:
        held = schema["additionalProperties"]
        return joined(("object of ", kind(held) if isinstance(held, Mapping) else "anything"))
    if schema.get("format") == "binary":
        return Markup("file")
    form = schema.get("format")
    name = str(schema.get("type", "anything"))
    return joined((f"{name} ({form})" if form else name,))


def limits(schema: SchemaObject) -> Markup | None:
    """Return the limits and the default of a value; None if there are none."""
    parts = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    held: SchemaObject = {**parts[0], **schema} if len(parts) == 1 else schema
    told: list[str] = []
    for low, high, of in _BOUNDS:
        if low in held and high in held:
            told.append(f"{held[low]:,} to {held[high]:,}{of}")
        elif low in held:
            told.append(f"at least {held[low]:,}{of}")
        elif high in held:
            told.append(f"at most {held[high]:,}{of}")
    if "pattern" in held:
        told.append(f"matches `{held['pattern']}`")
    if schema.get("default") not in (None, [], ""):
        told.append(f"default: `{schema['default']}`")
    if not told:
        return None
    return element("span", inline("; ".join(told)), class_="limits")


def _listed(parts: list[Markup]) -> Markup:
    """Join parts as in "a, b or c"."""
    with_words: list[Content] = []
    for index, part in enumerate(parts):
        if index:
            with_words.append(" or " if index == len(parts) - 1 else ", ")
        with_words.append(part)
    return joined(with_words)
