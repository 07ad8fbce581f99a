"""The table of results: its cells as text, the same in the terminal, in report.md and in report.html."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asrdistill.reporting.comparisons import conclude_significance, tell_what_is_shown
from asrdistill.reporting.conclusion import conclude
from asrdistill.reporting.report import MEASURES, NOT_MEASURED, compute_transfer, name_system
from asrdistill.scoring.comparison import RATES

HINTON_HARD_WEIGHT = 0.5
HINTON_SOURCE = "Hinton, Vinyals & Dean (2015), arXiv:1503.02531, table 1"
HINTON_ROWS = (("baseline", "58.9", "10.9"), ("10x ensemble", "61.1", "10.7"), ("distilled", "60.8", "10.7"))
HINTON_TRANSFER = ("86%", "100%")

COLUMNS = (
    "system",
    "frame accuracy dev (%)",
    "frame accuracy test (%)",
    "WER test (%)",
    "PER test (%)",
    "parameters",
    "FLOPs a frame",
)
FLOPS_NOTE = (
    "FLOPs a frame are the floating-point operations of the matrix products, convolutions and attention of "
    "one forward pass, a multiplication and an addition counted as two, for one frame of an utterance of "
    "5 s; parameters and FLOPs of the ensemble are those of all its members, of the baseline those of one "
    "teacher."
)


@dataclass(frozen=True)
class Row:
    """One system of the table, as text.

    Attributes:
        role: "aligner", "baseline", "ensemble", "distilled" or "control".
        system: what the row is called.
        note: a student's temperature, and why it is singled out; empty for others.
        chosen: whether it is the student that was chosen on dev.
        cells: frame accuracy on dev and test, WER and PER on test, parameters, FLOPs a frame.
        errors: WER and PER with their counts, as Kaldi prints them; none where no words were decoded.
    """

    role: str
    system: str
    note: str
    chosen: bool
    cells: tuple[str, str, str, str, str, str]
    errors: tuple[str, ...]


@dataclass(frozen=True)
class TransferRow:
    """How much of the ensemble's gain one student keeps, as text."""

    system: str
    frame_accuracy: str
    wer: str
    per: str


def list_rows(report: Mapping[str, Any]) -> list[Row]:
    """The rows of the table: aligner, baseline, ensemble, every student by hard weight, every control."""
    systems = report["systems"]
    return [
        _row("aligner", _name_aligner(report["settings"]), systems["aligner"]),
        _row("baseline", f"baseline (mean of {report['num_teachers']})", systems["baseline"]),
        _row("ensemble", f"{report['num_teachers']}x ensemble", systems["ensemble"]),
        *(_row("distilled", name_system(student), student) for student in _students(report)),
        *(_row("control", name_system(one), one) for one in systems.values() if "control" in one),
    ]


def list_transfer_rows(report: Mapping[str, Any]) -> list[TransferRow]:
    """Transfer of the student that was chosen on dev, and of the one with the paper's hard weight."""
    rows = []
    baseline, ensemble = (report["systems"][name] for name in ("baseline", "ensemble"))
    for student in _students(report):
        if student["chosen"]:
            transfer = report["transfer"]
        elif student["hard_weight"] == HINTON_HARD_WEIGHT:
            transfer = compute_transfer(baseline, ensemble, student)
        else:
            continue
        shares = (_share(transfer.get(measure)) for measure in MEASURES)
        rows.append(TransferRow(f"transfer, hard weight {student['hard_weight']:g}", *shares))
    return rows


def explain_results(report: Mapping[str, Any]) -> str:
    """What the table's signs mean."""
    num_seeds = len(report["systems"]["distilled"]["members"])
    over = "speakers, teachers and students" if num_seeds > 1 else "speakers and teachers"
    return (
        "± is the sample standard deviation over seeds: of the baseline over its "
        f"{report['num_teachers']} teachers. Transfer is (student − baseline) / (ensemble − baseline) on "
        f"test, in brackets its 95% interval, over {over}; undefined where the ensemble has no gain. PER is "
        "the error rate of phones, recognised without words."
    )


def _name_aligner(settings: Mapping[str, Any]) -> str:
    if settings["realignment"]["realign"] != "none":
        return "GMM-HMM before realignment"
    if settings["alignment"]["imported"]:
        return "GMM-HMM trained on the targets"
    return "GMM-HMM that made the targets"


