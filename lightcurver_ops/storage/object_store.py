"""Raw frames in object storage (s3://): listed, downloaded into a local cache, verified, and never written.

Credentials come from where every S3 program looks for them: the environment (AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY), a profile (AWS_PROFILE), the machine's role.
"""

import base64
import errno
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.config.sections import Raw
from lightcurver_ops.errors import (
    BadFrame,
    ConfigurationError,
    FrameUnavailable,
    LightcurverError,
    TemporaryFailure,
)
from lightcurver_ops.storage.atomic import atomic_path, write_bytes

log = logging.getLogger(__name__)

_DOWNLOADS = 3
"""A download that is not what the store announced is repeated this often."""
_HEADER_BLOCK = 1 << 16
"""Bytes asked for at a time where only headers are read."""
_CONNECT_S, _READ_S = 10, 60
_LOCAL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_HOW_TO_SIGN = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or AWS_PROFILE, or give the machine a "
    "role"
)


def is_object(path: str | Path) -> bool:
    """Whether a raw file is an object in S3 storage."""
    return str(path).startswith("s3://")


@dataclass(frozen=True)
class StoredObject:
    """An object as the store announces it: URL, bytes, ETag (quoted, as S3 gives it)."""

    url: str
    size: int
    etag: str


@dataclass(frozen=True)
class ObjectStore:
    """An S3 store.

    endpoint_url: None: Amazon's, or what the environment says (AWS_ENDPOINT_URL); cache: directory of downloaded
    objects, None: none is downloaded; etag_is_md5: whether the ETag of an object can be used to verify it.
    """

    endpoint_url: str | None = None
    cache: Path | None = None
    etag_is_md5: bool = True

    def listed(self, url: str) -> list[StoredObject]:
        """All objects below a URL, in the order of their names; those whose names begin with a dot are left out.

        Raises:
            ConfigurationError: no such bucket, no right to list it, no credentials, s3fs is not installed.
            TemporaryFailure: the store does not answer.
        """
        bucket, prefix = _split(url)
        prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        found: list[StoredObject] = []
        with _explained(self, url, "list"):
            filesystem = self._filesystem()
            more: dict[str, str] = {}
            while True:
                page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
                for item in page.get("Contents", []):
                    name = PurePosixPath(item["Key"]).name
                    if not item["Key"].endswith("/") and not name.startswith("."):
                        found.append(StoredObject(f"s3://{bucket}/{item['Key']}", item["Size"], item["ETag"]))
                if not page.get("IsTruncated"):
                    return found
                more = {"ContinuationToken": page["NextContinuationToken"]}

    def exists(self, url: str) -> bool:
        """Whether there is such an object; errors as `listed`."""
        try:
            self._head(url)
        except BadFrame:
            return False
        return True

    def opened(self, url: str) -> "_RemoteFile":
        """An object as a file, read in small pieces as they are asked for: for headers. Errors as `fetched`."""
        with _explained(self, url, "read"):
            file = self._filesystem().open(url, "rb", block_size=_HEADER_BLOCK, cache_type="readahead")
        return _RemoteFile(self, url, file)

    def fetched(self, url: str) -> bytes:
        """The bytes of an object, from the cache, or downloaded into it and verified.

        Nothing enters the cache that is not, byte for byte, what the store announced: its size, its checksums, its
        ETag, the same before and after the download. What is in the cache is verified when it is read.

        Raises:
            BadFrame: there is no such object.
            FrameUnavailable: its bytes are not those that its checksum was made of, or it lies in an archive.
            ConfigurationError: no right to read it, no credentials, s3fs is not installed.
            TemporaryFailure: the store does not answer, or three downloads were not what it announced.
        """
        assert self.cache is not None
        head = self._head(url)
        path = (
            self.cache
            / f"{hash_of(self.endpoint_url, url, head['ETag'], head['ContentLength'])}_{_name(url)}"
        )
        content = self._cached(path)
        return self._download(url, head, path) if content is None else content

    def _cached(self, path: Path) -> bytes | None:
        about = path.with_name(f"{path.name}.json")
        try:
            expected = json.loads(about.read_bytes())["sha256"]
            content = path.read_bytes()
        except (OSError, ValueError, KeyError):  # none, or none that can be read
            return None
        if hashlib.sha256(content).hexdigest() == expected:
            return content
        log.warning("%s: the copy in the cache is damaged; it is downloaded again", path)
        return None

    def _download(self, url: str, head: dict[str, Any], path: Path) -> bytes:
        problem, seen = "", []
        for attempt in range(1, _DOWNLOADS + 1):
            try:
                with atomic_path(path) as temporary:
                    with _explained(self, url, "read"):
                        self._filesystem().get_file(url, str(temporary))
                    content = temporary.read_bytes()
                    seen.append((len(content), hashlib.sha256(content).hexdigest()))
                    verified = self._verified(url, content, head)
            except _Differs as difference:
                problem = str(difference)
                log.warning("%s: download %d of %d: %s", url, attempt, _DOWNLOADS, problem)
                if self._head(url)["ETag"] != head["ETag"]:
                    raise TemporaryFailure(
                        f"{url}: it was overwritten while it was downloaded; the next run takes it as it is then"
                    ) from None
                continue
            about = {
                "url": url,
                "endpoint_url": self.endpoint_url,
                "etag": head["ETag"],
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "verified_by": verified,
            }
            write_bytes(path.with_name(f"{path.name}.json"), json.dumps(about, indent=1).encode())
            return content
        hint = (
            "; if the ETags of this store are no MD5 sums (encryption that it does not tell of), set "
            "raw.s3_etag_is_md5: false"
            if "ETag" in problem
            else ""
        )
        if len(set(seen)) == 1 and seen[0][0] == head["ContentLength"]:  # so it is stored
            raise FrameUnavailable(
                f"{url}: the store holds other bytes than it announces: {problem}; it was not imported. Upload it again"
                f"{hint}"
            )
        raise TemporaryFailure(
            f"{url}: {_DOWNLOADS} downloads were not what the store announced: {problem}; nothing was imported. "
            f"Try again{hint}"
        )

    def _verified(self, url: str, content: bytes, head: dict[str, Any]) -> str:
        """By what a download was verified; raises _Differs where it is not what was announced."""
        if len(content) != head["ContentLength"]:
            raise _Differs(f"{len(content)} bytes instead of {head['ContentLength']}")
        proofs = ["size"]
        if head.get("ChecksumType") != "COMPOSITE":
            for name, digest in _CHECKSUMS.items():
                announced = head.get(name)
                if announced and "-" not in announced:
                    if digest(content) != announced:
                        raise _Differs(f"its {name.removeprefix('Checksum')} is not {announced}")
                    proofs.append(name.removeprefix("Checksum"))
        expected = self._etag_of(url, content, head) if len(proofs) == 1 else None
        if expected is not None:
            if expected != head["ETag"].strip('"'):
                raise _Differs(f"its MD5 sum {expected} is not its ETag {head['ETag']}")
            proofs.append("ETag")
        if len(proofs) == 1:  # no sum that can be computed here: at least it did not change meanwhile
            if self._head(url)["ETag"] != head["ETag"]:
                raise _Differs("it changed during the download")
            proofs.append("unchanged ETag")
        return ", ".join(proofs)

    def _etag_of(self, url: str, content: bytes, head: dict[str, Any]) -> str | None:
        """The ETag that S3 makes of these bytes; None where it is another kind of sum.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html: the MD5 sum, unless the object is encrypted
        with a key of its own; of an upload in parts the sum of the sums of the parts, and their number.
        """
        bucket, _ = _split(url)
        own_key = head.get("ServerSideEncryption", "AES256") != "AES256" or head.get("SSECustomerAlgorithm")
        match = re.fullmatch(r'"?[0-9a-f]{32}(?:-(\d+))?"?', head["ETag"])
        if not self.etag_is_md5 or own_key or bucket.endswith("--x-s3") or match is None:
            return None
        if match[1] is None:
            return hashlib.md5(content, usedforsecurity=False).hexdigest()
        try:
            sizes = [self._head(url, PartNumber=n + 1)["ContentLength"] for n in range(int(match[1]))]
        except LightcurverError:  # a store that knows no parts
            return None
        if sum(sizes) != len(content):  # or does not tell them
            return None
        sums, start = b"", 0
        for size in sizes:
            sums += hashlib.md5(content[start : start + size], usedforsecurity=False).digest()
            start += size
        return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{match[1]}"

    def _head(self, url: str, **what: Any) -> dict[str, Any]:
        bucket, key = _split(url)
        with _explained(self, url, "read"):
            return self._filesystem().call_s3(
                "head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED", **what
            )

    def _filesystem(self) -> Any:
        import fsspec

        settings = {
            "connect_timeout": _CONNECT_S,
            "read_timeout": _READ_S,
            "retries": {"max_attempts": 0},  # s3fs itself tries five times
            "response_checksum_validation": "when_required",  # done here, where the size is known too
        }
        return fsspec.filesystem(
            "s3", endpoint_url=self.endpoint_url, config_kwargs=settings, use_listings_cache=False
        )


