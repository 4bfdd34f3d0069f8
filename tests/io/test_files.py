"""Files replace links; one process at a time holds a folder or a file, and no lock stays."""

import threading

import pytest

from pvae_pyro.io.files import file_held, folder_held, write_whole


@pytest.mark.parametrize("exists", [True, False])
def test_a_file_replaces_a_link_and_is_not_written_through_it(tmp_path, exists):
    outside, link = tmp_path / "outside", tmp_path / "results.json"
    if exists:
        outside.write_text("before")
    link.symlink_to(outside)
    write_whole(link, b"content")
    assert not link.is_symlink()
    assert link.read_bytes() == b"content"
    assert outside.exists() == exists
    assert not exists or outside.read_text() == "before"


def test_a_folder_is_held_once(tmp_path):
    for _ in range(2):
        with folder_held(tmp_path), pytest.raises(BlockingIOError) as raised, folder_held(tmp_path):
            pytest.fail("it is held twice")
        assert raised.value.filename == str(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), folder_held(tmp_path / "nowhere"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_waited_for(tmp_path):
    waits, held = threading.Event(), []

    def hold():
        with file_held(tmp_path / "lock", waits.set):
            held.append("second")

    thread = threading.Thread(target=hold)
    with file_held(tmp_path / "lock", lambda: pytest.fail("nobody else has it")):
        thread.start()
        waits.wait()
        held.append("first")
    thread.join()
    assert held == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_no_lock_file_is_written_through_a_link(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="lock"), file_held(tmp_path / "lock", list):
        pass
    assert not (tmp_path / "outside").exists()
