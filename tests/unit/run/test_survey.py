"""What the survey of an archive says."""

from modic.run.survey import files_in_words


def test_what_became_of_the_files_is_said_in_words() -> None:
    counts = {"files_seen": 487, "files_read": 6, "files_unchanged": 473, "files_opened": 9, "files_gone": 0}
    rejected = {"file.not_dicom": 7, "file.truncated": 1}
    assert files_in_words({**counts, "rejected": {}}) == "files: 487 seen: 6 read, 473 unchanged, 0 rejected"
    assert files_in_words({**counts, "files_gone": 30, "rejected": rejected}) == (
        "files: 487 seen: 6 read, 473 unchanged, 8 rejected (file.not_dicom 7, file.truncated 1); 30 that were here"
        " before are gone"
    )
