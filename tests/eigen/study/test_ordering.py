"""Agreement of orders, against SciPy and by counting."""

import numpy as np
import pytest
from scipy import stats

from eigenfeatures.eigen.study.ordering import concordance, rank_agreement, sample_means


@pytest.mark.parametrize(
    ("samples", "least"), [(2, 1), (3, 2 / 6), (4, 2 / 24), (5, 2 / 120), (8, 2 / 40320)]
)
def test_the_same_order_has_the_least_p_that_so_few_samples_allow(samples, least):
    values = np.random.default_rng(0).random(samples)
    same = rank_agreement(values, np.exp(values))
    assert (same.kendall_tau, same.samples) == (pytest.approx(1), samples)
    assert same.spearman == pytest.approx(1)
    assert same.permutations_p == pytest.approx(least)
    reverse = rank_agreement(values, -values)
    assert (reverse.kendall_tau, reverse.spearman) == (pytest.approx(-1), pytest.approx(-1))
    assert reverse.permutations_p == pytest.approx(least)


@pytest.mark.parametrize("samples", [4, 6, 7, 12])
def test_tau_rho_and_p_are_scipys(samples):
    draw = np.random.default_rng(samples)
    for _ in range(5):
        values, reference = draw.random((2, samples))
        agreement = rank_agreement(values, reference)
        kendall = stats.kendalltau(values, reference, method="exact")
        assert agreement.kendall_tau == pytest.approx(kendall.statistic)
        assert agreement.permutations_p == pytest.approx(kendall.pvalue)
        assert agreement.spearman == pytest.approx(stats.spearmanr(values, reference).statistic)


def test_p_with_ties_is_that_of_scipys_permutation_test():
    values, reference = np.array([1.0, 1, 2, 3, 5]), np.array([2.0, 1, 4, 4, 3])

    def size_of_tau(permuted):
        return abs(stats.kendalltau(permuted, reference).statistic)

    expected = stats.permutation_test(
        (values,), size_of_tau, permutation_type="pairings", n_resamples=np.inf, alternative="greater"
    )
    agreement = rank_agreement(values, reference)
    assert agreement.kendall_tau == pytest.approx(stats.kendalltau(values, reference).statistic)
    assert agreement.permutations_p == pytest.approx(expected.pvalue)


def test_p_of_unrelated_orders_is_a_p_value():
    """Under the null, p ≤ 0.1 in at most a tenth of all cases, and p ≤ 0.5 in about half."""
    draw = np.random.default_rng(0)
    p = np.array([rank_agreement(*draw.random((2, 6))).permutations_p for _ in range(400)])
    assert 0.03 < np.mean(p <= 0.1) < 0.13
    assert 0.35 < np.mean(p <= 0.5) < 0.55


def test_unknown_values_are_left_out_and_constants_have_no_order():
    values = np.array([1.0, 2, np.nan, 4, 5])
    reference = np.array([10.0, np.nan, 0, 30, 50])
    assert rank_agreement(values, reference) == rank_agreement(values[[0, 3, 4]], reference[[0, 3, 4]])
    assert rank_agreement(values, reference).samples == 3
    for nothing in (np.full(5, 7.0), np.full(5, np.nan)):
        agreement = rank_agreement(np.arange(5.0), nothing)
        assert np.isnan([agreement.kendall_tau, agreement.spearman, agreement.permutations_p]).all()
        assert agreement.samples == np.isfinite(nothing).sum()


def test_the_papers_table_orders_toughness_and_density_as_it_says():
    """Sample 2 is the toughest and the densest; over four points nothing is significant."""
    toughness, density = np.array([0.16, 1.03, 0.99, 0.83]), np.array([1.151, 1.157, 1.145, 1.143])
    agreement = rank_agreement(density, toughness)
    assert agreement.kendall_tau == pytest.approx((4 - 2) / 6)  # 4 pairs of samples agree, 2 don't
    assert agreement.permutations_p == pytest.approx(
        18 / 24
    )  # 6 of 24 orders have as many pairs of both kinds


def test_means_of_samples():
    values = np.array([1.0, 3, 10, np.nan, 30, np.nan])
    means = sample_means(values, np.array([0, 0, 2, 2, 2, 3]), ("a", "b", "c", "d"))
    np.testing.assert_array_equal(means, [2, np.nan, 20, np.nan])


def test_concordance_is_one_for_the_same_order_and_friedmans_otherwise():
    assert concordance(np.array([[1.0, 2, 3, 4], [10, 20, 30, 99], [0, 1, 5, 7]])) == pytest.approx(1)
    assert concordance(np.array([[1.0, 2, 3], [3, 2, 1]])) == pytest.approx(0)
    draw = np.random.default_rng(0)
    for values in (draw.random((5, 4)), draw.integers(0, 3, (6, 5)).astype(float)):
        runs, samples = values.shape
        friedman = stats.friedmanchisquare(*values.T).statistic
        assert concordance(values) == pytest.approx(friedman / (runs * (samples - 1)))


def test_concordance_of_orders_at_random_is_one_over_the_runs():
    draw = np.random.default_rng(0)
    values = [concordance(draw.random((5, 4))) for _ in range(500)]
    assert np.mean(values) == pytest.approx(0.2, abs=0.03)


def test_concordance_leaves_out_samples_that_a_run_lacks():
    values = np.array([[1.0, 2, 3, np.nan], [1, 3, 2, 0]])
    assert concordance(values) == concordance(values[:, :3])
    for nothing in (values[:1], values[:, 3:], np.ones((3, 3))):
        assert np.isnan(concordance(nothing))
