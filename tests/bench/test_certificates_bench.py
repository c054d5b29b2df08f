"""benchmarks/certificates.py: its exact figures against closed forms and enumeration, and its peers by name only."""

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from rushkit.errors import UsageError

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = (
    "worst_case",
    "sequential_exact",
    "certificate_exact",
    "certificate_peers",
    "certificate_reach",
    "certificates",
)


@pytest.fixture(scope="module")
def modules():
    """The three modules, which import one another by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in NAMES:
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, module)
            spec.loader.exec_module(module)
        yield {name: sys.modules[name] for name in NAMES}


@pytest.fixture(scope="module")
def exact(modules):
    return modules["certificate_exact"]


@pytest.fixture(scope="module")
def bench(modules):
    return modules["certificates"]


@pytest.fixture(scope="module")
def radii(bench):
    """The rows of radii, by what they compare."""
    return {row.quantity: row for row in bench.radius_rows(None)}


@pytest.mark.parametrize("p", [0.500001, 0.6, 0.75, 0.9, 1 - 1e-12])
def test_in_one_dimension_the_radii_are_those_in_l1(exact, p):
    assert float(exact.uniform_linf(p, 1)) == pytest.approx(2 * (p - 0.5), rel=1e-9)
    assert float(exact.laplace_linf(p, 1)) == pytest.approx(-math.log(2 * (1 - p)), rel=1e-4 if p > 0.99 else 1e-9)


@pytest.mark.parametrize("p", [0.55, 0.6, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("dim", [2, 3, 4, 7])
def test_the_differential_radius_is_the_integral_over_all_sign_patterns(exact, p, dim):
    sums = np.sort([sum(signs) for signs in itertools.product((-1, 1), repeat=dim)])[::-1]
    # Φ by filling the top of all 2^d patterns; the middle of 20,000 pieces.
    tops = 0.5 - (np.arange(20_000) + 0.5) * (p - 0.5) / 20_000
    filled = tops * len(sums)
    whole = filled.astype(int)
    phi = (np.append(0, np.cumsum(sums))[whole] + (filled - whole) * sums[whole]) / len(sums)
    assert float(exact.laplace_linf(p, dim)) == pytest.approx(np.mean(1 / phi) * (p - 0.5), rel=1e-5)


def test_two_classes_that_are_complements_are_one(exact):
    assert float(exact.laplace_l1_two_class(0.9, 0.1)) == pytest.approx(-math.log(0.2))
    assert float(exact.laplace_l1_two_class(0.4, 0.1)) == pytest.approx(math.log(4) / 2)


def test_a_test_that_mostly_cannot_decide_has_no_mean_number_of_draws(bench):
    stops = bench.Boundaries(np.array([1, 2]), np.array([[2, 3]]), np.array([[-1, -1]]))
    with pytest.raises(ValueError, match="undecided"):
        bench.mean_draws(stops, 0.5)


def test_the_old_bisection_is_the_bound_of_the_confidence_sequence(bench):
    from rushkit.statistics import betting_lower

    successes, trials = np.array([60, 999, 100, 1, 0]), np.array([100, 1000, 100, 7, 7])
    found = bench.before_betting_lower(successes, trials, 0.001)
    np.testing.assert_allclose(found, betting_lower(successes, trials, 0.001), rtol=1e-12)


def test_norm_inequalities_are_the_l1_radii_divided(radii):
    assert radii["uniform, l2, d 3072, p 0.9"].before == pytest.approx(0.8 / math.sqrt(3072))
    assert radii["Laplace, l-inf, d 3072, p 0.9"].before == pytest.approx(math.log(5) / 3072)
    assert radii["Laplace, l2, d 3072, p 0.9"].before == pytest.approx(math.log(5) / math.sqrt(3072))
    two_class = radii["Laplace, l1, two classes, pA 0.99, pB 0.0001"]
    assert two_class.before / two_class.best == pytest.approx(0.740, abs=5e-4)


def test_no_radius_passes_its_optimum(radii):
    for row in radii.values():
        assert row.before <= row.now <= row.best, row.quantity


def test_the_kept_figures_are_what_the_code_gives(bench, radii):
    tested = {row.quantity: row for row in bench.draws_rows(None, [bench.AS_TESTED])}
    errors = {row.quantity: row for row in bench.error_rows(None)}
    kept = {row.quantity: row for row in bench.kept()}
    for quantity, row in {**radii, **tested}.items():
        figures = (row.before, row.now, row.best)
        assert figures == pytest.approx((kept[quantity].before, kept[quantity].now, kept[quantity].best)), quantity
    for quantity, row in errors.items():
        # Rounded down by 8 units in the last place, and never up.
        assert -4e-15 < row.now <= 0
        assert -4e-15 < kept[quantity].now <= 0


def test_the_page_has_the_kept_table(bench):
    page = (FOLDER.parent / "docs" / "certificates.md").read_text(encoding="utf-8")
    assert f"{bench.MARK[0]}\n\n{bench.table(bench.kept())}\n{bench.MARK[1]}" in page


def test_the_kept_figures_are_beside_both_peers(bench):
    kept = bench.kept()
    assert all(row.rs4a is not None for row in kept if row.kind == "error")
    assert all(row.conf_seq is not None for row in kept if row.kind in ("draws", "false claims"))


def test_figures_without_the_peers_are_not_kept(bench, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["certificates.py", "--keep", "--rs4a", "somewhere"])
    with pytest.raises(UsageError, match="both peers"):
        bench.main()


def test_no_test_draws_less_than_the_optimum(bench):
    draws = [row for row in bench.kept() if row.kind == "draws"]
    assert len(draws) == 9
    assert all(row.best < min(row.before, row.now, row.conf_seq) for row in draws)


def test_kept_figures_read_back(bench):
    row = bench.Row("draws", "a", 2.0, 1.0, 0.5, bound=True)
    assert [bench.Row(**each) for each in json.loads(bench.as_json([row]))] == [row]
    assert bench.table([row]).splitlines()[-1] == "| a | 2.0 | 1.0 | ≥ 0.5 |  |  | 2.00 |"


@pytest.mark.parametrize("peer, file", [("Rs4a", "__init__.py"), ("ConfSeq", "thresholds.py")])
def test_a_folder_that_is_no_copy_of_a_peer_is_named(modules, tmp_path, peer, file):
    with pytest.raises(UsageError, match="is no copy of") as caught:
        getattr(modules["certificate_peers"], peer)(tmp_path / "elsewhere")
    assert file in caught.value.message


def test_a_peer_that_needs_what_is_not_installed_is_refused(modules, tmp_path):
    (tmp_path / "thresholds.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(UsageError, match="nothing_of_this_name"):
        modules["certificate_peers"].ConfSeq(tmp_path)
    assert "conf_seq_thresholds" not in sys.modules


def test_a_peer_is_found_under_a_name_of_its_own_and_nowhere_else(modules, tmp_path):
    (tmp_path / "thresholds.py").write_text(
        "from statsmodels.stats.proportion import proportion_confint\n"
        "def get_thresholds(p, alpha, n):\n    return [-1] * n, [2] * n\n"
    )
    before = set(sys.modules)
    stops = modules["certificate_peers"].ConfSeq(tmp_path).boundaries(0.5, 0.1, 3)
    assert set(sys.modules) - before == {"conf_seq_thresholds"}
    assert (stops.looks.tolist(), stops.certify.tolist(), stops.refute.tolist()) == ([1, 2, 3], [[2, 2, 2]], [[-1] * 3])
    assert str(tmp_path) not in sys.path
    del sys.modules["conf_seq_thresholds"]
