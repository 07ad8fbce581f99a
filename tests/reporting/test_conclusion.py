"""The sentences stay true with a gain, without one, and with harm (baseline: 62% of frames, 15% WER)."""

from collections.abc import Callable
from typing import Any

import pytest

from asrdistill.reporting.comparisons import (
    conclude_significance,
    list_comparison_rows,
    tell_disagreements,
    tell_what_is_shown,
)
from asrdistill.reporting.conclusion import conclude

MEAN = "the mean of its 10 members"


@pytest.mark.parametrize(
    ("ensemble", "student", "frames", "words"),
    [
        ((0.63, 140), (0.628, 145), f"1.00 points better than {MEAN}; "
         "the distilled model keeps 80% of that gain.",
         f"1.00 points better than {MEAN}; the distilled model keeps 50% of that gain."),
        ((0.63, 140), (0.61, 160), "the distilled model is 1.00 points worse than that mean and keeps none",
         "the distilled model is 1.00 points worse than that mean and keeps none"),
        ((0.63, 140), (0.635, 138), "0.50 points better than even the ensemble (150% of the gain).",
         "0.20 points better than even the ensemble (120% of the gain)."),
        ((0.61, 155), (0.63, 150), f"1.00 points worse than {MEAN}, so there is no gain to transfer; "
         "the distilled model is 1.00 points better than that mean.",
         f"0.50 points worse than {MEAN}, so there is no gain to transfer; "
         "the distilled model is exactly as good as that mean."),
    ],
    ids=["kept in part", "harmed", "surpassed", "no gain"],
)  # fmt: skip
def test_sentences(
    report_of_test: Callable[..., dict[str, Any]],
    ensemble: tuple[float, int],
    student: tuple[float, int],
    frames: str,
    words: str,
) -> None:
    frame_sentence, word_sentence, phone_sentence = conclude(report_of_test(ensemble, student))
    assert phone_sentence.startswith("PER on test: ")
    assert frame_sentence.startswith("Frame accuracy on test: ") and frames in frame_sentence
    assert word_sentence.startswith("WER on test: ") and words in word_sentence
    assert "spread" not in frame_sentence


def test_how_sure_a_share_is_is_said(report_of_test: Callable[..., dict[str, Any]]) -> None:
    intervals = {"frame_accuracy": (0.71, 0.895)}
    frame_sentence, word_sentence, _ = conclude(report_of_test((0.63, 140), (0.628, 145), intervals))
    assert frame_sentence.endswith("keeps 80% of that gain. 95% interval of this share: 71% to 90%.")
    assert word_sentence.endswith(
        "keeps 50% of that gain. This share has no 95% interval: with other speakers, or other teachers, "
        "there may be no gain at all."
    )
    without_gain = conclude(report_of_test((0.61, 155), (0.63, 150), intervals))
    assert not any("interval" in sentence for sentence in without_gain)


@pytest.mark.parametrize(
    ("ensemble_errors", "student_errors", "told"),
    [
        (130, 129, "the ensemble against one teacher p = 0.020, significantly better; "
         "the distilled model against one teacher p = 0.020, significantly better; "
         "the distilled model against the ensemble p = 0.902, not significant."),
        (140, 143, "the ensemble against one teacher p = 0.608, not significant; "
         "the distilled model against one teacher p = 0.902, not significant; "
         "the distilled model against the ensemble p = 0.706, not significant."),
        (134, 160, "the ensemble against one teacher p = 0.020, significantly better; "
         "the distilled model against one teacher p = 0.020, significantly worse; "
         "the distilled model against the ensemble p = 0.020, significantly worse."),
    ],
    ids=["significant", "not significant", "harmful"],
)  # fmt: skip
def test_what_is_more_than_luck(
    report_of_test: Callable[..., dict[str, Any]], ensemble_errors: int, student_errors: int, told: str
) -> None:
    (sentence,) = conclude_significance(report_of_test((0.63, ensemble_errors), (0.628, student_errors)))
    assert sentence == f"WER in matched pairs (MAPSSWE, corrected for 3 pairs of systems): {told}"


