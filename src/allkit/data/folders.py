"""What the name of one folder says: a part, a fold, where images are from, or that it is no class."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection

from allkit.data.labels import ALL_CLASSES, canonical_label, spelling
from allkit.data.rows import PARTS

__all__ = [
    "FOLD",
    "FOLD_WORDS",
    "MAGNIFICATION",
    "ORIGIN",
    "PATIENT",
    "WITHOUT_LABELS",
    "copies_in",
    "fold_number",
    "is_known",
    "is_leftover",
    "is_no_class",
    "is_numbered",
    "is_role",
    "is_slide_like",
    "is_unsure",
    "likely_part",
    "part_name",
    "part_word",
    "words_of",
]


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


FOLD_WORDS = _set_of(
    "fold folds kfold cv kfolds crossvalidation kreuzvalidierung faltung falte pli pliegue piega "
    "vouw фолд 折"
)
"""Words for a fold; of them only those of `FOLD` are read."""
FOLD = re.compile(r"(?:k[ _-]?)?(?:fold|cv)[ _.#-]*(\d{1,3})", re.IGNORECASE)

_PATIENTS = (
    "patients?|patientin|pat|subjects?|subj|uid|pid|mrn|proband|participant|slide|smear|specimen|"
    "paciente|paziente|pacjent|hasta|objekttr[aä]e?ger|pr[aä]e?parat|l[aá]mina|vetrino|пациент|患者"
)
_OTHERS = (
    "split|pt|case|sample|series|subset|batch|run|field|fov|donor|person|individual|volunteer|"
    "session|visit|scan|fall|caso|probe|muestra|campione|[eé]chantillon|lame|"
    "partition|chunk|shard|tranche|part|teil|set|dataset|round|runde"
)
_NUMBER = (
    r"(?:[ _.#-]*(?:id|no|nr|num|number|nummer)\b\.?)?"
    r"(?:[ _.#-]*\d+|[ _.#-]+[a-z]{1,3}[ _.#-]?\d+|[ _.#-]+[a-z])[a-z]?(?:[ _.#-]\d+)*"
)
_DATE = r"(?:19|20)\d\d[ _.-]\d{1,2}[ _.-]\d{1,2}|\d{1,2}[ _.-]\d{1,2}[ _.-](?:19|20)?\d\d"
PATIENT = re.compile(f"(?:{_PATIENTS}){_NUMBER}", re.IGNORECASE)
"""What is certainly a patient or a slide, also beside classes."""
ORIGIN = re.compile(
    rf"(?:{_PATIENTS}|{_OTHERS}){_NUMBER}|(?:id|p)[ _.#-]*\d{{2,}}|id[ _.#-]+\d|\d{{3,}}|{_DATE}",
    re.IGNORECASE,
)
"""Where images may be from; a class only where others of its level are no such names."""
MAGNIFICATION = re.compile(
    r"(?:mag(?:nification)?[ _-]*)?"
    r"(?:\d{1,4}(?:[.,]\d+)?[ _-]*[x×]|[x×][ _-]*(?:[45]|\d{2,4}))(?:[ _-]*oil)?",
    re.IGNORECASE,
)
WITHOUT_LABELS = {"unlabelled", "unlabeled", "unlabled", "unannotated", "nolabel", "nolabels"}
PLAIN = {"data", "set", "dataset", "images", "image", "imgs", "img", "folder", "split", "part"}
_NEUTRAL = (
    "prelim preliminary final phase pictures photos smears smear slides unlabelled unlabeled "
    "unseen labelled labeled blind hidden public private internal external new old raw "
    "original cropped resized augmented c nmc cnmc isbi all idb allidb leukemia leukaemia "
    "blood cell cells"
)
_FILLERS = PLAIN | set(_NEUTRAL.split())
"""Words that say nothing of a class."""
_NO_PHOTOGRAPHS = {
    "mask",
    "masks",
    "annotation",
    "annotations",
    "groundtruth",
    "heatmaps",
    "overlays",
}
_FORMATS = _set_of(
    "im ims pic pics picture pictures photo photos foto fotos bild bilder imagen imagenes immagini "
    "jpeg jpegs jpg png tif tiff bmp thumbnail thumbnails preview previews frames untitled "
    "ordner dossier carpeta cartella unbenannt"
)
_LEFTOVERS = _set_of(
    "backup backups bak sicherung archive archived archiv deleted delete trash trashed removed discarded "
    "discard rejected excluded duplicate duplicates gelöscht papierkorb corbeille papelera tmp temp "
    "temporary unsorted sort tosort inbox unsortiert "
    "augmented augmentation augmentations aug raw cropped resized processed preprocessed "
    "result results output outputs ergebnisse prediction predictions plot plots figure figures chart "
    "charts graphs log logs checkpoint checkpoints weights report reports"
)
_JOINERS = PLAIN | _set_of("to new old neu neuer alt nouveau nueva my meine de von of the files")
"""Words that are no class beside one of the others, and say nothing alone."""
_UNSURE = _set_of(
    "unknown unknowns unbekannt inconnu desconocido sconosciuto unclear unsure uncertain undefined "
    "undetermined unidentified unclassified indeterminate missing misc miscellaneous"
)
_COPY = "copy|kopie|kopi[ae]?|kopya|copie|c[oó]pia|másolat|копия|копія|コピー|副本"
_COPIES = (
    re.compile(rf"(.+?)[ _]*[-–—][ _]*(?:{_COPY})(?:[ _]*\(?\d+\)?)?", re.IGNORECASE),
    re.compile(rf"(?:{_COPY})[ _]+(?:of|von|de|di|van|av|af)[ _]+(.+)", re.IGNORECASE),
)
_COPIES_BESIDE = re.compile(
    rf"(.+?)[ _.-]*(?:[(\[]\d+[)\]]|~|"
    rf"[ _.-](?:{_COPY}|backup|bak|old|orig|original|aug|augmented)[ _-]?\d*)",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:set|sets|data|dataset|images|imgs)$")


def is_role(folder: str) -> bool:
    """Return whether a folder is a class of this task, or certainly a part of a division."""
    return is_known(folder) or part_name(folder) is not None


def part_name(folder: str) -> str | None:
    """Return the part (`train`, `val`, `test`) for which a folder certainly stands, if any."""
    word = part_word(folder)
    return PARTS[word] if word and set(words_of(folder)) <= {word, *PLAIN} else None


def fold_number(folder: str) -> int | None:
    """Return the number of a folder that is a fold; `None` for any other."""
    match = FOLD.fullmatch(folder)
    return int(match[1]) if match else None


def words_of(folder: str) -> list[str]:
    """Return the words and numbers of a name, in small letters, without `set` or `images` at an end."""
    text = unicodedata.normalize("NFKC", folder).casefold()
    return [_SUFFIX.sub("", word) or word for word in re.findall(r"[^\W\d_]+|\d+", text)]


def part_word(folder: str) -> str | None:
    """Return the one word of a folder's name that is a part, if all others say nothing of a class."""
    words = words_of(folder)
    named = {word for word in words if word in PARTS}
    rest = [word for word in words if word not in PARTS]
    if len(named) != 1 or not all(word in _FILLERS or word.isdigit() for word in rest):
        return None
    return named.pop()


