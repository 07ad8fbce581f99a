"""The systems in pairs: differences on test with intervals and p-values, as tables and in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from asrdistill.reporting.report import MEASURES, SINGLE, name_system

# Of each measure its test, and what that counts.
TESTS = {
    "frame_accuracy": ("McNemar", "alone right"),
    "wer": ("MAPSSWE", "segments"),
    "per": ("MAPSSWE", "segments"),
}
SIGNIFICANT = 0.05
SMALLEST_PRINTED = 0.001
# Of fewer an interval by bootstrap is too narrow by far.
FEW_BLOCKS = 8
_NOT_TOLD = "not told apart from"
# Marks: paired and unpaired interval disagree; the test is significant, the interval over speakers holds 0.
PARTED, HOPEFUL = "†", "‡"


def explain(report: Mapping[str, Any]) -> str:
    """What the tables say, and what of it."""
    comparisons = report["comparisons"]
    blocks, num_pairs = f"{comparisons['num_blocks']} {comparisons['block']}s", len(comparisons["pairs"])
    why = ", whose utterances go together" if comparisons["block"] == "speaker" else ""
    return (
        f"In brackets 95% intervals, by bootstrap over the {blocks} of test{why}; unpaired: as if each "
        "system had been tested on others. MAPSSWE (matched pairs of sentence segments, as NIST's sc_stats) "
        "takes segments for independent, so it is more hopeful than the bootstrap; McNemar's test takes "
        "frames for independent, so it is far too hopeful; it counts those that one system alone has right. "
        "Corrected: for "
        f"{num_pairs} pairs (Holm). One teacher is the first, whatever its result; of students and controls "
        "the first seed stands here."
    )


def list_measures(report: Mapping[str, Any]) -> list[str]:
    """Those of `MEASURES` that were compared."""
    return [name for name in MEASURES if all(name in pair for pair in report["comparisons"]["pairs"])]


def list_columns(measure: str) -> tuple[str, ...]:
    """Headings of a measure's table."""
    test, counted = TESTS[measure]
    return (
        "first less second",
        f"{MEASURES[measure]} (points)",
        "unpaired",
        counted,
        f"p of {test}",
        "corrected",
    )


def list_comparison_rows(report: Mapping[str, Any], measure: str) -> list[tuple[str, ...]]:
    """A row for each pair, as `list_columns` calls them."""
    pairs = report["comparisons"]["pairs"]
    return [(_name(report, pair), *list_difference_cells(pair[measure])) for pair in pairs]


def list_difference_cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    """One pair's difference in one measure, under `list_columns`, the first one left out."""
    counted = found.get("num_segments")
    if counted is None:
        counted = f"{found['only_first']} and {found['only_second']}"
    p_value, corrected = (print_p_value(found[key]) for key in ("p_value", "p_corrected"))
    interval = f"{_points(found['difference'])} {_ends(found['ci95'])}"
    unpaired = _ends(found["unpaired_ci95"]) + f" {PARTED}" * _do_views_part(found)
    return (interval, unpaired, str(counted), p_value, corrected + f" {HOPEFUL}" * _is_hopeful(found))


def conclude_significance(report: Mapping[str, Any]) -> list[str]:
    """Which differences in WER between teacher, ensemble, student and its controls are more than luck."""
    pairs = [
        pair
        for pair in report["comparisons"]["pairs"]
        if "wer" in pair and (pair["first"] == "distilled" or not pair["second"].startswith("control_"))
    ]
    if not pairs:
        return []
    findings = [
        f"{_name_in_text(report, pair['second'])} against {_name_in_text(report, pair['first'])} "
        f"p {_relate(pair['wer']['p_corrected'])}{_judge(pair['wer'])}"
        for pair in pairs
    ]
    num_pairs = len(report["comparisons"]["pairs"])
    return [
        f"WER in matched pairs (MAPSSWE, corrected for {num_pairs} pairs of systems): {'; '.join(findings)}."
    ]


