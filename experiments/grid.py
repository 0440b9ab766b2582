"""The axes of a study, as study.yaml gives them, and the trainings that they ask for."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, ValidationError

from stages.edges.bad_input import BadInput
from stages.edges.parameters import Section, read_yaml, shown

STUDY = Path("study.yaml")


def distinct(values: list[Any]) -> list[Any]:
    if len({str(value) for value in values}) < len(values):
        raise ValueError("twice the same value")
    return values


def axis(item: Any, description: str) -> Any:
    return Annotated[
        list[item],
        Field(min_length=1, description=f"a list of different {description}"),
        AfterValidator(distinct),
    ]


Whole = Annotated[int, Field(ge=1, le=100_000)]
Units = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[list[Units], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Study(Section):
    epochs: axis(Whole, "whole numbers from 1 to 100000")  # type: ignore[valid-type]
    hidden_units: axis(  # type: ignore[valid-type]
        Layers, "lists of one or more layers, each a whole number from 1 to 65536"
    )
    seeds: axis(Seed, "whole numbers from 0 to 4294967295")  # type: ignore[valid-type]
    validation: int = Field(gt=0, description="a whole number from 1, below the training images")


class Training(NamedTuple):
    """One training of one network: what sets it apart from the others of a study."""

    hidden_units: tuple[int, ...]
    epochs: int
    seed: int
    validation: int

    @property
    def parameters(self) -> dict[str, Hashable | list[int]]:
        """What it changes in params.yaml."""
        return {
            "model.hidden_units": list(self.hidden_units),
            "normalize.validation": self.validation,
            "train.epochs": self.epochs,
            "train.seed": self.seed,
        }


def width(hidden_units: Sequence[int]) -> str:
    return "-".join(str(units) for units in hidden_units)


def read_study(path: Path, options: dict[str, Any]) -> Study:
    """Reads study.yaml, puts the options in place of its values, and checks the whole.

    Raises:
        BadInput: the file is missing or no YAML, or a value is not what it must be.
    """
    document = read_yaml(path)
    try:
        return Study.model_validate({**document, **options})
    except TypeError:
        raise BadInput(f"{path} must hold {', '.join(Study.model_fields)}") from None
    except ValidationError as problem:
        # A list with three wrong items is told once.
        keys = dict.fromkeys(str(error["loc"][0]) for error in problem.errors())
        lines = [explain(key, {**document, **options}) for key in keys]
        raise BadInput("\n".join(f"study: {line}" for line in lines)) from None


def explain(key: str, document: dict[str, Any]) -> str:
    field = Study.model_fields.get(key)
    if field is None:
        return f"{key} is not an axis; they are {', '.join(Study.model_fields)}"
    state = f"is {shown(document[key])}" if key in document else "is missing"
    return f"{key} {state}; it must be {field.description}"
