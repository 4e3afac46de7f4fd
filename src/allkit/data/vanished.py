"""Class folders of which no image is taken: a whole class must not be lost behind a note."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from allkit.data.folders import fold_number, part_name
from allkit.data.labels import ALL_CLASSES, canonical_label
from allkit.data.layouts import Layout
from allkit.data.left_out import left_out_text, why_left_out, whys_of

__all__ = ["vanished"]

_ENDINGS = (
    ".txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .ini .cfg .log .pdf .doc .docx "
    ".odt .rtf .xls .xlsx .ods .ppt .pptx .html .htm .py .ipynb .r .m .sh .bat .tex .bib .url "
    ".lnk .db .sqlite .parquet .pkl .pt .pth .onnx .h5 .safetensors"
)
_DOCUMENTS = set(_ENDINGS.split())
_DOCUMENT_NAMES = {"license", "licence", "readme", "makefile", "changelog", "citation", "notice"}


def vanished(
    layout: Layout,
    taken: Collection[tuple[str, ...]],
    folders: Collection[str],
    left_out: Collection[str],
) -> list[str]:
    """Return a sentence for each folder where a class should be and that has no image taken.

    `taken` are the folders of the images as the names of their levels; `folders` (which end with
    `/`) and `left_out` are paths. A folder of documents only, whose name is no class of this task,
    is none of them.
    """
    depth = layout.label + 1
    whole = {folder[:depth] for folder in taken}
    here = {parts[:depth] for path in folders if len(parts := PurePosixPath(path).parts) >= depth}
    missing = {folder for folder in here - whole if _is_place_of_class(layout, folder)}
    lost: dict[tuple[str, ...], list[str]] = {folder: [] for folder in missing}
    problems = []
    for path in left_out:
        parts = PurePosixPath(path).parts
        if path.endswith("/") and len(parts) <= depth and not any(map(why_left_out, parts)):
            problems.append(
                f"{path} is a link to a folder, which is not followed, so its images would be missing. "
                f"Put the folder itself there, or remove the link"
            )
        if parts[:depth] in lost and len(parts) > depth:
            lost[parts[:depth]].append(path)
    for folder, files in sorted(lost.items()):
        plain = [path for path in files if not any(map(why_left_out, PurePosixPath(path).parts))]
        known = canonical_label(folder[-1]) in ALL_CLASSES
        if plain and not known and all(map(_is_document, plain)):
            continue
        why = left_out_text(whys_of(files))
        problems.append(
            f"the class folder {'/'.join(folder)} would be lost, since "
            + (
                f"no image in it is taken: {why}. Save its images as JPEG, PNG, TIFF or BMP, or remove "
                f"the folder"
                if why
                else "it is empty. Put its images into it, or remove it"
            )
        )
    return problems


def _is_place_of_class(layout: Layout, folder: tuple[str, ...]) -> bool:
    part = layout.part is None or layout.part >= layout.label or part_name(folder[layout.part])
    fold = layout.fold is None or layout.fold >= layout.label or fold_number(folder[layout.fold])
    return bool(part) and fold is not None


def _is_document(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in _DOCUMENTS or name.name.lower() in _DOCUMENT_NAMES
