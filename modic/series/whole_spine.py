"""Whether a series shows the whole spine, so that a reader can count its vertebrae from C2.

A lumbar image cannot tell how many vertebrae there are; names count from the last mobile disc above the sacrum. Nothing
here counts from C2: the lumbar detector does not see thoracic discs. The study only says where to look.
"""

from modic.records import Series

WHOLE_SPINE_MM = 550.0  # lumbar images are 250 to 450 mm high; from C2 to the sacrum it is 550 mm and more
WARNING = "a sagittal series of the whole spine is there, on which vertebrae can be counted from C2"


def shows_whole_spine(series: Series) -> bool:
    """Whether a sagittal series, usable for grading or not, is high enough for everything from C2 to the sacrum."""
    return series.plane == "sagittal" and height_mm(series) >= WHOLE_SPINE_MM


def height_mm(series: Series) -> float:
    """Height of the field of view along the patient's long axis; 0 where the header does not tell."""
    header = series.header
    orientation, size = header.get("ImageOrientationPatient"), (header.get("Rows"), header.get("Columns"))
    if series.pixel_spacing_mm is None or orientation is None or len(orientation) != 6 or None in size:
        return 0.0
    between_rows, between_columns = series.pixel_spacing_mm
    along_column = abs(orientation[5]) * header["Rows"] * between_rows
    along_row = abs(orientation[2]) * header["Columns"] * between_columns
    return float(max(along_column, along_row))
