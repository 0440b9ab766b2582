"""Branches, experiments, plots and clones of a team, as README.md and docs/dvc.md show them."""

import json
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from experiments.compare.__main__ import main as compare
from stages.training.history import METRICS, PREFIXES
from tests.project import MODEL, ROOT, SCORES, Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def status(project: Project) -> str:
    return project.git("status", "--porcelain")


@pytest.mark.slow
def test_a_wider_network_on_a_branch_is_compared_and_merged(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "wide")
    project.set({"model": {"hidden_units": [32]}})
    assert status(project) == " M params.yaml\n"
    output = project.run("make", "repro", "VENV=")
    for stage, runs in (("normalize", False), ("train", True), ("evaluate", True)):
        assert (f"Running stage '{stage}'" in output) == runs
    project.commit("A wider network")
    assert status(project) == ""

    difference = json.loads(project.dvc("metrics", "diff", "main", "--json"))
    assert "metrics/train/metrics.json" in difference
    change = difference[SCORES]["baseline_error"]
    assert change["old"] == json.loads(project.git("show", f"main:{SCORES}"))["baseline_error"]
    assert change["new"] == json.loads(project.read(SCORES))["baseline_error"]
    assert change["diff"] != 0
    check_plots(json.loads(project.dvc("plots", "diff", "main", "--json"))["data"])
    output = project.run("make", "--silent", "compare", "A=main", "B=wide", "VENV=")
    assert "model.hidden_units  [8]  [32]" in output
    assert "B is better" in output
    assert status(project) == ""

    project.git("checkout", "--quiet", "main")
    project.dvc("checkout", "--quiet")
    assert "up to date" in project.dvc("status")
    project.git("merge", "--quiet", "wide")
    project.dvc("checkout", "--quiet")
    assert project.repro() == ([], [])
    assert status(project) == ""


def check_plots(panels: dict[str, list[dict[str, Any]]]) -> None:
    """Checks that one panel has each curve and each prediction of both revisions once."""
    drawn = []
    for name, (panel, *others) in panels.items():
        assert bool(others) == name.endswith(".png")  # a picture of each revision
        drawn += [] if others else [panel["content"]]
    assert "<DVC_METRIC" not in json.dumps(drawn)  # a placeholder of a template
    rows = [row for content in drawn for row in content["data"]["values"]]
    for revision in ("main", "workspace"):
        points = [row for row in rows if row["rev"] == revision]
        for metric in METRICS:
            first = [row["split"] for row in points if metric in row and row["step"] == 1]
            assert first == list(PREFIXES)
        assert sum("predicted" in row for row in points) == 1_000


@pytest.mark.slow
def test_queued_experiments_are_compared_applied_or_made_branches(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers run them, for a user who has a token of DVC Studio."""
    changes = ("-S", "train.epochs=1", "-S", "model.hidden_units=[16,9],[9]")
    project.dvc("exp", "run", "--queue", "--name", "wider", *changes)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        environment = {
            "DVC_STUDIO_TOKEN": "secret",
            "DVC_STUDIO_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
            "DVC_STUDIO_REPO_URL": "https://example.org/a/b.git",
        }
        # Into a file: the workers would keep a pipe open until they exit, ten seconds later.
        start = "dvc queue start --jobs 2 > .dvc/tmp/started 2>&1"
        project.run("sh", "-c", start, environment=environment)
        project.wait_for_queue(2)
        with pytest.raises(BlockingIOError):  # nothing has connected
            server.accept()
    assert status(project) == ""

    rows = project.experiments()
    units = {name: row["params"]["params.yaml"]["data"]["model"] for name, row in rows.items()}
    assert units == {"wider-1": {"hidden_units": [16, 9]}, "wider-2": {"hidden_units": [9]}}
    errors = {row["metrics"][SCORES]["data"]["baseline_error"] for row in rows.values()}
    assert len(errors) == 2
    for row in rows.values():
        assert row["metrics"]["metrics/train/metrics.json"]["data"]["step"] == 1

    project.dvc("exp", "branch", "wider-1", "wide")
    assert status(project) == ""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["compare", "wider-1", "wide"])
    compare()
    assert "Same parameters" in capsys.readouterr().out

    project.dvc("exp", "apply", "wider-1")
    changed = [line.split()[1] for line in status(project).splitlines()]
    assert {"params.yaml", "dvc.lock", SCORES} <= set(changed)
    project.commit("Apply the wider network")
    assert project.repro() == ([], [])
    assert status(project) == ""


@pytest.mark.slow
def test_a_browser_without_a_network_draws_all_plots(project: Project, browser: "Browser") -> None:
    from playwright.sync_api import expect

    _, section = (ROOT / "docs/dvc.md").read_text().split("\n## Plots\n")
    documented = re.findall(r"^\$ (.+)$", section, re.MULTILINE)
    assert [command.split()[0] for command in documented] == ["uv", "python", "dvc"]
    for command in documented[1:]:  # requirements-dev.txt has what uv installs
        project.run("sh", "-c", command)
    project.dvc("plots", "diff", "main")

    with browser.new_context(offline=True) as context:
        page = context.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda problem: problems.append(str(problem)))
        page.goto((project.folder / "dvc_plots/index.html").as_uri())
        panels = page.locator(".vega-embed svg.marks")
        expect(panels).to_have_count(3)  # loss, accuracy, confusion
        for panel in panels.all():
            assert panel.locator("path").count() >= 20  # axes, lines, points, cells
        assert problems == []
        pictures = page.locator("img")
        assert pictures.count() == 6  # two revisions of plots/*.png
        for picture in pictures.all():
            assert picture.evaluate("image => image.naturalWidth") > 100


def test_a_clone_as_git_for_windows_makes_it_has_nothing_modified(
    project: Project, tmp_path: Path
) -> None:
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", "-c", "core.autocrlf=true", ".", str(clone.folder))
    clone.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    clone.dvc("checkout", "--quiet")
    assert "up to date" in clone.dvc("status")
    assert status(clone) == ""

    # Without .gitattributes git would write CRLF, and each stage would be modified.
    clone.git("rm", "--quiet", ".gitattributes")
    (clone.folder / "stages/train.py").unlink()
    clone.git("checkout", "--quiet", "--", "stages/train.py")
    assert "stages/train.py" in clone.dvc("status")


def test_the_stages_write_the_same_line_ends_on_every_system() -> None:
    calls = [
        call
        for path in (ROOT / "stages").rglob("*.py")
        for call in re.findall(r"\.(?:write_text|to_csv)\(.*", path.read_text())
    ]
    assert calls
    assert all('newline="\\n"' in call or 'lineterminator="\\n"' in call for call in calls)


def test_a_model_edited_in_place_is_restored_from_the_cache(project: Project) -> None:
    """DVC makes files read-only, which does not stop root. A hard link would change the cache."""
    path = project.folder / MODEL
    original = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"edited")
    assert path.read_bytes() != original
    assert MODEL in project.dvc("status")
    project.dvc("checkout", "--force", MODEL)
    assert path.read_bytes() == original
    assert "up to date" in project.dvc("status")
