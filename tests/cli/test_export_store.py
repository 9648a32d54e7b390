"""Closed months in a folder or a bucket: complete, once, and without a secret in any message."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from cli.export_store import open_store
from contracts.errors import BadInput, Unavailable
from tests.cli.test_bill import Run
from tests.cli.test_bill import ledger as ledger
from tests.cli.test_bill import run as run
from warehouse.client import Warehouse

pytestmark = pytest.mark.slow
SECRET = "s3cret-7f1e"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server in this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values = {
        "AWS_ACCESS_KEY_ID": "id-42", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def bucket(environment: dict[str, str]) -> Iterator[dict[str, bytes]]:
    """The objects of the bucket `finance`, read when they are asked for."""
    client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="finance")

    class Objects(dict[str, bytes]):
        def keys(self) -> list[str]:  # type: ignore[override]
            return [entry["Key"] for entry in client.list_objects_v2(Bucket="finance").get("Contents", [])]

        def __getitem__(self, key: str) -> bytes:
            return bytes(client.get_object(Bucket="finance", Key=key)["Body"].read())

    yield Objects()
    for key in Objects().keys():  # noqa: SIM118 (read from the server)
        client.delete_object(Bucket="finance", Key=key)
    client.delete_bucket(Bucket="finance")


def test_closed_months_are_in_a_bucket_under_their_names(run: Run, bucket: dict[str, bytes]) -> None:
    sha = json.loads(run("close", "2026-09", "--json").stdout)["lines_sha256"]
    result = run("export", "closed", "--to", "s3://finance/of/wattlog", "--format", "parquet", "--format", "focus")
    assert result.exit_code == 0, result.stderr
    stem = f"of/wattlog/2026-09.1-{sha[:12]}"
    assert sorted(bucket.keys()) == [f"{stem}.focus-1.4.zip", f"{stem}.parquet"]
    assert parquet.read_table(io.BytesIO(bucket[f"{stem}.parquet"])).num_rows == 2
    assert SECRET not in result.output


def test_a_second_run_writes_nothing_and_force_writes_the_same_bytes(run: Run, tmp_path: Path) -> None:
    run("close", "2026-09")
    command = ("export", "closed", "--to", str(tmp_path / "out"), "--format", "csv")
    assert run(*command).exit_code == 0
    (file,) = (tmp_path / "out").iterdir()
    before, at = file.read_bytes(), file.stat().st_mtime_ns
    assert "is there" in run(*command).stderr
    assert file.stat().st_mtime_ns == at
    assert run(*command, "--force").exit_code == 0
    assert file.read_bytes() == before
    exports = [e for e in json.loads(run("audit", "log", "--format", "json").stdout) if e["action"] == "export"]
    assert len(exports) == 2


def test_a_month_that_was_closed_again_is_a_second_file(run: Run, tmp_path: Path) -> None:
    command = ("export", "closed", "--to", str(tmp_path / "out"))
    run("close", "2026-09")
    run(*command)
    run("reopen", "2026-09", "--reason", "tariff")
    run("close", "2026-09")
    run(*command)
    assert sorted(path.name[:10] for path in (tmp_path / "out").iterdir()) == ["2026-09.1-", "2026-09.3-"]


def test_without_a_closed_month_nothing_is_written(run: Run, tmp_path: Path) -> None:
    result = run("export", "closed", "--to", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "No month is closed yet" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_tenants_part_is_a_file_of_its_own(run: Run, tmp_path: Path) -> None:
    run("close", "2026-09")
    run("export", "closed", "--to", str(tmp_path / "out"), "--tenant", "beta", "--format", "csv")
    (file,) = (tmp_path / "out").iterdir()
    assert file.name.endswith("-beta.csv")
    assert "acme" not in file.read_text()
    assert "no line of gamma" in run("export", "closed", "--to", str(tmp_path / "o"), "--tenant", "gamma").stderr


def test_lines_that_were_changed_are_no_file_and_end_with_status_1(run: Run, ledger: Warehouse, tmp_path: Path) -> None:
    run("close", "2026-09")
    ledger.command("ALTER TABLE closed_lines UPDATE amount = 1 WHERE 1 SETTINGS mutations_sync = 1")
    result = run("export", "closed", "--to", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "not those that were closed" in result.stderr
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"s3://id:{SECRET}@finance/x", "come from the environment"),
        (f"s3://finance/x?secret_key={SECRET}", "come from the environment"),
        ("gs://finance/x", "give a folder, or s3://BUCKET/PREFIX"),
        ("s3:///x", "give a folder, or s3://BUCKET/PREFIX"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_secret(address: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        open_store(address, {})
    assert SECRET not in str(refused.value)


def test_a_format_that_is_none_is_refused_by_name(run: Run) -> None:
    result = run("export", "closed", "--to", "x", "--format", "xls")
    assert result.exit_code == 2
    assert "cloudevents" in result.stderr


def content(file: BinaryIO) -> None:
    file.write(b"content")


def test_a_bucket_that_is_not_there_is_named(environment: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match=r"s3://nowhere/a/b\.csv"):
        open_store("s3://nowhere/a", environment).put("b.csv", content)


def test_a_store_that_does_not_answer_is_named_and_has_no_secret(environment: dict[str, str]) -> None:
    gone = open_store("s3://finance/a", environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable, match="s3://finance/a") as broken:
        gone.has("b.csv")
    assert SECRET not in str(broken.value)


def test_a_file_whose_writing_fails_is_not_stored(
    environment: dict[str, str], bucket: dict[str, bytes], tmp_path: Path
) -> None:
    def failing(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("broken")

    for store in (open_store("s3://finance/a", environment), open_store(str(tmp_path / "out"), {})):
        with pytest.raises(ValueError, match="broken"):
            store.put("b.csv", failing)
        assert not store.has("b.csv")
    assert bucket.keys() == []
    assert not list(tmp_path.glob("out/*"))


def test_a_file_of_many_parts_is_complete(environment: dict[str, str], bucket: dict[str, bytes]) -> None:
    store = open_store("s3://finance", environment)
    store.put("large", lambda file: file.writelines(bytes([n]) * 1_000_000 for n in range(25)))
    assert bucket["large"] == b"".join(bytes([n]) * 1_000_000 for n in range(25))