@pytest.mark.parametrize(
    ("ensemble_errors", "student", "told"),
    [
        (130, (0.628, 129), "in frame accuracy better than one teacher, not told apart from the ensemble; "
         "in WER better than one teacher, not told apart from the ensemble."),
        (140, (0.617, 143), "in frame accuracy worse than the ensemble, not told apart from one teacher; "
         "in WER not told apart from one teacher and the ensemble."),
        (134, (0.5, 160), "in frame accuracy worse than one teacher and the ensemble; "
         "in WER worse than one teacher and the ensemble."),
    ],
    ids=["significant", "not significant", "harmful"],
)  # fmt: skip
def test_the_first_sentence_says_what_is_shown(
    report_of_test: Callable[..., dict[str, Any]], ensemble_errors: int, student: tuple[float, int], told: str
) -> None:
    """One teacher: 61.6% of frames, 144 errors; the ensemble has 63% of frames."""
    report = report_of_test((0.63, ensemble_errors), student)
    assert tell_what_is_shown(report) == f"On test the distilled model is, {told}"


def test_controls_are_tested_against_the_student(report: dict[str, Any]) -> None:
    (sentence,) = conclude_significance(report)
    assert sentence.startswith("WER in matched pairs (MAPSSWE, corrected for 6 pairs of systems): ")
    assert sentence.count(" against ") == 4
    assert sentence.endswith(
        "; the control on hard targets alone against the distilled model p = 0.412, not significant."
    )


def test_without_words_nothing_is_said_of_luck(report_of_test: Callable[..., dict[str, Any]]) -> None:
    report = report_of_test((0.63, 140), (0.628, 145))
    for pair in report["comparisons"]["pairs"]:
        del pair["wer"], pair["per"]
    assert conclude_significance(report) == []


def test_a_gain_within_the_spread_is_said_to_say_little(
    report_of_test: Callable[..., dict[str, Any]],
) -> None:
    frame_sentence, word_sentence, _ = conclude(report_of_test((0.621, 149), (0.6205, 149)))
    assert "smaller than the spread of single models (standard deviation 0.26 points)" in frame_sentence
    assert "smaller than the spread of single models (standard deviation 0.36 points)" in word_sentence


def test_every_control_is_told_apart(report_of_test: Callable[..., dict[str, Any]]) -> None:
    control = {
        "control": "hard_targets",
        "frame_accuracy": {"dev": 0.5, "test": 0.6225},
        "num_parameters": 1,
        "flops_a_frame": 1,
        "wer": {
            "test": {"wer": 0.139, "errors": 139, "words": 1000, "ins": 1, "del": 1, "sub": 137, "ser": 1}
        },
    }
    report = report_of_test(
        (0.63, 140), (0.628, 145), None, [control, {**control, "control": "equal_compute"}]
    )
    assert conclude(report)[-1] == (
        "On test the distilled model is, against its own training on hard targets alone 0.55 points better "
        "in frame accuracy, 0.60 points worse in WER; against a teacher trained on as many frames as it was "
        "0.55 points better in frame accuracy, 0.60 points worse in WER."
    )


def test_where_the_views_part_is_told(report_of_test: Callable[..., dict[str, Any]]) -> None:
    report = report_of_test((0.63, 140), (0.628, 145))
    assert tell_disagreements(report).startswith(
        "Of 9 comparisons the paired and the unpaired interval disagree on whether there is a difference in 2"
    )
    marked = [row[2].endswith("†") for row in list_comparison_rows(report, "frame_accuracy")]
    assert marked == [True, True, False]
    for pair in report["comparisons"]["pairs"]:
        for measure in ("frame_accuracy", "wer", "per"):
            pair[measure] |= {"ci95": [-0.01, 0.01], "unpaired_ci95": [-0.02, 0.02], "p_corrected": 0.5}
    report["comparisons"]["pairs"][0]["wer"]["p_corrected"] = 0.01
    told = tell_disagreements(report)
    assert "a difference in 0 (†)" in told and "In 1 the test is significant although" in told
    assert [row[5] for row in list_comparison_rows(report, "wer")] == ["0.010 ‡", "0.500", "0.500"]
