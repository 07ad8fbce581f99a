"""N-gram counts and their smoothing: interpolated Witten-Bell, interpolated modified Kneser-Ney.

Both have the form p(w | h) = discounted(w, h) + backoff(h) p(w | h'), where h' is h without its first word,
and the unigram is interpolated in the same way with the uniform distribution over the vocabulary and the
end of the sentence, so every word of the vocabulary has a probability after every history.

Witten-Bell, with c(h w) the count of an n-gram and t(h) the number of different words seen after h:

    discounted(w, h) = c(h w) / (c(h) + t(h))        backoff(h) = t(h) / (c(h) + t(h))

Modified Kneser-Ney, with a(h w) = c(h w) for the longest n-grams and for those that begin with the start of
the sentence, else the number of different words seen before h w:

    discounted(w, h) = (a(h w) - D) / a(h)           backoff(h) = sum of all D after h / a(h)

D is D1, D2 or D3 where a(h w) is 1, 2, or 3 and more. For each length of n-grams, with n1 to n4 the numbers
of n-grams with a = 1 to 4 and Y = n1 / (n1 + 2 n2):

    D1 = 1 - 2 Y n2 / n1        D2 = 2 - 3 Y n3 / n2        D3 = 3 - 4 Y n4 / n3

Where one of n1 to n4 is zero or a D is not between 0 and its count, as on a tiny corpus, all three are those
of `FALLBACK_DISCOUNTS` for that length (the values of KenLM's --discount_fallback).

A word outside the vocabulary is no event and part of no n-gram: it ends the history of the words after it.
As something that stands before an n-gram, all such words together are one word.

Source: Witten & Bell (1991), IEEE Trans. Inf. Theory 37(4); Chen & Goodman (1998), TR-10-98, sections 2.6
and 3; Heafield et al. (2013), ACL, section 3 (sentence starts).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set

SENTENCE_START = "<s>"
SENTENCE_END = "</s>"
UNKNOWN = "<unk>"
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

History = tuple[str, ...]
Counts = dict[History, Counter[str]]
# History, its words with their discounted relative frequencies, the weight of the shorter history.
Smoothed = Iterator[tuple[History, dict[str, float], float]]


def list_events(words: Sequence[str], order: int, vocabulary: Set[str]) -> Iterator[tuple[str, History]]:
    """Yield each known word and the sentence's end, with the words before it (order - 1 at most).

    A history reaches back to the last unknown word, of which `UNKNOWN` stands at its beginning.
    """
    num_before = order - 1
    history: History = (SENTENCE_START,)[:num_before]
    for word in words:
        if word in vocabulary:
            yield word, history
            history = (*history, word)[-num_before:] if num_before else ()
        else:
            history = (UNKNOWN,)[:num_before]
    yield SENTENCE_END, history


def count_ngrams(sentences: Iterable[Sequence[str]], order: int, vocabulary: Set[str]) -> tuple[Counts, int]:
    """Count n-grams of all lengths up to `order`; histories may begin with `UNKNOWN`.

    Returns:
        history -> word -> count, and the number of running words outside the vocabulary.
    """
    counts: Counts = {}
    num_oov = 0
    for words in sentences:
        num_oov += sum(word not in vocabulary for word in words)
        for word, history in list_events(words, order, vocabulary):
            for first in range(len(history) + 1):
                counts.setdefault(history[first:], Counter())[word] += 1
    return counts, num_oov


def smooth_witten_bell(counts: Counts) -> Smoothed:
    """Discount by the number of different words; shorter histories first."""
    for history, followers in _shortest_first(counts):
        total = followers.total() + len(followers)
        probs = {word: count / total for word, count in followers.items()}
        yield history, probs, len(followers) / total


def smooth_kneser_ney(counts: Counts) -> Smoothed:
    """Discount by what is estimated from counts of counts; shorter histories first."""
    adjusted = adjust_counts(counts)
    counts_by_length: dict[int, list[int]] = {}
    for history, followers in adjusted.items():
        counts_by_length.setdefault(len(history), []).extend(followers.values())
    discounts = {length: estimate_discounts(found) for length, found in counts_by_length.items()}
    for history, followers in _shortest_first(adjusted):
        total = followers.total()
        discount = {word: discounts[len(history)][min(count, 3) - 1] for word, count in followers.items()}
        probs = {word: (count - discount[word]) / total for word, count in followers.items()}
        yield history, probs, sum(discount.values()) / total


def adjust_counts(counts: Counts) -> Counts:
    """The counts that Kneser-Ney estimates with, of n-grams of known words.

    Those of the longest n-grams and of those that begin a sentence stay; any other n-gram counts once for
    each different word before it.
    """
    longest = max(map(len, counts), default=0)
    adjusted: Counts = {
        history: followers
        for history, followers in _shortest_first(counts)
        if len(history) == longest or history[:1] == (SENTENCE_START,)
    }
    for history, followers in counts.items():
        if history:
            adjusted.setdefault(history[1:], Counter()).update(followers.keys())
    return adjusted


def estimate_discounts(counts: Iterable[int]) -> tuple[float, float, float]:
    """D1, D2 and D3 from the counts of all n-grams of one length."""
    num_with = Counter(counts)
    n1, n2, n3, n4 = (num_with[count] for count in (1, 2, 3, 4))
    if min(n1, n2, n3, n4) == 0:
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    d1, d2, d3 = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    return (d1, d2, d3) if min(d1, d2, d3) > 0 else FALLBACK_DISCOUNTS


def _shortest_first(counts: Counts) -> Iterator[tuple[History, Counter[str]]]:
    """The histories of known words alone, shorter ones first."""
    for history in sorted(counts, key=len):
        if history[:1] != (UNKNOWN,):
            yield history, counts[history]
