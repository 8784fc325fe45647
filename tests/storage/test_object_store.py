"""Objects in S3 storage, over real connections: nothing is read that the store did not announce, nothing is written."""

import base64
import gzip
import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.errors import BadFrame, ConfigurationError, FrameUnavailable, TemporaryFailure
from lightcurver_ops.storage.object_store import ObjectStore, without_secrets
from lightcurver_ops.storage.raw import file_hash, read_raw, read_raw_header
from tests.stores import SECRET

CONTENT = bytes(np.random.default_rng(3).integers(0, 256, 300_000, dtype=np.uint8))
PIXELS = np.arange(4800.0, dtype=np.float32).reshape(60, 80)


@pytest.fixture
def store(s3, tmp_path) -> ObjectStore:
    return ObjectStore(s3.endpoint, tmp_path / "cache")


@pytest.fixture
def behind(proxy, tmp_path) -> ObjectStore:
    """The store as it is seen through the proxy."""
    return ObjectStore(proxy.address, tmp_path / "cache")


def fits_bytes(tmp_path, name="a.fits"):
    hdu = fits.PrimaryHDU(PIXELS)
    hdu.header["EXPTIME"] = 60.0
    hdu.writeto(tmp_path / name)
    return (tmp_path / name).read_bytes()


def cached(store):
    """What the cache holds: names of whole files and of temporary ones."""
    return sorted(path.name for path in store.cache.iterdir()) if store.cache.exists() else []


def about(store):
    (path,) = store.cache.glob("*.json")
    return json.loads(path.read_text())


# Listing


def test_objects_below_a_directory_and_no_others(s3, store):
    names = ["lens/2/b.fits", "lens/a.fits", "lens/odd name+#%µ.fits"]
    for key in [*names, "lens2/c.fits", "len", "lens/.hidden.fits", "lens/empty/"]:
        s3.put(key, b"x")
    listed = store.listed(s3.url("lens"))
    assert [item.url for item in listed] == [s3.url(key) for key in names]
    assert {(item.size, item.etag) for item in listed} == {(1, f'"{hashlib.md5(b"x").hexdigest()}"')}
    assert store.listed(f"{s3.url('lens')}/") == listed
    assert len(store.listed(s3.url())) == 5
    assert store.listed(s3.url("nothing")) == []
    assert store.fetched(listed[2].url) == b"x"


def test_more_objects_than_a_page_holds(s3, proxy, behind):
    """Pages of the server's size, asked for one after the other."""
    import boto3

    for number in range(7):
        s3.put(f"lens/{number}.fits", b"x")
    session = boto3.client("s3", endpoint_url=s3.endpoint)
    assert session.list_objects_v2(Bucket=s3.bucket, MaxKeys=3)["IsTruncated"]
    filesystem = behind._filesystem()
    original = filesystem.call_s3
    try:
        filesystem.call_s3 = lambda method, **settings: original(method, **settings, MaxKeys=3)
        assert [item.url[-6] for item in behind.listed(s3.url("lens"))] == list("0123456")
    finally:
        del filesystem.call_s3
    assert sum("list-type=2" in path for _, path in proxy.requests) == 3


# Downloads


