"""Reports of cases, made by hand, for the tests of the clinic."""

import hashlib
import io
from dataclasses import replace
from functools import lru_cache

import numpy as np
from PIL import Image

from allkit.clinic.records import (
    CaseReport,
    FieldResult,
    Identifier,
    ModelIdentity,
    PersonName,
    SlideResult,
    Specimen,
)

CLASSES = ("Benign", "Early Pre-B", "Pre-B", "Pro-B")
KINDS = ("preliminary", "final", "corrected", "withdrawn")
HOSTILE = {
    "separators": "a|b^c&d~e\\f",
    "escapes": "\\F\\ \\.br\\ \\X0D\\",
    "lines": "one\rtwo\nMSH|^~\\&|evil",
    "html": "<script>alert('x')</script><b>bold</b> &amp; [link](http://x.example)",
    "formula": "=HYPERLINK(\"http://x.example\";\"go\")",
    "markup": "**bold** __under__ {nb} --x-- %PDF",
    "control": "nul\x00bell\x07escape\x1b[31m",
    "direction": "safe\u202egnp.exe\u2066",
    "long": "x" * 10_000,
    "words": "long words of a name " * 476,
    "letters": "Ünïcödé Ελλάδα Москва ≥ µ",
    "chinese": "患者",
    "arabic": "مريض",
    "blank": " ",
}  # fmt: skip
"""What identifiers and texts may hold when they come from outside."""


@lru_cache
def png(sha: str) -> bytes:
    """A drawn field, whose colours follow from its hash: a stand-in for the store's files."""
    seed = int(hashlib.sha256(sha.encode()).hexdigest()[:8], 16)
    chance = np.random.default_rng(seed)
    pixels = np.full((224, 224, 3), (232, 214, 224), np.uint8)
    yy, xx = np.mgrid[:224, :224]
    for radius, colour in ((26, (214, 150, 165)),) * 9 + ((34, (110, 60, 150)),) * 2:
        y, x = chance.integers(20, 204, size=2)
        pixels[(yy - y) ** 2 + (xx - x) ** 2 < radius**2] = colour
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def a_field(number: int, **changes: object) -> FieldResult:
    """Field `number`: of every seven one changed by the reader, one for review, one refused."""
    label = CLASSES[number % 4]
    made = FieldResult(
        number=number,
        name=f"smear_{number:03d}.png",
        sha256=hashlib.sha256(f"field {number}".encode()).hexdigest(),
        verdict="accepted",
        label=label,
        probability=round(0.71 + (number * 37 % 29) / 100, 2),
        reader=label,
    )
    if number % 7 == 2:
        other = CLASSES[(number + 1) % 4]
        made = replace(made, reader=other, changed=True, why="Nucleoli are seen.")
    if number % 7 == 3:
        made = replace(made, verdict="review", probability=0.48, reasons=("two classes are close",))
    if number % 7 == 5:
        made = replace(
            made, verdict="refused", label=None, probability=None, reader="inadequate",
            reasons=("no white cells were found",),
        )  # fmt: skip
    return replace(made, **changes)


def a_report(
    kind: str = "final", fields: int | tuple[FieldResult, ...] = 3, **changes: object
) -> CaseReport:
    """A report of a kind with these fields, or so many; `changes` replaces what else the record holds."""
    made_fields = (
        tuple(a_field(number) for number in range(1, fields + 1))
        if isinstance(fields, int)
        else fields
    )
    signed = kind != "preliminary"
    later = kind in ("corrected", "withdrawn")
    made = CaseReport(
        id="01JK4Z6Q8W3X9V7T5S2R1P0N9M" if not later else "01JM0ABCDEF3X9V7T5S2R1P0N9",
        case="01JK4Z5CASE3X9V7T5S2R1P0N9",
        version=2 if later else 1,
        kind=kind,
        made_at="2026-01-31T09:15:00Z",
        patient="P-7K4M-22QX",
        patient_identifiers=(Identifier("4711", "HOSPITAL"), Identifier("99-1", "urn:oid:1.2.3")),
        specimen=Specimen("blood", "2026-01-29", "May-Grünwald-Giemsa", "S-2026-0042"),
        fields=made_fields,
        order=Identifier("ORD-2026-1187", "LIS"),
        result="Pre-B" if signed else None,
        comment="Blasts with fine chromatin in most fields. Flow cytometry is advised.",
        model=ModelIdentity(
            name="efficientnet-lite0",
            version="1.2.0",
            sha256=hashlib.sha256(b"model").hexdigest(),
            calibrated=True,
            classes=CLASSES,
            limits=(
                "Trained on images of one laboratory; other stains and cameras were not tried.",
                "It tells four patterns of one data set; it knows no other disease.",
            ),
        ),
        slide=SlideResult(
            verdict="accepted",
            fields=len(made_fields),
            used=max(len(made_fields) - 1, 0),
            label="Pre-B",
            probability=0.912,
            coarse="malignant",
            coarse_probability=0.997,
            coarse_verdict="accepted",
            reasons=("one field needs review",),
        ),
        signer=PersonName("mcurie", "Dr. M. Curie") if signed else None,
        signed_at="2026-01-31T09:14:30Z" if signed else None,
        readings_sha256=hashlib.sha256(b"readings").hexdigest() if signed else "",
        reason="Two fields of another patient were removed." if later else "",
        replaces=1 if later else None,
    )
    return replace(made, **changes)
