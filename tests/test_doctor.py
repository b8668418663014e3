"""The doctor, asked on this machine and on one that was broken on purpose."""

import json
import os
import subprocess
import sys

from georama.verbs.doctor import Finding, Health, doctor

ASKED = {
    "versions",
    "libraries",
    "OpenMP",
    "GDAL",
    "PROJ",
    "processor",
    "cores",
    "memory",
    "disk here",
    "disk for data",
    "data kit",
    "weights",
}


def test_it_looks_at_everything_and_every_fault_has_a_cure_in_one_line():
    health = doctor()
    assert {finding.name for finding in health.findings} == ASKED
    for finding in health.findings:
        assert finding.found
        assert (finding.status == "ok") == (finding.cure == "")
        assert "\n" not in finding.cure


def test_json_and_text_say_the_same():
    health = Health((Finding("GDAL", "ok", "3.10"), Finding("PROJ", "fail", "no", "unset PROJ")))
    assert json.loads(health.to_json())["healthy"] is False
    assert json.loads(health.to_json())["findings"][1]["cure"] == "unset PROJ"
    assert health.to_text().splitlines() == [
        "ok    GDAL  3.10",
        "fail  PROJ  no",
        "            cure: unset PROJ",
        "1 of these must be mended first",
    ]


def test_a_broken_machine_is_told_by_the_exit_code(tmp_path):
    """Another program's PROJ folder and a skipped driver are the commonest real breakages."""
    broken = {**os.environ, "GDAL_SKIP": "COG", "GEORAMA_DATA": str(tmp_path / "kit")}
    done = subprocess.run(
        [sys.executable, "-c", "from georama.cli import main; main()", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=broken,
    )
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in said["findings"]}
    assert not said["healthy"]
    assert findings["GDAL"]["status"] == "fail"
    assert "GDAL_SKIP" in findings["GDAL"]["cure"]
    assert findings["data kit"]["status"] == "note"


def test_it_needs_no_torch():
    code = "from georama.verbs.doctor import doctor; doctor(); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "geopandas", "lightgbm"} & set(done.stdout.split())
