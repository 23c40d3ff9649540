"""Fixtures of profiling."""

import pytest

from hpcens.profiling.book import ProfileBook


@pytest.fixture
def book(tmp_path):
    return ProfileBook(tmp_path / "profiles")
