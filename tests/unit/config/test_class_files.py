"""Class names from a text file mean what the same names written out mean."""

import pytest
from support.configuration import HEAD, loaded, told

OWN = HEAD.replace("    weights: a.safetensors\n", "    weights: a.safetensors\n    classes: own.txt\n", 1)


def test_names_are_read_in_their_order_whatever_ends_the_lines(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\ndog \r\ngrüne Gans\r\n\r\n".encode())
    read = loaded(tmp_path / "run.yaml", HEAD + "classes: names.txt")
    assert read == loaded(tmp_path / "run.yaml", HEAD + "classes: [cat, dog, grüne Gans]")


def test_a_member_has_them_in_its_own_order(tmp_path):
    (tmp_path / "own.txt").write_text("dog\ncat")
    assert loaded(tmp_path / "run.yaml", OWN + "classes: [cat, dog]").members[0].classes == {"dog": "dog", "cat": "cat"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, 'run.yaml:8: classes: "names.txt": no such file; name a file with a class a line'),
        (b"cat\n\ndog", 'run.yaml:8: classes: "names.txt": line 2 is empty'),
        (b"\xff\xfe", 'run.yaml:8: classes: "names.txt": is not UTF-8 text'),
        (b"cat", "run.yaml:8: classes: needs at least 2 classes"),
        (b"cat\ncat", "run.yaml:8: classes"),
        (b"x" * (1 << 22) + b"\nx", "is larger than"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_at_the_key(tmp_path, content, message):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    assert message in told(tmp_path / "run.yaml", HEAD + "classes: names.txt")
