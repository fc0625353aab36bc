"""Write what the code states into the reference documents: settings, commands, requests, tables.

The rules of Prometheus are also written, as the object of its operator.

    python -m deploy.docs.references           # writes them
    python -m deploy.docs.references --check   # exits with 1 if they are not current

The text is written between two comments of the document; the prose before it is by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from db.settings import Settings
from deploy.docs.markdown import header, linked, row, sentence
from deploy.docs.tables import tables
from services.cli.main import parser

Schema = dict[str, Any]

DEPLOY = Path(__file__).resolve().parents[1]
DOCS = DEPLOY.parent / "docs"
PROMETHEUS_RULE = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rule.yaml"
START, END = "<!-- generated: make references -->\n", "<!-- end -->\n"
#: The unit of a setting, by the end of its name in the code.
UNITS = {
    "_per_s": "per second",
    "_s_per_month": "seconds",
    "_s": "seconds",
    "_days": "days",
    "_bytes": "bytes",
    "_hz": "Hz",
}
#: Answers that every request may have, and parameters that many have: docs/api.md explains them.
COMMON_STATUSES = {"400", "401", "403", "429", "500", "503"}
COMMON_PARAMETERS = {"Idempotency-Key", "If-None-Match"}
BOUNDS = {"minimum": "At least", "exclusiveMinimum": "Above", "maximum": "At most"}
#: An option that more commands have is listed once.
FEW = 4


def main() -> int:
    is_check = "--check" in sys.argv[1:]
    stale = []
    api = openapi()
    written = {
        "settings": settings(),
        "commands": commands(),
        "endpoints": requests(api),
        "objects": objects(api),
        "dba": tables(),
    }
    for name, text in written.items():
        path = DOCS / f"{name}.md"
        before = path.read_text(encoding="utf-8")
        prose, mark, rest = before.partition(START)
        if not (mark and rest.endswith(END)):
            raise SystemExit(f"{path} must end with the lines {START}{END}")
        after = f"{prose}{START}\n{text.strip()}\n\n{END}"
        if after != before:
            stale.append(path.name)
            if not is_check:
                path.write_text(after, encoding="utf-8")
    rule = prometheus_rule()
    if not PROMETHEUS_RULE.exists() or PROMETHEUS_RULE.read_text(encoding="utf-8") != rule:
        stale.append(PROMETHEUS_RULE.name)
        if not is_check:
            PROMETHEUS_RULE.write_text(rule, encoding="utf-8")
    if is_check and stale:
        print(f"Not current: {', '.join(stale)}. Run `make references`, and commit the result.")
        return 1
    print(
        f"{len(written) + 1} references are current"
        + f", written: {', '.join(stale)}" * bool(stale)
    )
    return 0


# -- Rules for the Prometheus operator -----------------------------------------------------------


def prometheus_rule() -> str:
    """Return the rules of Prometheus as the object of its operator."""
    rules = (DEPLOY / "prometheus" / "rules.yaml").read_text(encoding="utf-8")
    head = (
        "# Written by `make references` from deploy/prometheus/rules.yaml.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\nmetadata: {name: clamor}\nspec:\n"
    )
    return head + textwrap.indent(rules, "  ")


# -- Settings ----------------------------------------------------------------------------------


def settings() -> str:
    """Return a table for each part of `Settings`."""
    by_name = {setting.name: setting for setting in dataclasses.fields(Settings)}
    lines, comment = [], ""
    for line in inspect.getsource(Settings).splitlines():
        text = line.strip()
        name = text.partition(":")[0]
        if part := re.fullmatch(r"# -- (.*) --", text):
            lines += [f"\n## {part[1]}\n", *header("variable", "value", "default", "meaning")]
        elif text.startswith("#:"):
            comment += text.removeprefix("#:")
        elif comment and name in by_name:
            setting = by_name.pop(name)
            meaning = linked(comment.strip())
            lines.append(row(f"`{setting.metadata['variable']}`", *value_of(setting), meaning))
            comment = ""
    if by_name:
        raise SystemExit(f"Without a comment in db/settings.py: {', '.join(by_name)}")
    return "\n".join(lines)


def value_of(setting: dataclasses.Field[Any]) -> tuple[str, str]:
    """Return the type of a setting with its unit, and its default."""
    parse = setting.metadata["parse"]
    kind = "text" if parse is str else (inspect.getdoc(parse) or "").rstrip(".")
    kind = kind[0].lower() + kind[1:]
    unit = next((unit for end, unit in UNITS.items() if setting.name.endswith(end)), None)
    default = setting.default
    if default is dataclasses.MISSING:
        shown = "required"
    elif isinstance(default, bool):
        shown = "`on`" if default else "`off`"
    elif isinstance(default, int | float):
        shown = f"{default:.0f}" if default == int(default) else str(default)
    else:
        shown = f"`{default}`" if default else ""
    return f"{kind}, {unit}" if unit else kind, shown


# -- Commands ----------------------------------------------------------------------------------


def commands() -> str:
    """Return the usage, the description and the arguments of every command."""
    found = list(parsers(parser()))
    uses = Counter(key for _, each, _ in found for key in map(argument, each._actions))
    common = [key for key, n in uses.items() if key and n > FEW]
    lines = ["## Common options\n", *header("option", "meaning"), *(row(*key) for key in common)]
    for name, each, about in found:
        width = functools.partial(argparse.HelpFormatter, width=88)
        each.formatter_class = width
        lines += [f"\n## `{name}`\n", sentence(each.description or about)]
        lines += ["", "```text", each.format_usage().strip(), "```"]
        own = [key for key in map(argument, each._actions) if key and key not in common]
        if own:
            lines += ["", *header("argument", "meaning"), *(row(*key) for key in own)]
        if each.epilog:
            lines += ["", linked(each.epilog)]
    return "\n".join(lines)


def parsers(
    parser: argparse.ArgumentParser, about: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Yield the name of each command, its parser, and its line of help."""
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    # A parser that only has commands is not one.
    if not any(each.required for each in below):
        yield parser.prog, parser, about
    for each in below:
        helps = {choice.dest: choice.help or "" for choice in each._choices_actions}
        for name, child in each.choices.items():
            yield from parsers(child, helps[name])


