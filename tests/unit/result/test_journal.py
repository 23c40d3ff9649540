"""The journal."""

from hypothesis import given
from hypothesis import strategies as st

from hpcens.result.disk import Disk
from hpcens.result.journal import RECORD_BYTES, Header, Journal, Kind, Record, read_journal


@given(st.integers(0, 6 * RECORD_BYTES), st.binary(max_size=100))
def test_a_torn_journal_keeps_exactly_its_whole_records(tmp_path_factory, cut, garbage):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(Disk(), path, Header(1, "id", "working-0001.h5", 9))
    records = [Record(Kind.INHERITED), *(Record(Kind.WRITTEN, segment=i, checksum=i * 7, time=1.0) for i in range(5))]
    journal.append(records)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 6 * RECORD_BYTES + cut] + garbage)
    kept = read_journal(path).written()
    assert list(kept)[: max(0, cut // RECORD_BYTES - 1)] == list(range(max(0, cut // RECORD_BYTES - 1)))
    assert all(kept[s].checksum == s * 7 for s in kept if s < 5)
