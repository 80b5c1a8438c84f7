"""metallic compare: verdicts and exit codes on made-up sweeps."""

from __future__ import annotations

import random

import pytest

from metallic.__main__ import main
from metallic.sweep import compare, output

MACHINE = dict.fromkeys(output.MACHINE, "m") | {"cpus": 2}


def row(case="1x1x1 nn", samples=(), status="ok", **more):
    made = MACHINE | {"suite": "s", "case": case, "dtype": "float32", "library": "metallic", "backend": "auto"}
    made |= {"prefs": "", "mode": "warm", "status": status, "bytes": 1, "flops": 1}
    if status == "ok":
        output.measured(made, list(samples), {})
    return made | more


def around(center, width=0.02, n=30, seed=0):
    rng = random.Random(seed)
    return [center * (1 + rng.uniform(-width, width)) for _ in range(n)]


def verdict(a, b, with_samples=True):
    before, after = row(samples=a), row(samples=b)
    if not with_samples:
        before.pop("samples_us"), after.pop("samples_us")
    return compare.judge(before, after)[0]


@pytest.mark.parametrize("with_samples", [True, False])
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (around(100), around(130, seed=1), "SLOW"),
        (around(130), around(100, seed=1), "FAST"),
        (around(100), around(100, seed=1), "SAME"),
        (around(100, 0.001), around(104, 0.001, seed=1), "SAME"),  # below 5 %
        (around(100, 0.001), around(106, 0.001, seed=1), "SLOW"),
        (around(1, 0.001), around(1.045, 0.001, seed=1), "SAME"),  # below 0.05 us
        (around(100, 0.5, 300), around(125, 0.5, 300, seed=1), "AMBIGUOUS"),
    ],
)
def test_verdicts(a, b, expected, with_samples):
    if expected == "AMBIGUOUS" and not with_samples:
        pytest.skip("quantiles alone call two wide, overlapping ranges the same")
    assert verdict(a, b, with_samples) == expected


def test_a_limit_below_that_is_heard():
    before, after = row(samples=around(100, 0.001)), row(samples=around(103, 0.001, seed=1))
    assert compare.compare([before], [after])[0].verdict == "SAME"
    (result,) = compare.compare([before], [after], [compare.Limit("median", 2)])
    assert result.verdict == "SLOW" and result.failed


def test_a_slower_build_is_slower_at_its_best_too():
    calm = around(100, 0.01)
    crowded = calm[:10] + around(120, 0.01, n=20, seed=1)  # the same code; a neighbour came meanwhile
    assert verdict(calm, crowded) == "SAME"
    assert verdict(crowded, calm) == "SAME"
    assert verdict(calm, [1.2 * us for us in calm]) == "SLOW"
    assert verdict([50.0, *calm], around(120, 0.01, seed=1)) == "SLOW"


def test_disturbed_rows_are_never_a_verdict():
    warning = "other processes used 40% of a CPU"
    before, after = row(samples=around(100)), row(samples=around(130, seed=1), warning=warning)
    assert compare.judge(before, after)[0] == "AMBIGUOUS"


def test_a_planted_slow_down_of_a_fifth_is_caught_and_the_same_build_is_the_same():
    cases = [f"{i}x1x1 nn" for i in range(60)]
    drift = random.Random(7)
    base = [row(case, around(50 + i, 0.04, seed=i)) for i, case in enumerate(cases)]
    again = [row(c, around((50 + i) * drift.uniform(0.98, 1.02), 0.04, seed=99 + i)) for i, c in enumerate(cases)]
    slower = [row(c, around(1.2 * (50 + i), 0.04, seed=99 + i)) for i, c in enumerate(cases)]
    limits = [compare.Limit("median", 5)]
    same = compare.summary(compare.compare(base, again, limits))
    assert same.get("SAME", 0) >= 0.95 * len(cases)
    assert all(r.failed for r in compare.compare(base, slower, limits))


