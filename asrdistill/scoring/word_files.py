"""What was understood of test, for people and for other programs: alignments, and NIST's forms.

Of every system `alignments/<system>.txt` and `.html`, and `nist/<system>.trn`; `nist/reference.trn`, `.stm`.
"""

from pathlib import Path

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.progress import say
from asrdistill.scoring.aligned_text import align_utterances, format_alignments
from asrdistill.scoring.alignment_page import render_alignments
from asrdistill.scoring.nist_files import write_stm, write_trn
from asrdistill.scoring.outcomes import Outcomes

ALIGNMENTS, NIST = "alignments", "nist"


def write_word_files(experiment_dir: Path) -> None:
    """Write the files of every system that has words, into the score stage's folder.

    What NIST's forms cannot carry is told, and its files left out.
    """
    outcomes, folder = Outcomes(experiment_dir), experiment_dir / "score"
    references = outcomes.references["wer"]
    speakers = {name: utterance.speaker for name, utterance in outcomes.utterances.items()}
    understood = {
        system: words for system in outcomes.systems if (words := outcomes.read_words(system)) is not None
    }
    for system, words in understood.items():
        aligned = align_utterances(references, words, speakers)
        _publish(folder / ALIGNMENTS / f"{system}.txt", format_alignments(aligned))
        _publish(folder / ALIGNMENTS / f"{system}.html", render_alignments(aligned, f"{system}, test"))
    if not understood:
        return
    try:
        write_stm(folder / NIST / "reference.stm", outcomes.utterances.values())
        write_trn(folder / NIST / "reference.trn", references)
        for system, words in understood.items():
            write_trn(folder / NIST / f"{system}.trn", words)
    except ContractError as error:
        say(f"  NIST's forms are left out: {error}")


def _publish(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
