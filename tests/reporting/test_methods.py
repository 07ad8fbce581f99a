"""What a sweep's table, sentence and page say, from numbers made up here."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from asrdistill.reporting.methods import (
    COLUMNS,
    conclude,
    draw_sizes,
    list_method_rows,
    render_sweep_html,
    render_sweep_markdown,
    render_sweep_table,
)


def make_system(accuracy: float, wer: float, size: int = 1000) -> dict[str, Any]:
    return {
        "frame_accuracy": {"dev": accuracy - 0.01, "test": accuracy},
        "wer": {"test": {"wer": wer}},
        "num_parameters": size,
        "flops_a_frame": 2 * size,
    }


def make_row(
    name: str, accuracies: list[float], ci95: list[float] | None = None, size: int = 1000
) -> dict[str, Any]:
    return {
        "name": name,
        "part": "",
        "train_share": 1.0,
        "source": "somebody 1999" if "<" in name else "",
        "students": [{**make_system(value, 0.2), "system": name, "seed": 1} for value in accuracies],
        "train_frame_accuracy": [0.9] * len(accuracies),
        "num_parameters": size,
        "seconds_a_frame": 1e-4,
        "training_flops": 5e9,
        "transfer": {
            "frame_accuracy": {"value": 0.5, "ci95": ci95},
            "wer": {"value": None, "ci95": None},
        },
    }


@pytest.fixture
def sweep() -> dict[str, Any]:
    return {
        "grid": "methods",
        "recipe": {"name": "made up"},
        "num_utterances": 40,
        "block": "speaker",
        "num_blocks": 8,
        "frame_shift_s": 0.01,
        "references": {
            "teachers": [make_system(0.50, 0.30), make_system(0.52, 0.32)],
            "ensemble": make_system(0.55, 0.25, 2000),
            "seconds_a_frame": {"baseline": 1e-4, "ensemble": 2e-4},
            "training_flops": 1e10,
        },
        "rows": [
            make_row("plain", [0.54, 0.52], [0.2, 0.9]),
            make_row("a <b> | way", [0.58], [1.2, 1.9], size=300),
            make_row("harmful", [0.4], None),
        ],
    }


def test_every_row_stands_in_the_table_with_its_numbers(sweep: dict[str, Any]) -> None:
    rows = {name: dict(zip(COLUMNS[1:], cells, strict=True)) for name, *cells in list_method_rows(sweep)}
    assert list(rows) == ["one teacher", "ensemble", "plain", "a <b> | way", "harmful"]
    assert rows["one teacher"]["test (%)"] == "51.00 ± 1.41"
    assert rows["ensemble"]["test (%)"] == "55.00"
    plain = rows["plain"]
    assert plain["test (%)"] == "53.00 ± 1.41"
    assert plain["frame accuracy dev (%)"] == "52.00 ± 1.41"
    assert plain["training (%)"] == "90.00 ± 0.00"
    assert plain["WER test (%)"] == "20.00 ± 0.00"
    assert plain["transfer of frame accuracy"] == "50% [20, 90]"
    assert plain["transfer of WER"] == "–"
    assert rows["harmful"]["transfer of frame accuracy"] == "(50%)"
    assert plain["real-time factor"] == "0.010"
    assert plain["frames a second"] == "10,000"
    assert (plain["training cost"], rows["ensemble"]["training cost"]) == ("0.5", "2")


def test_the_sentence_names_what_dev_chooses_and_what_is_above_the_ensemble(sweep: dict[str, Any]) -> None:
    assert conclude(sweep) == (
        "dev chooses 'a <b> | way': frame accuracy 58.00% on test, ensemble 55.00%, one teacher 51.00%. "
        "Above the ensemble in frame accuracy, with the whole of their intervals: 'a <b> | way'."
    )
    sweep["rows"][1] = make_row("lucky", [0.58], [0.9, 1.9])
    assert conclude(sweep).endswith(
        "Above the ensemble in frame accuracy, but none with the whole of its interval: 'lucky'."
    )
    del sweep["rows"][1]
    assert conclude(sweep).endswith(
        "No row is above the ensemble in frame accuracy; the nearest is 'plain', 53.00%."
    )
    sweep["rows"] = []
    assert conclude(sweep) == "No row is measured yet."


def test_table_markdown_and_page_show_every_row(sweep: dict[str, Any]) -> None:
    terminal, markdown, page = (
        render(sweep) for render in (render_sweep_table, render_sweep_markdown, render_sweep_html)
    )
    for name in ("plain", "harmful", "ensemble"):
        assert all(name in text for text in (terminal, markdown, page))
    assert "a \\<b> \\| way" in markdown and "somebody 1999" in markdown
    assert "a &lt;b&gt; | way" in page and "<b>" not in page
    assert "1 or 2 students a row" in page
    assert page == render_sweep_html(sweep)


def test_the_picture_has_a_number_for_each_row(sweep: dict[str, Any]) -> None:
    sweep["rows"] += [make_row(f"row {number}", [0.5]) for number in range(9)]
    root = ElementTree.fromstring(draw_sizes(sweep).replace("<svg", "<svg xmlns:x='x'", 1))
    texts = ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("text")]
    assert {str(number) for number in range(1, 13)} <= set(texts)
    sweep["rows"][-1]["train_share"] = 0.1
    assert ">12<" in draw_sizes({**sweep, "rows": [*sweep["rows"][:-1], make_row("last", [0.5])]})
    assert ">12<" not in draw_sizes(sweep)
    assert "ensemble" in texts
