"""Files as the largest public lumbar set has them (RSNA 2024): pixels, geometry and little else.

No Modality and no SOPClassUID in the data set, Enhanced MR as the media storage class of files of one frame, RLE, short
UIDs, and neither times nor scanner nor dates.
"""

from pydicom.dataset import FileDataset
from pydicom.uid import UID, EnhancedMRImageStorage, RLELossless

KEPT = """
    SOPInstanceUID StudyInstanceUID SeriesInstanceUID PatientID InstanceNumber ImagePositionPatient
    ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices Rows Columns SamplesPerPixel
    PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelData
""".split()  # noqa: SIM905


def bare(slices: list[FileDataset]) -> list[FileDataset]:
    """The slices, changed in place."""
    for slice_ in slices:
        for element in list(slice_):
            if element.keyword not in KEPT:
                del slice_[element.tag]
        slice_.compress(RLELossless, generate_instance_uid=False)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            slice_[keyword].value = UID(slice_[keyword].value[-9:].lstrip("0"))
        slice_.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
    return slices
