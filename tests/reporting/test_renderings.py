"""Table, Markdown and page: complete, escaped, without network, the same bytes every time."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from asrdistill.reporting.markdown import render_markdown
from asrdistill.reporting.page import render_html
from asrdistill.reporting.report import build_report
from asrdistill.reporting.table import render_table

NUMBERS = [
    "62.67 ± 0.26", "62.00 ± 0.26", "15.00 ± 0.36", "1.2 M", "2.5 M", "64.19", "63.75", "14.20", "12.3 M",
    "24.7 M",
    "7.50 ± 0.18", "7.10", "7.15 ± 0.05",
    "63.52", "63.12", "14.60", "63.83 ± 0.10", "63.43 ± 0.10", "14.30 ± 0.10", "63.71", "63.31", "14.40",
    "62.29 ± 0.07", "14.85 ± 0.07", "62.44", "14.70", "62.54", "14.60", "mean of 3 seeds", "mean of 2 seeds",
    "control on hard targets alone", "control with label smoothing", "control of equal compute",
    "82%", "88%", "75%", "chosen on dev", "58.9", "10.9", "61.1", "10.7", "60.8", "86%",
    "%WER 15.00 [ 150 / 1000, 3 ins, 5 del, 142 sub ] %SER 43.75",
    "%WER 14.30 [ 143 / 1000, 3 ins, 5 del, 135 sub ] %SER 43.75",
    "%PER 7.10 [ 142 / 2000, 3 ins, 5 del, 134 sub ]",
]  # fmt: skip
SIZES = [("1", "62.67", "(62.31–63.21)", "62.00", "(61.64–62.54)", "10"),
         ("2", "63.64", "(63.32–64.12)", "62.97", "(62.65–63.45)", "10"),
         ("10", "64.42", "", "63.75", "", "1")]  # fmt: skip
LANGUAGE_MODEL = ["151.25", "17"]
COSTS = ["21.4 s", "1 h 02 min", "3 min 04 s", "2.4 GB", "91.4 MB", "363.7 MB", "1 h 08 min"]


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text += text


@pytest.fixture(scope="module")
def page_source(report: dict[str, Any], pictures: dict[str, Any]) -> str:
    return render_html(report, **pictures)


@pytest.fixture(scope="module")
def page(page_source: str) -> Page:
    return Page(page_source)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_the_table_is_in_every_rendering(
    report: dict[str, Any], page: Page, number: str
) -> None:
    assert number in render_table(report)
    assert number in render_markdown(report)
    assert number in page.text


@pytest.mark.parametrize("number", [*COSTS, *LANGUAGE_MODEL])
def test_costs_and_perplexity_are_shown(report: dict[str, Any], page: Page, number: str) -> None:
    assert number in render_markdown(report)
    assert number in page.text


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]} teachers")
def test_ensembles_of_every_size_are_shown(report: dict[str, Any], page: Page, size: tuple[str, ...]) -> None:
    number, dev, dev_range, test, test_range, choices = size
    cells = number, f"{dev} {dev_range}".strip(), f"{test} {test_range}".strip(), choices
    assert "| " + " | ".join(cells) + " |" in render_markdown(report).splitlines()
    section = page.text.partition("Ensemble size")[2].partition("Agreement of")[0]
    rows = ["".join(line.split()) for line in section.splitlines()]
    assert "".join(size) in rows


def test_agreement_of_the_teachers_is_shown(report: dict[str, Any], page: Page) -> None:
    assert "| 3 | 12.5 | 50.0 |" in render_markdown(report).splitlines()
    section = page.text.partition("Agreement of")[2].partition("Learning curves")[0]
    rows = ["".join(line.split()) for line in section.splitlines()]
    assert {"312.550.0", "1087.56.2"} <= set(rows)


def test_codecs_are_shown_where_they_were_compared(
    report: dict[str, Any], page: Page, pictures: dict[str, Any]
) -> None:
    row = "| {kind: dense} | 2002.25 | 3 | 61.00 ± 0.00 | 61.00 ± 0.25 | 15.00 ± 0.10 |"
    assert row in render_markdown(report).splitlines()
    section = page.text.partition("Codecs")[2].partition("Language model")[0]
    assert "".join(row.replace("|", "").split()) in ["".join(line.split()) for line in section.splitlines()]
    assert "top_k, num_kept: 8" in section
    without = {**report, "codecs": []}
    for text in (render_markdown(without), Page(render_html(without, **pictures)).text):
        assert "Codecs" not in text


def test_flops_are_explained(report: dict[str, Any], page: Page) -> None:
    for rendering in (render_markdown(report), page.text):
        assert "a multiplication and an addition counted as two" in rendering
        assert "of the baseline those of one teacher" in rendering


def test_table_is_aligned(report: dict[str, Any]) -> None:
    lines = render_table(report).splitlines()
    first, last = (
        next(line for line in lines if start in line) for start in ("baseline (mean", "control on hard")
    )
    assert first.index("1.2 M") == last.index("1.2 M")
    assert first.index("2.5 M") == last.index("2.5 M")
    assert first.index(".00 ± 0.36") + len(".00 ± 0.36") == last.index(".85 ± 0.07") + len(".85 ± 0.07")


def test_no_gain_is_said_in_words(
    report_of_test: Callable[..., dict[str, Any]], pictures: dict[str, Any]
) -> None:
    report = report_of_test((0.61, 155), (0.63, 150))
    for rendering in (
        render_table(report),
        render_markdown(report),
        Page(render_html(report, **pictures)).text,
    ):
        cells = re.sub(r"[\s|]+", "", rendering)
        assert "transfer,hardweight0.5undefinedundefinedundefined" in cells
        assert "no gain to transfer" in rendering


def test_interval_is_shown_where_there_is_one(report: dict[str, Any]) -> None:
    with_interval = json.loads(json.dumps(report))
    with_interval["transfer"]["wer"]["ci95"] = [0.611, 1.02]
    assert "88% [61, 102]" in render_table(with_interval)


def test_pairs_are_shown_with_their_intervals(
    report_of_test: Callable[..., dict[str, Any]], pictures: dict[str, Any]
) -> None:
    report = report_of_test((0.63, 140), (0.628, 145))
    for rendering in (render_markdown(report), Page(render_html(report, **pictures)).text):
        cells = re.sub(r"[\s|]+", "", rendering)
        assert "oneteacher−ensemble-1.40[-1.80,-0.90][-4.40,+1.60]†1200and13000.0100.020" in cells
        assert "oneteacher−ensemble+0.40[+0.00,+0.90][-2.60,+3.40]3210.3040.608" in cells
        assert "oneteacher−ensemble+0.20[-0.20,+0.70][-2.80,+3.20]3210.4020.804" in cells
        assert "over the 60 speakers of test" in rendering
        assert (
            "On test the distilled model is, in frame accuracy better than one teacher, not told" in rendering
        )
        assert "the ensemble against one teacher p = 0.608, not significant" in rendering


def test_groups_and_confusions_are_shown(report: dict[str, Any], page: Page) -> None:
    markdown = render_markdown(report).splitlines()
    rows = ["".join(line.split()) for line in page.text.splitlines()]
    for row in (
        "| gender f | 3 | 40 | 1,234 | 25.00 | 26.00 | 27.00 | – | – | – |",
        r"| \<the> → a | 3 | of | 2 |  |  |",
        "| two → too | 1 |  |  |  |  |",
    ):
        assert row in markdown
        assert "".join(row.replace("\\", "").replace("|", "").split()) in rows
    unknown = {**report, "speaker_groups": {name: [] for name in report["speaker_groups"]}}
    assert "Speaker groups" not in render_markdown(unknown)


def test_calibration_and_mimicry_are_shown(report: dict[str, Any], page: Page) -> None:
    markdown = render_markdown(report).splitlines()
    for row in (
        "| one teacher | 4.00 | +2.00 | 1.250 |",
        "| control on hard targets alone | 4.00 | +2.00 | 1.250 |",
        "| AH0 | 50.0 | 50.0 | 0.200 | 80.0 | 60.0 | 59.0 |",
        "| the ensemble alone | 25.0 | 50.0 | 0.200 | 80.0 |",
    ):
        assert row in markdown
        rows = ["".join(line.split()) for line in page.text.splitlines()]
        assert "".join(row.replace("|", "").split()) in rows


def test_page_fetches_nothing(page: Page, page_source: str) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert "@import" not in page_source
    assert not re.search(r"url\((?!#)", page_source)


def test_page_is_well_formed(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    references = {
        value[5:-1] for _, tag in page.tags if (value := tag.get("clip-path") or "").startswith("url(#")
    }
    assert references <= set(ids)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_only_the_spectrogram_is_a_bitmap(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert (tags.count("svg"), tags.count("image"), tags.count("img")) == (13, 1, 0)


def test_pictures_take_their_colours_from_the_page(page: Page) -> None:
    styles = " ".join(attributes.get("style") or "" for _, attributes in page.tags)
    assert "var(--distilled)" in styles
    assert not re.search(r"#[0-9a-f]{6}", styles)


def test_text_is_escaped_and_shown(report: dict[str, Any], page: Page, page_source: str) -> None:
    assert not {"b", "brown", "transcript", "i"} & {tag for tag, _ in page.tags}
    assert page.text.count("utt_7<b>&|$x_1$") == 2
    for shown in ("“the quick <brown> $fox$”", "no path through the <transcript>", "<i>& 5 > 4</i>"):
        assert shown in page.text
    markdown = render_markdown(report)
    assert r"utt\_7\<b>\&\|\$x\_1\$, speaker03-0017" in markdown
    assert "    student:\n      temperature: 2.0\n" in markdown


def test_words_and_phones_are_written_in_the_picture(page: Page) -> None:
    assert "$fox$" in page.text.replace("“the quick <brown> $fox$”", "")
    assert "AH0" in page.text


def test_same_input_same_bytes(report: dict[str, Any], pictures: dict[str, Any], page_source: str) -> None:
    assert render_html(report, **pictures) == page_source
    reread = json.loads(json.dumps(report))
    assert render_html(reread, **pictures) == page_source
    assert render_markdown(reread) == render_markdown(report)
    assert render_table(reread) == render_table(report)


def test_nothing_left_out_is_said(report: dict[str, Any], pictures: dict[str, Any]) -> None:
    complete = {**report, "left_out": []}
    for rendering in (render_markdown(complete), render_html(complete, **pictures)):
        assert "Nothing: every utterance was used." in rendering


def forget_words(system: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in system.items() if key not in ("wer", "per")}


def test_without_word_errors_all_else_is_shown(report: dict[str, Any], pictures: dict[str, Any]) -> None:
    """Targets of another system, whose phones are not known: frame accuracies alone, and why."""
    systems = report["systems"]
    students, controls = (
        [forget_words(s) for name, s in systems.items() if name.startswith(kind)]
        for kind in ("distilled_", "control_")
    )
    frames_only = build_report(
        **{
            key: report[key]
            for key in (
                "recipe", "num_tied_states", "ensemble_size", "agreement", "soft_targets", "language_model",
                "stages", "settings", "versions", "calibration", "mimicry",
                "speaker_groups", "speakers", "confusions",
            )
        },
        teachers=[forget_words(member) for member in systems["baseline"]["members"]],
        ensemble=forget_words(systems["ensemble"]),
        aligner=forget_words(systems["aligner"]),
        students=students,
        controls=controls,
        comparisons={**report["comparisons"], "pairs": [*map(forget_words, report["comparisons"]["pairs"])]},
        transfer_intervals={"frame_accuracy": (0.5, 1.25)},
        codecs=[{**c, "students": [forget_words(s) for s in c["students"]]} for c in report["codecs"]],
        left_out=[],
    )  # fmt: skip
    assert frames_only["transfer"].keys() == {"frame_accuracy"}
    html = Page(render_html(frames_only, **{**pictures, "tuning": [], "alignment": None}))
    for text in (render_table(frames_only), render_markdown(frames_only), html.text):
        for number in ("62.67 ± 0.26", "64.19", "63.83", "12.3 M", "82%", "No words were decoded"):
            assert number in text
        for absent in ("%WER", "%PER", "15.00", "14.30", "88%"):
            assert absent not in text
    for heading in ("Errors on test", "An alignment", "Decoding weights"):
        assert heading not in html.text


def test_mixtures_are_called_what_they_are(report: dict[str, Any]) -> None:
    assert "GMM-HMM that made the targets" in render_table(report)
    for imported, realign, name in (
        ({"kind": "ctm"}, "none", "GMM-HMM trained on the targets"),
        (None, "dnn", "GMM-HMM before realignment"),
        ({"kind": "ctm"}, "dnn", "GMM-HMM before realignment"),
    ):
        settings = {"alignment": {"imported": imported}, "realignment": {"realign": realign}}
        assert name in render_table({**report, "settings": settings})
