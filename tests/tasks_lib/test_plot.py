"""The plot of a job's metrics: what is drawn and left out; the user's matplotlib state is not changed."""

from __future__ import annotations

import base64
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.reports.plot import MOST_PANELS, MOST_POINTS, downsampled, metrics_plot, metrics_svg

POINTS = [(1000.0 + second, 1.0 / (second + 1)) for second in range(30)]
SVG = "{http://www.w3.org/2000/svg}"


def panels(svg):
    """Return the number of panels in a picture; fail if it is not well-formed XML."""
    return len([each for each in ET.fromstring(svg).iter(f"{SVG}g") if each.get("id", "").startswith("axes_")])


def words(svg):
    """Return the texts of a picture, which matplotlib draws as outlines and notes in comments."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return [each.text.strip() for each in ET.fromstring(svg, parser).iter() if each.tag is ET.Comment]


def test_a_panel_for_each_metric_with_its_name_and_last_value():
    """Each metric has a panel with its name and last value, and with the time since the start."""
    svg = metrics_svg({"auc": POINTS, "loss": [(1003.0, 12.5)]}, start=990.0, title="fit-C1.0")

    assert panels(svg) == 2
    assert {"auc", "loss", "fit-C1.0", "0.03333", "12.5", "seconds since start"} <= set(words(svg))


@pytest.mark.parametrize(("last", "unit"), [(500, "seconds"), (3600, "minutes"), (20_000, "hours")])
def test_the_time_has_a_readable_unit(last, unit):
    """Long times are in minutes or hours; without a known start they count from the first value."""
    assert f"{unit} since first value" in words(metrics_svg({"auc": [(1000.0, 0.5), (1000.0 + last, 0.7)]}))


def test_a_start_behind_the_first_value_is_not_believed():
    """A start after the first value is ignored, since clocks of hosts may differ."""
    assert "seconds since first value" in words(metrics_svg({"auc": POINTS}, start=1001.0))


def test_names_are_no_formulas():
    """A dollar sign in a metric's name is not read as math text."""
    assert {"$x_", "a$b$"} <= set(words(metrics_svg({"$x_": POINTS, "a$b$": POINTS})))


def test_many_metrics_and_many_points_stay_a_small_picture():
    """Only the first dozen metrics are drawn, each with a limited number of points."""
    history = {f"m{number}": [(float(at), float(at % 7)) for at in range(10_000)] for number in range(30)}
    svg = metrics_svg(history)

    assert panels(svg) == MOST_PANELS
    assert len(svg) < 1_000_000


def test_nothing_to_draw_is_an_error():
    """A history without points raises `ValueError` instead of giving an empty picture."""
    for history in ({}, {"auc": []}):
        with pytest.raises(ValueError, match="no points"):
            metrics_plot(history)


def test_the_plot_is_an_address_that_a_browser_shows():
    """The plot is a `data:` URI that contains the SVG."""
    head, _, data = metrics_plot({"auc": POINTS}).partition(",")

    assert head == "data:image/svg+xml;base64"
    assert panels(base64.b64decode(data)) == 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5 * MOST_POINTS))
def test_thinning_keeps_ends_and_extremes(values):
    """Downsampling keeps the first, last, lowest and highest values in order, within the limit."""
    points = [(float(at), value) for at, value in enumerate(values)]
    kept = downsampled(points)

    assert len(kept) <= MOST_POINTS
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(values), max(values)} <= {value for _, value in kept}


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=5 * MOST_POINTS))
def test_thinning_keeps_that_something_diverged(values):
    """Downsampling keeps some of the values that are not finite, and the extremes of the others."""
    points = [(float(at), value) for at, value in enumerate(values)]
    kept = downsampled(points)
    finite = [value for value in values if math.isfinite(value)]

    assert len(kept) <= MOST_POINTS
    assert [at for at, _ in kept] == sorted({at for at, _ in kept})
    assert all(math.isfinite(value) for _, value in kept) == (len(finite) == len(values))
    assert {min(finite), max(finite)} <= {value for _, value in kept} if finite else True


def test_a_metric_that_diverged_is_drawn():
    """A metric that ends with NaN, or has no finite value, is drawn with its last value."""
    history = {"loss": [(1.0, 0.5), (9.0, math.nan), (19.0, math.inf), (29.0, math.nan)], "lost": [(1.0, math.nan)]}
    svg = metrics_svg(history)

    assert panels(svg) == 2
    assert words(svg).count("nan") == 2


def test_threads_draw_side_by_side():
    """Threads that plot at the same time each get their own metrics."""
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda number: metrics_svg({f"m{number}": POINTS}), range(8)))

    for number, svg in enumerate(pictures):
        assert [f"m{other}" for other in range(8) if f"m{other}" in words(svg)] == [f"m{number}"]


@pytest.mark.processes
def test_pyplot_is_left_alone():
    """Importing the module does not import matplotlib, and drawing a plot does not import pyplot."""
    program = (
        "import sys; from tasks_lib.reports.plot import metrics_svg; assert 'matplotlib' not in sys.modules;"
        "metrics_svg({'a': [(1.0, 2.0)]}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_values_printed_at_once_are_drawn_by_number():
    """If all values have nearly the same time, as for a very short job, the axis shows their numbers instead."""
    at_once = {"loss": [(100.0, 0.7), (100.0, 0.5), (100.01, 0.4)]}
    slowly = {"loss": [(100.0, 0.7), (101.0, 0.5), (103.0, 0.4)]}

    assert "value, by its number" in words(metrics_svg(at_once))
    assert "seconds since first value" in words(metrics_svg(slowly))
