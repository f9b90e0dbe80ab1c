"""The picture of a life shows every record, within its frame."""

from __future__ import annotations

import re

from kilotune.report.life_page import Beat, LifeData, render_life


def data(**changed: object) -> LifeData:
    beats = [Beat(None, 0.0, None, False, False, 1, None)] * 4
    beats += [Beat(0.1 * t, 2.0, None, False, False, 1 + t // 3, 0.2) for t in range(6)]
    beats += [Beat(0.2, 1.5, 0.3, True, False, 4, 0.1)] * 10
    beats += [Beat(5.0, 1.5, 4.5, True, True, 4, 0.1)] * 3
    values: dict[str, object] = {
        "title": "A <life>", "subtitle": "twin", "story": ("One.", "Two."), "beats": tuple(beats),
        "healthy": 12, "anchor": 4.0,
        "header": ("scored by", "false"), "rows": (("the device", "0"),), "notes": ("note & more",),
    }  # fmt: skip
    return LifeData(**(values | changed))  # type: ignore[arg-type]


def test_every_record_that_was_judged_is_drawn_by_what_it_is() -> None:
    page = render_life(data())
    first = page[page.index("<svg") : page.index("</svg>")]
    dots = dict(re.findall(r'<path d="([^"]*)" class="dots (\w+)"', first))
    counted = {name: path.count("M") for path, name in dots.items()}
    assert counted == {"healthy": 16, "fault": 3}
    assert first.count('class="phase"') == 2  # phases 2 and 3, which begin between records; the 4th
    assert page.count("<svg") == 4  # score and distance, each for wide and narrow pages


def test_everything_lies_within_the_frame() -> None:
    page = render_life(data())
    for width, height, body in re.findall(r'viewBox="0 0 (\d+) (\d+)".*?>(.*?)</svg>', page, re.DOTALL):
        for x, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", body):
            assert 0 <= float(x) <= float(width)
            assert 0 <= float(y) <= float(height)


def test_what_comes_from_outside_is_text() -> None:
    page = render_life(data())
    assert "A &lt;life&gt;" in page
    assert "note &amp; more" in page
    assert "http" not in page


def test_a_life_that_was_never_judged_is_drawn_too() -> None:
    beats = (Beat(None, 0.0, None, False, False, 1, None),) * 5
    assert "<svg" in render_life(data(beats=beats, healthy=0))
