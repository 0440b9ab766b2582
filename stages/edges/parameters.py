"""How params.yaml is read, and how a person learns what is wrong with it.

What a section may hold is said by its schema, which lives with the stage or room that reads it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from stages.edges.bad_input import BadInput

PARAMETERS = Path("params.yaml")
# PyYAML lets through what a date, a number or a tag that is none raises: 2001-99-99.
NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
# A file of parameters has a thousand, and PyYAML takes seconds for a million.
MOST_CHARACTERS = 50_000
MOST_LINES = 20  # of one complaint


class Section(BaseModel):
    """The schema of a section: `class Train` is that of `train`. A description is what would do."""

    # strict: "10", 10.0 and true are no whole numbers.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


def whole_number(low: int, high: int) -> str:
    return f"a whole number from {low} to {high}"


def whole(low: int, high: int) -> Any:
    return Field(ge=low, le=high, description=whole_number(low, high))


def bounded(low: float, high: float, unit: str) -> Any:
    return Field(
        ge=low,
        le=high,
        allow_inf_nan=False,
        description=f"a number from {low:g} to {high:g}: {unit}",
    )


def read_section(schema: type[AnySection], path: Path = PARAMETERS) -> AnySection:
    """Reads the section of params.yaml that a schema is for.

    Raises:
        BadInput: the file is missing or no YAML, or the section holds an unknown key, a wrong
            type or a value out of bounds: a line for each, with what would do.
    """
    document = read_yaml(path)
    refuse(faults(document, schema), path)
    return schema.model_validate(document[section_name(schema)])


def read_yaml(path: Path) -> Any:
    """What a YAML file holds, as DVC reads it.

    Raises:
        BadInput: the file is missing or no YAML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return parse_yaml(file.read(MOST_CHARACTERS + 1))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; git restore {path} brings it back") from None
    except NO_YAML as problem:
        raise BadInput(f"{path} is not valid YAML: {one_line(str(problem))}") from None


def parse_yaml(text: str) -> Any:
    """What a text in YAML holds, as DVC reads it; else raises one of NO_YAML."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"at most {MOST_CHARACTERS:,} characters are read")
    return yaml.load(text, Loader)  # noqa: S506, it is a SafeLoader


def flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, such as train.seed, of parameters by section."""
    return {
        f"{section}.{key}": value
        for section, keys in sections.items()
        for key, value in keys.items()
    }


class Loader(yaml.SafeLoader):
    """Reads as DVC does: 1e-3 is a number, and no key may stand twice in a section.

    PyYAML's YAML 1.1 takes 1e-3 for text, and the later of two values silently. It also follows
    an alias of aliases of aliases for as long as memory lasts, so that there may be none.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ComposerError(
                problem=f"*{event.anchor} is an alias; write out what it stands for",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        earlier = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            # With the tag: '1' and 1 are two keys.
            if (key.tag, key.value) in earlier:
                raise ConstructorError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
            earlier.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def faults(document: Any, schema: type[Section]) -> list[str]:
    """What is wrong with a schema's section of a document: a line for each fault."""
    name = section_name(schema)
    if not isinstance(document, dict):
        return [f"the file holds {shown(document)}; it must hold the section {name}"]
    if name not in document:
        return [f"{name} is missing; it must be a section with {names(schema)}"]
    try:
        schema.model_validate(document[name])
    except ValidationError as problem:
        return [
            explain(schema, error["loc"], error["type"], error["input"])
            for error in problem.errors()[: MOST_LINES + 1]
        ]
    return []


def explain(
    schema: type[Section], location: tuple[int | str, ...], kind: str, value: object
) -> str:
    """Says in a line what is wrong with the value at a location of a section."""
    section = section_name(schema)
    key = ".".join([section, *(str(part) for part in location)])
    state = "is missing" if kind == "missing" else f"is {shown(value)}"
    if not location:
        return f"{key} {state}; it must be a section with {names(schema)}"
    field = schema.model_fields.get(str(location[0]))
    if field is None:
        return f"{key} is not a parameter; {section} has {names(schema)}"
    return f"{key} {state}; it must be {field.description}"


def check_bounds(key: str, value: int, low: int, high: int, path: Path = PARAMETERS) -> None:
    """Refuses a parameter, such as train.batch_size, that does not suit the data.

    Raises:
        BadInput: the value is not from `low` to `high`.
    """
    if not low <= value <= high:
        refuse([f"{key} is {value}; it must be {whole_number(low, high)}"], path)


def refuse(lines: list[str], path: Path = PARAMETERS) -> None:
    """Raises BadInput if there are lines, with all of them."""
    if lines:
        more = ["and more"] if len(lines) > MOST_LINES else []
        raise BadInput(
            "\n".join(f"{path}: {one_line(line)}" for line in [*lines[:MOST_LINES], *more])
        )


def section_name(schema: type[Section]) -> str:
    return schema.__name__.lower()


def names(schema: type[Section]) -> str:
    return ", ".join(schema.model_fields)


def shown(value: object) -> str:
    """The value as it would stand in a YAML file, or the beginning of it."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    except ValueError:
        return "a number of thousands of digits"  # more than Python writes out
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 100 else f"{text[:100]}…"


def one_line(text: str) -> str:
    return " ".join(text.split())
