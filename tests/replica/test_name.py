from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelstore.errors import UsageError
from modelstore.replica.name import ReplicaName


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:hush@bucket/path",
        "nats://hush@host:4222/bucket",
        "s3://bucket/path?access-key-id=hush",
        "s3://bucket/path?secretAccessKey=hush",
        "abs://account@container/hush",
        "s3://bucket/path?endpoint=http://user:hush@127.0.0.1:8333",
        "s3://bucket/path#hush",
        "s3:///hush",
        "https://bucket/hush",
        "s3://bucket/hush path",
        "s3://[hush/path",
        "s3://bucket/" + "hush" * 1000,
    ],
)
def test_a_url_with_a_secret_or_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        ReplicaName.parse(url)
    assert "hush" not in refused.value.message
    assert "hush" not in (refused.value.hint or "")


def test_settings_stay_in_the_url_and_out_of_what_is_shown() -> None:
    url = (
        "s3://bucket/fleet/den?endpoint=http://127.0.0.1:8333&region=us-east-1&forcePathStyle=true"
    )
    name = ReplicaName.parse(url)
    assert name.url == url
    assert name.shown == "s3://bucket/fleet/den"
    assert name.directory is None
    assert name.below("box").url == url.replace("/den", "/den/box")


def test_a_configuration_is_named_by_its_path(tmp_path: Path) -> None:
    config = tmp_path / "litestream.yml"
    config.write_text("dbs: []\n")
    assert ReplicaName.parse(str(config)) == ReplicaName(config=str(config))
    with pytest.raises(UsageError):
        ReplicaName.parse(str(tmp_path / "none.yml"))


def test_a_replica_in_files_has_a_directory() -> None:
    assert ReplicaName.parse("file:///srv/replica").directory == "/srv/replica"


@given(st.text(max_size=200))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    try:
        name = ReplicaName.parse(f"s3://{text}")
    except UsageError:
        return
    assert name.shown.isprintable()
    assert "@" not in name.shown.split("/")[2]
