"""Statistics of the study against textbook numbers, other implementations, and simulations without a difference."""

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from modic.errors import UsageError
from modic.experiment import published, significance
from modic.experiment.simulation import TESTS, Simulation, cross_validated, draw_cohort, false_findings, simulate
from modic.statistics.metrics import grade_metrics


@pytest.fixture
def folds() -> np.ndarray:
    """50 differences."""
    return np.random.default_rng(1).normal(0.01, 0.03, 50)


def test_uncorrected_tests_are_the_ones_people_know(folds: np.ndarray) -> None:
    assert significance.t_test(folds) == pytest.approx(stats.ttest_1samp(folds, 0).pvalue)
    assert significance.wilcoxon(folds) == pytest.approx(stats.wilcoxon(folds, method="approx").pvalue)


def test_the_correction_widens_by_what_nadeau_and_bengio_say(folds: np.ndarray) -> None:
    t = stats.ttest_1samp(folds, 0).statistic
    narrower = np.sqrt((1 / 50) / (1 / 50 + 1 / 4))  # 10 × 5 folds: a test part is a quarter of a training part
    expected = 2 * stats.t.sf(abs(t) * narrower, 49)
    assert significance.corrected_t_test(folds, test_share=0.2) == pytest.approx(expected)


def test_nothing_is_found_where_nothing_differs_or_too_few_folds_are_there() -> None:
    for test in (
        significance.t_test,
        significance.wilcoxon,
        lambda d: significance.corrected_t_test(d, test_share=0.2),
    ):
        assert test(np.zeros(10)) == 1
        assert np.isnan(test(np.array([0.1])))


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.6]) == [1.0, 1.0]
    adjusted = significance.holm([float("nan"), 0.02])
    assert np.isnan(adjusted[0]) and adjusted[1] == 0.02


def test_the_posterior_is_the_corrected_test_seen_from_the_other_side(folds: np.ndarray) -> None:
    worse, same, better = significance.bayes(folds, test_share=0.2, rope=0.0)
    assert worse + same + better == pytest.approx(1)
    assert 2 * worse == pytest.approx(significance.corrected_t_test(folds, test_share=0.2))  # with a flat prior
    assert significance.bayes(folds, test_share=0.2, rope=0.2)[1] > 0.99
    assert significance.bayes(np.zeros(10), test_share=0.2) == (0.0, 1.0, 0.0)


def test_tables_give_the_metrics_that_predictions_give() -> None:
    rng = np.random.default_rng(2)
    labels, p = rng.integers(0, 3, 300), rng.dirichlet((1, 1, 1), 300)
    for some in (labels, np.where(labels == 1, 0, labels)):  # also where a type does not occur
        wanted = grade_metrics(p, some)
        table = significance.patient_tables(some, p.argmax(1), np.zeros(300))[0]
        for key, value in significance.table_metrics(table).items():
            assert value == pytest.approx(wanted[key], nan_ok=True), key


def graded(labels: np.ndarray, right: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(len(labels)) < right, labels, (labels + 1) % 3)


def test_the_bootstrap_draws_whole_patients_and_sees_a_real_difference() -> None:
    rng = np.random.default_rng(3)
    patients, labels = np.repeat(np.arange(150), 6), rng.integers(0, 3, 900)
    good, poor = (significance.patient_tables(labels, graded(labels, r, rng), patients) for r in (0.9, 0.7))
    key = ("balanced accuracy", "all")
    found = significance.paired_bootstrap(good, poor)[key]
    assert 0.1 < found.low < 0.2 < found.high < 0.3 and found.p < 0.01
    same = significance.paired_bootstrap(good, good)[key]
    assert (same.low, same.high, same.p) == (0, 0, 1)
    one = np.zeros(150)  # everything belongs to one patient: nothing can be drawn otherwise
    alone = [significance.patient_tables(labels, graded(labels, r, rng), np.repeat(one, 6)) for r in (0.9, 0.7)]
    assert significance.paired_bootstrap(*alone)[key].low == significance.paired_bootstrap(*alone)[key].high


def test_a_true_five_percent_looks_like_more_through_the_papers_sensitivities() -> None:
    matrix = published.confusion("standardize")
    assert matrix.sum(1) == pytest.approx(1)
    graded_as, predictive = significance.apparent(matrix, np.array(published.SHARES))
    assert graded_as[1] == pytest.approx(0.127, abs=0.001)
    assert predictive[1] == pytest.approx(0.33, abs=0.01)


def test_the_simulations_classifier_is_linear_discriminant_analysis() -> None:
    labels, patients, views = draw_cohort(Simulation(patients=150, features=5), np.random.default_rng(0))
    fold_of = patients % 5
    ours = cross_validated(views[0], labels, fold_of, 5)
    for fold in range(5):
        theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(views[0][fold_of != fold], labels[fold_of != fold])
        equal_priors = theirs.decision_function(views[0][fold_of == fold]) - np.log(theirs.priors_)
        assert (ours[fold_of == fold] == equal_priors.argmax(1)).all()


def test_without_a_difference_uncorrected_tests_find_many_and_the_corrected_one_few() -> None:
    rows = simulate(Simulation(simulations=60, patients=150, repeats=5, features=10))
    naive, corrected = (false_findings(rows, column) / 60 for column in ("p_t", "p_corrected"))
    assert naive > 0.25
    assert corrected <= 0.15  # 10 % and what 60 simulations allow
    assert false_findings(rows, "smallest_p_t") >= false_findings(rows, "p_t")
    assert rows[:3] == simulate(Simulation(simulations=3, patients=150, repeats=5, features=10))
    assert all(column == "" or column in rows[0] for _, *columns in TESTS for column in columns)


def test_too_small_a_simulation_is_refused() -> None:
    with pytest.raises(UsageError, match="100"):
        Simulation(patients=20)
