from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modelstore.database.filesystem import Mount, mount_of, mount_table, placement_warnings
from tests.database.outside import IS_ROOT, crashed

TABLE = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /mnt/with\\040space rw - nfs4 server:/export\\040x rw
31 22 0:27 / /mnt/share rw,nosuid - cifs //host/share rw
32 22 0:28 / /home/me/.cache/doc rw - fuse.portal portal rw
33 22 0:29 / /shared rw master:1 propagate_from:2 - virtiofs workspace rw
34 22 254:1 /data/app.db /srv/app.db rw - ext4 /dev/vda1 rw
35 22 0:30 / /mnt/tmp rw - tmpfs tmpfs rw
36 35 0:31 / /mnt/tmp rw - 9p hostshare rw
37 22 0:32 / /mnt/\\303\\251 rw - ext4 /dev/vdb rw
malformed line
"""


@pytest.fixture
def mounts() -> tuple[Mount, ...]:
    table = mount_table(TABLE)
    assert table is not None
    return table


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/models.db", "ext4"),
        ("/mnt/with space/models.db", "nfs4"),
        ("/mnt/with spaces/models.db", "ext4"),
        ("/mnt/share/deep/models.db", "cifs"),
        ("/mnt/sharemodels.db", "ext4"),
        ("/home/me/.cache/doc/models.db", "fuse.portal"),
        ("/shared/models.db", "virtiofs"),
        ("/mnt/tmp/models.db", "9p"),  # the last mount on a point hides the earlier
        ("/mnt/é/models.db", "ext4"),
    ],
)
def test_the_mount_of_a_path(mounts: tuple[Mount, ...], path: str, kind: str) -> None:
    found = mount_of(path, mounts)
    assert found is not None
    assert found.type == kind


def test_a_name_that_is_no_text_is_kept() -> None:
    table = mount_table("37 22 0:32 / /mnt/\\377x rw - ext4 /dev/vdb rw\n")
    assert table is not None
    assert os.fsencode(table[0].point) == b"/mnt/\xffx"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/srv/models.db", None),
        ("/mnt/with space/models.db", "nfs4"),
        ("/mnt/share/models.db", "cifs"),
        ("/home/me/.cache/doc/x.db", "fuse.portal"),
        ("/shared/models.db", "virtiofs"),
        ("/mnt/tmp/models.db", "9p"),
        ("/srv/app.db", "mount point"),
    ],
)
def test_risky_places_are_warned_of(
    mounts: tuple[Mount, ...], path: str, words: str | None
) -> None:
    warnings = placement_warnings(path, mounts)
    assert len(warnings) == (words is not None)
    assert all(words is not None and words in warning for warning in warnings)


@pytest.mark.skipif(not IS_ROOT, reason="only root may mount")
def test_a_single_file_bind_mount_is_seen(tmp_path: Path) -> None:
    source = crashed(tmp_path / "host.db")
    target = tmp_path / "app.db"
    target.touch()
    mounted = subprocess.run(
        ["mount", "--bind", source, target], capture_output=True, check=False
    ).returncode
    if mounted:
        pytest.skip("this machine does not let root mount")
    try:
        assert any("mount point" in warning for warning in placement_warnings(str(target)))
    finally:
        subprocess.run(["umount", target], check=True)
