"""The aligner: Gaussian mixtures over tied states, and the features that they are made for.

Shapes: N frames of all utterances side by side, D coefficients, P pdf-ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from asrdistill.errors import ContractError
from asrdistill.experiment import atomic_path
from asrdistill.features.cepstra import add_deltas, splice
from asrdistill.hmm.gmm import DiagonalGmm
from asrdistill.hmm.graph import Pronunciations, build_utterance_graph
from asrdistill.hmm.topology import TiedStates
from asrdistill.hmm.viterbi import GraphSet, find_best_paths, list_spans

SPLICE_CONTEXT = 3


@dataclass(frozen=True)
class Speech:
    """Utterances to be aligned.

    Attributes:
        ids: of the utterances.
        transcripts: words of each.
        cepstra: float32 (N, 13).
        frame_starts: int64 (utterances + 1,): utterance u has frames [starts[u], starts[u + 1]).
    """

    ids: Sequence[str]
    transcripts: Sequence[Sequence[str]]
    cepstra: np.ndarray
    frame_starts: np.ndarray

    @classmethod
    def of(
        cls, ids: Sequence[str], transcripts: Sequence[Sequence[str]], cepstra: Sequence[np.ndarray]
    ) -> "Speech":
        """Put the cepstra of single utterances side by side."""
        starts = np.cumsum([0, *map(len, cepstra)])
        return cls(ids, transcripts, np.concatenate([np.zeros((0, 13), np.float32), *cepstra]), starts)

    def select(self, utterances: Sequence[int]) -> "Speech":
        """Some of the utterances."""
        spans = list_spans(self.frame_starts)
        return Speech.of(
            [self.ids[number] for number in utterances],
            [self.transcripts[number] for number in utterances],
            [self.cepstra[spans[number]] for number in utterances],
        )

    @property
    def num_frames(self) -> np.ndarray:
        """Of every utterance, int64."""
        return np.diff(self.frame_starts)


@dataclass(frozen=True)
class FeatureTransform:
    """From cepstra to the features of the mixtures.

    Attributes:
        matrix: float32 (D, 7 * 13), of cepstra spliced over +-3 frames; None: cepstra with differences.
    """

    matrix: np.ndarray | None = None

    def apply(self, cepstra: np.ndarray) -> np.ndarray:
        """Features, float32 (frames, D), of one utterance's cepstra, float32 (frames, 13)."""
        if self.matrix is None:
            return add_deltas(cepstra)
        return splice(cepstra, SPLICE_CONTEXT) @ self.matrix.T

    def apply_to_all(self, speech: Speech) -> np.ndarray:
        """Features of all utterances, float32 (N, D)."""
        nothing = self.apply(speech.cepstra[:0])
        return np.concatenate(
            [nothing, *(self.apply(speech.cepstra[s]) for s in list_spans(speech.frame_starts))]
        )


@dataclass(frozen=True)
class Alignment:
    """The best path of one utterance.

    Attributes:
        codes: int32 (frames,), of triphone states, or pdf-ids of unknown phones (hmm/topology.py).
        words: int32 (frames,), position in the transcript of the word spoken; silence: -1.
        log_likelihood: of the path, natural logarithm.
    """

    codes: np.ndarray
    words: np.ndarray
    log_likelihood: float


@dataclass(frozen=True)
class Aligner:
    """Everything that forced alignment needs but the lexicon.

    Attributes:
        tied_states: the inventory.
        gmm: a mixture for each pdf-id.
        transform: the features that the mixtures are over.
    """

    tied_states: TiedStates
    gmm: DiagonalGmm
    transform: FeatureTransform

    def align(self, speech: Speech, pronunciations: Pronunciations) -> list[Alignment | None]:
        """Force-align utterances; None where one has too few frames for its transcript."""
        graphs = GraphSet.of(
            [build_utterance_graph(words, pronunciations, self.tied_states) for words in speech.transcripts]
        )
        features = self.transform.apply_to_all(speech)
        paths, scores = find_best_paths(
            features, speech.frame_starts, graphs, self.tied_states.table, self.gmm
        )
        return list(_list_alignments(speech, graphs, paths, scores))

    def log_likelihoods(self, cepstra: np.ndarray) -> np.ndarray:
        """Log density of one utterance's frames under every pdf-id, float32 (frames, P)."""
        return self.gmm.log_likelihoods(self.transform.apply(cepstra))

    def write(self, folder: Path) -> None:
        """Publish `gmm.safetensors`, `transform.safetensors` and `tied_states.json`."""
        self.gmm.write(folder / "gmm.safetensors")
        matrix = self.transform.matrix
        with atomic_path(folder / "transform.safetensors") as temporary:
            save_file({} if matrix is None else {"matrix": np.ascontiguousarray(matrix)}, temporary)
        self.tied_states.write(folder / "tied_states.json")

    @classmethod
    def read(cls, folder: Path) -> "Aligner":
        """Read what `write` wrote.

        Raises:
            ContractError: a file is missing or of another kind.
        """
        tied_states = TiedStates.read(folder / "tied_states.json")
        for name in ("gmm.safetensors", "transform.safetensors"):
            if not (folder / name).is_file():
                raise ContractError(
                    f"aligner {folder / name}: not found; the align stage writes it: run that stage first"
                )
        matrix = load_file(folder / "transform.safetensors").get("matrix")
        return cls(tied_states, DiagonalGmm.read(folder / "gmm.safetensors"), FeatureTransform(matrix))


def _list_alignments(
    speech: Speech, graphs: GraphSet, paths: np.ndarray, scores: np.ndarray
) -> Iterator[Alignment | None]:
    for number, span in enumerate(list_spans(speech.frame_starts)):
        if np.isinf(scores[number]):
            yield None
        else:
            states = graphs.state_starts[number] + paths[span]
            yield Alignment(graphs.codes[states], graphs.words[states], float(scores[number]))
