"""The model card holds the numbers of the results that it stands beside."""

from collections import Counter

import pytest

from stages.card import CARD, page
from tests.project import Project

PARAMETERS = {"download.dataset": "mnist-5k", "evaluate.confidence": "0.9", "train.seed": "7"}
SCORES = {
    "baseline_error": 42.8571,
    "baseline_error_low": 15.8,
    "baseline_error_high": 75.0,
    "expected_calibration_error": 0.0123,
}


def test_the_card_has_a_row_for_each_class() -> None:
    images = Counter(zip("00011122", "02010021", strict=True))
    text = page(PARAMETERS, SCORES, images)
    assert "On 8 test images: error 42.86%, 90% interval 15.80–75.00.\n" in text
    assert "off by 1.23 points" in text
    assert "made with `train.seed` 7." in text
    assert (
        "| 0 | 3 | 1 | 33.33% | 2 |\n| 1 | 3 | 2 | 66.67% | 0 |\n| 2 | 2 | 1 | 50.00% | 1 |" in text
    )
    assert "| 0 | 1 | 0 | 0.00% | – |" in page(PARAMETERS, SCORES, Counter([("0", "0")]))


@pytest.mark.slow
def test_the_card_is_that_of_the_results(reproduced: Project) -> None:
    text = reproduced.read(str(CARD))
    assert "On 1,000 test images" in text
    assert "`model.hidden_units` [8]" in text
    assert "`train.epochs` 2" in text
