"""The report: whole, escaped, self-contained, and alive in a browser without network."""

import html
import re
import shutil
import subprocess

import numpy as np
import pytest

import product_samples as samples
from georama.products.charts import Series, chart, draw_chart, number, round_steps
from georama.products.report import write_report

EVIL = "<script>window.evil=1</script>\"'&</title>"


@pytest.fixture(scope="module")
def places():
    return samples.cities()


@pytest.fixture(scope="module")
def mapped(places):
    return samples.mapped_of(places, (90, 180))


@pytest.fixture(scope="module")
def checked(places):
    return samples.checked_of(places)


@pytest.fixture(scope="module")
def page(places, mapped, checked, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    scores = samples.scores_of(checked)
    return write_report(path, mapped, places, checked, scores, samples.card())


@pytest.fixture
def browse(tmp_path):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")

    def run(path):
        """The page after its scripts ran; every request would meet a closed door."""
        words = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--proxy-server=127.0.0.1:9",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000",
            "--window-size=1280,2000", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        return html.unescape(done.stdout)

    return run


def with_script(page, tmp_path, script):
    text = page.read_text().replace("</body>", f"<script>{script}</script></body>")
    path = tmp_path / "probed.html"
    path.write_text(text)
    return path


def test_the_page_needs_nothing_from_outside(page):
    text = page.read_text()
    assert not re.search(r"""(src|href)\s*=|@import|url\(|https?://""", text)
    assert "default-src 'none'" in text
    assert page.stat().st_size < 6_000_000


def test_the_page_tells_what_it_should(page, checked):
    text = page.read_text()
    for words in (
        samples.scores_of(checked)["sentence"], "chosen", "baseline", "part of it", "Calibration",
        "Error against distance", "Truth against prediction", "By continent", "Check against other",
        "Leakage", "Model card", "Provenance", "georama map cities.csv", "sea is not mapped",
    ):  # fmt: skip
        assert html.escape(words, quote=False) in text, words


def test_the_best_of_each_column_is_bold(page):
    rows = re.findall(r"<tr class=.*?</tr>", page.read_text())
    assert len(rows) == 3
    assert sum(row.count("<b>") for row in rows) == 9


def test_strings_of_the_user_are_escaped(places, mapped, checked, tmp_path, browse):
    scores = samples.scores_of(checked)
    scores |= {"target": EVIL, "unit": EVIL, "sentence": EVIL, "notes": [EVIL], "encoder": EVIL}
    scores["chosen"] = scores["models"][0]["name"] = EVIL
    scores["models"][1]["role"] = EVIL
    scores["places"]["dropped"] = {EVIL: 3}
    scores["provenance"]["inputs"] = {EVIL + ".csv": "0"}
    scores["leakage"] = {EVIL: [EVIL, {EVIL: EVIL}]}
    scores["external"][0]["name"] = EVIL
    scores["intervals"]["by_continent"] = {EVIL: {"n": 1, EVIL: 0.5}}
    scores["applicability"]["rule"] = EVIL
    evil = mapped.assign_attrs(title=EVIL, target=EVIL, unit=EVIL)
    path = tmp_path / "evil.html"
    write_report(path, evil, places, checked, scores, {"name": EVIL, EVIL: EVIL})
    assert "<script>window.evil" not in path.read_text()

    script = "document.body.dataset.evil = String(window.evil)"
    assert 'data-evil="undefined"' in browse(with_script(path, tmp_path, script))

    classes = samples.classes_of(mapped)
    classes.attrs["classes"][2] = EVIL
    write_report(path, classes, places, checked.iloc[:0], scores, None)
    assert "<script>window.evil" not in path.read_text()
    assert 'data-evil="undefined"' in browse(with_script(path, tmp_path, script))


def test_the_map_answers_in_a_browser_without_network(page, mapped, tmp_path, browse):
    # A cell centre inland in Asia, and the open Atlantic.
    script = (
        "const add = (id, text) => { const p = document.createElement('p'); p.id = id;"
        "p.textContent = text; document.body.append(p); };"
        "document.querySelector('input[name=dots]').click();"
        "add('land', georama.tell(85, 45)); add('sea', georama.tell(-31, 31));"
        "for (const v of ['doubt', 'applicable', 'prediction'])"
        "document.querySelector(`input[value=${v}]`).click();"
        "document.getElementById('in').click();"
        "const c = document.querySelector('canvas');"
        "setTimeout(() => { const p = c.getContext('2d');"
        "const d = p.getImageData(0, 0, c.width, c.height).data;"
        "add('colours', new Set(new Uint32Array(d.buffer)).size);"
        "const e = document.documentElement; add('wide', e.scrollWidth - e.clientWidth) }, 500);"
    )
    shown = browse(with_script(page, tmp_path, script))
    assert 'data-ready="yes"' in shown
    known = float(mapped.prediction.sel(longitude=85, latitude=45, method="nearest"))
    told = re.search(r'<p id="land">(.*?)</p>', shown, re.DOTALL)
    assert told is not None
    value = re.search(r"annual_c: (−?[\d.]+) °C", told[1])
    assert value is not None
    assert float(value[1].replace("−", "-")) == pytest.approx(known, abs=0.6)
    assert "90 % interval" in told[1]
    assert "no prediction here" in re.findall(r'<p id="sea">(.*?)</p>', shown, re.DOTALL)[0]
    assert int(re.findall(r'id="colours">(\d+)', shown)[0]) > 100
    assert re.findall(r'id="wide">(-?\d+)', shown) == ["0"]


def test_a_narrow_screen_does_not_scroll_sideways(page, tmp_path, browse):
    script = (
        "const e = document.documentElement;"
        "parent.postMessage(`${e.scrollWidth} of ${e.clientWidth}`, '*')"
    )
    inner = with_script(page, tmp_path, script)
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<script>onmessage = (event) => { document.title = event.data }</script>"
        f'<iframe src="{inner.name}" style="width:400px;height:900px;border:0"></iframe>'
    )
    found = re.search(r"<title>(\d+) of (\d+)</title>", browse(outer))
    assert found is not None
    # A scroll bar may take some of the 400 pixels.
    assert 380 <= int(found[2]) <= 400
    assert found[1] == found[2]


