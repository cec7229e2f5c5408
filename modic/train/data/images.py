"""Read images of the formats people have: pictures, single DICOM images, and volumes (MHA, MHD, NIfTI).

Volumes are returned canonical (slices from the patient's right to left, rows from head to foot, columns from front to
back), so that pixels and slices are counted as on an upright sagittal image, however the file is stored.
"""

import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from modic.errors import UsageError
from modic.imaging.volume import CanonicalVolume, Volume

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd")
COARSEST_MM = 2.5  # in-plane pixels of a sagittal series; coarser ones come from stacks acquired in another plane


class Unusable(Exception):
    """An image cannot be used; the message says why, after "images that". Every source catches and counts it."""


def simple_itk() -> ModuleType:
    """The package SimpleITK. Raises UsageError with the cure if it is not installed."""
    try:
        import SimpleITK
    except ImportError as error:
        raise UsageError("MHA and NIfTI volumes need SimpleITK: pip install 'modic[train]'") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # type: ignore[no-untyped-call]  # warnings quote paths
    module: ModuleType = SimpleITK
    return module


def stem_of(path: Path, suffixes: tuple[str, ...]) -> str | None:
    """The file's name without its suffix (`.nii.gz` is one); None if the suffix is none of `suffixes`."""
    suffix = next((s for s in suffixes if path.name.lower().endswith(s)), None)
    return None if suffix is None else path.name[: -len(suffix)]


def read_volume(path: Path) -> CanonicalVolume:
    """A volume that is stored in any orientation, made canonical, in LPS mm (as ITK has them).

    Raises Unusable for a file that is no greyscale 3D volume, UsageError without SimpleITK.
    """
    itk = simple_itk()
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        raise Unusable("cannot be read as a volume") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise Unusable("are not greyscale volumes of three dimensions")
    voxels = itk.GetArrayFromImage(image)
    if np.iscomplexobj(voxels):
        raise Unusable("are not greyscale volumes of three dimensions")
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    try:
        return Volume(_finite(voxels.astype(np.float32)), affine).canonical().as_stored()
    except ValueError as error:
        raise Unusable("have no usable geometry") from error


def read_sagittal(path: Path) -> CanonicalVolume:
    """A volume of sagittal slices, canonical. Raises as `read_volume`, and Unusable if sagittal pixels are coarse."""
    volume = read_volume(path)
    columns_mm, rows_mm, _ = volume.spacing_mm
    if max(columns_mm, rows_mm) > COARSEST_MM:
        raise Unusable(f"have sagittal pixels coarser than {COARSEST_MM:g} mm: not a sagittal series")
    return volume


def read_picture(path: Path) -> np.ndarray:
    """float32 (rows, columns) of a PNG, JPEG, TIFF or BMP; colours become grey. Raises Unusable."""
    import cv2

    try:
        pages = cv2.imcount(str(path))
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH) if pages == 1 else None
    except cv2.error as error:
        raise Unusable("cannot be read as a picture") from error
    if pages > 1:
        raise Unusable("hold several pages")
    if image is None:
        raise Unusable("cannot be read as a picture")
    return _finite(np.asarray(image, np.float32))


def read_dicom(path: Path) -> np.ndarray:
    """float32 (rows, columns) of a single-frame DICOM image, rescaled, MONOCHROME1 inverted. Raises Unusable."""
    import pydicom

    from modic.archive.enhanced_mr import rescale_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        try:
            dataset = pydicom.dcmread(path)
            stored = dataset.pixel_array
        except MemoryError:
            raise
        except Exception as error:  # readers and decoders raise all kinds of errors
            raise Unusable("cannot be read as a DICOM image") from error
    if stored.ndim != 2:
        raise Unusable("are DICOM images of several frames or colours")
    slope, intercept = rescale_of(dataset, 0)
    image = _finite(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept))
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return image.min() + image.max() - image if inverted else image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """A slice as uint8, from its darkest value to its 99.8th percentile. Raises Unusable if it has no contrast."""
    low, high = float(image.min()), float(np.percentile(image, 99.8))
    if high <= low:
        raise Unusable("have no contrast")
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    """The same values. Raises Unusable if there are none, or some are not finite."""
    if not values.size or not np.isfinite(values).all():
        raise Unusable("hold values that are not finite")
    return values
