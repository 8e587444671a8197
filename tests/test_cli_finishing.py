"""`plateau train` and `plateau fork` with `--log`."""

import struct
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from plateau_interp.cli.finishing import read_loggers
from plateau_interp.cli.main import main
from plateau_interp.loggers import contract
from plateau_interp.loggers.tensorboard import TensorBoard
from plateau_interp.loggers.wandb import WeightsAndBiases

SIZES = "--n 4 --p 7 --d-model 16 --batch-size 4 --n-sequences 2 --checkpoint-every 2 --steps 4"


def test_words_are_loggers() -> None:
    assert read_loggers(["tensorboard", "wandb:project=mine,mode=offline"]) == (
        TensorBoard(),
        WeightsAndBiases(project="mine", mode="offline"),
    )
    assert read_loggers([]) == ()


def accumulated(run: Path) -> EventAccumulator:
    there = EventAccumulator(str(run / "tensorboard"), size_guidance={IMAGES: 0})
    there.Reload()
    return there


@pytest.mark.slow
def test_a_run_and_its_fork_are_logged_with_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, fork = tmp_path / "run", tmp_path / "fork"
    train = ["train", "moving-window-sum", *SIZES.split(), "--log", "tensorboard", "--out", str(run)]
    assert main(train) == 0
    assert main(train) == 0  # the same command again
    assert main(["fork", str(run), "--at", "2", "--hook", "--log", "tensorboard", "--out", str(fork)]) == 0
    for folder in (run, fork):
        there = accumulated(folder)
        assert [event.step for event in there.Scalars("loss")] == [0, 1, 2, 3]
        pictures = sorted((folder / "report").glob("*.png"))
        assert pictures
        assert there.Tags()["images"] == [f"report/{picture.stem}" for picture in pictures]
        for picture in pictures:
            (image,) = there.Images(f"report/{picture.stem}")
            size = struct.unpack(">II", picture.read_bytes()[16:24])
            assert (image.step, (image.width, image.height)) == (4, size)
    assert "warning" not in capsys.readouterr().err


class Broken(contract.Log):
    def row(self, step, numbers) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("default::plateau_interp.loggers.run_log.LoggerWarning")
def test_a_logger_that_fails_is_told_in_a_line_and_the_run_ends_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateau_interp.loggers.tensorboard._EventFiles.row", Broken.row)
    words = ["train", "moving-window-sum", *SIZES.split(), "--log", "tensorboard", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert line == (
        "plateau: warning: the logger TensorBoard() failed and is left out; the run goes on: "
        "OSError: [Errno 28] No space left on device"
    )


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (["tensorbord"], "no logger is called 'tensorbord'; the nearest is tensorboard; see `plateau list loggers`"),
        (["wandb:mode=off"], "wandb.mode: expected"),
        (["tensorboard", "tensorboard"], "the logger TensorBoard() is given twice"),
    ],
)
def test_what_is_no_logger_is_a_mistake_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], log: list[str], told: str
) -> None:
    words = ["train", "moving-window-sum", *SIZES.split(), "--out", str(tmp_path / "run"), "--log", *log]
    assert main(words) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "find_spec", lambda name: None)
    assert main(["train", "moving-window-sum", "--log", "wandb", "--out", str(tmp_path / "run")]) == 2
    assert "needs the package wandb, which is not installed: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
