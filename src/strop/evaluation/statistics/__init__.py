"""Statistics that go with every number: no number without its n and its interval, no NaN where there is no number."""

from strop.evaluation.statistics.agreement import (
    SPEARMAN,
    Measure,
    agreement_intervals,
    alpha_measure,
    cohen_kappa,
    kappa_measure,
    krippendorff_alpha,
    spearman,
)
from strop.evaluation.statistics.clusters import (
    DIFFERENCE_OF_SHARES,
    SHARE,
    UNBOUNDED,
    cluster_bootstrap,
    paired_cluster_difference,
)
from strop.evaluation.statistics.crossed import Outcomes, bootstrap_means, difference_interval, mean_interval
from strop.evaluation.statistics.intervals import LEVEL, POWER, RESAMPLES, Interval, NotEstimable, wilson
from strop.evaluation.statistics.jackknife import jackknife
from strop.evaluation.statistics.paired import PairedComparison, SignTest, compare_paired, sign_test
from strop.evaluation.statistics.pass_rates import any_of_k, pass_at_k
from strop.evaluation.statistics.power import items_needed
from strop.evaluation.statistics.recovery import (
    FEWEST_ITEMS,
    SMALLEST_RECOVERY,
    GapRecovered,
    Needed,
    RecoveryVerdict,
    gap_recovered,
)
from strop.evaluation.statistics.win_rate import WinRate, length_controlled_win_rate

__all__ = [
    "DIFFERENCE_OF_SHARES",
    "FEWEST_ITEMS",
    "LEVEL",
    "POWER",
    "RESAMPLES",
    "SHARE",
    "SMALLEST_RECOVERY",
    "SPEARMAN",
    "UNBOUNDED",
    "GapRecovered",
    "Interval",
    "Measure",
    "Needed",
    "NotEstimable",
    "Outcomes",
    "PairedComparison",
    "RecoveryVerdict",
    "SignTest",
    "WinRate",
    "agreement_intervals",
    "alpha_measure",
    "any_of_k",
    "bootstrap_means",
    "cluster_bootstrap",
    "cohen_kappa",
    "compare_paired",
    "difference_interval",
    "gap_recovered",
    "items_needed",
    "jackknife",
    "kappa_measure",
    "krippendorff_alpha",
    "length_controlled_win_rate",
    "mean_interval",
    "paired_cluster_difference",
    "pass_at_k",
    "sign_test",
    "spearman",
    "wilson",
]
