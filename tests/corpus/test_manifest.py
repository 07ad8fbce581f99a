"""Manifests: what is written is read."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrdistill.corpus.manifest import Utterance, read_manifest, write_manifest
from asrdistill.errors import CorpusError

SECONDS = st.floats(0, 1e6)
UNKNOWN_OR_TEXT = st.none() | st.text()
UTTERANCES = st.builds(
    Utterance,
    st.text(), st.text(), SECONDS, SECONDS, st.text(), UNKNOWN_OR_TEXT, UNKNOWN_OR_TEXT,
    st.none() | st.floats(0, 120),
)  # fmt: skip


@given(st.lists(UTTERANCES, max_size=4))
def test_round_trip(utterances: list[Utterance]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        write_manifest(path, utterances)
        assert read_manifest(path) == utterances


def test_manifests_without_what_is_known_of_speakers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    line = '{"audio_filepath": "/a.wav", "duration": 1.0, "id": "a", "offset": 0.0, %s"text": "A B"}\n'
    path.write_text(line % '"speaker": null, ' + line % "")
    utterance = Utterance("a", "/a.wav", 0.0, 1.0, "A B")
    assert read_manifest(path) == [utterance, utterance]
    assert (utterance.speaker, utterance.gender, utterance.age) == (None, None, None)
    write_manifest(path, [utterance])
    assert path.read_text() == line % "", "what is not known leaves no trace"


def test_missing_manifest_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="prepare"):
        read_manifest(tmp_path / "train.jsonl")
