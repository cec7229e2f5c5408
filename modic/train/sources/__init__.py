"""Labelled data in the formats people have, as samples for the detector and discs for the classifier.

    coco=FILE.json           boxes in COCO's format                      detector
    archive=DIR              DICOM, with --labels FILE.csv               detector (boxes), classifier
    volumes=DIR              <patient_id>_t1.*, _t2.* (MHA, NIfTI), ”    detector (boxes), classifier
    slices=DIR               <patient_id>_t1.png, _t2.png, ”             detector (boxes), classifier
    spider-release=DIR       the public SPIDER release                   detector, classifier

Everything is read and checked before training starts. Wrong tables raise UsageError; images that merely cannot be used
are counted, by why, in one printed line a source.
"""

KINDS = ("coco", "archive", "volumes", "slices", "spider-release")
HELP = (
    "spider=DIR, phantom=N (number of patients), spider-release=DIR, or with --labels: archive=DIR (DICOM), "
    "volumes=DIR (<patient>_t1.nii.gz, .mha …), slices=DIR (<patient>_t1.png …)"
)
LABELS_HELP = "CSV with patient_id or study_uid, level, mc; optionally the box x0, y0, x1, y1 on T2 slice `slice`"
