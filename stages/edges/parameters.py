"""What params.yaml may hold: every key with its type and bounds."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yaml.constructor import ConstructorError

from stages.edges.bad_input import BadInput, explained

PARAMETERS = Path("params.yaml")
# PyYAML lets through what a date, a number or a tag that is none raises: 2001-99-99.
NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
TRAINING_IMAGES = {"mnist": 60_000, "mnist-5k": 4_000}


def whole_number(low: int, high: int) -> str:
    return f"a whole number from {low} to {high}"


def whole(low: int, high: int) -> Any:
    return Field(ge=low, le=high, description=whole_number(low, high))


class Section(BaseModel):
    # strict: "10", 10.0 and true are no whole numbers.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Download(Section):
    dataset: Literal["mnist", "mnist-5k"] = Field(description="mnist or mnist-5k")


class Normalize(Section):
    scaling: Literal["unit", "standard"] = Field(description="unit or standard")
    validation: int = Field(ge=0, description="a whole number from 0, below the training images")


class Model(Section):
    hidden_units: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        min_length=1,
        description=f"a list of one or more layers, each {whole_number(1, 65_536)}",
    )


class Train(Section):
    epochs: int = whole(1, 100_000)
    batch_size: int = Field(ge=1, description="a whole number from 1 to the training images")
    learning_rate: float = Field(
        gt=0, allow_inf_nan=False, description="a finite number greater than 0"
    )
    seed: int = whole(0, 2**32 - 1)
    threads: int = whole(0, 1_024)


class Evaluate(Section):
    confidence: float = Field(ge=0.5, le=0.9999, description="a number from 0.5 to 0.9999")
    worst: int = whole(1, 100)


class Parameters(Section):
    download: Download
    normalize: Normalize
    model: Model
    train: Train
    evaluate: Evaluate


class Loader(yaml.SafeLoader):
    """Reads as DVC does: 1e-3 is a number, and no key may stand twice in a section.

    PyYAML's YAML 1.1 takes 1e-3 for text, and the later of two values silently.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            # With the tag: '1' and 1 are two keys.
            if (key.tag, key.value) in ((earlier.tag, earlier.value) for earlier in keys[:place]):
                raise ConstructorError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_parameters(path: Path = PARAMETERS) -> Parameters:
    """Reads params.yaml and checks all of it, the sections of other stages too.

    Raises:
        BadInput: the file is missing or no YAML, or holds an unknown key, a wrong type or
            a value out of bounds: a line for each, with what would do.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506, it is a SafeLoader
    except FileNotFoundError:
        raise BadInput(f"{path} is missing; git restore {path} brings it back") from None
    except NO_YAML as problem:
        raise BadInput(f"{path} is not valid YAML: {one_line(str(problem))}") from None
    try:
        parameters = Parameters.model_validate(document)
    except ValidationError as problem:
        lines = [explain(error["loc"], error["type"], error["input"]) for error in problem.errors()]
        raise BadInput("\n".join(f"{path}: {one_line(line)}" for line in lines)) from None

    images = TRAINING_IMAGES[parameters.download.dataset]
    for key, value, low, high in (
        ("normalize.validation", parameters.normalize.validation, 0, images - 1),
        (
            "train.batch_size",
            parameters.train.batch_size,
            1,
            images - parameters.normalize.validation,
        ),
    ):
        if value > high:
            raise BadInput(f"{path}: {key} is {value}; it must be {whole_number(low, high)}")
    return parameters


def explain(location: tuple[int | str, ...], kind: str, value: object) -> str:
    """Says in a line what is wrong with the value at a location of params.yaml."""
    key = ".".join(str(part) for part in location)
    if not location:
        return f"the file holds {value!r}; it must hold the sections {names(Parameters)}"

    section = Parameters.model_fields.get(str(location[0]))
    if section is None:
        return f"{key} is not a section; the sections are {names(Parameters)}"
    fields: type[BaseModel] = section.annotation  # type: ignore[assignment]
    if len(location) == 1:
        state = "is missing" if kind == "missing" else f"is {shown(value)}"
        return f"{key} {state}; it must be a section with {names(fields)}"

    field = fields.model_fields.get(str(location[1]))
    if field is None:
        return f"{key} is not a parameter; {location[0]} has {names(fields)}"
    state = "is missing" if kind == "missing" else f"is {shown(value)}"
    return f"{key} {state}; it must be {field.description}"


def names(fields: type[BaseModel]) -> str:
    return ", ".join(fields.model_fields)


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


if __name__ == "__main__":
    # `make repro` asks this first, since DVC removes a stage's outputs before it runs the stage.
    with explained():
        read_parameters()
