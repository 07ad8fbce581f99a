"""A corpus, whatever its form: the union of the importers' settings, and the one way in."""

from pathlib import Path
from typing import Annotated, assert_never

from pydantic import Field

from asrdistill.corpus import espeak, kaldi, librispeech, nemo
from asrdistill.corpus.espeak import EspeakConfig
from asrdistill.corpus.hidden_transcripts import hide_transcripts
from asrdistill.corpus.kaldi import KaldiConfig
from asrdistill.corpus.librispeech import LibrispeechConfig
from asrdistill.corpus.manifest import Utterance
from asrdistill.corpus.nemo import NemoConfig

CorpusConfig = Annotated[
    EspeakConfig | KaldiConfig | NemoConfig | LibrispeechConfig, Field(discriminator="kind")
]


def import_corpus(config: CorpusConfig, audio_dir: Path) -> dict[str, list[Utterance]]:
    """Read a corpus, or synthesise it into `audio_dir`; keys train, dev, test and, if any, untranscribed.

    Transcripts are upper-cased, `audio_filepath` is absolute. A recording that cannot be read gets
    duration 0: `validate` finds out why.

    Raises:
        CorpusError: a folder, a manifest or a table is missing or cannot be understood.
    """
    return hide_transcripts(_import_splits(config, audio_dir), config.transcribed_share)


def _import_splits(config: CorpusConfig, audio_dir: Path) -> dict[str, list[Utterance]]:
    match config:
        case EspeakConfig():
            return espeak.synthesise_splits(config, audio_dir)
        case KaldiConfig():
            return kaldi.import_splits(config)
        case NemoConfig():
            return nemo.import_splits(config)
        case LibrispeechConfig():
            return librispeech.import_splits(config)
    assert_never(config)


def input_paths(config: CorpusConfig) -> list[Path]:
    """The text files whose contents determine what `import_corpus` gives, as far as they are there."""
    match config:
        case EspeakConfig():
            return []  # its settings are all there is
        case KaldiConfig():
            return kaldi.list_inputs(config)
        case NemoConfig():
            return [path for path in nemo.list_inputs(config) if path.is_file()]
        case LibrispeechConfig():
            return librispeech.list_inputs(config)
    assert_never(config)
