"""Schemas of the sections `model`, `train` and `augmentation` of params.yaml."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.common.params import Section, integer, integer_range, number

MAX_LAYERS = 100
MAX_WEIGHTS = 100_000_000  # 0.4 GB, and four times as much while they are trained


def check_number_of_weights(units: list[int]) -> list[int]:
    """Raises ValueError if there are too many weights between hidden layers to train them."""
    if sum(before * after for before, after in pairwise(units)) > MAX_WEIGHTS:
        raise ValueError
    return units


HiddenUnits = Annotated[
    list[Annotated[int, Field(ge=1, le=65_536)]],
    Field(min_length=1, max_length=MAX_LAYERS),
    AfterValidator(check_number_of_weights),
]
LAYER_SIZES = (
    f"1 to {MAX_LAYERS} layer sizes, each {integer_range(1, 65_536)}, with at most {MAX_WEIGHTS:,} "
    "weights between the layers"
)


class Model(Section):
    hidden_units: HiddenUnits = Field(description=f"a list of {LAYER_SIZES}")


class Train(Section):
    epochs: int = integer(1, 100_000)
    batch_size: int = Field(ge=1, description="an integer from 1 to the number of training images")
    learning_rate: float = Field(
        gt=0, allow_inf_nan=False, description="a finite number greater than 0"
    )
    schedule: Literal["constant", "cosine"] = Field(description="constant or cosine")
    seed: int = integer(0, 2**32 - 1)


class Augmentation(Section):
    """Limits of the random distortions of training images; 0 means none."""

    rotation: float = number(0, 90, "degrees, both directions")
    scale: float = number(0, 0.5, "change of width and height; 0.1: 0.9 to 1.1 times")
    shear: float = number(0, 45, "degrees that vertical strokes slant, both directions")
    shift: float = number(0, 14, "pixels, all directions")
    elastic_amplitude: float = number(0, 14, "pixels, root mean square of the displacement")
    elastic_smoothness: float = number(2, 28, "pixels, standard deviation of the Gaussian")

    def is_active(self) -> bool:
        return any(value for name, value in self if name != "elastic_smoothness")
