"""Push a folder that was made for it to the hub: all of it in one commit, read back afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from lora_backend.errors import first_line
from lora_backend.hub.hub_client import AGENT, CONNECT_S, HubAwayError, hub_token
from lora_backend.hub.hub_names import HubError
from lora_backend.hub.transfer import Transfer
from lora_backend.hub.upload_plan import PlannedUpload, planned_upload
from lora_backend.i18n import N_, Message
from lora_backend.runs.processes.job_progress import JobProgress, JobStoppedError
from lora_backend.runs.record.job_documents import ExportedFile, ExportRequest, ExportResult, Proof

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SILENCE_S = 120.0
"""A hub that commits many files may take its time."""
SUMMARY = "Upload from LoRA Flightdeck"


class _Sent(BufferedReader):
    """A file that tells how much of it was sent, and ends the upload where the job shall stop."""

    def __init__(self, path: Path, transfer: Transfer, before_bytes: int) -> None:
        super().__init__(FileIO(str(path)))
        self._transfer, self._before = transfer, before_bytes
        self.is_told = False
        """The library reads it once for the hash before it sends it."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.is_told:
            self._transfer.at(self._before + self.tell(), len(data))
        return data


def push(folder: Path, request: ExportRequest, progress: JobProgress) -> ExportResult:
    """Make the repository where there is none, private unless the request says otherwise, and commit the files of `folder`
    to it. A stop before the commit leaves the repository as it was, or empty.

    Raises `HubError` in one sentence for a token without rights, a repository that is public where a private one was asked
    for, and a hub that does not answer. The token is in nothing that is written.
    """
    plan = planned_upload(folder, request.repo_id, private=request.private)
    if plan.refusal:
        raise HubError(plan.refusal.template, **plan.refusal.values)
    progress.stage("uploading")
    import httpx2
    from huggingface_hub import HfApi, set_client_factory

    # The library's own waits for a silent hub without end.
    timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
    set_client_factory(lambda: httpx2.Client(follow_redirects=True, timeout=timeout))
    api = HfApi(endpoint=plan.endpoint, token=hub_token(), library_name=AGENT)
    with _in_sentences(plan):
        api.create_repo(plan.repo_id, private=plan.is_private, exist_ok=True)
        is_private = bool(api.model_info(plan.repo_id).private)
        if plan.is_private and not is_private:
            raise HubError(
                N_("{repo} already exists and is public. Push to another repository, or add --public."),
                repo=plan.repo_id,
            )
        commit = _upload(api, folder, plan, progress)
        progress.stage("checking")
        files, proof = _read_back(api, folder, plan, commit)
    page = f"{plan.endpoint}/{plan.repo_id}"
    private_note = Message(N_("The repository is private: only you and its organization can read it."))
    return ExportResult(
        to="hub",
        output=page,
        files=files,
        size_bytes=plan.total_bytes,
        proofs=[proof],
        notes=[private_note] if is_private else [],
        commands=[f"flightdeck download {plan.repo_id}"],
    )


def _upload(api: HfApi, folder: Path, plan: PlannedUpload, progress: JobProgress) -> str:
    """Send what is large file by file, then commit all at once. Returns the commit."""
    from huggingface_hub import CommitOperationAdd

    transfer, done, additions, opened = Transfer(progress, plan.total_bytes), 0, [], []
    try:
        for file in plan.files:
            sent = _Sent(folder / file.name, transfer, done)
            opened.append(sent)
            addition = CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=sent)
            sent.is_told = True
            api.preupload_lfs_files(plan.repo_id, additions=[addition])
            sent.is_told = False
            additions.append(addition)
            done += file.size_bytes
            transfer.at(done, 0)
        return str(api.create_commit(plan.repo_id, operations=additions, commit_message=SUMMARY).oid)
    finally:
        for sent in opened:
            sent.close()


def _read_back(api: HfApi, folder: Path, plan: PlannedUpload, commit: str) -> tuple[list[ExportedFile], Proof]:
    """What the hub has at the commit, held against the files here by hash."""
    said = api.model_info(plan.repo_id, revision=commit, files_metadata=True)
    theirs = {one.rfilename: (one.lfs.sha256 if one.lfs else one.blob_id) for one in said.siblings or []}
    files, wrong = [], []
    for file in plan.files:
        large, git = _hashes(folder / file.name, file.size_bytes)
        files.append(ExportedFile(name=file.name, size_bytes=file.size_bytes, sha256=large))
        if theirs.get(file.name) not in (large, git):
            wrong.append(file.name)
    values: dict[str, object] = {"count": len(files), "repo": plan.repo_id, "commit": commit[:12]}
    if wrong:
        message = Message(
            N_("{file} at {commit} of {repo} is not the file that was pushed. Push it again."),
            {**values, "file": wrong[0]},
        )
        return files, Proof(code="read_back", passed=False, message=message)
    message = Message(N_("All {count} files at {commit} of {repo} match the files here."), values)
    return files, Proof(code="read_back", passed=True, message=message)


def _hashes(path: Path, size_bytes: int) -> tuple[str, str]:
    """SHA-256, and git's SHA-1, by which the hub names small files."""
    large, git = hashlib.sha256(), hashlib.sha1(f"blob {size_bytes}\0".encode())  # noqa: S324 - git's own
    with path.open("rb") as file:
        while data := file.read(2**20):
            large.update(data)
            git.update(data)
    return large.hexdigest(), git.hexdigest()


@contextmanager
def _in_sentences(plan: PlannedUpload) -> Iterator[None]:
    """Let what the library raises be a sentence with a remedy; a stop stays one."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (httpx2.HTTPError, RuntimeError, ValueError) as error:
        cause: BaseException = error
        while not isinstance(cause, JobStoppedError | HubError | httpx2.HTTPError) and cause.__cause__:
            cause = cause.__cause__  # the library wraps what a file's own upload raised
        if isinstance(cause, JobStoppedError | HubError):
            raise cause from None
        if isinstance(cause, httpx2.TransportError):
            raise HubAwayError(plan.endpoint, first_line(cause)) from error
        raise _refused(cause.response.status_code if isinstance(cause, HfHubHTTPError) else 0, plan, cause) from error


def _refused(status: int, plan: PlannedUpload, error: BaseException) -> HubError:
    values = {"repo": plan.repo_id, "endpoint": plan.endpoint}
    if status == 401:
        return HubError(
            N_(
                "The hub at {endpoint} rejected the token. Create a new one at {endpoint}/settings/tokens and set `HF_TOKEN` to it."
            ),
            **values,
        )
    if status in (403, 404):
        return HubError(
            N_(
                "The token cannot write to {repo}. Create one with write access at {endpoint}/settings/tokens and set `HF_TOKEN` to it."
            ),
            **values,
        )
    return HubError(N_("The hub at {endpoint} refused the push: {reason}"), reason=first_line(error), **values)
