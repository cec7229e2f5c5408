"""Images of any format people have: pictures, single DICOM images, and volumes (MHA, MHD, NIfTI).

Volumes come back canonical (slices from the patient's right to left, rows head to foot, columns front to back), so that
pixels and slices are counted as on an upright sagittal image, however the file is stored.
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
    """An image that cannot be used, and why in a few words; caught and counted by every source."""


def simple_itk() -> ModuleType:
    """SimpleITK. Raises UsageError with the cure where it is not installed."""
    try:
        import SimpleITK
    except ImportError as error:
        raise UsageError("MHA and NIfTI volumes need SimpleITK: pip install 'modic[train]'") from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # type: ignore[no-untyped-call]  # warnings quote paths
    module: ModuleType = SimpleITK
    return module


def stem_of(path: Path, suffixes: tuple[str, ...]) -> str | None:
    """The name without its suffix, `.nii.gz` being one; None where the suffix is another."""
    suffix = next((s for s in suffixes if path.name.lower().endswith(s)), None)
    return None if suffix is None else path.name[: -len(suffix)]


def read_volume(path: Path) -> CanonicalVolume:
    """A volume of any orientation, canonical, in LPS mm as ITK has them.

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
    """`read_volume` of an image made of sagittal slices; raises Unusable where its sagittal pixels are coarse."""
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
        except Exception as error:  # readers and decoders raise as they like
            raise Unusable("cannot be read as a DICOM image") from error
    if stored.ndim != 2:
        raise Unusable("are DICOM images of several frames or colours")
    slope, intercept = rescale_of(dataset, 0)
    image = _finite(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept))
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    return image.min() + image.max() - image if inverted else image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """A slice as samples hold it: from its darkest value to its 99.8th percentile. Raises Unusable where it is flat."""
    low, high = float(image.min()), float(np.percentile(image, 99.8))
    if high <= low:
        raise Unusable("have no contrast")
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def _finite(values: np.ndarray) -> np.ndarray:
    if not values.size or not np.isfinite(values).all():
        raise Unusable("hold values that are not finite")
    return values
