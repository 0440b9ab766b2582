"""Axes of a study in study.yaml, and its trials."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from stages.common.params import Section, raise_if_any, read_yaml, validation_errors
from stages.training.hyperparameters import LAYER_SIZES, HiddenUnits

STUDY = Path("study.yaml")


def without_duplicates(values: list[Any]) -> list[Any]:
    if len({str(value) for value in values}) < len(values):
        raise ValueError("duplicate value")
    return values


Distinct = AfterValidator(without_duplicates)
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


def axis(values: str) -> Any:
    return Field(min_length=1, description=f"a list of one or more different {values}")


class Study(Section):
    """Schema of study.yaml."""

    epochs: Annotated[list[Epochs], Distinct] = axis("integers from 1 to 100000")
    hidden_units: Annotated[list[HiddenUnits], Distinct] = axis(f"lists of {LAYER_SIZES}")
    seeds: Annotated[list[Seed], Distinct] = axis("integers from 0 to 4294967295")
    validation: int = Field(
        ge=1, description="an integer from 1, less than the number of training images"
    )


class Trial(NamedTuple):
    """One run of the pipeline in a study.

    Attributes:
        hidden_units: units of each hidden layer.
        epochs: number of epochs.
        seed: seed of the initial weights and of the order of images.
        validation: number of training images held out.
    """

    hidden_units: tuple[int, ...]
    epochs: int
    seed: int
    validation: int

    @property
    def changes(self) -> dict[str, Any]:
        """Its changes of params.yaml, by names such as train.seed."""
        return {
            "model.hidden_units": list(self.hidden_units),
            "normalize.validation": self.validation,
            "train.epochs": self.epochs,
            "train.seed": self.seed,
        }


def trials_of(study: Study, on_test: bool) -> list[Trial]:
    """The trials of a study: each network with each seed, for the largest number of epochs.

    Args:
        study: the axes.
        on_test: whether the test images are compared, so that no images are held out.
    """
    validation = 0 if on_test else study.validation
    return [
        Trial(tuple(units), max(study.epochs), seed, validation)
        for seed in study.seeds
        for units in study.hidden_units
    ]


def layers_name(hidden_units: Sequence[int]) -> str:
    """The name of a network with these layer sizes, such as 512-256-128."""
    return "-".join(str(units) for units in hidden_units)


def read_study(path: Path, options: Mapping[str, Any]) -> Study:
    """Reads study.yaml.

    Args:
        path: the file.
        options: values that replace those of the file, by the names of their axes.

    Raises:
        UserError: the file is missing or not valid YAML, or a value is invalid.
    """
    document = read_yaml(path)
    if isinstance(document, dict):
        document = {**document, **options}
    raise_if_any(validation_errors({"study": document}, Study), path)
    return Study.model_validate(document)
