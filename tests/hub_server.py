"""A hub on this machine: the few pages that the hub's own client asks for."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Hub", "commit_of", "serving"]


def commit_of(revision: str) -> str:
    """The commit that a revision is on this hub."""
    return hashlib.sha1(revision.encode()).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    """One model, by revision; by name, others that are gated, missing or broken.

    As on the hub itself, what a gated revision is may be known, but none of its files.
    """

    revisions: dict[str, Path]
    gated: set[str]
    moved: dict[str, str]

    def commit(self, revision: str) -> str:
        """The commit that a revision is, also after it has moved."""
        return self.moved.get(revision, commit_of(revision))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        page = self.path.partition("?")[0]
        if "gated" in page:
            self.answer(403, {"X-Error-Code": "GatedRepo"})
        elif "absent" in page:
            self.answer(404, {"X-Error-Code": "RepoNotFound"})
        elif "broken" in page:
            self.answer(418, {})
        elif "hangs-up" in page:
            self.close_connection = True
        elif page.endswith("/refs"):
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": self.commit(name)}
                for name in self.revisions
            ]
            self.answer_json({"branches": branches, "tags": [], "converts": []})
        elif (revision := self.asked(page)) is None:
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif "/resolve/" in page and revision in self.gated:
            self.answer(403, {"X-Error-Code": "GatedRepo"})
        else:
            self.answer_of(self.revisions[revision], self.commit(revision), page)

    def asked(self, page: str) -> str | None:
        """The revision of which a page is; main where none is named."""
        parts = page.split("/")
        named = [parts[parts.index(word) + 1] for word in ("revision", "resolve", "tree") if word in parts]
        by_commit = {self.commit(revision): revision for revision in self.revisions}
        name = by_commit.get(named[0], named[0]) if named else "main"
        return name if name in self.revisions and self.revisions[name].is_dir() else None

    def answer_of(self, files: Path, commit: str, page: str) -> None:
        names = [file.name for file in files.iterdir()]
        if "/tree/" in page:
            sizes = {name: (files / name).stat().st_size for name in names}
            self.answer_json([{"type": "file", "path": name, "size": sizes[name], "oid": f"{name}0"} for name in names])
        elif "/resolve/" in page:
            name = page.rpartition("/")[2]
            told = {"ETag": f'"{commit[:8]}{name}"', "X-Repo-Commit": commit}
            self.answer(200, told, (files / name).read_bytes())
        else:
            siblings = [{"rfilename": name} for name in names]
            self.answer_json({"id": "someone/model", "sha": commit, "siblings": siblings})

    def answer_json(self, value: object) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def serving(revisions: dict[str, Path], gated: set[str], moved: dict[str, str] | None = None) -> Iterator[str]:
    """A hub with the folders of a model's revisions, listed also where there is none; its address.

    ``moved`` has the commits of those that are others than at first. All arguments may change meanwhile.
    """
    handler = type("Serving", (Hub,), {"revisions": revisions, "gated": gated, "moved": {} if moved is None else moved})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
