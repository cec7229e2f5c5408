"""Labelled data in the formats people have → samples for the detector and discs for the classifier.

    coco=FILE.json           boxes in COCO's format                      detector
    archive=DIR              DICOM, with --labels FILE.csv               detector (boxes), classifier
    volumes=DIR              <patient_id>_t1.*, _t2.* (MHA, NIfTI), ”    detector (boxes), classifier
    slices=DIR               <patient_id>_t1.png, _t2.png, ”             detector (boxes), classifier
    spider-release=DIR       the public SPIDER release                   detector, classifier

Everything is read and checked before training starts. Errors in a table raise UsageError. Images that cannot be used
are only counted, by reason, in one printed line for each source.
"""

KINDS = ("coco", "archive", "volumes", "slices", "spider-release")
DATA_HELP = """\
where labelled patients come from (--data, more than once to mix):
  archive=DIR         DICOM, read as `modic grade` reads it; with --labels
  volumes=DIR         <patient_id>_t1.nii.gz and <patient_id>_t2.nii.gz (or .nii, .mha, .mhd); with --labels
  slices=DIR          <patient_id>_t1.png and <patient_id>_t2.png, mid-sagittal, of one size; with --labels
  spider-release=DIR  the public SPIDER data (Zenodo 10159290), unpacked
  spider=DIR          mid-sagittal slices of SPIDER, prepared (modic/train/README.md)
  phantom=N           N synthetic patients

labels (--labels), one row a disc; boxes hold the disc and 5 mm around it, in T2 pixels of slice `slice`:
  patient_id,level,mc,x0,y0,x1,y1,slice
  0017,L4/L5,2,148.5,301,226,342,7"""
"""The end of `--help` of the commands that take labelled patients."""

KNOWN = "archive=DIR, volumes=DIR, slices=DIR (these with --labels), spider-release=DIR, spider=DIR or phantom=N"
COCO_HELP = "for the detector also:\n  coco=FILE.json      boxes in COCO's format, categories named T12/L1 to L5/S1"
