"""The pages of a real run and its plan, opened in a real browser where there is one, without any network."""

import shutil
import subprocess

import pytest
from support.pages import check_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_a_browser_shows_the_pages_of_a_run(project, tmp_path):
    project.yaml("output: {datasets: [prediction, label, disagreement]}")
    out = project.hpcens("run", "dataset.h5", "--trace", "trace.json")
    assert "labels: class " in out and "members' agreement: " in out
    assert out.count("predicted") == 2, "by the plan, and beside what was reached"
    project.hpcens("report", "dataset.predictions.h5", "-o", "report.html")
    project.hpcens("plan", "dataset.h5", "--html", "plan.html")
    for page, titles in (
        ("report.html", ["Ranks over time", "Rows/s over time", "Predictions and uncertainties", "Provenance"]),
        ("plan.html", ["Which device runs which member", "Memory"]),
    ):
        check_page((project.folder / page).read_text())
        shown = browse(project.folder, page, "--dump-dom")
        assert all(f"<h2>{title}</h2>" in shown for title in titles)
        browse(project.folder, page, "--screenshot=page.png", "--window-size=1000,2000")
        assert (project.folder / "page.png").stat().st_size > 30_000  # a blank one has a tenth


def browse(folder, page, *options):
    """Open a page in a browser that finds no host; what it prints."""
    isolated = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [BROWSER, *isolated, f"--user-data-dir={folder / 'browser'}", *options, f"file://{folder / page}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
