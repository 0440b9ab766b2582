"""The model card holds the numbers of the results that it stands beside."""

import hashlib
from collections import Counter

import yaml

from stages.card import CARD, PREDICTIONS, page
from stages.card import SCORES as SCORES_FILE
from tests.project import ROOT

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


def test_the_card_in_git_is_that_of_the_results_in_git() -> None:
    stage = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["card"]
    told = {each["path"]: each["md5"] for kind in ("deps", "outs") for each in stage[kind]}
    for path in (SCORES_FILE, PREDICTIONS, CARD):
        content = (ROOT / path).read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == told[str(path)]
