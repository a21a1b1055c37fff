"""The public data sets that can be downloaded: where they are, their licence, and how to cite them.

No checksums are published for them. The addresses are those that the authors' pages and public code named in 2026.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """One data set."""

    name: str
    title: str
    page: str  # of its authors
    url: str  # of its archive; '' if only registered users get it
    file: str  # the archive's name
    licence: str
    citation: str


_SETS = (
    DataSet(
        "kvasir-seg",
        "Kvasir-SEG: 1,000 images with a polyp (46 MB)",
        "https://datasets.simula.no/kvasir-seg/",
        "https://datasets.simula.no/downloads/kvasir-seg.zip",
        "kvasir-seg.zip",
        "For research and education only; any other use needs the authors' written permission. Cite the paper.",
        "Jha, Smedsrud, Riegler, Halvorsen, de Lange, Johansen, Johansen: Kvasir-SEG: A Segmented Polyp Dataset. "
        "MultiMedia Modeling 2020, 451-462.",
    ),
    DataSet(
        "hyper-kvasir",
        "HyperKvasir, its segmented images: 1,000 images with a polyp (46 MB)",
        "https://datasets.simula.no/hyper-kvasir/",
        "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-segmented-images.zip",
        "hyper-kvasir-segmented-images.zip",
        "Creative Commons Attribution 4.0 International (https://creativecommons.org/licenses/by/4.0/).",
        "Borgli, Thambawita, Smedsrud, Hicks, Jha, et al.: HyperKvasir, a comprehensive multi-class image and video "
        "dataset for gastrointestinal endoscopy. Scientific Data 7, 283 (2020), doi.org/10.1038/s41597-020-00622-y.",
    ),
    DataSet(
        "clinicdb",
        "CVC-ClinicDB: 612 frames of 29 sequences (a RAR archive)",
        "https://polyp.grand-challenge.org/CVCClinicDB/",
        "https://www.dropbox.com/s/p5qe9eotetjnbmq/CVC-ClinicDB.rar?dl=1",
        "CVC-ClinicDB.rar",
        "For research and education only; commercial use is forbidden. The images are property of Hospital Clinic, the "
        "masks of the Computer Vision Center, Barcelona.",
        "Bernal, Sánchez, Fernández-Esparrach, Gil, Rodríguez, Vilariño: WM-DOVA maps for accurate polyp highlighting "
        "in colonoscopy: Validation vs. saliency maps from physicians. Computerized Medical Imaging and Graphics 43, "
        "99-111 (2015).",
    ),
    DataSet(
        "polypgen",
        "PolypGen: 3,762 frames with and 4,275 without a polyp, of six centres",
        "https://doi.org/10.7303/syn26376615",
        "",
        "PolypGen2021_MultiCenterData_v3.zip",
        "As Synapse shows it to registered users; redistribution is not allowed.",
        "Ali, Jha, Ghatwary, et al.: A multi-centre polyp detection and segmentation dataset for generalisability "
        "assessment. Scientific Data 10, 75 (2023), doi.org/10.1038/s41597-023-01981-y.",
    ),
)
DATA_SETS = {one.name: one for one in _SETS}
