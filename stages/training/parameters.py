"""What the sections `model`, `train` and `warp` of params.yaml may hold. No TensorFlow."""

from typing import Annotated, Literal

from pydantic import Field

from stages.edges.parameters import Section, bounded, whole, whole_number


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
    schedule: Literal["constant", "cosine"] = Field(description="constant or cosine")
    seed: int = whole(0, 2**32 - 1)


class Warp(Section):
    """How far each training image is warped, anew in every epoch; 0: not at all."""

    rotation: float = bounded(0, 90, "degrees, either way")
    scale: float = bounded(0, 0.5, "of the width and of the height, 0.1: from 0.9 to 1.1 times")
    shear: float = bounded(0, 45, "degrees that upright strokes slant, either way")
    shift: float = bounded(0, 14, "pixels, in each direction")
    elastic_amplitude: float = bounded(0, 14, "pixels that parts are displaced, root mean square")
    elastic_smoothness: float = bounded(2, 28, "pixels, standard deviation of the Gaussian")

    def moves(self) -> bool:
        """Whether anything is warped at all."""
        return any(value for name, value in self if name != "elastic_smoothness")