class _RemoteFile:
    """A file of s3fs whose errors are ours."""

    def __init__(self, store: ObjectStore, url: str, file: Any):
        self._store, self._url, self._file = store, url, file

    def read(self, size: int = -1) -> bytes:
        with _explained(self._store, self._url, "read"):
            return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_RemoteFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def store_of(raw: Raw, workdir: Path | None = None) -> ObjectStore:
    """The store of a lens's raw frames; without a workdir, one that only lists."""
    cache = raw.cache_dir or (workdir / "raw_cache" if workdir is not None else None)
    return ObjectStore(raw.s3_endpoint_url, cache, raw.s3_etag_is_md5)


class _Differs(Exception):
    """A download is not what was announced."""


def _sum(name: str) -> Any:
    return lambda content: base64.b64encode(
        hashlib.new(name, content, usedforsecurity=False).digest()
    ).decode()


_CHECKSUMS: dict[str, Any] = {
    "ChecksumSHA256": _sum("sha256"),
    "ChecksumSHA1": _sum("sha1"),
    "ChecksumCRC32": lambda content: base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode(),
}


def _split(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def _name(url: str) -> str:
    """The name of an object as that of a file, its end, which has the suffixes."""
    return re.sub(r"[^\w.+-]", "_", PurePosixPath(url).name)[-80:]


@contextmanager
def _explained(store: ObjectStore, url: str, action: str) -> Iterator[None]:
    """The errors of s3fs, botocore and aiohttp in the words of errors.py; those of the local disk pass."""
    try:
        yield
    except LightcurverError:
        raise
    except ImportError as error:
        raise ConfigurationError(f"{url}: reading s3:// needs the package s3fs: {error}") from error
    except Exception as error:
        local = isinstance(error, OSError) and (error.errno in _LOCAL_DISK or error.filename is not None)
        if local or not _is_of_the_store(error):
            raise
        _raise(store, url, action, error)


def _is_of_the_store(error: Exception) -> bool:
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError
    from fsspec.exceptions import FSTimeoutError

    failures = OSError | ValueError | BotoCoreError | ClientError | aiohttp.ClientError | FSTimeoutError
    return isinstance(error, failures)


_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
}
_ELSEWHERE = {
    "PermanentRedirect",
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}