def _students(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (system for name, system in report["systems"].items() if name.startswith("distilled_"))


def _row(role: str, label: str, system: Mapping[str, Any]) -> Row:
    spread = system.get("spread", {"frame_accuracy": {"dev": None, "test": None}})
    rates = [
        _percent(system[rate]["test"]["wer"], spread.get(rate, {"test": None})["test"])
        if rate in system
        else NOT_MEASURED
        for rate in RATES
    ]
    cells = (
        _percent(system["frame_accuracy"]["dev"], spread["frame_accuracy"]["dev"]),
        _percent(system["frame_accuracy"]["test"], spread["frame_accuracy"]["test"]),
        rates[0],
        rates[1],
        format_count(system["num_parameters"]),
        format_count(system["flops_a_frame"]),
    )
    errors = tuple(_print_errors(system[rate]["test"], rate) for rate in RATES if rate in system)
    return Row(role, label, _note(system), bool(system.get("chosen")), cells, errors)


def format_count(count: int) -> str:
    """A large number in three digits or so, "1.2 M"; k, M and G are 10^3, 10^6 and 10^9."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        value = count / factor
        if value >= 0.9995:
            return f"{value:.{1 if value < 99.95 else 0}f} {unit}"
    return str(count)


def _note(system: Mapping[str, Any]) -> str:
    notes = [f"T = {system['temperature']:g}"] if "temperature" in system else []
    if system.get("chosen"):
        notes.append("chosen on dev")
    if system.get("hard_weight") == HINTON_HARD_WEIGHT:
        notes.append("Hinton's weight")
    if len(system.get("members", ())) > 1 and ("control" in system or "hard_weight" in system):
        notes.append(f"mean of {len(system['members'])} seeds")
    return ", ".join(notes)


def _percent(value: float, spread: float | None) -> str:
    return f"{100 * value:.2f}" if spread is None else f"{100 * value:.2f} ± {100 * spread:.2f}"


def _print_errors(counted: Mapping[str, float], rate: str) -> str:
    count = {key: _count(counted[key]) for key in ("errors", "words", "ins", "del", "sub")}
    line = (
        f"%{rate.upper()} {100 * counted['wer']:.2f} [ {count['errors']} / {count['words']}, "
        f"{count['ins']} ins, {count['del']} del, {count['sub']} sub ]"
    )
    return f"{line} %SER {100 * counted['ser']:.2f}" if rate == "wer" else line


def _count(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _share(transfer: Mapping[str, Any] | None) -> str:
    if transfer is None:
        return NOT_MEASURED
    if transfer["value"] is None:
        return "undefined"
    share = f"{100 * transfer['value']:.0f}%"
    if transfer["ci95"] is None:
        return share
    low, high = transfer["ci95"]
    return f"{share} [{100 * low:.0f}, {100 * high:.0f}]"


def render_table(report: Mapping[str, Any]) -> str:
    """The results as aligned plain text for a terminal: table, transfer, word errors, what they show."""
    rows = list_rows(report)
    header = [
        ("", "frame accuracy (%)", "", "WER (%)", "PER (%)", "", "FLOPs"),
        ("system", "dev", "test", "test", "test", "parameters", "a frame"),
    ]
    lines = [(row.system, *row.cells) for row in rows]
    transfers = [
        (row.system, "", row.frame_accuracy, row.wer, row.per, "", "") for row in list_transfer_rows(report)
    ]
    hinton = [(f"Hinton 2015, {name}", "", *found, "", "", "") for name, *found in HINTON_ROWS]
    hinton.append(("Hinton 2015, transfer", "", *HINTON_TRANSFER, "", "", ""))
    aligned = align_lines([*header, *lines, *transfers, *hinton])
    rule = "-" * max(map(len, aligned))
    first_transfer = len(header) + len(lines)
    first_hinton = first_transfer + len(transfers)
    notes = [f"   {row.note}" if row.note else "" for row in rows]
    body = [line + note for line, note in zip(aligned[2:first_transfer], notes, strict=True)]
    errors = align_lines([(row.system, *row.errors) for row in rows if row.errors], left=3)
    if errors:
        errors = ["Errors on test", *errors, ""]
    blocks = [[*aligned[:2], rule, *body], aligned[first_transfer:first_hinton], aligned[first_hinton:]]
    table = f"\n{rule}\n".join("\n".join(block) for block in blocks)
    sentences = [tell_what_is_shown(report), *conclude(report), *conclude_significance(report)]
    return "\n".join([table, "", *errors, *sentences]) + "\n"


def align_lines(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Columns under one another: pad the first `left` columns on the right, the others on the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "   ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
