"""The disk that results are written to."""

from math import inf

from hpcens.result.disk import writing_speed


def test_the_speed_of_the_disk_is_tried_where_there_is_much_to_write_and_leaves_nothing(tmp_path):
    assert writing_speed(tmp_path, 1 << 20) == inf
    assert 0 < writing_speed(tmp_path, 1 << 30) < inf
    assert writing_speed(tmp_path / "none", 1 << 30) == inf
    assert list(tmp_path.iterdir()) == []