def _raise(store: ObjectStore, url: str, action: str, error: Exception) -> NoReturn:
    from botocore import exceptions as boto

    code = _code(error)
    bucket = _split(url)[0]
    where = f"at {store.endpoint_url}" if store.endpoint_url else "at Amazon's endpoint"
    said = without_secrets(str(error)) or type(error).__name__
    credentials = boto.NoCredentialsError | boto.PartialCredentialsError
    if isinstance(error, credentials):
        raise ConfigurationError(f"{url}: no credentials for the store were found: {_HOW_TO_SIGN}") from None
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError | boto.ConfigNotFound):
        raise ConfigurationError(
            f"{url}: the settings of AWS cannot be used: {said}; check AWS_PROFILE"
        ) from None
    if code in _CREDENTIALS:
        raise ConfigurationError(
            f"{url}: the store refuses the credentials ({code}: {said}): {_HOW_TO_SIGN}"
        ) from None
    if code == "RequestTimeTooSkewed":
        raise ConfigurationError(f"{url}: the clock of this machine is wrong: {said}; set it") from None
    if code == "InvalidObjectState":
        raise FrameUnavailable(
            f"{url}: it lies in an archive (storage class Glacier) and cannot be read: restore it in the store first"
        ) from None
    if code in _ELSEWHERE or (isinstance(error, OSError) and error.errno == getattr(errno, "EREMCHG", None)):
        raise ConfigurationError(
            f"{url}: the bucket {bucket} is in another region ({said}): set AWS_DEFAULT_REGION, or raw.s3_endpoint_url"
        ) from None
    if isinstance(error, PermissionError):
        right = "s3:ListBucket on the bucket" if action == "list" else "s3:GetObject on its objects"
        raise ConfigurationError(
            f"{url}: not allowed to {action} it {where} ({said}): give these credentials the right {right}, or use "
            "others"
        ) from None
    if isinstance(error, FileNotFoundError):
        if action == "list" or code == "NoSuchBucket":
            raise ConfigurationError(
                f"{url}: there is no bucket {bucket} {where}; check raw.raw_dirs and raw.s3_endpoint_url"
            ) from None
        raise BadFrame(f"{url}: does not exist (any more)") from None
    if isinstance(error, ValueError | boto.ParamValidationError | boto.InvalidRegionError) or code in {
        "InvalidBucketName"
    }:
        raise ConfigurationError(
            f"{url}: this cannot be read {where}: {said}; check the name of the bucket"
        ) from None
    raise TemporaryFailure(
        f"{url}: the store {where} does not answer as it should: {said}; try again"
    ) from None


def _code(error: BaseException) -> str:
    """S3's code of an error, which s3fs keeps in the cause."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def without_secrets(text: str) -> str:
    """A message of a library, without what may sign requests."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1***@", text)
    text = re.sub(r"(?i)((?:signature|credential|security-token|accesskeyid)=)[^&\s'\"]+", r"\1***", text)
    return re.sub(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b", "***", text)
