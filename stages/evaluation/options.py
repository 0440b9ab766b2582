"""Schema of the section `evaluate` of params.yaml."""

from pydantic import Field

from stages.common.params import Section, integer


class Evaluate(Section):
    confidence: float = Field(ge=0.5, le=0.9999, description="a number from 0.5 to 0.9999")
    worst: int = integer(1, 100)
