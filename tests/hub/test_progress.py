"""What is said of work that takes long."""

from __future__ import annotations

import time

import pytest

from stemma.hub.progress import saying


def test_only_work_that_takes_long_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with saying("quick work", after=60):
        pass
    with saying("ended work", after=0.01) as ended:
        ended()
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
    with saying("long work", after=0.01):
        time.sleep(0.3)
    assert capsys.readouterr().err == "long work ...\n"
