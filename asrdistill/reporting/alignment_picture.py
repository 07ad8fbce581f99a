"""One utterance's alignment: log-mel spectrogram, phone boundaries and names, the words above."""

from dataclasses import dataclass

import numpy as np
from librosa.display import specshow
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from asrdistill.reporting.svg import POINTS_PER_INCH, Ink, drawing_style, to_svg

WIDTH_IN_PER_S = 3.8
MIN_WIDTH_IN = 7.0
HEIGHT_IN = 3.4
_MARGIN_IN = 0.5
_TICK_S = 0.25
_PHONE_SIZE_PT = 8.0
_LETTER_WIDTH_PT = 0.68 * _PHONE_SIZE_PT
_PHONE_ROWS = (0.34, 0.1)
_WORD_HEIGHT = 0.8

Segment = tuple[str, int, int]


@dataclass(frozen=True)
class AlignmentPicture:
    """One utterance with its alignment.

    Shapes: T frames, B log-mel coefficients.

    Attributes:
        utterance_id: its id in the manifest.
        text: its transcript.
        log_mel: float (T, B), natural logarithm.
        frame_shift_s: from one frame to the next.
        phones: (phone, first frame, frame after the last), in order.
        words: (word, first frame, frame after the last), in order.
    """

    utterance_id: str
    text: str
    log_mel: np.ndarray
    frame_shift_s: float
    phones: list[Segment]
    words: list[Segment]

    def __post_init__(self) -> None:
        num_frames = len(self.log_mel)
        for name, start, end in (*self.phones, *self.words):
            if not 0 <= start < end <= num_frames:
                raise ValueError(
                    f"alignment of {self.utterance_id}: {name} covers frames {start} to {end}, "
                    f"features have {num_frames}"
                )


def draw_alignment(picture: AlignmentPicture) -> str:
    """The picture as SVG; as wide as the utterance is long, so that short phones stay legible."""
    duration_s = len(picture.log_mel) * picture.frame_shift_s
    width_in = max(MIN_WIDTH_IN, WIDTH_IN_PER_S * duration_s + 1.2 * _MARGIN_IN)
    left, width = _MARGIN_IN / width_in, 1 - 1.2 * _MARGIN_IN / width_in
    with drawing_style():
        figure = Figure(figsize=(width_in, HEIGHT_IN))
        spectrogram = figure.add_axes((left, 0.14, width, 0.62))
        names = figure.add_axes((left, 0.77, width, 0.22), sharex=spectrogram)
        _draw_spectrogram(spectrogram, picture)
        names.set_ylim(0, 1)
        names.set_axis_off()
        pt_per_s = width * width_in * POINTS_PER_INCH / duration_s
        _write_phones(names, picture, pt_per_s)
        _write_words(names, picture)
        return to_svg(
            figure, f"Log-mel spectrogram of utterance {picture.utterance_id} with its phones and words"
        )


def _draw_spectrogram(axes: Axes, picture: AlignmentPicture) -> None:
    num_frames, num_bands = picture.log_mel.shape
    times_s = np.arange(num_frames + 1) * picture.frame_shift_s
    low, high = np.percentile(picture.log_mel, (5, 99.5))
    specshow(
        picture.log_mel.T,
        x_coords=times_s,
        y_coords=np.arange(num_bands + 1),
        ax=axes,
        cmap="Greys",
        vmin=low,
        vmax=high,
        rasterized=True,
    )
    boundaries = {frame for _, start, end in picture.phones for frame in (start, end)}
    for frame in sorted(boundaries):
        axes.axvline(frame * picture.frame_shift_s, color=Ink.ENSEMBLE, linewidth=0.8, alpha=0.75)
    axes.grid(False)
    axes.set_xlim(0, times_s[-1])
    axes.set_xlabel("time (s)")
    axes.xaxis.set_major_locator(MultipleLocator(_TICK_S))
    axes.set_ylabel("mel band")
    axes.set_yticks([0, num_bands])


def _write_phones(axes: Axes, picture: AlignmentPicture, pt_per_s: float) -> None:
    """Write each phone over its middle, in the second row where the first has no room left."""
    row_ends_pt = [-np.inf] * len(_PHONE_ROWS)
    for phone, start, end in picture.phones:
        middle_s = (start + end) / 2 * picture.frame_shift_s
        half_width_pt = _LETTER_WIDTH_PT * (len(phone) + 1) / 2
        start_pt = middle_s * pt_per_s - half_width_pt
        row = next(
            (row for row, row_end in enumerate(row_ends_pt) if row_end <= start_pt),
            int(np.argmin(row_ends_pt)),
        )
        row_ends_pt[row] = start_pt + 2 * half_width_pt
        axes.text(middle_s, _PHONE_ROWS[row], phone, size=_PHONE_SIZE_PT, color=Ink.ENSEMBLE, ha="center",
                  va="center", parse_math=False)  # fmt: skip


def _write_words(axes: Axes, picture: AlignmentPicture) -> None:
    gap_s = picture.frame_shift_s / 2
    for word, start, end in picture.words:
        start_s, end_s = start * picture.frame_shift_s, end * picture.frame_shift_s
        axes.plot((start_s + gap_s, end_s - gap_s), (0.58, 0.58), color=Ink.TEXT, linewidth=1)
        axes.text(
            (start_s + end_s) / 2, _WORD_HEIGHT, word, size=10, ha="center", va="center", parse_math=False
        )
