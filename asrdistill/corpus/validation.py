"""What is wrong with a corpus, found before hours are spent on it.

An utterance with a fault is left out, counted and named; too many of them in a split are an error, and
so are, always, an id given twice and a speaker who is in two splits.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from asrdistill.config import Config
from asrdistill.corpus.audio import Recording, inspect_recording, map_paths
from asrdistill.corpus.lexicon import Lexicon
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.source import UNTRANSCRIBED
from asrdistill.errors import CorpusError

NUM_NAMED = 5
# What has a transcript is seen by the aligner to be too short for it.
UNTRANSCRIBED_LENGTH_S = 0.1, 60.0
ROUNDING_S = 0.05  # by which an utterance may end after its recording: times in manifests are rounded

# Each kind of fault, and what to do about it.
ADVICE = {
    "missing audio": "check corpus.path, and the paths in wav.scp or in the manifest",
    "unreadable audio": "the files are damaged or cut short: copy them again, or convert them to WAV or FLAC",
    "zero length": "there are no samples to learn from: correct or remove these",
    "beyond the recording": "offset and duration do not fit the recording: check whether they are in seconds",
    "stereo": "expected one channel: convert with `sox IN OUT remix 1-2` or `ffmpeg -i IN -ac 1 OUT`",
    "sampling rate too low": "their upper frequencies would be empty: set corpus.sampling_rate_hz to the "
    "lowest rate of the recordings ({lowest_rate_hz})",
    "too short": "expected at least 0.1 s of speech without transcript: remove these",
    "too long": "expected at most a minute without transcript, for teachers hear an utterance as a whole: "
    "divide it (a file `segments`; offset and duration in a manifest)",
    "empty text": "expected a transcript: add it or remove these",
    "words outside the lexicon": "{missing_words}: add them to a lexicon file, named by lexicon.path "
    "(punctuation and digits must be written as words)",
}


class ValidationConfig(Config):
    """How much may be wrong with a corpus."""

    max_left_out: float = Field(
        0.0, ge=0, le=1, description="share of the utterances of any split that may be left out"
    )


@dataclass(frozen=True)
class Validation:
    """What was found.

    Attributes:
        kept: split -> its utterances without fault.
        faults: split -> kind of fault -> ids of the utterances that have it.
        missing_words: words outside the lexicon, with how often they occur.
        recordings: path of every recording that is whole -> SHA-256 of its file.
    """

    kept: dict[str, list[Utterance]]
    faults: dict[str, dict[str, list[str]]]
    missing_words: Counter[str]
    recordings: dict[str, str]

    def num_left_out(self, split: str) -> int:
        """Utterances of a split with at least one fault."""
        return len({name for names in self.faults[split].values() for name in names})

    def to_json(self) -> dict[str, Any]:
        """Counts, hours and named faults, for the report."""
        return {
            "splits": {split: self._describe(split) for split in self.kept},
            "missing_words": dict(self.missing_words.most_common()),
        }

    def _describe(self, split: str) -> dict[str, Any]:
        kept = self.kept[split]
        return {
            "num_utterances": len(kept),
            "num_speakers": len({utterance.speaker for utterance in kept} - {None}),
            "num_without_speaker": sum(utterance.speaker is None for utterance in kept),
            "hours": sum(utterance.duration for utterance in kept) / 3600,
            "num_left_out": self.num_left_out(split),
            "faults": {kind: {"count": len(ids), "ids": ids} for kind, ids in self.faults[split].items()},
        }


def validate(
    splits: dict[str, list[Utterance]], lexicon: Lexicon, config: ValidationConfig, sampling_rate_hz: int
) -> Validation:
    """Check every utterance, decoding every recording once.

    Raises:
        CorpusError: an id comes twice, a speaker is in two splits, a split is empty, or too many of its
            utterances have faults.
    """
    _refuse_duplicates(splits)
    _refuse_shared_speakers(splits)
    everything = [utterance for utterances in splits.values() for utterance in utterances]
    present = [
        utterance.audio_filepath for utterance in everything if Path(utterance.audio_filepath).is_file()
    ]
    recordings = map_paths(inspect_recording, present, "check recordings")
    _refuse_shared_recordings(splits, recordings)
    kept: dict[str, list[Utterance]] = {split: [] for split in splits}
    faults: dict[str, dict[str, list[str]]] = {split: defaultdict(list) for split in splits}
    for split, utterances in splits.items():
        for utterance in utterances:
            found = _find_audio_faults(utterance, recordings, sampling_rate_hz)
            if split == UNTRANSCRIBED:
                found += _find_length_faults(utterance)
            else:
                found += _find_text_faults(utterance, lexicon)
            for kind in found:
                faults[split][kind].append(utterance.id)
            if not found:
                kept[split].append(utterance)
    named = {split: dict(by_kind) for split, by_kind in faults.items()}
    hashes = {path: recording.sha256 for path, recording in recordings.items() if recording}
    validation = Validation(kept, named, lexicon.missing_words(everything), hashes)
    _refuse_faulty(splits, validation, config, _find_lowest_rate(recordings.values()))
    return validation


def _find_text_faults(utterance: Utterance, lexicon: Lexicon) -> list[str]:
    unknown = any(word not in lexicon.pronunciations for word in utterance.words)
    checks = {"empty text": not utterance.words, "words outside the lexicon": unknown}
    return [kind for kind, is_found in checks.items() if is_found]


def _find_length_faults(utterance: Utterance) -> list[str]:
    shortest, longest = UNTRANSCRIBED_LENGTH_S
    checks = {"too short": utterance.duration < shortest, "too long": utterance.duration > longest}
    return [kind for kind, is_found in checks.items() if is_found]


def _find_audio_faults(
    utterance: Utterance, recordings: dict[str, Recording | None], sampling_rate_hz: int
) -> list[str]:
    if utterance.audio_filepath not in recordings:
        return ["missing audio"]
    recording = recordings[utterance.audio_filepath]
    if recording is None:
        return ["unreadable audio"]
    end_s = utterance.offset + utterance.duration
    checks = {
        "zero length": recording.num_frames == 0 or not utterance.duration > 0,
        "beyond the recording": not 0 <= utterance.offset <= end_s <= recording.duration_s + ROUNDING_S,
        "stereo": recording.num_channels != 1,
        "sampling rate too low": recording.sampling_rate_hz < sampling_rate_hz,
    }
    return [kind for kind, is_found in checks.items() if is_found]


def _find_lowest_rate(recordings: Iterable[Recording | None]) -> int:
    return min((recording.sampling_rate_hz for recording in recordings if recording), default=0)


def _refuse_duplicates(splits: dict[str, list[Utterance]]) -> None:
    counts = Counter(utterance.id for utterances in splits.values() for utterance in utterances)
    if duplicates := sorted(name for name, number in counts.items() if number > 1):
        raise CorpusError(
            f"corpus: {_name_some(duplicates, 'ids')} come more than once; expected every utterance to have "
            "an id of its own, in all splits together: rename or remove them"
        )


def _refuse_shared_speakers(splits: dict[str, list[Utterance]]) -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for split, utterances in splits.items():
        for utterance in utterances:
            if utterance.speaker is not None:
                homes[utterance.speaker].add(split)
    # Whoever is trained on may also be heard without transcripts.
    shared = {
        speaker: "+".join(sorted(home))
        for speaker, home in homes.items()
        if len(home) > 1 and home != {"train", UNTRANSCRIBED}
    }
    if shared:
        names = [f"{speaker} ({where})" for speaker, where in sorted(shared.items())]
        raise CorpusError(
            f"corpus: {_name_some(names, 'speakers')} are in two splits or more, so that results would be "
            "too good; expected every speaker in one split: divide the corpus by speaker"
        )


def _refuse_shared_recordings(
    splits: dict[str, list[Utterance]], recordings: dict[str, Recording | None]
) -> None:
    """What is tuned or reported on must not be learnt from, under whatever name it comes."""

    def list_hashes(split: str) -> set[str]:
        found = (recordings.get(utterance.audio_filepath) for utterance in splits.get(split, []))
        return {recording.sha256 for recording in found if recording}

    judged = list_hashes("dev") | list_hashes("test")
    shared = [
        utterance.id
        for utterance in splits.get(UNTRANSCRIBED, [])
        if (recording := recordings.get(utterance.audio_filepath)) and recording.sha256 in judged
    ]
    if shared:
        raise CorpusError(
            f"split {UNTRANSCRIBED}: {_name_some(shared, 'utterances')} are of recordings of dev or test, so "
            "that results would be too good; remove them"
        )


def _refuse_faulty(
    splits: dict[str, list[Utterance]], validation: Validation, config: ValidationConfig, lowest_rate_hz: int
) -> None:
    for split, utterances in splits.items():
        if not utterances:
            raise CorpusError(f"split {split}: no utterances; expected at least one: check corpus.path")
        num_left_out = validation.num_left_out(split)
        if num_left_out > config.max_left_out * len(utterances) or not validation.kept[split]:
            missing = [f"{word} ({number})" for word, number in validation.missing_words.most_common()]
            advice = {"lowest_rate_hz": lowest_rate_hz, "missing_words": _name_some(missing, "words", 20)}
            reasons = [
                f"{kind}: {_name_some(ids, 'utterances')}; {ADVICE[kind].format(**advice)}"
                for kind, ids in validation.faults[split].items()
            ]
            raise CorpusError(
                f"split {split}: {num_left_out} of {len(utterances)} utterances cannot be used, "
                f"validation.max_left_out={config.max_left_out:g} allows "
                f"{int(config.max_left_out * len(utterances))}. {'. '.join(reasons)}. "
                "To go on without them, raise validation.max_left_out"
            )


def _name_some(names: list[str], what: str, num_named: int = NUM_NAMED) -> str:
    """The first few names, and how many there are."""
    more = ", ..." if len(names) > num_named else ""
    return f"{len(names)} {what} ({', '.join(names[:num_named])}{more})"