def tell_what_is_shown(report: Mapping[str, Any]) -> str:
    """In one sentence, what the distilled model is shown to be better or worse than on test, and what not."""
    clauses = [
        f"in {MEASURES[measure]} {_sort_out(report, measure)}"
        for measure in ("frame_accuracy", "wer")
        if measure in list_measures(report)
    ]
    several = len(report["systems"]["distilled"]["members"]) > 1
    comparisons = report["comparisons"]
    few = ""
    if comparisons["num_blocks"] < FEW_BLOCKS:
        few = f"; of only {comparisons['num_blocks']} {comparisons['block']}s, which says little"
    return f"On test the distilled model{' (its first seed)' * several} is, {'; '.join(clauses)}{few}."


def is_shown(found: Mapping[str, Any], measure: str) -> bool:
    """Whether a difference is more than luck: its interval over speakers leaves 0 out.

    Of words and phones the corrected p-value of MAPSSWE has to be below 0.05 too.
    """
    is_tested = measure == "frame_accuracy" or found["p_corrected"] < SIGNIFICANT
    return is_tested and _excludes_zero(found, "ci95")


def _sort_out(report: Mapping[str, Any], measure: str) -> str:
    """What the student is better than, worse than, and not told apart from."""
    kinds: dict[str, list[str]] = {"better than": [], "worse than": [], _NOT_TOLD: []}
    for pair in report["comparisons"]["pairs"]:
        if "distilled" in (pair["first"], pair["second"]):
            is_first, found = pair["first"] == "distilled", pair[measure]
            other = pair["second" if is_first else "first"]
            # Of error rates less is better; differences are first less second.
            gain = found["difference"] * (1 if is_first else -1) * (1 if measure == "frame_accuracy" else -1)
            kind = ("better than" if gain > 0 else "worse than") if is_shown(found, measure) else _NOT_TOLD
            kinds[kind].append(_name_in_text(report, other))
    return ", ".join(f"{kind} {_list_names(names)}" for kind, names in kinds.items() if names)


def _list_names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def tell_disagreements(report: Mapping[str, Any]) -> str:
    """How often the paired view and the unpaired one part, and a test goes further than the bootstrap."""
    found = [pair[measure] for measure in list_measures(report) for pair in report["comparisons"]["pairs"]]
    num_parted, num_hopeful = sum(map(_do_views_part, found)), sum(map(_is_hopeful, found))
    return (
        f"Of {len(found)} comparisons the paired and the unpaired interval disagree on whether there is a "
        f"difference in {num_parted} ({PARTED}). In "
        f"{num_hopeful} the test is significant although the interval over speakers holds 0 ({HOPEFUL})."
    )


def _do_views_part(found: Mapping[str, Any]) -> bool:
    return _excludes_zero(found, "ci95") != _excludes_zero(found, "unpaired_ci95")


def _is_hopeful(found: Mapping[str, Any]) -> bool:
    return bool(found["p_corrected"] < SIGNIFICANT and not _excludes_zero(found, "ci95"))


def _excludes_zero(found: Mapping[str, Any], interval: str) -> bool:
    low, high = found[interval]
    return bool(low > 0 or high < 0)


def _judge(wer: Mapping[str, Any]) -> str:
    if wer["p_corrected"] >= SIGNIFICANT:
        return ", not significant"
    return ", significantly better" if wer["difference"] > 0 else ", significantly worse"


def _name(report: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    return " − ".join(label_system(report, pair[side]) for side in ("first", "second"))


def label_system(report: Mapping[str, Any], name: str) -> str:
    """What one of the systems compared is called."""
    if name in SINGLE:
        return SINGLE[name]
    return name if name in ("ensemble", "distilled") else name_system(report["systems"][name])


def _name_in_text(report: Mapping[str, Any], name: str) -> str:
    if name == "distilled":
        return "the distilled model"
    return SINGLE.get(name) or f"the {label_system(report, name)}"


def _points(rate: float) -> str:
    return f"{round(100 * rate, 2) + 0.0:+.2f}"  # without a minus before zero


def _ends(interval: tuple[float, float]) -> str:
    low, high = map(_points, interval)
    return f"[{low}, {high}]"


def print_p_value(p_value: float) -> str:
    """As sc_stats prints it."""
    return f"<{SMALLEST_PRINTED:g}" if p_value < SMALLEST_PRINTED else f"{p_value:.3f}"


def _relate(p_value: float) -> str:
    printed = print_p_value(p_value)
    return f"< {printed[1:]}" if printed.startswith("<") else f"= {printed}"
