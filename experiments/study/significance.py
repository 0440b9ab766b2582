"""Paired t-tests of each cell of a study against the best cell, with Holm's adjustment."""

import numpy as np
import numpy.typing as npt
import pandas as pd

SIGNIFICANCE_LEVEL = 0.05


def summarize(errors: pd.DataFrame) -> pd.DataFrame:
    """Means, standard errors and significance of the cells of a study.

    Each cell is compared with the best one by a paired t-test; the p-values are adjusted for the
    number of comparisons. The tests are paired over seeds, since cells that differ only in epochs
    come from the same trainings and are not independent.

    Args:
        errors: a row for each seed, a column for each cell; NaN where a trial is missing.

    Returns:
        A row for each cell with the columns

        - mean, se: mean and its standard error in the unit of `errors`; NaN with too few seeds,
        - seeds: number of seeds with a result,
        - p: adjusted p-value; 1 for the best cell and without a comparison,
        - best: whether it is the cell with the lowest mean, the first one if there are several,
        - not_significant: whether it has results, and is not significantly worse than the best.
    """
    table = pd.DataFrame(
        {"mean": errors.mean(), "se": errors.sem(), "seeds": errors.count()}, index=errors.columns
    )
    best = int(np.nanargmin(table["mean"]))
    others = [cell for cell in range(len(table)) if cell != best]
    p = np.ones(len(table))
    p[others] = holm(
        np.array([paired_t_test(errors.iloc[:, cell] - errors.iloc[:, best]) for cell in others])
    )
    table["p"] = p
    table["best"] = np.arange(len(table)) == best
    table["not_significant"] = (
        ~table["best"] & (table["p"] >= SIGNIFICANCE_LEVEL) & (table["seeds"] > 0)
    )
    return table


def paired_t_test(differences: pd.Series) -> float:
    """Two-sided p-value of a t-test for a mean difference of 0.

    Args:
        differences: one for each seed; NaN is left out. With less than two the p-value is 1.
    """
    known = differences.dropna()
    if len(known) < 2:
        return 1.0
    if np.ptp(known) == 0:
        # Without variance t is 0/0 or infinite.
        return float(known.iloc[0] == 0)
    from scipy.stats import ttest_1samp  # imported late: it takes a second

    return float(ttest_1samp(known, 0).pvalue)


def holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Adjusts p-values, of shape (n,), for n comparisons.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979).
    """
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted
