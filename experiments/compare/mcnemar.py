"""McNemar's test of whether two networks have the same test error."""

from typing import NamedTuple

import pandas as pd

SIGNIFICANCE_LEVEL = 0.05


class Mistakes(NamedTuple):
    """Numbers of test images that only network A, only network B, or both misclassify."""

    only_a: int
    only_b: int
    both: int

    @property
    def p_value(self) -> float:
        """The exact two-sided p-value of McNemar's test; the null hypothesis is equal errors.

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated
        proportions or percentages", Psychometrika 12 (1947).
        """
        from scipy.stats import binomtest  # imported late: it takes a second

        discordant = self.only_a + self.only_b
        return float(binomtest(self.only_a, discordant).pvalue) if discordant else 1.0

    @property
    def verdict(self) -> str:
        p = format_p_value(self.p_value)
        if self.p_value >= SIGNIFICANCE_LEVEL:
            return f"No significant difference: p {p}"
        return f"{'B' if self.only_b < self.only_a else 'A'} is better: p {p}"


def count_mistakes(a: pd.DataFrame, b: pd.DataFrame) -> Mistakes:
    """Counts the mistakes of two tables of predictions for the same images.

    Args:
        a: a row for each image, with the columns `actual` and `predicted`.
        b: the same of the other network.
    """
    a_wrong = a["predicted"] != a["actual"]
    b_wrong = b["predicted"] != b["actual"]
    return Mistakes(
        int((a_wrong & ~b_wrong).sum()),
        int((b_wrong & ~a_wrong).sum()),
        int((a_wrong & b_wrong).sum()),
    )


def format_p_value(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"