@pytest.mark.parametrize(
    ("settings", "proof"),
    [
        ({"ChecksumAlgorithm": "SHA256"}, "size, SHA256"),
        ({"ChecksumAlgorithm": "SHA1"}, "size, SHA1"),
        ({"ChecksumAlgorithm": "CRC32"}, "size, CRC32"),
    ],
)
def test_downloads_are_verified_by_the_checksum_of_the_store(s3, store, settings, proof):
    s3.put("a.fits", CONTENT, **settings)
    assert store.fetched(s3.url("a.fits")) == CONTENT
    assert (about(store)["verified_by"], about(store)["url"]) == (proof, s3.url("a.fits"))
    assert about(store)["sha256"] == hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def without_checksums(s3, monkeypatch):
    """A client that uploads as those did that knew no checksums but MD5."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=s3.endpoint, config=Config(request_checksum_calculation="when_required")
    )


def test_downloads_are_verified_by_the_etag(s3, store, without_checksums):
    without_checksums.put_object(Bucket=s3.bucket, Key="a.fits", Body=CONTENT)
    assert store.fetched(s3.url("a.fits")) == CONTENT
    assert about(store)["verified_by"] == "size, ETag"


def uploaded_in_parts(s3, client, key="a.fits"):
    """An object of two parts, the first of the least size that S3 takes."""
    parts = [os.urandom(5 << 20), os.urandom(100_000)]
    upload = client.create_multipart_upload(Bucket=s3.bucket, Key=key)["UploadId"]
    done = [
        {"PartNumber": n, "ETag": client.upload_part(
            Bucket=s3.bucket, Key=key, UploadId=upload, PartNumber=n, Body=part)["ETag"]}
        for n, part in enumerate(parts, 1)
    ]  # fmt: skip
    client.complete_multipart_upload(
        Bucket=s3.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
    )
    return parts


def test_uploads_in_parts_are_verified_by_the_sums_of_their_parts(s3, store, without_checksums):
    parts = uploaded_in_parts(s3, without_checksums)
    assert store.listed(s3.url())[0].etag.endswith('-2"')
    assert store.fetched(s3.url("a.fits")) == b"".join(parts)
    assert about(store)["verified_by"] == "size, ETag"


def test_a_spoiled_upload_in_parts_is_noticed(s3, proxy, behind, without_checksums):
    uploaded_in_parts(s3, without_checksums)
    proxy.faults = [flipped] * 3
    with pytest.raises(FrameUnavailable, match=r"its MD5 sum [0-9a-f]{32}-2 is not its ETag"):
        behind.fetched(s3.url("a.fits"))
    assert cached(behind) == []


@pytest.mark.parametrize("told", [[5_342_880] * 2, []])
def test_without_a_sum_that_can_be_checked_the_object_must_not_change_meanwhile(
    s3, proxy, behind, without_checksums, told
):
    """As of stores that do not tell the sizes of parts, or know no parts."""
    parts = uploaded_in_parts(s3, without_checksums)
    proxy.parts = told
    assert behind.fetched(s3.url("a.fits")) == b"".join(parts)
    assert about(behind)["verified_by"] == "size, unchanged ETag"


def test_the_cache_answers_until_the_object_is_overwritten(s3, proxy, behind):
    s3.put("a.fits", CONTENT)
    for _ in range(3):
        assert behind.fetched(s3.url("a.fits")) == CONTENT
    assert sum(method == "GET" for method, _ in proxy.requests) == 1
    s3.put("a.fits", CONTENT[::-1])
    assert behind.fetched(s3.url("a.fits")) == CONTENT[::-1]
    assert len(cached(behind)) == 4


def test_a_damaged_copy_in_the_cache_is_replaced(s3, store, caplog):
    s3.put("a.fits", CONTENT)
    store.fetched(s3.url("a.fits"))
    (path,) = [path for path in store.cache.iterdir() if path.suffix == ".fits"]
    path.write_bytes(CONTENT[:-10])
    assert store.fetched(s3.url("a.fits")) == CONTENT
    assert path.read_bytes() == CONTENT
    assert "the copy in the cache is damaged; it is downloaded again" in caplog.text


def test_objects_of_one_name_have_copies_of_their_own(s3, store):
    s3.put("one/a.fits", b"one")
    s3.put("two/a.fits", b"two")
    assert [store.fetched(s3.url(f"{key}/a.fits")) for key in ("one", "two", "one")] == [
        b"one",
        b"two",
        b"one",
    ]


# Faults of the connection and of the store


def flipped(body):
    return body[:-1] + bytes([body[-1] ^ 1])


def cut(body):
    return body[: len(body) // 2]


@pytest.mark.parametrize(
    ("fault", "lies"), [(cut, False), (cut, True), (flipped, True), (lambda _: b"", True)]
)
def test_one_spoiled_download_is_repeated(s3, proxy, behind, fault, lies):
    s3.put("a.fits", CONTENT)
    proxy.faults, proxy.lies = [fault], lies
    assert behind.fetched(s3.url("a.fits")) == CONTENT
    assert proxy.faults == []


@pytest.mark.parametrize("lies", [False, True])
def test_downloads_that_always_end_early(s3, proxy, behind, lies):
    s3.put("a.fits", CONTENT)
    proxy.faults, proxy.lies = [cut] * 50, lies
    with pytest.raises(TemporaryFailure) as caught:
        behind.fetched(s3.url("a.fits"))
    told = str(caught.value)
    if lies:
        assert f"downloads were not what the store announced: 150000 bytes instead of {len(CONTENT)}" in told
    assert cached(behind) == []


def test_downloads_that_differ_from_each_other(s3, proxy, behind):
    s3.put("a.fits", CONTENT)
    proxy.faults, proxy.lies = [flipped, lambda body: b"?" + body[1:], flipped], True
    with pytest.raises(TemporaryFailure, match=r"its CRC32 is not .*; nothing was imported. Try again"):
        behind.fetched(s3.url("a.fits"))
    assert cached(behind) == []
    assert behind.fetched(s3.url("a.fits")) == CONTENT  # the next run


def test_an_object_that_is_not_what_its_checksum_says(s3, proxy, behind, without_checksums):
    without_checksums.put_object(Bucket=s3.bucket, Key="a.fits", Body=CONTENT)
    proxy.faults, proxy.lies = [flipped] * 3, True
    with pytest.raises(FrameUnavailable) as caught:
        behind.fetched(s3.url("a.fits"))
    assert "the store holds other bytes than it announces: its MD5 sum" in str(caught.value)
    assert str(caught.value).endswith(
        "Upload it again; if the ETags of this store are no MD5 sums (encryption that it does not tell of), set "
        "raw.s3_etag_is_md5: false"
    )
    assert cached(behind) == []
    proxy.faults = [flipped]
    trusting = ObjectStore(behind.endpoint_url, behind.cache, etag_is_md5=False)
    assert trusting.fetched(s3.url("a.fits")) == flipped(CONTENT)


def test_an_object_that_is_overwritten_during_the_download(s3, proxy, behind):
    s3.put("a.fits", CONTENT)

    def overwrite():
        proxy.before_download = None
        s3.put("a.fits", CONTENT[::-1])

    proxy.before_download = overwrite
    with pytest.raises(TemporaryFailure, match="overwritten while it was downloaded; the next run takes it"):
        behind.fetched(s3.url("a.fits"))
    assert cached(behind) == []
    assert behind.fetched(s3.url("a.fits")) == CONTENT[::-1]


def test_an_object_in_an_archive(s3, proxy, behind):
    s3.put("a.fits", CONTENT)
    proxy.archived = True
    with pytest.raises(FrameUnavailable, match=r"lies in an archive .* restore it in the store first"):
        behind.fetched(s3.url("a.fits"))


@pytest.mark.parametrize("action", ["listed", "fetched"])
def test_a_store_that_does_not_answer(s3, proxy, behind, action):
    proxy.silent = True
    with pytest.raises(
        TemporaryFailure, match=f"the store at {proxy.address} does not answer as it should: .*try again"
    ):
        getattr(behind, action)(s3.url("a.fits"))


def test_a_cache_that_cannot_be_written_is_not_the_fault_of_the_store(s3, tmp_path):
    s3.put("a.fits", CONTENT)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"could not be written: .*choose another path"):
        ObjectStore(s3.endpoint, tmp_path / "file/cache").fetched(s3.url("a.fits"))


# Buckets, rights, credentials


def test_what_is_not_there(s3, store):
    with pytest.raises(
        ConfigurationError, match=r"there is no bucket nosuch at http.*check raw.raw_dirs and"
    ):
        store.listed("s3://nosuch/lens")
    with pytest.raises(BadFrame, match=r"s3://.*/none.fits: does not exist \(any more\)"):
        store.fetched(s3.url("none.fits"))
    assert not store.exists(s3.url("none.fits"))
    s3.put("there.done", b"")
    assert store.exists(s3.url("there.done"))


@pytest.fixture
def user(s3, s3_endpoint, monkeypatch):
    """Somebody who may read the objects below open/ and list nothing, on a server that minds."""
    import boto3
    import s3fs
    from moto.core import set_initial_no_auth_action_count

    s3.put("open/a.fits", CONTENT)
    s3.put("closed/a.fits", CONTENT)
    iam = boto3.client("iam", endpoint_url=s3_endpoint)
    iam.create_user(UserName=s3.bucket)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{s3.bucket}/open/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=s3.bucket, PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName=s3.bucket)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    s3fs.S3FileSystem.clear_instance_cache()
    return set_initial_no_auth_action_count(0)


def test_what_is_forbidden(s3, store, user):
    @user
    def look():
        assert store.fetched(s3.url("open/a.fits")) == CONTENT
        with pytest.raises(ConfigurationError, match=r"not allowed to list it at .*the right s3:ListBucket"):
            store.listed(s3.url("open"))
        with pytest.raises(ConfigurationError, match=r"not allowed to read it at .*the right s3:GetObject"):
            store.fetched(s3.url("closed/a.fits"))

    look()


def test_credentials_that_the_store_does_not_know(s3, store, user, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    s3fs.S3FileSystem.clear_instance_cache()

    @user
    def look():
        with pytest.raises(
            ConfigurationError, match=r"refuses the credentials \(InvalidAccessKeyId"
        ) as caught:
            store.listed(s3.url())
        assert "AKIA" not in str(caught.value)

    look()


def test_no_credentials_and_a_profile_that_is_not_there(s3, store, monkeypatch):
    import s3fs

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        ConfigurationError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
    ):
        store.listed(s3.url())
    monkeypatch.setenv("AWS_PROFILE", "nosuch")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        ConfigurationError, match=r"the settings of AWS cannot be used: .*nosuch.*; check AWS_PROFILE"
    ):
        store.listed(s3.url())


def test_no_secret_is_told(s3, proxy, behind, caplog):
    """Neither in messages nor in logs, not even in those of s3fs at their most talkative."""
    s3.put("a.fits", CONTENT)
    told = []
    with caplog.at_level(logging.DEBUG, "s3fs"), caplog.at_level(logging.DEBUG, "lightcurver_ops"):
        behind.fetched(s3.url("a.fits"))
        proxy.faults, proxy.lies = [flipped] * 3, True
        s3.put("b.fits", CONTENT)
        for url in (s3.url("b.fits"), "s3://nosuch/a", s3.url("none")):
            with pytest.raises((BadFrame, ConfigurationError)) as caught:
                behind.fetched(url) if url != "s3://nosuch/a" else behind.listed(url)
            told.append(str(caught.value))
        proxy.silent = True
        with pytest.raises(TemporaryFailure) as failure:
            behind.listed(s3.url())
        told.append(str(failure.value))
    text = "\n".join([caplog.text, *told, *(path.read_text() for path in behind.cache.glob("*.json"))])
    assert "head_object" in caplog.text
    assert SECRET not in text
    assert "a-key-of-the-observatory" not in text


def test_what_may_sign_requests_is_taken_out_of_messages():
    text = (
        "Could not connect to https://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI@s3.example.org/a?X-Amz-Credential=AKIA123/x&"
        "X-Amz-Signature=abcdef&list=2 for ASIAIOSFODNN7EXAMPLE"
    )
    assert without_secrets(text) == (
        "Could not connect to https://***@s3.example.org/a?X-Amz-Credential=***&X-Amz-Signature=***&list=2 for ***"
    )


# As raw frames


def test_a_frame_is_read_as_from_a_disk(s3, store, tmp_path):
    content = fits_bytes(tmp_path)
    s3.put("a.fits", content)
    s3.put("a.fits.gz", gzip.compress(content))
    for name in ("a.fits", "a.fits.gz"):
        image = read_raw(s3.url(name), store=store)
        np.testing.assert_array_equal(image.data, PIXELS)
        assert read_raw_header(s3.url(name), store=store)["EXPTIME"] == 60.0
    assert read_raw(s3.url("a.fits"), store=store).sha256 == hashlib.sha256(content).hexdigest()
    assert file_hash(s3.url("a.fits"), store) == hashlib.sha256(content).hexdigest()


def test_a_header_costs_no_more_than_its_beginning(s3, proxy, behind, tmp_path):
    fits.PrimaryHDU(np.zeros((1000, 500), np.float32)).writeto(tmp_path / "large.fits")
    s3.put("large.fits", (tmp_path / "large.fits").read_bytes())
    sizes = []

    def count(body):
        sizes.append(len(body))
        return body

    proxy.faults = [count] * 20
    assert read_raw_header(s3.url("large.fits"), store=behind)["NAXIS1"] == 500
    assert 0 < sum(sizes) < 300_000  # of 2 MB
    assert cached(behind) == []


def test_headers_that_cannot_be_had(s3, proxy, behind, tmp_path):
    s3.put("text.fits", b"<html>404 not found</html>")
    with pytest.raises(BadFrame, match="not a FITS file"):
        read_raw_header(s3.url("text.fits"), store=behind)
    with pytest.raises(BadFrame, match="does not exist"):
        read_raw_header(s3.url("none.fits"), store=behind)
    s3.put("a.fits", fits_bytes(tmp_path))
    proxy.silent = True
    with pytest.raises(TemporaryFailure, match="does not answer as it should"):
        read_raw_header(s3.url("a.fits"), store=behind)


def test_a_file_that_is_no_frame_is_told_by_its_url(s3, store):
    s3.put("text.fits", b"<html>404 not found</html>")
    with pytest.raises(BadFrame, match=r"s3://.*text.fits: not a FITS file: it starts with b'<html>404'"):
        read_raw(s3.url("text.fits"), store=store)


def test_objects_are_never_changed(s3, store, tmp_path):
    s3.put("a.fits", fits_bytes(tmp_path))
    before = s3.state()
    store.listed(s3.url())
    read_raw(s3.url("a.fits"), store=store)
    read_raw_header(s3.url("a.fits"), store=store)
    store.exists(s3.url("a.fits.done"))
    assert s3.state() == before


def test_only_reading_requests_are_sent(s3, proxy, behind, tmp_path):
    s3.put("a.fits", fits_bytes(tmp_path))
    behind.listed(s3.url())
    read_raw(s3.url("a.fits"), store=behind)
    assert {method for method, _ in proxy.requests} == {"GET", "HEAD"}


def test_without_s3_nothing_of_it_is_imported(tmp_path):
    (tmp_path / "a.fits").write_bytes(b"x")
    program = (
        "import sys\n"
        "from lightcurver_ops.config.sections import Raw\n"
        "from lightcurver_ops.stages.raw_listing import list_raw_files\n"
        "from lightcurver_ops.operations import arrivals, watching\n"
        "from lightcurver_ops.storage import raw\n"
        f"assert len(list_raw_files(Raw(raw_dirs=[{str(tmp_path)!r}]))) == 1\n"
        "print([name for name in ('s3fs', 'boto3', 'botocore', 'aiobotocore', 'aiohttp') if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout == "[]\n"


def test_without_the_package_for_it(s3, store, monkeypatch):
    from fsspec.registry import (
        register_implementation,  # the package's attribute of this name is another object
    )

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(register_implementation.__globals__["_registry"], "s3", raising=False)
    with pytest.raises(ConfigurationError, match="reading s3:// needs the package s3fs"):
        store.listed(s3.url())


def test_checksums_are_those_of_the_documentation():
    """As `aws s3api put-object --checksum-algorithm` computes them."""
    from lightcurver_ops.storage.object_store import _CHECKSUMS

    assert _CHECKSUMS["ChecksumCRC32"](b"123456789") == base64.b64encode(bytes.fromhex("cbf43926")).decode()
    assert _CHECKSUMS["ChecksumSHA256"](b"") == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
