"""Reading and validation of params.yaml.

The schema of each section is a subclass of `Section`: `Download` and `Normalize` in the file of
their stage, `Model`, `Train` and `Augmentation` in stages/training/hyperparameters.py, `Evaluate`
in stages/evaluation/options.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import CollectionNode, MappingNode

from stages.common.errors import UserError

PARAMS = Path("params.yaml")
# ruamel.yaml does not wrap all errors in YAMLError: an invalid date, number or tag, for example
# 2001-99-99, raises one of the others.
INVALID_CONTENT = (YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
MAX_CHARACTERS = 1_000_000  # a dvc.lock may have some hundred thousand
MAX_DEPTH = 100  # the parser is recursive, and some ten thousand levels would end the process
MAX_KEYS = 100_000  # of a mapping; merge keys multiply them
MAX_ERROR_LINES = 20
RENAMED_SECTIONS = {"warp": "augmentation"}


class Section(BaseModel):
    """Schema of a section of params.yaml: `class Train` describes the section `train`.

    The description of a field is the end of an error message: "expected DESCRIPTION".
    """

    # strict: the text "10", the float 10.0 and the boolean true are not integers.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


def integer_range(low: int, high: int) -> str:
    return f"an integer from {low} to {high}"


def integer(low: int, high: int) -> Any:
    """A field for an integer from `low` to `high`."""
    return Field(ge=low, le=high, description=integer_range(low, high))


def number(low: float, high: float, unit: str) -> Any:
    """A field for a finite number from `low` to `high`."""
    description = f"a number from {low:g} to {high:g}: {unit}"
    return Field(ge=low, le=high, allow_inf_nan=False, description=description)


def read_section(schema: type[AnySection], path: Path = PARAMS) -> AnySection:
    """Reads one section of params.yaml.

    Raises:
        UserError: the file is missing or not valid YAML, or the section has an unknown key, a
            wrong type or a value out of range. The message has a line for each.
    """
    document = read_yaml(path)
    raise_if_any(validation_errors(document, schema), path)
    return schema.model_validate(document[section_name(schema)])


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: the file is missing or not valid YAML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
        if text.startswith("<<<<<<< ") or "\n<<<<<<< " in text:
            raise UserError(f"{path} has merge conflicts; resolve them first")
        return parse_yaml(text)
    except FileNotFoundError:
        # The second command is for a file that `git rm` has removed.
        raise UserError(
            f"{path} is missing. Run: git restore {path} || git checkout HEAD {path}"
        ) from None
    except INVALID_CONTENT as problem:
        raise UserError(f"{path} is not valid YAML: {one_line(str(problem))}") from None


def parse_yaml(text: str) -> Any:
    """Parses YAML with the same parser as DVC, so that both read the same values.

    Raises:
        one of INVALID_CONTENT: the text is not valid YAML.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS:,} characters")
    check_depth(text)
    if "*" in text:
        check_merges(YAML(typ="safe").compose(text), {})
    return YAML(typ="safe").load(text)


def check_depth(text: str) -> None:
    """Raises ValueError if lists and mappings are nested more than MAX_DEPTH levels deep."""
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def check_merges(node: Any, sizes: dict[int, int]) -> int:
    """Raises ValueError if a mapping has more than MAX_KEYS keys after merges: <<: [*a, *a].

    Args:
        node: of ruamel.yaml; aliases are the same node.
        sizes: the results of nodes that have been visited, by their id.

    Returns:
        The number of keys of a mapping, or of all mappings in a list.
    """
    if id(node) in sizes or not isinstance(node, CollectionNode):
        return sizes.get(id(node), 0)
    sizes[id(node)] = 0  # a node may contain itself
    size = 0
    for item in node.value:
        key, value = item if isinstance(node, MappingNode) else (None, item)
        keys = check_merges(value, sizes)
        is_merged = key is None or key.tag == "tag:yaml.org,2002:merge"
        size += keys if is_merged else 1
    if size > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS:,} keys in a mapping")
    sizes[id(node)] = size
    return size


def flatten(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, such as train.seed, from parameters by section."""
    return {
        f"{section}.{key}": value
        for section, keys in sections.items()
        for key, value in keys.items()
    }


def validation_errors(document: Any, schema: type[Section]) -> list[str]:
    """Validates one section of a document; returns a message for each error."""
    name = section_name(schema)
    if not isinstance(document, dict):
        return [f"the file contains {as_yaml(document)}; expected the section {name}"]
    if name not in document:
        for old, new in RENAMED_SECTIONS.items():
            if new == name and old in document:
                return [renamed_message(old)]
        return [f"{name} is missing; expected a section with {field_names(schema)}"]
    try:
        schema.model_validate(document[name])
    except ValidationError as problem:
        return [
            validation_message(schema, error["loc"], error["type"], error["input"])
            for error in problem.errors()[: MAX_ERROR_LINES + 1]
        ]
    return []


def renamed_message(old: str) -> str:
    return f"the section {old} is now named {RENAMED_SECTIONS[old]}; rename it"


def validation_message(
    schema: type[Section], location: tuple[int | str, ...], kind: str, value: object
) -> str:
    """Message for one validation error of pydantic, given the location within the section."""
    section = section_name(schema)
    key = ".".join([section, *(str(part) for part in location)])
    state = "is missing" if kind == "missing" else f"is {as_yaml(value)}"
    if not location:
        return f"{key} {state}; expected a section with {field_names(schema)}"
    field = schema.model_fields.get(str(location[0]))
    if field is None:
        return f"{key} is not a parameter; {section} has {field_names(schema)}"
    return f"{key} {state}; expected {field.description}"


def check_range(key: str, value: int, low: int, high: int, path: Path = PARAMS) -> None:
    """Checks a parameter whose range depends on the data, such as train.batch_size.

    Raises:
        UserError: the value is not from `low` to `high`.
    """
    if not low <= value <= high:
        raise_if_any([f"{key} is {value}; expected {integer_range(low, high)}"], path)


def raise_if_any(messages: list[str], path: Path = PARAMS) -> None:
    """Raises UserError with all messages, unless there are none."""
    if messages:
        more = ["more errors"] if len(messages) > MAX_ERROR_LINES else []
        raise UserError(
            "\n".join(f"{path}: {one_line(line)}" for line in [*messages[:MAX_ERROR_LINES], *more])
        )


def section_name(schema: type[Section]) -> str:
    return schema.__name__.lower()


def field_names(schema: type[Section]) -> str:
    return ", ".join(schema.model_fields)


def as_yaml(value: object) -> str:
    """A value as YAML on one line, cut after 100 characters."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    except ValueError:
        return "a number with thousands of digits"  # Python refuses to print it
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= 100 else f"{text[:100]}…"


def one_line(text: str) -> str:
    return " ".join(text.split())
