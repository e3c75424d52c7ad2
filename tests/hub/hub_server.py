# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""A small Hugging Face Hub: enough of its HTTP interface for the real `huggingface_hub` client and for transformers.

    with HubServer(folder) as hub:
        subprocess.run([...], env=os.environ | hub.environment(home))

Model repositories with branches and commits, tokens and private repositories, preupload, LFS (one part, or several
above `part_size`), NDJSON commits, file listing, downloads with redirects, ETag and ranges. Blobs lie in `folder`.
Not there: Xet (the client is told to leave it by `HF_HUB_DISABLE_XET`), pull requests, data sets, Spaces. What it
does not know it answers with 501 and lists in `unknown`. It is as strict as the real one where that matters: a card's
licence and pipeline tag must exist there, an LFS file must have been uploaded before it is committed, hashes and
sizes are checked.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USER, TOKEN = "tester", "hf_test_token"
LFS_THRESHOLD = 10 * 2**20  # the Hub takes larger files through LFS, whatever their name
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".npz", ".wav", ".flac", ".png")
LICENSES = {"apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "mit", "other", "unknown"}
PIPELINE_TAGS = {"audio-classification", "audio-to-audio", "automatic-speech-recognition", "feature-extraction"}


@dataclass(frozen=True)
class Entry:
    """A file of one commit: the sha256 that names its blob in our folder, git's id, its size."""

    sha256: str
    git_oid: str
    size: int
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, Entry], message: str) -> str:
        state = json.dumps([len(self.commits), message, sorted((path, e.sha256) for path, e in files.items())])
        oid = hashlib.sha1(state.encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class HubServer:
    """The server, as a context manager. Clients use HTTP only; the attributes answer a test's questions."""

    def __init__(self, folder, part_size: int = 4 * 2**20):
        self.folder, self.part_size = Path(folder), part_size
        self.folder.mkdir(parents=True, exist_ok=True)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.parts: dict[tuple[str, int], bytes] = {}
        self.cut_after: dict[str, int] = {}  # sha256 -> bytes after which the next download breaks off
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        # another host to the client, which follows redirects within one and then misses the headers of the first
        self.storage_url = self.url.replace("127.0.0.1", "localhost")

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._http.shutdown()
        self._http.server_close()

    def environment(self, home, token: str | None = TOKEN) -> dict[str, str]:
        """Environment variables under which a new process talks to this Hub and shares no cache with anyone."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_TOKEN": token or "", "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}  # fmt: skip

    def blob(self, sha256: str) -> Path:
        return self.folder / sha256

    def store(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob(sha256).write_bytes(content)
        return sha256

    def files(self, repo_id: str, revision: str = "main") -> dict[str, Entry]:
        repository = self.repositories[repo_id]
        return repository.commits[repository.resolve(revision)]

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        return self.blob(self.files(repo_id, revision)[path].sha256).read_bytes()


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **headers):
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    # ---- plumbing ----
    def log_message(self, *args):
        pass

    def do_GET(self):
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self):
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.body = self._read_body()
        path = parts.path
        method = "GET" if self.command == "HEAD" else self.command
        self.hub.requests.append(f"{self.command} {unquote(path)}")
        try:
            for verb, pattern, handler in ROUTES:
                match = re.fullmatch(pattern, path)
                if verb == method and match:
                    # ids and revisions are quoted as one path segment each, so unquote after splitting
                    with self.hub.lock:
                        return handler(self, *(unquote(group or "") for group in match.groups()))
            self.hub.unknown.append(f"{self.command} {path}")
            raise _Refusal(501, f"this small Hub does not know {self.command} {path}")
        except _Refusal as refusal:
            self._reply({"error": refusal.message}, refusal.status, **refusal.headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _reply(self, content, status: int = 200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _user(self) -> str | None:
        return USER if self.headers.get("Authorization") == f"Bearer {TOKEN}" else None

    def _need_user(self):
        if self._user is None:
            raise _Refusal(401, "Invalid credentials in Authorization header")

    def _repository(self, repo_id: str, write: bool = False) -> Repository:
        repository = self.hub.repositories.get(repo_id)
        if write:
            self._need_user()
            if repo_id.split("/")[0] != USER:
                raise _Refusal(403, f"{USER} may not write to {repo_id}")
        if repository is None or (repository.private and self._user is None):
            # as the Hub does: whether a private repository exists is nobody's business
            raise _Refusal(404 if self._user else 401, "Repository not found", "RepoNotFound")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        oid = repository.resolve(revision or "main")
        if oid is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    # ---- accounts and repositories ----
    def whoami(self):
        self._need_user()
        self._reply({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self):
        self._need_user()
        wanted = json.loads(self.body)
        if wanted.get("type", "model") != "model":
            raise _Refusal(501, "models only")
        repo_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        if repo_id.split("/")[0] != USER:
            raise _Refusal(403, f"{USER} may not create {repo_id}")
        answer = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repositories:
            return self._reply(answer | {"error": "You already created this model repo"}, 409)
        repository = self.hub.repositories[repo_id] = Repository(wanted.get("visibility") == "private")
        repository.commit("main", {}, "initial commit")
        self._reply(answer)

    def branch(self, repo_id, name):
        repository = self._repository(repo_id, write=True)
        if name in repository.branches:
            raise _Refusal(409, f"Reference already exists: {name}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[name] = self._commit_of(repository, start)
        self._reply({})

    def info(self, repo_id, revision=""):
        repository = self._repository(repo_id)
        oid = self._commit_of(repository, revision)
        files = repository.commits[oid]
        card = _metadata(self.hub.blob(files["README.md"].sha256).read_text()) if "README.md" in files else {}
        self._reply({
            "_id": oid[:24], "id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0], "sha": oid,
            "private": repository.private, "disabled": False, "gated": False, "downloads": 0, "likes": 0,
            "cardData": card, "tags": card.get("tags", []), "pipeline_tag": card.get("pipeline_tag"),
            "library_name": card.get("library_name"), "siblings": [{"rfilename": path} for path in sorted(files)],
        })  # fmt: skip

    def tree(self, repo_id, revision, folder=""):
        repository = self._repository(repo_id)
        oid = self._commit_of(repository, revision)
        found, folder = {}, folder.strip("/")
        for path, entry in sorted(repository.commits[oid].items()):
            inside = path.removeprefix(f"{folder}/") if folder else path
            if folder and inside == path:
                continue
            head, _, rest = inside.partition("/")
            if rest:
                name = f"{folder}/{head}" if folder else head
                tree_id = hashlib.sha1(name.encode()).hexdigest()
                found[name] = {"type": "directory", "path": name, "oid": tree_id, "size": 0}
            if not rest or self.query.get("recursive", "").lower() in ("true", "1"):
                found[path] = _listing(path, entry)
        if folder and not found:
            raise _Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        self._reply(list(found.values()))

    # ---- upload ----
    def validate_yaml(self):
        wanted = json.loads(self.body)
        try:
            card = _metadata(wanted["content"])
        except yaml.YAMLError as error:
            return self._reply({"errors": [{"message": str(error)}], "warnings": []}, 400)
        errors = [
            {"message": f'"{key}" must be one of {sorted(known)}, got {card[key]!r}'}
            for key, known in (("license", LICENSES), ("pipeline_tag", PIPELINE_TAGS))
            if key in card and card[key] not in known
        ]
        for key in ("datasets", "tags", "metrics"):
            if not all(isinstance(value, str) for value in card.get(key) or []):
                errors.append({"message": f'"{key}" must be a list of strings'})
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        self._reply({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    def preupload(self, repo_id, revision):
        repository = self._repository(repo_id, write=True)
        files = repository.commits[self._commit_of(repository, revision)]
        answer = []
        for file in json.loads(self.body)["files"]:
            lfs = file["size"] > LFS_THRESHOLD or file["path"].endswith(LFS_SUFFIXES)
            known = files.get(file["path"])
            answer.append({"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False,
                           "oid": known.etag if known else None})  # fmt: skip
        self._reply({"files": answer})

    def lfs_batch(self, repo_id):
        self._repository(repo_id, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer = {"oid": oid, "size": size}
            if not self.hub.blob(oid).exists():
                upload = {"href": f"{self.hub.storage_url}/lfs/{oid}"}
                if size > self.hub.part_size:
                    numbers = range(1, -(-size // self.hub.part_size) + 1)
                    upload["header"] = {str(n): f"{self.hub.storage_url}/lfs/{oid}?part={n}" for n in numbers}
                    upload["header"]["chunk_size"] = str(self.hub.part_size)
                verify = {"href": f"{self.hub.url}/{repo_id}.git/info/lfs/verify"}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._reply({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if "part" in self.query:
            self.hub.parts[oid, int(self.query["part"])] = self.body
            return self._reply(b"", ETag=f'"{hashlib.md5(self.body).hexdigest()}"')
        self._keep(oid, self.body)
        self._reply(b"")

    def lfs_complete(self, oid):
        content = []
        for part in json.loads(self.body)["parts"]:
            piece = self.hub.parts.pop((oid, part["partNumber"]), None)
            if piece is None or part["etag"].strip('"') != hashlib.md5(piece).hexdigest():
                raise _Refusal(400, f"part {part['partNumber']} of {oid} is missing or damaged")
            content.append(piece)
        self._keep(oid, b"".join(content))
        self._reply({"success": True})

    def _keep(self, oid: str, content: bytes):
        if hashlib.sha256(content).hexdigest() != oid:
            raise _Refusal(400, f"the content uploaded for {oid} has another sha256")
        self.hub.store(content)

    def lfs_verify(self, repo_id):
        self._repository(repo_id, write=True)
        wanted = json.loads(self.body)
        blob = self.hub.blob(wanted["oid"])
        if not blob.exists() or blob.stat().st_size != wanted["size"]:
            raise _Refusal(404, f"{wanted['oid']} was not uploaded")
        self._reply({})

    def commit(self, repo_id, branch):
        repository = self._repository(repo_id, write=True)
        parent = self._commit_of(repository, branch)
        files, message = dict(repository.commits[parent]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", parent) != parent:
                    raise _Refusal(412, f"{branch} has moved on")
            elif item["key"] == "file":
                content = base64.b64decode(value["content"])
                git_oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                files[value["path"]] = Entry(self.hub.store(content), git_oid, len(content), lfs=False)
            elif item["key"] == "lfsFile":
                blob = self.hub.blob(value["oid"])
                if not blob.exists():
                    raise _Refusal(400, f"{value['path']}: LFS object {value['oid']} was not uploaded")
                pointer = hashlib.sha1(value["oid"].encode()).hexdigest()
                files[value["path"]] = Entry(value["oid"], pointer, blob.stat().st_size, lfs=True)
            elif item["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise _Refusal(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")
            else:
                raise _Refusal(501, f"operation {item['key']}")
        oid = repository.commit(branch, files, message)
        self._reply({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}"})

    # ---- download ----
    def resolve(self, repo_id, revision, path):
        repository = self._repository(repo_id)
        oid = self._commit_of(repository, revision)
        entry = repository.commits[oid].get(path)
        if entry is None:
            raise _Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": oid})
        headers = {"X-Repo-Commit": oid, "ETag": f'"{entry.etag}"'}
        if not entry.lfs:  # a relative redirect, which the client follows even for HEAD
            location = f"/api/resolve-cache/models/{repo_id}/{oid}/{path}"
            return self._reply(b"", 307, Location=location, **headers)
        linked = {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": entry.size}
        self._reply(b"", 302, Location=f"{self.hub.storage_url}/cdn/{entry.sha256}", **headers, **linked)

    def cached(self, repo_id, oid, path):
        entry = self._repository(repo_id).commits[oid][path]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{entry.etag}"', "Content-Type": "text/plain; charset=utf-8"}
        self._send(entry.sha256, **headers)

    def cdn(self, sha256):
        if self.headers.get("Authorization"):
            raise _Refusal(400, "storage takes signed addresses, and the user's token is none of its business")
        self._send(sha256, **{"ETag": f'"{sha256}"', "Content-Type": "application/octet-stream"})

    def _send(self, sha256: str, **headers):
        content = self.hub.blob(sha256).read_bytes()
        headers["Accept-Ranges"] = "bytes"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None and sha256 in self.hub.cut_after:
            headers["Content-Length"], self.close_connection = len(content), True
            return self._reply(content[: self.hub.cut_after.pop(sha256)], **headers)
        if wanted is None:
            return self._reply(content, **headers)
        begin, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if begin > end:
            raise _Refusal(416, "range not satisfiable", **{"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
        self.hub.requests.append(f"206 {sha256} from {begin}")
        self._reply(content[begin : end + 1], 206, **headers)


def _metadata(card: str) -> dict:
    """The YAML between the two `---` lines that begin a card."""
    match = re.match(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", card, re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}


def _listing(path: str, entry: Entry) -> dict:
    answer = {"type": "file", "path": path, "oid": entry.git_oid, "size": entry.size}
    return answer | ({"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.lfs else {})


ID = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("GET", rf"/api/resolve-cache/models/{ID}/(\w+)/(.+)", _Handler.cached),
    ("GET", rf"/api/models/{ID}", _Handler.info),
    ("GET", rf"/api/models/{ID}/revision/([^/]+)", _Handler.info),
    ("GET", rf"/api/models/{ID}/tree/([^/]+)(/.*)?", _Handler.tree),
    ("POST", rf"/api/models/{ID}/branch/([^/]+)", _Handler.branch),
    ("POST", rf"/api/models/{ID}/preupload/([^/]+)", _Handler.preupload),
    ("POST", rf"/api/models/{ID}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("POST", rf"/{ID}\.git/info/lfs/verify", _Handler.lfs_verify),
    ("PUT", r"/lfs/(\w+)", _Handler.lfs_put),
    ("POST", r"/lfs/(\w+)", _Handler.lfs_complete),
    ("GET", rf"/{ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET", r"/cdn/(\w+)", _Handler.cdn),
)
