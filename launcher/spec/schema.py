"""The JSON schema of a spec file, so that editors complete and check it while it is written.

Promises: draft 2020-12; what it accepts, `load_spec` accepts as far as a schema can say; the train arguments are those
of the installed Ultralytics, with its own line on each, put together when the schema is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from launcher.backend import Option
from launcher.data.reef import ReefOptions
from launcher.spec import attached
from launcher.spec.arguments import Arguments
from launcher.spec.model import NAME_LENGTH, NAME_PATTERN, JobSpec
from launcher.spec.options import json_schemas

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_DESCRIPTION = 160  # characters, about one line of an editor's tooltip
REFERENCE = r"\$\{env:[A-Za-z_][A-Za-z0-9_]*\}"
_JSON_TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "array",
    "null": "null",
}

_EXACT: dict[str, dict[str, Any]] = {
    "time": {"exclusiveMinimum": 0},
    "save": {"enum": [True]},
    "batch": {
        "anyOf": [
            {"const": -1},
            {"type": "integer", "minimum": 1},
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        ]
    },
    "fraction": {"exclusiveMinimum": 0, "items": {"type": "number", "minimum": 0}, "minItems": 2, "maxItems": 3},
    "scale": {"items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 2, "maxItems": 2},
}
"""What a type and two bounds cannot say; `Arguments.check` says the same."""


def json_schema(arguments: Arguments, options: Mapping[str, Option] | None = None) -> dict[str, Any]:
    """The schema of a spec file for one Ultralytics, and for the backends that declare these options."""
    made = JobSpec.model_json_schema(ref_template="#/$defs/{model}")
    properties = made["properties"]
    properties["name"] |= {"pattern": NAME_PATTERN, "maxLength": NAME_LENGTH}
    properties["extends"] = {
        "description": "spec files, relative to this one, that this one is merged over; the last one wins",
        "anyOf": [_text(), {"type": "array", "items": _text()}],
    }
    properties["data"] = {
        "description": "a data.yaml, relative to this file; `reef`, the built-in dataset; or data that lies elsewhere",
        "anyOf": [attached.text_schema(), {"$ref": "#/$defs/DataSource"}, {"$ref": "#/$defs/AttachedData"}],
    }
    properties["train"] = _train(arguments)
    definitions = made["$defs"]
    definitions["DataSource"]["properties"]["reef"] = _reef()
    definitions["AttachedData"] = attached.json_schema()
    definitions["Resources"]["properties"] |= json_schemas(options or {})
    definitions["Resources"]["additionalProperties"] = False
    definitions["Environment"]["properties"]["variables"] |= _variables()
    for section in ("train", "environment", "resources", "resume", "sync", "parity"):
        properties[section] = _or_null(properties[section])
    return {
        "$schema": DIALECT,
        "title": "samerun job spec",
        "description": f"One training run; train arguments of Ultralytics {arguments.package.version}.",
        "type": "object",
        "additionalProperties": False,
        # `model` and `data` may come from a file that this one extends, or from --set.
        "anyOf": [{"required": ["model", "data"]}, {"required": ["extends"]}],
        "if": {"not": {"required": ["extends"]}},
        "then": {"properties": {"data": attached.strict_schema()}},
        "properties": properties,
        "$defs": definitions,
    }


def _text() -> dict[str, Any]:
    return {"type": "string", "minLength": 1}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """An empty section is a section of defaults."""
    description = schema.pop("description", "")
    return {"description": description, "anyOf": [schema, {"type": "null"}]}


def _reef() -> dict[str, Any]:
    """The options of the built-in dataset, from its own class."""
    reef = TypeAdapter(ReefOptions).json_schema()
    return {"anyOf": [{**reef, "additionalProperties": False}, {"type": "null"}]}


def _variables() -> dict[str, Any]:
    """Numbers and truth values are taken as they are written; a secret's name needs a reference."""
    return {
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "patternProperties": {
            "([Tt][Oo][Kk][Ee][Nn]|[Ss][Ee][Cc][Rr][Ee][Tt]|[Pp][Aa][Ss][Ss][Ww]|[Kk][Ee][Yy])": {
                "type": "string",
                "pattern": REFERENCE,
            }
        },
    }


def _train(arguments: Arguments) -> dict[str, Any]:
    return {
        "description": "Ultralytics' own train arguments; what is not set keeps its default",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _argument(arguments, name) for name in arguments.names},
    }


def _argument(arguments: Arguments, name: str) -> dict[str, Any]:
    """One argument: type, range, default, and Ultralytics' own words on it."""
    types, (low, high) = arguments.types(name), arguments.bounds(name)
    schema: dict[str, Any] = {"default": arguments.default(name)}
    if comment := arguments.describe(name):
        schema["description"] = comment if len(comment) <= MAX_DESCRIPTION else comment[: MAX_DESCRIPTION - 1] + "…"
    if types:
        shown = types - {"int"} if "float" in types else types
        schema["type"] = sorted(_JSON_TYPES[kind] for kind in shown if not (name == "imgsz" and kind == "list"))
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    schema |= _EXACT.get(name, {})
    if choices := arguments.choices(name):
        if name == "quantize":
            schema["enum"] = [None, *choices, *(int(choice) for choice in choices if choice.isdigit())]
            return schema
        # The texts in upper or lower case alike, as Ultralytics takes them.
        schema["examples"] = list(choices)
        schema["pattern"] = "^(" + "|".join(_any_case(choice) for choice in choices) + ")$"
    return schema


def _any_case(word: str) -> str:
    return "".join(f"[{char.upper()}{char.lower()}]" if char.isalpha() else char for char in word)