def test_few_samples_are_never_a_verdict():
    assert verdict([100.0, 101.0], [150.0, 151.0]) == "AMBIGUOUS"


def write(tmp_path, name, rows):
    csv_path, json_path = tmp_path / f"{name}.csv", tmp_path / f"{name}.json"
    out = output.Output(csv_path, json_path, MACHINE)
    out.add(rows)
    return csv_path, json_path


def exit_code(*args):
    try:
        return main(["compare", *map(str, args)])
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("kind", [0, 1], ids=["csv", "json"])
def test_exit_codes(tmp_path, capsys, kind):
    before = write(tmp_path, "a", [row("x", around(100)), row("y", around(50))])[kind]
    same = write(tmp_path, "b", [row("x", around(100, seed=2)), row("y", around(50, seed=3))])[kind]
    slow = write(tmp_path, "c", [row("x", around(112, seed=2)), row("y", around(50, seed=3))])[kind]
    none = write(tmp_path, "d", [row("x", status="gap", reason="no"), row("z", around(1))])[kind]
    assert exit_code(before, same, "--fail-on", "median:5%") == 0
    assert exit_code(before, slow) == 0
    assert exit_code(before, slow, "--fail-on", "median:5%") == 1
    printed = capsys.readouterr().out
    assert "SLOW" in printed and "1 regression" in printed and "median +1" in printed
    assert exit_code(before, slow, "--fail-on", "median:20%") == 0
    assert exit_code(before, slow, "--fail-on", "median:20%", "--fail-on", "min:5%") == 1
    assert exit_code(before, none, "--fail-on", "median:5%") == 2
    assert exit_code(before) == 3
    assert exit_code(before, tmp_path / "missing.csv") == 3
    for bad in ("median", "median:5", "mean:5%", "median:-5%"):
        assert exit_code(before, same, "--fail-on", bad) == 3


def test_a_row_that_lost_its_time_is_a_regression(tmp_path, capsys):
    before = write(tmp_path, "a", [row("x", around(100)), row("y", around(50))])[1]
    after = write(
        tmp_path, "b", [row("x", around(100)), row("y", status="wrong", reason="error is 3 times its bound")]
    )[1]
    assert exit_code(before, after, "--fail-on", "median:5%") == 1
    assert "error is 3 times its bound" in capsys.readouterr().out
    assert exit_code(before, after) == 0


def test_rows_of_one_side_only_are_named(tmp_path, capsys):
    before = write(tmp_path, "a", [row("x", around(100)), row("y", around(50))])[1]
    after = write(tmp_path, "b", [row("x", around(100)), row("z", around(50))])[1]
    assert exit_code(before, after, "--fail-on", "median:5%") == 0
    printed = capsys.readouterr().out
    assert "1 SAME, 1 MISSING, 1 NEW" in printed


def test_suspect_rows_do_not_count(tmp_path):
    before = write(tmp_path, "a", [row("x", around(100))])[1]
    after = write(tmp_path, "b", [row("x", around(1)) | {"status": "suspect", "reason": "too fast"}])[1]
    assert exit_code(before, after) == 2


def test_another_machine_is_mentioned(tmp_path, capsys):
    before = write(tmp_path, "a", [row("x", around(100))])[1]
    after = write(tmp_path, "b", [row("x", around(100), cpu="another")])[1]
    assert exit_code(before, after) == 0
    assert "cpu differs: m | another" in capsys.readouterr().out


def test_json_of_another_format_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"format": 99, "rows": []}')
    assert exit_code(path, path) == 3
    path.write_text("[]")
    assert exit_code(path, path) == 3


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_file_that_is_no_text_is_named(tmp_path, capsys, suffix):
    path = tmp_path / f"noise.{suffix}"
    path.write_bytes(random.Random(5).randbytes(3000))
    assert exit_code(path, path) == 3
    assert f"noise.{suffix}: not a sweep" in capsys.readouterr().err
