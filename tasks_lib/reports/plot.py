"""A picture of a job's metrics: one small panel for each, as an SVG that a browser shows at any size.

Drawn on a `Figure` of its own, never by `pyplot`, whose state is shared by the whole process and whose backend may want
a screen. Imports matplotlib only when there is something to draw.
"""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[float, float]
"""When (epoch seconds) and what."""

MOST_PANELS = 12
MOST_POINTS = 400
"""Points drawn of a metric: a panel is about as many pixels wide."""

_COLUMNS = 2
_ALONE, _PANEL = (6.8, 2.6), (3.9, 2.1)  # inches; Prefect's UI stretches a picture to the width of its page
_MARKED = 60  # more points than that are a line
_LINE, _INK, _FAINT, _GRID, _LOST = "#2563eb", "#1f2937", "#6b7280", "#e5e7eb", "#dc2626"
_UNITS = ((3 * 3600.0, 3600.0, "hours"), (10 * 60.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))

_MOMENT = 1.0  # seconds

_drawing = threading.Lock()  # matplotlib's fonts and caches are not made for several threads


def metrics_plot(history: Mapping[str, Sequence[Point]], start: float | None = None, title: str = "") -> str:
    """Return a picture of metrics over time as a `data:` URI, which needs no file that a browser could reach.

    Args:
        history: Points by metric; of many metrics the first dozen are drawn.
        start: When the job's code began, epoch seconds; by default the time of the first point.
        title: Above the panels.

    Raises:
        ValueError: There is nothing to draw.
    """
    return "data:image/svg+xml;base64," + base64.b64encode(metrics_svg(history, start, title)).decode()


def metrics_svg(history: Mapping[str, Sequence[Point]], start: float | None = None, title: str = "") -> bytes:
    """Return the picture itself; see `metrics_plot`."""
    chosen = {name: points for name, points in list(history.items())[:MOST_PANELS] if points}
    if not chosen:
        raise ValueError("there are no points to draw")
    points, label = _placed(chosen, start)
    with _drawing:
        return _svg({name: thinned(panel) for name, panel in points.items()}, label, title)


def _placed(history: Mapping[str, Sequence[Point]], start: float | None) -> tuple[dict[str, list[Point]], str]:
    """Return the points as (place on the axis, value), and what the axis says.

    What was printed within a moment stands at its number: its times are those of a buffer, and would draw a wall.
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


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most `MOST_POINTS` points that look the same: each stretch's lowest and highest, both ends.

    And where a stretch has any, its first one that is not finite.
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
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - half a second, for some runs only
    from matplotlib.figure import Figure  # noqa: PLC0415 - the same

    columns = min(_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    width, height = _PANEL if len(drawn) > 1 else _ALONE
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
    """Draw one metric, with its last value written at the end of its line.

    What is not finite has no height: a cross at the foot of the panel stands for it, and the line has a gap there.
    """
    times = [time for time, _ in points]
    heights = [value if math.isfinite(value) else math.nan for _, value in points]
    panel.plot(times, heights, color=_LINE, linewidth=1.5, marker="o" if len(points) <= _MARKED else "", markersize=2.5)
    foot = panel.get_xaxis_transform()  # its heights go from 0 to 1
    lost = [time for time, height in zip(times, heights, strict=True) if math.isnan(height)]
    (crosses,) = panel.plot(lost, [0.0] * len(lost), "x", color=_LOST, markersize=5, transform=foot, clip_on=False)
    crosses.set_in_layout(False)  # they hang over the panel's edge, and the layout would make room for them for ever
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