def is_known(folder: str) -> bool:
    """Return whether a folder is called like one of the classes of this task."""
    return canonical_label(folder) in ALL_CLASSES


def is_numbered(folder: str) -> bool:
    """Return whether there is a digit in a name."""
    return any(character.isdigit() for character in folder)


def is_slide_like(folder: str) -> bool:
    """Return whether a folder inside a class may be a slide, a patient, a part or a fold."""
    digits = sum(character.isdigit() for character in folder)
    return bool(
        digits > 2
        or (digits and not any(map(str.isalpha, folder)))
        or ORIGIN.fullmatch(folder)
        or FOLD.fullmatch(folder)
        or MAGNIFICATION.fullmatch(folder)
        or part_name(folder)
    )


def is_leftover(folder: str) -> bool:
    """Return whether a folder holds what nobody means as a class: a backup, the unsorted, results."""
    words = {word for word in words_of(folder) if not word.isdigit()}
    return bool(words & _LEFTOVERS) and words <= _LEFTOVERS | _JOINERS


def is_no_class(folder: str) -> bool:
    """Return whether the name of a folder is certainly none of a class."""
    words = {word for word in words_of(folder) if not word.isdigit()}
    named = words & (PLAIN | _FORMATS | _LEFTOVERS)
    return bool(words & _NO_PHOTOGRAPHS) or (bool(named) and words <= named | _JOINERS)


def is_unsure(folder: str) -> bool:
    """Return whether a folder may be a class, but is rather one of images whose class nobody knows."""
    return bool(_UNSURE & set(words_of(folder)))


def copies_in(level: Collection[str]) -> set[str]:
    """Return the folders that are copies of another one by their names (`hem - Copy`, `hem (1)`)."""
    names = {spelling(canonical_label(folder)) for folder in level}
    found = set()
    for folder in level:
        text = unicodedata.normalize("NFKC", folder).strip()
        beside = _COPIES_BESIDE.fullmatch(text)
        if any(form.fullmatch(text) for form in _COPIES) or (
            beside and spelling(canonical_label(beside[1])) in names
        ):
            found.add(folder)
    return found


def likely_part(folder: str) -> str | None:
    """Return the part that a misspelt name may stand for: `val` for `vaild`."""
    words = words_of(folder)
    near = difflib.get_close_matches(words[0], PARTS, 1, 0.75) if len(words) == 1 else []
    return PARTS[near[0]] if near else None
