"""File formats that are not read: each is named, with the one command that converts it."""

from __future__ import annotations

import os

#: `softlabels check` and the error list what is read.
READ = "NIfTI, NRRD, MetaImage, MGH (.mgz), GIPL, b2nd, PNG, BMP, TIFF or NumPy (.npy)"
_ITK = "convert it with SimpleITK: sitk.WriteImage(sitk.ReadImage('{name}'), 'OUT.nii.gz')"
_SEGMENTATION_CLASS = b"1.2.840.10008.5.1.4.1.1.66.4"
#: (offset, bytes, name, what to do).
_SIGNATURES = (
    (128, b"DICM", "DICOM", "convert the folder of the series: dcm2niix -z y FOLDER"),
    (
        0,
        b"\x89HDF\r\n\x1a\n",
        "HDF5 (also MINC 2 and MATLAB 7.3)",
        "MINC: mnc2nii IN OUT; others: numpy.save",
    ),
    (0, b"CDF\x01", "NetCDF (MINC 1)", "convert it: mnc2nii IN OUT"),
    (0, b"MATLAB 5.0", "MATLAB", "save the array with scipy.io.loadmat and numpy.save"),
    (0, b"PK\x03\x04", "a zip archive (also .npz)", "unpack it with unzip"),
    (0, b"BZh", "bzip2", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "xz", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "unpack it with unzstd"),
    (0, b"7z\xbc\xaf", "7-Zip", "unpack it with 7z x"),
    (0, b"\xff\xd8\xff", "JPEG", "save it as PNG; do not use JPEG for labels, whose values it changes"),
    (0, b"GIF8", "GIF", "save it as PNG"),
    (0, b"# vtk DataFile", "VTK", _ITK),
    (0, b"<", "XML or HTML, not an image", "copy the file again from its source"),
)
#: The data of another file, by the end of its name.
_PARTS = {".img": ".hdr", ".raw": ".mhd or .nhdr", ".zraw": ".mhd"}


def unknown_format(path: str | os.PathLike[str], start: bytes) -> str:
    """Return one line that names the format of a file that is not read, and what to do.

    Parameters
    ----------
    path : path-like
    start : bytes
        The first bytes of the file as stored; 1024 recognise all formats.

    Examples
    --------
    >>> unknown_format("scan.dcm", bytes(128) + b"DICM")
    'scan.dcm: got DICOM, which is not read; convert the folder of the series: dcm2niix -z y FOLDER'
    """
    name = os.path.basename(path)
    for offset, signature, format_name, remedy in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            if format_name == "DICOM" and _SEGMENTATION_CLASS in start:
                format_name, remedy = "a DICOM segmentation", "convert it with dcmqi: segimage2itkimage --inputDICOM IN"
            return f"{path}: got {format_name}, which is not read; {remedy.format(name=name)}"
    header = next((of for ending, of in _PARTS.items() if name.removesuffix(".gz").endswith(ending)), None)
    if header:
        return f"{path}: got the data of an image in two files; give its header, the {header} file"
    return f"{path}: no known image format; expected {READ}"