def test_a_report_with_hardly_anything_is_still_written(mapped, checked, tmp_path):
    bare = {"sentence": "Nothing could be measured."}
    path = write_report(tmp_path / "r.html", mapped, None, checked.iloc[:0], bare, None)
    assert "Nothing could be measured." in path.read_text()
    assert "How good it is" not in path.read_text()
    odd = samples.scores_of(checked)
    odd["models"][0]["far"] = {"r2": float("nan"), "rmse": None}
    odd["calibration"] = []
    odd["error_by_distance"] = [{"km_from": 0, "km_to": None, "n": 3, "rmse": 1.0}]
    write_report(tmp_path / "o.html", mapped, None, checked, odd, samples.card())


def test_a_class_report_shows_the_confusion(mapped, places, checked, tmp_path):
    classes = samples.classes_of(mapped)
    names = classes.attrs["classes"]
    rows = checked.assign(
        truth=[names[i % 5] for i in range(len(checked))],
        prediction=[names[0] for _ in range(len(checked))],
    )
    path = write_report(tmp_path / "c.html", classes, places, rows, {}, None)
    assert "Confusion of classes" in path.read_text()


def test_shares_can_be_switched(mapped, places, checked, tmp_path):
    triples = {
        f"{part}_{name}": mapped[part] for name in ("crop", "town")
        for part in ("prediction", "lower", "upper")
    }  # fmt: skip
    shares = mapped[["applicable"]].assign(triples).assign_attrs(mapped.attrs)
    path = write_report(tmp_path / "s.html", shares, places, checked, {}, None)
    assert '<option value="1">town</option>' in path.read_text()


def test_numbers_are_short():
    told = {
        0: "0", 0.83333: "0.833", 9.0: "9", 17.256: "17.3", 1234.4: "1234", -1.5: "−1.5",
        12345.6: "12\u202f346", 2.5e9: "2.50e+09", float("nan"): "–", 999.7: "1000",
    }  # fmt: skip
    assert {value: number(value) for value in told if value == value} == {
        value: text for value, text in told.items() if value == value
    }


def test_a_chart_is_drawn_as_a_picture_too(tmp_path):
    lines = [Series("a", [1, 2, 3], [0.1, float("nan"), 0.3]),
             Series("b", [1, 3], [0.2, 0.2], style="guide")]  # fmt: skip
    path = draw_chart(tmp_path / "c.png", "Title", "x", "y", lines, x_ticks=[(1, "one")])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [one.name for one in tmp_path.iterdir()] == ["c.png"]


def test_charts_leave_out_what_is_not_finite():
    svg = chart("t<", "x", "y", [Series("a", [0, 1, np.nan], [1, np.inf, 2], "dots")])
    assert svg.count('r="2.6"') == 1
    assert "t&lt;" in svg
    assert "nan" not in svg
    assert round_steps(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
