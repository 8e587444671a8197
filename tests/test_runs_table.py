import json
import math
from pathlib import Path

import pytest

from plateau_interp.runs.errors import DamagedFile, RunError
from plateau_interp.runs.table import RowWriter, Table, text_of

ROWS = [{"step": step, "samples": 8 * step + 8, "loss": 2.5, "cosine": math.nan} for step in (0, 2, 4)]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    (tmp_path / "metrics.jsonl").write_text(text_of(ROWS))
    return Table(tmp_path / "metrics.jsonl", every=2)


def line(**changes: object) -> str:
    return json.dumps({"step": 2, "samples": 24, "loss": 2.5, **changes})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(loss="2.5"), "loss is '2.5', not a number"),
        (line(cosine={"mean": 1}), "cosine is {'mean': 1}, not a number"),
        (line(cosine=[0.5]), r"cosine is \[0.5\], not a number"),
        (line(cosine=True), "cosine is True, not a number"),
        (line(loss=10**30), "'1000000000000000000000000000000' is too large a number"),
        (line()[:-1] + ', "cosine": ' + "9" * 5000 + "}", r"'9+\.\.\.9+' is too large a number"),
        (line(loss=math.nan), "NaN is no JSON; what is no number is null"),
        (line(loss=-math.inf), "-Infinity is no JSON"),
        (line().replace("2.5", "1e999"), "loss is a number that is too large"),
        (line(step=2.0), "step is 2.0, not a whole number"),
        (line(step=None), "step is None, not a whole number"),
        (line(samples=-1), "samples is -1, not a whole number"),
        (line(step=0), "step 0 comes again; expected step 2"),
        (line(step=3), "step 2 is missing: this is step 3"),
        (line(step=4), "step 2 is missing: this is step 4"),
        ('{"step": 2, "samples": 24}', "it has no loss"),
        ('{"samples": 24, "loss": 1.0}', "it has no step"),
        ("null", "it is no row of metrics: None"),
        ("[1]", r"it is no row of metrics: \[1\]"),
        ("", "it is no JSON: ''"),
        ("{" + "x" * 500, r"it is no JSON: '{x+\.\.\.x+'"),
        ("[" * 100_000, r"it is no JSON: '\[+\.\.\.\[+'"),
        ("\udcff", "it is no text in UTF-8"),
    ],
)
def test_a_line_that_is_no_row_is_told_with_file_and_number(table: Table, text: str, reason: str) -> None:
    first, _, third = text_of(ROWS).splitlines()
    content = f"{first}\n{text}\n{third}\n".encode(errors="surrogateescape")
    table.file.write_bytes(content)
    for _ in range(2):  # a fault is not remembered as a table
        with pytest.raises(DamagedFile, match=rf"metrics\.jsonl, line 2, is damaged: {reason}") as caught:
            table.rows()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_rows_are_read_as_they_were_written(table: Table) -> None:
    assert text_of(table.rows()) == text_of(ROWS)
    assert list(table.frame()["step"]) == [0, 2, 4]
    assert table.frame()["cosine"].isna().all()


def test_a_last_line_without_its_end_does_not_count(table: Table) -> None:
    with table.file.open("a") as file:
        file.write('{"step": 6, "lo')
    assert len(table.rows()) == 3


def test_rows_that_are_missing_at_the_end_are_told(table: Table) -> None:
    assert len(table.rows(reached=6)) == 3
    with pytest.raises(RunError, match=r"has 3 rows before step 7, not the expected 4: one for every 2 steps from 0"):
        table.rows(reached=7)


def test_it_is_parsed_once_and_new_rows_are_seen(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    read, times = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda file: times.append(1) or read(file))
    for _ in range(3):
        table.rows()
        table.frame()
    assert len(times) == 1
    with RowWriter(table.file, there=ROWS) as writer:
        for step in (6, 8):
            writer.add({"step": step, "samples": 8, "loss": 1.0})
            assert table.frame()["step"].iloc[-1] == step
    assert len(times) == 3
    table.replace(ROWS[:1])
    assert len(table.frame()) == 1
    changed = text_of(ROWS[:1]).replace("2.5", "3.5")  # as long as before
    table.replace(tuple(json.loads(row) for row in changed.replace("null", "0").splitlines()))
    assert table.frame()["loss"].item() == 3.5
    table.file.unlink()
    assert table.frame().empty


def test_a_table_that_somebody_got_is_theirs_to_change(table: Table) -> None:
    frame = table.frame()
    frame["loss"] = 0.0
    frame.loc[0, "cosine"] = 0.0
    assert list(table.frame()["loss"]) == [2.5, 2.5, 2.5]


def test_a_full_disk_is_told_with_the_file(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with RowWriter(table.file, there=ROWS) as writer:
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*metrics\.jsonl'"):
            writer.force()
