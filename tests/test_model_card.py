"""The model card holds the numbers of the results it stands beside."""

import pandas as pd
import pytest

from tests.project import ROOT, Project
from tools.model_card import CARD, card, page

PARAMETERS = {"download.dataset": "mnist-5k", "evaluate.confidence": "0.9", "train.seed": "7"}
SCORES = {
    "baseline_error": 42.8571,
    "baseline_error_low": 15.8,
    "baseline_error_high": 75.0,
    "expected_calibration_error": 0.0123,
}


def test_the_card_has_a_row_for_each_class() -> None:
    predictions = pd.DataFrame(
        {"actual": list("0001112"), "predicted": list("0201002")}, dtype="string"
    )
    text = page(PARAMETERS, SCORES, predictions)
    assert "On 7 test images: error 42.86%, 90% interval 15.80–75.00.\n" in text
    assert "off by 1.23 points" in text
    assert "made with `train.seed` 7." in text
    assert (
        "| 0 | 3 | 1 | 33.33% | 2 |\n| 1 | 3 | 2 | 66.67% | 0 |\n| 2 | 1 | 0 | 0.00% | – |" in text
    )


def test_the_card_in_git_is_that_of_the_results_in_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert CARD.read_text() == card(), "make repro writes it anew"


@pytest.mark.slow
def test_make_repro_writes_the_card_of_new_results(project: Project) -> None:
    project.run("make", "repro", "VENV=")
    text = project.read(str(CARD))
    assert "On 1,000 test images" in text
    assert "`model.hidden_units` [8]" in text
    assert "`train.epochs` 2" in text
