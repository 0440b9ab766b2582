"""Stage evaluate: the test error, the predictions behind it, and pictures of both."""

import json
from pathlib import Path

from stages.data.arrays import load_classes, load_split
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import read_section
from stages.edges.replacing import replacing
from stages.results.parameters import Evaluate
from stages.results.pictures import digits, reliability, save
from stages.results.scores import calibration, predictions, scores, worst_mistakes
from stages.training.network import load_network
from stages.training.prediction import predictor
from stages.training.repeatable import set_threads

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")


def main() -> None:
    evaluate = read_section(Evaluate)
    set_threads()
    x, y = load_split(NORMALIZED, "test", "float32")  # (n, 28, 28), (n,)
    classes = load_classes(NORMALIZED)
    network, _ = load_network(MODEL)

    probabilities = predictor(network)(x)  # (n, 10)
    result = scores(probabilities, y, evaluate.confidence)
    table = predictions(probabilities, y, classes)
    worst = worst_mistakes(table, evaluate.worst)

    with replacing(PLOTS / "predictions.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    captions = [f"{row.actual} → {row.predicted}" for row in worst.itertuples()]
    mistakes = int((table["actual"] != table["predicted"]).sum())
    title = f"{len(worst)} of {mistakes} mistakes, the surest first: actual → predicted"
    if mistakes:
        title += f"\neach with {worst['confidence'].min():.2%} or more"
    save(digits(x[worst.index], captions, title), PLOTS / "mistakes.png")
    figure = reliability(calibration(probabilities, y), result["expected_calibration_error"])
    save(figure, PLOTS / "reliability.png")
    # Last: where the metrics are new, the pictures are.
    with replacing(METRICS) as partial:
        partial.write_text(json.dumps(result, indent=2) + "\n", newline="\n")
    print(
        f"Baseline Error: {result['baseline_error']:.2f}% ({100 * evaluate.confidence:g}% interval "
        f"{result['baseline_error_low']:.2f}–{result['baseline_error_high']:.2f}, "
        f"{mistakes:,} of {len(y):,})"
    )


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