def argument(action: argparse.Action) -> tuple[str, str] | None:
    """Return an argument and its meaning, or None for --help and for the commands below."""
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        return None
    value = action.metavar or action.dest.upper()
    if action.choices and not action.metavar:
        value = f"{{{','.join(map(str, action.choices))}}}"
    takes_value = action.nargs != 0
    flags = ", ".join(
        f"`{flag} {value}`" if takes_value else f"`{flag}`" for flag in action.option_strings
    )
    meaning = linked((action.help or "") % {"default": action.default})
    if action.required and action.option_strings:
        meaning = f"{meaning} (required)".strip()
    return flags or f"`{value}`", meaning


# -- Requests and objects ----------------------------------------------------------------------


def openapi() -> Schema:
    """Return the OpenAPI document."""
    command = [sys.executable, "-m", "services.cli", "openapi"]
    written: Schema = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return written


def requests(api: Schema) -> str:
    """Return every operation, by tag."""
    lines = []
    for tag in api["tags"]:
        lines += [f"\n## {tag['name'].replace('-', ' ').capitalize()}\n", tag["description"]]
        for path, methods in api["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    lines += [f"\n### `{method.upper()} {path}`\n", *described(operation)]
    return "\n".join(lines)


def described(operation: Schema) -> Iterator[str]:
    """Yield the lines about an operation."""
    yield sentence(operation["summary"])
    if "description" in operation:
        yield f"\n{operation['description']}"
    given = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    own = [each for each in given if each["name"] not in COMMON_PARAMETERS]
    if own:
        yield from ("", *header("parameter", "value", "meaning"))
        for each in own:
            name = f"`{each['name']}`" + (", a header" if each["in"] == "header" else "")
            yield row(name, type_of(each["schema"]), meaning_of(each, each["schema"]))
    if body := operation.get("requestBody"):
        kinds = [f"`{media}` ({type_of(it['schema'])})" for media, it in body["content"].items()]
        yield f"\nBody: {' or '.join(kinds)}{'' if body.get('required') else ', optional'}."
        for it in body["content"].values():
            if "properties" in it["schema"]:
                yield from ("", *fields_of(it["schema"]))
    yield (
        "\nAnswers: "
        + ", ".join(
            answer(status, it)
            for status, it in operation["responses"].items()
            if status not in COMMON_STATUSES
        )
        + "."
    )


def answer(status: str, response: Schema) -> str:
    """Return the status of an answer and what it contains."""
    contents = [
        type_of(it["schema"]) if media == "application/json" else f"`{media}`"
        for media, it in response.get("content", {}).items()
        if media != "application/problem+json"
    ]
    return f"{status} {response['description']}" + f" ({' or '.join(contents)})" * bool(contents)


def objects(api: Schema) -> str:
    """Return the fields of every object in requests and answers."""
    lines = []
    for name, schema in sorted(api["components"]["schemas"].items()):
        lines += [f"\n## {name}\n", schema.get("description") or f"{type_of(schema)}."]
        if "properties" in schema:
            lines += ["", *fields_of(schema)]
    return "\n".join(lines)


def fields_of(schema: Schema) -> Iterator[str]:
    """Yield a table of the fields of an object."""
    yield from header("field", "value", "meaning")
    for name, each in schema["properties"].items():
        is_required = name in schema.get("required", ())
        shown = f"`{name}`" if is_required else f"`{name}`, optional"
        yield row(shown, type_of(each), meaning_of(each, each))


def type_of(schema: Schema) -> str:
    """Return the type of a value in words, with a link for an object."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](objects.md#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(type_of, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum") or [schema["const"]]
        return " or ".join(f"`{json.dumps(value).strip(chr(34))}`" for value in values)
    kind = schema.get("type", "any value")
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return f"array of {' and '.join(map(type_of, items))}"
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, dict):
        return f"object of {type_of(values)}"
    return str(schema.get("format", kind))


def meaning_of(described: Schema, schema: Schema) -> str:
    """Return the description of a value with its bounds and its default."""
    words = [linked(described.get("description", ""))]
    words += [f"{word} {schema[bound]:g}." for bound, word in BOUNDS.items() if bound in schema]
    if described.get("required") is True:
        words.append("Required.")
    if schema.get("default") not in (None, "", [], {}):
        words.append(f"Default: `{json.dumps(schema['default']).strip(chr(34))}`.")
    return " ".join(filter(None, words))


if __name__ == "__main__":
    sys.exit(main())
