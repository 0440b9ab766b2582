"""What lies around the project: git's line ends, hard links, a token of a service."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import MODEL, ROOT, TRAIN, Project, activated


def test_a_clone_as_git_for_windows_makes_it_has_nothing_modified(
    project: Project, tmp_path: Path
) -> None:
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", "-c", "core.autocrlf=true", ".", str(clone.folder))
    clone.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    clone.dvc("checkout", "--quiet")
    assert "up to date" in clone.dvc("status")
    assert clone.git("status", "--porcelain") == ""

    # Without .gitattributes every stage would be modified.
    clone.git("rm", "--quiet", ".gitattributes")
    (clone.folder / "stages/train.py").unlink()
    clone.git("checkout", "--quiet", "--", "stages/train.py")
    assert "stages/train.py" in clone.dvc("status")


def test_what_the_stages_write_says_its_line_ends() -> None:
    """Else they would be those of the system, and so would the MD5s."""
    written = [
        call
        for path in (ROOT / "stages").rglob("*.py")
        for call in re.findall(r"\.(?:write_text|to_csv)\(.*", path.read_text())
    ]
    assert written
    assert all('newline="\\n"' in call or 'lineterminator="\\n"' in call for call in written)


def test_a_model_edited_in_place_is_brought_back(project: Project) -> None:
    """As root edits it, whom no permission stops; with hard links the cache would change too."""
    path = project.folder / MODEL
    true = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"edited")
    assert path.read_bytes() != true
    assert MODEL in project.dvc("status")
    project.dvc("checkout", "--force", MODEL)
    assert path.read_bytes() == true
    assert "up to date" in project.dvc("status")


class Studio(http.server.BaseHTTPRequestHandler):
    """A service that takes whatever is posted, and remembers it."""

    posted: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append(json.loads(body).get("type", "?"))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def studio() -> Iterator[tuple[dict[str, str], list[str]]]:
    """The environment of a person who has a token of DVC's service, and what comes in there."""
    posted: list[str] = []
    handler = type("Handler", (Studio,), {"posted": posted})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield (
            {
                "DVC_STUDIO_TOKEN": "secret",
                "DVC_STUDIO_URL": f"http://127.0.0.1:{server.server_port}",
                "DVC_STUDIO_REPO_URL": "https://example.org/a/b.git",
            },
            posted,
        )
        server.shutdown()


@pytest.mark.long
def test_nothing_is_posted_to_a_service(
    project: Project, studio: tuple[dict[str, str], list[str]]
) -> None:
    environment, posted = studio
    assert not any(name.startswith("DVC_") for name in activated())
    project.run(*TRAIN, environment=environment)
    run = ("dvc", "exp", "run", "--temp", "-S", "train.epochs=1")
    project.run(*run, environment=environment)
    assert posted == []

    # It comes in where somebody has asked for it.
    project.dvc("config", "--local", "studio.offline", "false")
    project.run(*run, environment=environment)
    assert posted
