"""References and hypotheses in the forms of NIST's sclite, for the word errors to be counted again with it.

    sclite -s -r ref.trn trn -h hyp.trn trn -i rm
    sclite -s -r ref.stm stm -h hyp.ctm ctm

Without `-s` sclite takes ASCII letters of either case for the same, which `count_word_errors` does not; with
transcripts in capitals alone that makes no difference. Its alignments may have more errors than the fewest
possible ones (`asrdistill.scoring.word_alignment`).

sclite reads meaning into words: `{ a / b }` are alternatives, `@` is no word, what follows `;` in a word is a
tag, `;;` is a comment, a word of ctm that begins with `<ALT` marks alternatives, and stars at the start of a
line, as a backslash at the end of a word, lead it astray.
Such characters, and spaces, are percent-encoded as in URLs: `{a` becomes `%7Ba`. `urllib.parse.unquote` turns
all back, as a `%` that would be taken for such a code becomes `%25`; otherwise it stays: `100%`, `%hes`.
`(uh)`, `wor-` and `<unk>` are left alone: words like others, unless options -D or -F give them a meaning.
Source: NIST SCTK 2.4.10, found by trying.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from asrdistill.corpus.manifest import Utterance
from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.hmm.ctm import write_ctm
from asrdistill.hmm.segments import Segment

UNKNOWN_SPEAKER = "unknown"
# sclite's buffers for a line of ctm end somewhere below 1000 bytes, of id and word together.
MAX_BYTES = 400
# Without a label, a first word that begins with `<` would be taken for one.
_LABEL = "<O>"
# The phrase marks an stm segment that is not scored.
_SPECIAL = re.compile(
    r"[{@;\\*\s\x00-\x1f]|%(?=[0-9A-Fa-f]{2})|^<(?=(?i:alt))|[Ii](?=(?i:gnore_time_segment_in_scoring))"
)


def write_trn(path: Path, transcripts: Mapping[str, Sequence[str]]) -> None:
    """Publish transcripts as `trn`, a line `words (id)` for each utterance, in their order.

    sclite tells speakers by what stands before the first `-` or `_` of an id.

    Args:
        path: of the file.
        transcripts: utterance id -> its words, of references or hypotheses; there may be none.

    Raises:
        ContractError: an id or a word is empty or too long for sclite, two ids differ in case alone, or one
            string was given where a list of words belongs.
    """
    _check_ids(transcripts)
    lines = [
        " ".join([*_escape_words(utterance_id, words), f"({escape_id(utterance_id)})"])
        for utterance_id, words in transcripts.items()
    ]
    _publish(path, lines)


def write_stm(path: Path, utterances: Iterable[Utterance]) -> None:
    """Publish references as `stm`, a line `id 1 speaker 0.000 duration <O> words` for each utterance.

    The utterance stands where NIST has a recording, as in our CTM, and lines come in the order of the ids.
    Who has no speaker gets "unknown".

    Raises:
        ContractError: as for `write_trn`.
    """
    ordered = sorted(utterances, key=lambda utterance: escape_id(utterance.id))
    _check_ids(utterance.id for utterance in ordered)
    lines = []
    for u in ordered:
        speaker, words = escape_id(u.speaker or UNKNOWN_SPEAKER), _escape_words(u.id, u.words)
        lines.append(" ".join([escape_id(u.id), "1", speaker, "0.000", f"{u.duration:.3f}", _LABEL, *words]))
    _publish(path, lines)


def write_nist_ctm(path: Path, segments: Mapping[str, Sequence[Segment]], frame_shift_s: float) -> None:
    """Publish recognised words as `write_ctm` does, escaped as `write_stm` has its references.

    Args:
        path: of the file.
        segments: utterance id -> its words, on frames; utterances without any need not be there.
        frame_shift_s: seconds from a frame to the next.

    Raises:
        ContractError: as for `write_trn`.
    """
    _check_ids(segments)
    escaped = {}
    for utterance_id, many in segments.items():
        names = _escape_words(utterance_id, [segment.name for segment in many])
        escaped[escape_id(utterance_id)] = [
            replace(segment, name=name) for segment, name in zip(many, names, strict=True)
        ]
    write_ctm(path, escaped, frame_shift_s)


def escape_word(word: str) -> str:
    """Percent-encode what sclite would not take as part of a word; `urllib.parse.unquote` is the inverse."""
    return _SPECIAL.sub(_encode, word)


def escape_id(name: str) -> str:
    """`escape_word` for an id or a speaker, where parentheses have a meaning as well."""
    return escape_word(name).replace("(", "%28").replace(")", "%29")


def _encode(match: re.Match[str]) -> str:
    character = match[0]
    # `quote` leaves letters alone.
    return f"%{ord(character):02X}" if character.isalpha() else quote(character, safe="")


def _escape_words(utterance_id: str, words: Sequence[str]) -> list[str]:
    if isinstance(words, str):
        raise ContractError(
            f"utterance {utterance_id}: words are one string, {words[:40]!r}, expected a list; "
            "did you forget to split it?"
        )
    escaped = [escape_word(word) for word in words]
    for word in escaped:
        _check_length(f"utterance {utterance_id}: word", word)
    return escaped


def _check_ids(ids: Iterable[str]) -> None:
    """Refuse ids that sclite would take for the same, or cannot hold."""
    seen: dict[str, str] = {}
    for utterance_id in ids:
        _check_length("utterance id", escape_id(utterance_id))
        # sclite knows no case of letters outside ASCII.
        folded = utterance_id.encode().lower().decode()
        if folded in seen:
            raise ContractError(
                f"utterances {seen[folded]} and {utterance_id}: the ids differ in case alone or not at all, "
                "so that sclite takes them for one; expected ids that differ otherwise: rename one of them"
            )
        seen[folded] = utterance_id


def _check_length(subject: str, escaped: str) -> None:
    num_bytes = len(escaped.encode())
    if not 0 < num_bytes <= MAX_BYTES:
        raise ContractError(
            f"{subject} {escaped[:40]!r}: {num_bytes} bytes, expected 1 to {MAX_BYTES}, which sclite can "
            "read; correct the transcript or the manifest"
        )


def _publish(path: Path, lines: Iterable[str]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
