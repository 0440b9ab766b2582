"""The model's card holds the numbers it was given."""

import numpy as np

from stages.results.model_card import model_card


def test_the_card_holds_errors_by_class_and_what_they_are_taken_for() -> None:
    counts = np.diag([10, 20, 0])
    counts[0, 2], counts[0, 1] = 3, 1
    text = model_card(
        ["Flatten", "Dense 3 softmax"],
        1_234,
        {
            "baseline_error": 11.7647,
            "baseline_error_low": 5.0,
            "baseline_error_high": 26.2,
            "expected_calibration_error": 0.0123,
        },
        0.95,
        counts,
        ["a", "b", "c"],
    )
    assert "1,234 parameters, Flatten, Dense 3 softmax" in text
    assert "34 test images: 11.76%, 95% interval 5.00–26.20%" in text
    assert "off by\n1.23 points" in text
    assert "| a | 14 | 4 | 28.57% | c |" in text
    assert "| b | 20 | 0 | 0.00% | – |" in text
    assert "| c | 0 | 0 | – | – |" in text
