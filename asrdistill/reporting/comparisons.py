"""The systems in pairs: differences on test with intervals and p-values, as a table and in a sentence."""

from collections.abc import Mapping
from typing import Any

from asrdistill.reporting.report import NOT_MEASURED, name_student

COLUMNS = (
    "first less second",
    "frame accuracy (points)",
    "WER (points)",
    "segments",
    "p of MAPSSWE",
    "corrected",
)
SIGNIFICANT = 0.05
SMALLEST_PRINTED = 0.001
ONE_TEACHER = "teacher_00"


def explain(report: Mapping[str, Any]) -> str:
    """What the table says, and what of it."""
    comparisons = report["comparisons"]
    blocks, num_pairs = f"{comparisons['num_blocks']} {comparisons['block']}s", len(comparisons["pairs"])
    why = ", whose utterances are not independent" if comparisons["block"] == "speaker" else ""
    return (
        f"In brackets 95% intervals, by bootstrap over the {blocks} of test{why}. MAPSSWE (matched pairs of "
        "sentence segments, as NIST's sc_stats) takes segments for independent, so it is the more hopeful of "
        f"the two; corrected: for {num_pairs} pairs (Holm). One teacher is the first, whatever its result."
    )


def list_comparison_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each pair, as `COLUMNS` calls them."""
    rows: list[tuple[str, ...]] = []
    for pair in report["comparisons"]["pairs"]:
        names = " − ".join(_label(report, pair[side]) for side in ("first", "second"))
        wer = pair.get("wer")
        of_words: tuple[str, ...] = (NOT_MEASURED,) * 4
        if wer:
            p_values = (print_p_value(wer[key]) for key in ("p_value", "p_corrected"))
            of_words = (_interval(wer), str(wer["num_segments"]), *p_values)
        rows.append((names, _interval(pair["frame_accuracy"]), *of_words))
    return rows


def conclude_significance(report: Mapping[str, Any]) -> list[str]:
    """In a sentence, which differences in WER between teacher, ensemble and student are more than luck."""
    chosen = _find_chosen(report)
    named = {ONE_TEACHER: "one teacher", "ensemble": "the ensemble", chosen: "the distilled model"}
    pairs = [
        pair
        for pair in report["comparisons"]["pairs"]
        if "wer" in pair and {pair["first"], pair["second"]} <= named.keys()
    ]
    if not pairs:
        return []
    findings = [
        f"{named[pair['second']]} against {named[pair['first']]} "
        f"p {_relate(pair['wer']['p_corrected'])}{_judge(pair['wer'])}"
        for pair in pairs
    ]
    num_pairs = len(report["comparisons"]["pairs"])
    return [
        f"WER in matched pairs (MAPSSWE, corrected for {num_pairs} pairs of systems): {'; '.join(findings)}."
    ]


def _judge(wer: Mapping[str, Any]) -> str:
    if wer["p_corrected"] >= SIGNIFICANT:
        return ", not significant"
    return ", significantly better" if wer["difference"] > 0 else ", significantly worse"


def _find_chosen(report: Mapping[str, Any]) -> str:
    return next(
        name
        for name, system in report["systems"].items()
        if name.startswith("distilled_") and system["chosen"]
    )


def _label(report: Mapping[str, Any], name: str) -> str:
    if name == ONE_TEACHER:
        return "one teacher"
    return "ensemble" if name == "ensemble" else name_student(report["systems"][name])


def _interval(measured: Mapping[str, Any]) -> str:
    # Without a minus before zero.
    rates = (measured["difference"], *measured["ci95"])
    difference, low, high = (f"{round(100 * rate, 2) + 0.0:+.2f}" for rate in rates)
    return f"{difference} [{low}, {high}]"


def print_p_value(p_value: float) -> str:
    """As sc_stats prints it."""
    return f"<{SMALLEST_PRINTED:g}" if p_value < SMALLEST_PRINTED else f"{p_value:.3f}"


def _relate(p_value: float) -> str:
    printed = print_p_value(p_value)
    return f"< {printed[1:]}" if printed.startswith("<") else f"= {printed}"
