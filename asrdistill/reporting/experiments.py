"""Two experiments beside each other, for the terminal: settings that differ, then measure by measure."""

from collections.abc import Mapping
from typing import Any

from asrdistill.reporting.comparisons import (
    HOPEFUL,
    PARTED,
    TESTS,
    is_shown,
    list_columns,
    list_difference_cells,
)
from asrdistill.reporting.report import MEASURES
from asrdistill.reporting.table import align_lines

MOST_SETTINGS = 20


def render_comparison(compared: Mapping[str, Any]) -> str:
    """What `asrdistill.experiment_comparison.compare_experiments` found, as plain text."""
    blocks = [
        [f"{letter}: {compared[side]['dir']}" for letter, side in (("A", "first"), ("B", "second"))],
        _list_settings(compared["settings"]),
        *(_draw_table(compared["pairs"], measure) for measure in MEASURES),
        [_explain(compared)],
        [_conclude(compared["pairs"], measure) for measure in MEASURES if _has(compared["pairs"], measure)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _has(pairs: list[Mapping[str, Any]], measure: str) -> bool:
    return any(measure in pair for pair in pairs)


def _list_settings(settings: list[tuple[str, Any, Any]]) -> list[str]:
    if not settings:
        return ["Their settings are the same."]
    rows = [(key, str(first), str(second)) for key, first, second in settings[:MOST_SETTINGS]]
    left_out = len(settings) - len(rows)
    more = [f"and {left_out} more"] if left_out else []
    return [*align_lines([("settings that differ", "A", "B"), *rows]), *more]


def _draw_table(pairs: list[Mapping[str, Any]], measure: str) -> list[str]:
    if not _has(pairs, measure):
        return []
    _, *columns = list_columns(measure)
    rows = [(pair["system"], *list_difference_cells(pair[measure])) for pair in pairs if measure in pair]
    return align_lines([("A less B", *columns), *rows])


def _explain(compared: Mapping[str, Any]) -> str:
    sentences = [
        f"In brackets 95% intervals, by bootstrap over the {compared['num_blocks']} {compared['block']}s of "
        f"test. Corrected: for {len(compared['pairs'])} pairs (Holm). Of teachers, students and controls the "
        "first seed is compared: what seeds alone make of a difference, each report's ± tells. McNemar's "
        f"test takes frames for independent and is far too hopeful. {PARTED}: paired and unpaired interval "
        f"disagree; {HOPEFUL}: significant, but the interval over speakers holds 0."
    ]
    if not compared["same_targets"]:
        sentences.append("Frames and phones are not compared: the experiments are aligned differently.")
    return " ".join(sentences)


def _conclude(pairs: list[Mapping[str, Any]], measure: str) -> str:
    name, test = MEASURES[measure], TESTS[measure][0]
    turned = 1 if measure == "frame_accuracy" else -1
    told = []
    for pair in pairs:
        if measure in pair:
            better = turned * pair[measure]["difference"] > 0
            verdict = f"A is {'better' if better else 'worse'}"
            is_sure = is_shown(pair[measure], measure)
            told.append(f"{pair['system']} {verdict if is_sure else 'no significant difference'}")
    how = (
        "interval over speakers" if measure == "frame_accuracy" else f"{test}, and the interval over speakers"
    )
    return f"{name[0].upper()}{name[1:]} ({how}): {'; '.join(told)}."
