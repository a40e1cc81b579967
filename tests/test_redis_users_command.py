"""redis_acl where it cannot do what it was asked."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command


def test_a_rotation_without_a_folder_is_refused_and_never_silently_nothing(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.REDIS_USERS_DIR = ""
    with pytest.raises(SystemExit) as left:
        call_command("redis_acl", rotate=["p33"], separate="yes")
    assert left.value.code == 2
    told = capsys.readouterr()
    assert (told.out, "--passwords DIR" in told.err) == ("", True)
