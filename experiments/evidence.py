"""Which differences between errors are more than chance, and which cannot be told from it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

# Below it a difference is called one: in 1 of 20 studies without any, one is found.
LEVEL = 0.05


def summarize(errors: pd.DataFrame) -> pd.DataFrame:
    """Means with standard errors, and which of them can be told from the best.

    Every cell is compared with the best by a t-test paired over seeds, and the p-values are
    adjusted by Holm's method for the number of cells. Paired, because cells that differ in
    epochs alone share their trainings, which Welch's test would take for independent.

    Args:
        errors: a row for each seed, a column for each cell, NaN where a training is missing.

    Returns:
        A row for each cell: mean and standard error, in the unit of `errors`, NaN where
        there are no or too few seeds; seeds, their number; p, adjusted, 1 for the best and
        for what cannot be compared; best; and alike, whether it cannot be told from the best.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979).
    """
    table = pd.DataFrame(
        {"mean": errors.mean(), "se": errors.sem(), "seeds": errors.count()}, index=errors.columns
    )
    # The first of equals, so that the order of the axes decides, not chance.
    best = int(np.nanargmin(table["mean"]))
    others = [place for place in range(len(table)) if place != best]
    p = np.ones(len(table))
    p[others] = holm(
        np.array([paired(errors.iloc[:, place] - errors.iloc[:, best]) for place in others])
    )
    table["p"] = p
    table["best"] = np.arange(len(table)) == best
    table["alike"] = ~table["best"] & (table["p"] >= LEVEL) & (table["seeds"] > 0)
    return table


def paired(differences: pd.Series) -> float:
    """The two-sided p-value of a mean difference, one difference a seed; 1 with less than 2."""
    known = differences.dropna()
    if len(known) < 2:
        return 1.0
    if np.ptp(known) == 0:
        # No spread at all, for which t is 0/0 or infinite.
        return float(known.iloc[0] == 0)
    from scipy.stats import ttest_rel  # imported late: it takes a second

    return float(ttest_rel(known, np.zeros(len(known))).pvalue)


def holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """p-values of shape (n,), adjusted for being n of them."""
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


class Mistakes(NamedTuple):
    """Images that A alone, B alone, and both of two networks read wrong."""

    a_alone: int
    b_alone: int
    both: int

    @property
    def p(self) -> float:
        """The exact two-sided p-value of McNemar's test, for A and B being equally good.

        Source: Q. McNemar, "Note on the sampling error of the difference between correlated
        proportions or percentages", Psychometrika 12 (1947).
        """
        from scipy.stats import binomtest  # imported late: it takes a second

        either = self.a_alone + self.b_alone
        return float(binomtest(self.a_alone, either).pvalue) if either else 1.0

    @property
    def verdict(self) -> str:
        numbers = f"{self.a_alone} against {self.b_alone}, p {shown_p(self.p)}"
        if self.p >= LEVEL:
            return f"no difference can be told: {numbers}"
        return f"{'B' if self.b_alone < self.a_alone else 'A'} is better: {numbers}"


def shown_p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.0001 else "< 0.0001"
