"""Stage evaluate: the test error, the predictions behind it, and plots of both."""

import json
from pathlib import Path

import numpy as np

from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.params import read_section
from stages.data.arrays import load_classes, load_split, parts
from stages.evaluation.options import Evaluate
from stages.evaluation.plots import draw_digits, draw_reliability, save
from stages.evaluation.scores import calibration, predictions, scores, worst_mistakes
from stages.training.model_file import load_network
from stages.training.prediction import predictor
from stages.training.threads import set_threads

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")


def main() -> None:
    evaluate = read_section(Evaluate)
    set_threads()
    x, y = load_split(NORMALIZED, "test", "float32")  # (n, h, w, …), (n,)
    classes = load_classes(NORMALIZED)
    network, _ = load_network(MODEL, x.shape[1:], len(classes))

    predict = predictor(network)
    probabilities = np.concatenate([predict(part) for part in parts(x)])  # (n, c)
    result = scores(probabilities, y, evaluate.confidence)
    table = predictions(probabilities, y, classes)
    worst = worst_mistakes(table, evaluate.worst)
    mistakes = int((table["actual"] != table["predicted"]).sum())

    with atomic_write(PLOTS / "predictions.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    captions = [f"{row.actual} → {row.predicted}" for row in worst.itertuples()]
    title = f"{len(worst)} of {mistakes} mistakes: actual → predicted"
    if mistakes:
        title += f"\nsorted by confidence, at least {worst['confidence'].min():.2%}"
    save(draw_digits(x[worst.index], captions, title), PLOTS / "mistakes.png")
    figure = draw_reliability(calibration(probabilities, y), result["expected_calibration_error"])
    save(figure, PLOTS / "reliability.png")
    # Metrics are written last, so that new metrics imply new plots.
    with atomic_write(METRICS) as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n", newline="\n")
    print(
        f"Baseline Error: {result['baseline_error']:.2f}% ({100 * evaluate.confidence:g}% interval "
        f"{result['baseline_error_low']:.2f}–{result['baseline_error_high']:.2f}, "
        f"{mistakes:,} of {len(y):,})"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
