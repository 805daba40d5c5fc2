"""What the compiler says is read right: lines as DFC 3.28–3.34 print them in public logs, and as the emulator does."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hefjoin.results.compiled import ClusterUse
from hefjoin.sdk import log
from hefjoin.sdk.log import (
    Progress,
    clean,
    effective_level,
    is_bar,
    phase_seconds,
    progress,
    seconds,
    utilization,
    warnings,
)

BARS = [
    ("[info] Calibration: 25% 16/64", Progress("Calibration", 16, 64)),
    ("Calibration: 100%|██████████| 64/64 [00:12<00:00,  5.21entries/s]", Progress("Calibration", 64, 64)),
    ("Calibration:   5%|▍         | 3/64 [00:01<00:31,  1.92entries/s]", Progress("Calibration", 3, 64)),
    (
        "Full Quant Analysis:  50%|█████     | 1/2 [00:30<00:30, 30.11s/iterations]",
        Progress("Full Quant Analysis", 1, 2),
    ),
    (" 32/256 [==>...........................] - ETA: 1:02 - loss: 0.1234", Progress("training step", 32, 256)),
    ("32/256 ━━━━━━━━━━━━━━━━━━━━ 22s 100ms/step - loss: 0.1234", Progress("training step", 32, 256)),
    ("[....<==>..] Duration: 00:01:03", Progress("working for 00:01:03", 0, 1)),
]
LINES = [
    ("Epoch 2/4", Progress("training epochs", 1, 4)),
    ("[info] Iteration #17 - 3 contexts,", Progress("partition into 3 contexts, iteration 17", 0, 1)),
    (
        "[info] Partitioner finished after 31 iterations, Time it took: 45m 13s 95ms",
        Progress("partition into contexts", 1, 1),
    ),
    ("[info] Partition to contexts finished successfully", Progress("partition into contexts", 1, 1)),
    ("[info] Validating net_context_0 layer by layer (37%)", Progress("validation of net_context_0", 37, 100)),
    ("[info] Context:1/2 Iteration 4: Trying parallel mapping...", Progress("mapping, iteration 4", 1, 3)),
    ("[info] Successful Mapping (allocation time: 8m 34s)", Progress("mapping", 1, 1)),
]


class TestLines:
    @pytest.mark.parametrize(("line", "expected"), [*BARS, *LINES])
    def test_each_progress_is_read(self, line: str, expected: Progress) -> None:
        assert progress(line) == expected

    @pytest.mark.parametrize("shape", [*log.BARS, *log.LINES], ids=lambda shape: shape.seen_in)
    def test_every_shape_of_the_table_has_a_line_here(self, shape: log.Shape) -> None:
        assert any(shape.pattern.search(line.removeprefix("[info] ")) for line, _ in (*BARS, *LINES))

    def test_a_bar_is_told_from_a_line_of_the_log(self) -> None:
        assert all(is_bar(line) for line, _ in BARS)
        assert not any(is_bar(line) for line, _ in LINES)

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "[info] Using dataset with 64 entries for calibration",
            "[info] | cluster_0 | 68.8%               | 40.6%               | 15.6%              |",
            "[info] | Total     | 75%                 | 62.9%               | 47.8%              |",
            "[info] Resources optimization params: max_control_utilization=75%, max_compute_utilization=75%",
            "[info] Applying selected partition to 3 contexts...",
            "SCs: 326/384, APUs: 149/120",
        ],
    )
    def test_other_lines_are_no_progress(self, line: str) -> None:
        assert progress(line) is None
        assert not is_bar(line)

    @pytest.mark.parametrize(
        ("line", "seen"),
        [
            ("plain\n", "plain"),
            ("windows\r\n", "windows"),
            ("  1%|\r 50%|\r100%| 64/64", "100%| 64/64"),
            ("overwritten\rlast\r\n", "last"),
            ("\x1b[32m[info]\x1b[0m Building HEF...\x1b[K", "[info] Building HEF..."),
            ("[...<==>...] Duration: 00:01:02\r[....<==>..] Duration: 00:01:03  ", "[....<==>..] Duration: 00:01:03"),
            ("\n", ""),
        ],
    )
    def test_a_line_is_what_a_person_saw_last(self, line: str, seen: str) -> None:
        assert clean(line) == seen

    @given(st.text())
    def test_no_line_breaks_a_reader(self, line: str) -> None:
        seen = clean(line)
        assert "\r" not in seen
        found = progress(seen)
        assert found is None or (found.done >= 0 and found.total >= 1)
        warnings([seen])
        effective_level([seen], 2)
        phase_seconds([seen])
        utilization([seen])

    def test_a_line_without_an_end_costs_little(self) -> None:
        start = time.process_time()
        for line in ("a" * 200_000, "a: 1% " * 30_000, "1/1 " * 50_000):
            progress(line)
            phase_seconds([line])
        assert time.process_time() - start < 2

    def test_each_warning_counts_once_and_in_order(self) -> None:
        lines = ["[warning] second thoughts", "[info] fine", "[warning] other", "[warning] second thoughts"]
        assert warnings(lines) == ("second thoughts", "other")


class TestEffectiveLevel:
    DROP = "[warning] Reducing optimization level to {} (the accuracy won't be optimized) because there's no GPU"

    def test_is_the_requested_one_where_nothing_was_said(self) -> None:
        assert effective_level(["[info] Starting Model Optimization"], 2) == 2

    @pytest.mark.parametrize(("said", "requested", "used"), [([0], 2, 0), ([2, 1], 4, 1), ([3], 2, 2)])
    def test_is_the_lowest_that_was_said(self, said: list[int], requested: int, used: int) -> None:
        assert effective_level([self.DROP.format(level) for level in said], requested) == used

    def test_is_the_compilers_own_where_it_took_that(self) -> None:
        lines = ["[info] Using default optimization level of 2"]
        assert effective_level(lines, 4) == 2
        assert effective_level([*lines, self.DROP.format(0)], 4) == 0


TABLE = """\
[info] {heading}
[info] +-----------+---------------------+---------------------+--------------------+
[info] | Cluster   | Control Utilization | Compute Utilization | Memory Utilization |
[info] +-----------+---------------------+---------------------+--------------------+
[info] | cluster_0 | 68.8%               | 40.6%               | 15.6%              |
[info] | cluster_5 | 93,8%               | 100%                | 7,03%              |
[info] +-----------+---------------------+---------------------+--------------------+
[info] | Total     | 75%                 | 62.9%               | 47.8%              |
[info] +-----------+---------------------+---------------------+--------------------+
"""


class TestUtilization:
    def lines(self, *headings: str) -> list[str]:
        return "".join(TABLE.format(heading=heading) for heading in headings).splitlines()

    def test_each_context_has_its_clusters_and_its_total(self) -> None:
        first, second = utilization(self.lines("net_context_0 utilization:", "net_context_1 utilization:"))
        assert (first.context, second.context) == ("net_context_0", "net_context_1")
        assert first.clusters.keys() == {"cluster_0", "cluster_5"}
        assert first.clusters["cluster_0"].model_dump() == pytest.approx(
            {"control": 0.688, "compute": 0.406, "memory": 0.156}
        )
        assert first.total == ClusterUse(control=0.75, compute=0.629, memory=0.478)

    def test_a_decimal_comma_is_read(self) -> None:
        (found,) = utilization(self.lines("net_context_0 utilization:"))
        assert found.clusters["cluster_5"].model_dump() == pytest.approx(
            {"control": 0.938, "compute": 1.0, "memory": 0.0703}
        )

    def test_a_table_without_a_heading_is_of_a_context_without_a_name(self) -> None:
        assert [found.context for found in utilization(self.lines("Successful Mapping"))] == [""]

    def test_lines_without_a_tag_are_read_alike(self) -> None:
        lines = self.lines("net_context_0 utilization:")
        assert utilization([line.removeprefix("[info] ") for line in lines]) == utilization(lines)

    def test_of_a_table_printed_again_the_last_counts(self) -> None:
        again = [line.replace("75%", "80%") for line in self.lines("a utilization:")]
        (found,) = utilization([*self.lines("a utilization:"), *again])
        assert found.total.control == pytest.approx(0.8)

    def test_a_table_that_is_cut_off_is_none(self) -> None:
        assert utilization(self.lines("a utilization:")[:-2]) == ()


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("8m 34s", 514.0),
            ("5s 60ms", 5.06),
            ("45m 13s 95ms", 2713.095),
            ("14s", 14.0),
            ("2h 0m 1s", 7201.0),
            ("00:01:03", 63.0),
            ("01:00:02.50", 3602.5),
        ],
    )
    def test_every_notation_is_read(self, text: str, expected: float) -> None:
        assert seconds(text) == expected

    @pytest.mark.parametrize("text", ["", "5", "5 s", "1:2", "8m34", "-3s", "00:01:03:04"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no duration"):
            seconds(text)

    def test_the_parts_of_a_compile_are_told_with_their_time(self) -> None:
        lines = [
            "[info] Successfully built optimization options - 5s 60ms",
            "[info] Partitioner finished after 31 iterations, Time it took: 45m 13s 95ms",
            "[error] Mapping Failed (allocation time: 1m 2s)",
            "[info] Successful Mapping (allocation time: 8m 34s)",
            "[info] Successful Compilation (compilation time: 14s)",
        ]
        assert phase_seconds(lines) == {
            "building options": 5.06,
            "partition": 2713.095,
            "mapping": 62 + 514,
            "compilation": 14,
        }
