"""A plot of a job's metrics: one small panel for each, as an SVG, which scales to any size in a browser."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[float, float]
"""A time in epoch seconds, and a value."""

MOST_PANELS = 12
MOST_POINTS = 400
"""Most points drawn of a metric; a panel is about as many pixels wide."""

_COLUMNS = 2
_ALONE, _PANEL = (6.8, 2.6), (3.9, 2.1)  # inches; Prefect's UI stretches an image to the width of its page
_MARKED = 60  # more points are drawn as a line without markers
_LINE, _INK, _FAINT, _GRID, _LOST = "#2563eb", "#1f2937", "#6b7280", "#e5e7eb", "#dc2626"
_UNITS = ((3 * 3600.0, 3600.0, "hours"), (10 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))

_MOMENT = 1.0  # seconds

_drawing = threading.Lock()  # matplotlib's fonts and caches are not thread-safe


def metrics_plot(history: Mapping[str, Sequence[Point]], start: float | None = None, title: str = "") -> str:
    """Return a plot of metrics over time as a `data:` URI, so that a browser needs no file.

    Args:
        history: Points by metric; at most the first 12 metrics are drawn.
        start: When the job's code started, in epoch seconds; by default the time of the first point.
        title: Title above the panels; by default none.

    Raises:
        ValueError: There are no points to draw.
    """
    return "data:image/svg+xml;base64," + base64.b64encode(metrics_svg(history, start, title)).decode()


def metrics_svg(history: Mapping[str, Sequence[Point]], start: float | None = None, title: str = "") -> bytes:
    """Return the plot as SVG; the arguments are those of `metrics_plot`."""
    chosen = {name: points for name, points in list(history.items())[:MOST_PANELS] if points}
    if not chosen:
        raise ValueError("there are no points to draw")
    points, label = _placed(chosen, start)
    with _drawing:
        return _svg({name: downsampled(panel) for name, panel in points.items()}, label, title)


def _placed(history: Mapping[str, Sequence[Point]], start: float | None) -> tuple[dict[str, list[Point]], str]:
    """Return the points as (position on the time axis, value), and the axis label.

    Values that were all printed within a second are placed by their number. Their times are those of a flushed buffer,
    and would draw a vertical line.
    """
    first = min(time for points in history.values() for time, _ in points)
    last = max(time for points in history.values() for time, _ in points)
    if last - first < _MOMENT and any(len(points) > 1 for points in history.values()):
        numbered = {name: [(float(n), value) for n, (_, value) in enumerate(of, 1)] for name, of in history.items()}
        return numbered, "value, by its number"
    begin, since = (start, "start") if start is not None and start <= first else (first, "first value")
    scale, unit = next((scale, unit) for least, scale, unit in _UNITS if last - begin >= least)
    timed = {name: [((time - begin) / scale, value) for time, value in of] for name, of in history.items()}
    return timed, f"{unit} since {since}"


def downsampled(points: Sequence[Point]) -> list[Point]:
    """Return at most `MOST_POINTS` points that look the same.

    They are both ends, and of each stretch the lowest, the highest, and the first value that is not finite.
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    stretches = MOST_POINTS // 3 - 1
    inner, kept = points[1:-1], [points[0]]
    for number in range(stretches):
        stretch = inner[len(inner) * number // stretches : len(inner) * (number + 1) // stretches]
        finite = [point for point in stretch if math.isfinite(point[1])]
        others = [point for point in stretch if not math.isfinite(point[1])]
        extremes = {min(finite, key=_value), max(finite, key=_value)} if finite else set()
        kept += sorted([*extremes, *others[:1]], key=_time)
    return [*kept, points[-1]]


def _time(point: Point) -> float:
    return point[0]


def _value(point: Point) -> float:
    return point[1]


def _svg(drawn: Mapping[str, Sequence[Point]], label: str, title: str) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - the import takes half a second
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same

    columns = min(_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    width, height = _PANEL if len(drawn) > 1 else _ALONE
    # Not by `pyplot`: its state is shared by the whole process, and its backend may need a screen.
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained", facecolor="white")
    FigureCanvasSVG(figure)
    if title:
        figure.suptitle(title, fontsize=10, color=_INK, fontweight="bold", x=0.02, ha="left", parse_math=False)
    first = None
    for number, (name, points) in enumerate(drawn.items()):
        panel = figure.add_subplot(rows, columns, number + 1, sharex=first)
        first = first or panel
        _draw(panel, name, points)
        if number >= len(drawn) - columns:
            panel.set_xlabel(label, fontsize=8, color=_FAINT)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def _draw(panel: Any, name: str, points: Sequence[Point]) -> None:
    """Draw one metric, with its last value as text at the end of its line.

    A value that is not finite is a gap in the line, and a cross at the bottom of the panel.
    """
    times = [time for time, _ in points]
    heights = [value if math.isfinite(value) else math.nan for _, value in points]
    panel.plot(times, heights, color=_LINE, linewidth=1.5, marker="o" if len(points) <= _MARKED else "", markersize=2.5)
    foot = panel.get_xaxis_transform()  # y goes from 0 to 1
    lost = [time for time, height in zip(times, heights, strict=True) if math.isnan(height)]
    (crosses,) = panel.plot(lost, [0.0] * len(lost), "x", color=_LOST, markersize=5, transform=foot, clip_on=False)
    crosses.set_in_layout(False)  # they overlap the panel's edge, for which the layout would reserve space
    value, time = points[-1][1], times[-1]
    finite = math.isfinite(value)
    if finite:
        panel.plot([time], [value], color=_LINE, marker="o", markersize=5)
    panel.annotate(
        f"{value:.4g}", (time, value if finite else 0.0), xycoords="data" if finite else foot, xytext=(7, 0),
        textcoords="offset points", va="center", fontsize=9, fontweight="bold", color=_LINE if finite else _LOST,
        annotation_clip=False,
    )  # fmt: skip
    panel.set_ylabel(name, fontsize=9, color=_INK, parse_math=False)
    panel.margins(x=0.02, y=0.12)
    panel.grid(color=_GRID, linewidth=0.6)
    panel.tick_params(labelsize=8, labelcolor=_FAINT, color=_GRID, length=3)
    panel.ticklabel_format(axis="y", useOffset=False)
    panel.yaxis.get_offset_text().set(fontsize=8, color=_FAINT)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_GRID)
